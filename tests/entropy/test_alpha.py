from __future__ import annotations

import itertools
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gmvqzip.entropy import alpha
from gmvqzip.entropy.alpha import compress_alpha, decompress_alpha
from gmvqzip.errors import FormatError, ImageError


def by_definition(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo filters pixel by pixel, as the specification words it."""
    height, width = rows.shape[0], rows.shape[1] - 1
    a = np.zeros((height + 1, width + 1), dtype=int)
    for y, x in itertools.product(range(1, height + 1), range(1, width + 1)):
        left, above, corner = a[y, x - 1], a[y - 1, x], a[y - 1, x - 1]
        a[y, x] = (int(rows[y - 1, x]) + (0, left, above, left + above - corner)[rows[y - 1, 0]]) % 256
    return a[1:, 1:].astype(np.uint8)


def planes() -> list[NDArray[np.uint8]]:
    y, x = np.mgrid[:40, :60]
    rng = np.random.default_rng(0)
    disc = np.where((x - 30) ** 2 + (y - 20) ** 2 < 300, 255, 0)
    mixed = np.where(y < 10, x * 4, np.where(y < 25, disc, rng.integers(0, 256, x.shape)))
    return [
        p.astype(np.uint8) for p in (disc, x * 4, y * 6, x + 3 * y, x * 0 + 9, mixed, rng.integers(0, 256, x.shape))
    ]


@pytest.mark.parametrize("number", range(7))
def test_round_trip_and_size(number: int) -> None:
    plane = planes()[number]
    data = compress_alpha(plane)
    found = decompress_alpha(data, 60, 40)
    assert found.dtype == np.uint8
    assert (found == plane).all()
    assert len(data) <= len(zlib.compress(plane.tobytes(), 9)) + 60
    assert len(data) < [250, 60, 60, 60, 60, 1300, 2500][number]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32), st.sampled_from([1, 3, 256]))
def test_any_filters_decode_as_the_definition(width: int, height: int, seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.integers(0, levels, (height, width + 1)) * 255 // max(levels - 1, 1)).astype(np.uint8)
    rows[:, 0] = rng.integers(0, 4, height)
    expected = by_definition(rows)
    assert (decompress_alpha(zlib.compress(rows.tobytes()), width, height) == expected).all()
    assert (decompress_alpha(compress_alpha(expected), width, height) == expected).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 700)])
def test_shapes(shape: tuple[int, int]) -> None:
    plane = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    assert (decompress_alpha(compress_alpha(plane), shape[1], shape[0]) == plane).all()
    strided = np.repeat(plane, 2, axis=1)[:, ::2]
    assert compress_alpha(strided) == compress_alpha(np.asfortranarray(plane)) == compress_alpha(plane)


@pytest.mark.parametrize(
    "plane",
    [
        np.zeros((2, 2), dtype=np.int32),
        np.zeros((2, 2, 1), dtype=np.uint8),
        np.zeros((0, 2), dtype=np.uint8),
        np.zeros((1, 2**21 + 1), dtype=np.uint8),
    ],
)
def test_planes_that_are_none(plane: Any) -> None:
    with pytest.raises(ImageError, match="transparency must be a plane"):
        compress_alpha(plane)


def test_refusals() -> None:
    data = compress_alpha(planes()[0])
    for cut in range(0, len(data), 3):
        with pytest.raises(FormatError, match="the transparency is cut"):
            decompress_alpha(data[:cut], 60, 40)
    with pytest.raises(FormatError, match="1 bytes follow the transparency"):
        decompress_alpha(data + b"\0", 60, 40)
    with pytest.raises(FormatError, match="the transparency is damaged"):
        decompress_alpha(b"?" + data, 60, 40)
    with pytest.raises(FormatError, match="has 2440 bytes, not 2684"):
        decompress_alpha(data, 60, 44)
    with pytest.raises(FormatError, match="inflates to more than 2379 bytes"):
        decompress_alpha(data, 60, 39)
    with pytest.raises(FormatError, match="filter 4"):
        decompress_alpha(zlib.compress(bytes([0, 9, 4, 9])), 1, 2)
    with pytest.raises(FormatError, match="beyond the limits"):
        decompress_alpha(data, 0, 40)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=50), st.integers(1, 10), st.integers(1, 10))
def test_any_bytes_are_refused_or_decoded(data: bytes, width: int, height: int) -> None:
    for content in (data, zlib.compress(data), zlib.compress(data * 5)[:-2]):
        try:
            assert decompress_alpha(content, width, height).shape == (height, width)
        except FormatError as error:
            assert "\n" not in str(error)


def test_flat_rows_take_the_first_of_equal_filters() -> None:
    assert alpha._smallest_residuals(np.zeros((3, 4), dtype=np.uint8)).tolist() == [0, 0, 0]
