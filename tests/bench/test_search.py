"""Equal sizes: never above the limit, and the largest below it."""

from __future__ import annotations

import pytest
from fakes import Quantiser, scene
from hypothesis import given
from hypothesis import strategies as st

from gmvqzip.bench.codecs import Jpeg
from gmvqzip.bench.measure import fit


@given(
    steps=st.lists(st.integers(0, 400), min_size=1, max_size=60),
    limit=st.integers(0, 9000),
)
def test_rising_sizes(steps: list[int], limit: int) -> None:
    sizes = [1 + sum(steps[: number + 1]) for number in range(len(steps))]
    codec = Quantiser(lambda quality: sizes[int(quality)], ladder=range(len(sizes)))
    found = fit(codec, scene(12, 12), limit)
    fitting = [size for size in sizes if size <= limit]
    assert found.fits == bool(fitting)
    assert found.point.file_bytes == (max(fitting) if fitting else sizes[0])
    assert len(codec.tried) <= len(sizes).bit_length() + 1


@given(sizes=st.lists(st.integers(1, 500), min_size=1, max_size=40), limit=st.integers(0, 600))
def test_sizes_in_any_order_never_exceed(sizes: list[int], limit: int) -> None:
    codec = Quantiser(lambda quality: sizes[int(quality)], ladder=range(len(sizes)))
    found = fit(codec, scene(12, 12), limit)
    assert found.fits == (sizes[0] <= limit)
    if found.fits:
        assert found.point.file_bytes == max(size for q in codec.tried if (size := sizes[int(q)]) <= limit)
    else:
        assert found.point.file_bytes == sizes[0]


@pytest.mark.parametrize("limit", [1500, 4000, 10**9])
def test_jpeg(limit: int) -> None:
    picture, codec = scene(90, 100), Jpeg()
    sizes = [len(codec.encode(picture, quality)) for quality in codec.ladder]
    found = fit(codec, picture, limit)
    assert found.fits
    assert found.point.file_bytes == max(size for size in sizes if size <= limit)
    assert len(codec.encode(picture, found.point.quality)) == found.point.file_bytes
    assert (found.pixels == codec.decode(codec.encode(picture, found.point.quality))).all()


def test_a_single_rate() -> None:
    codec = Quantiser(lambda quality: 100, ladder=[0])
    assert fit(codec, scene(12, 12), 100).fits
    assert not fit(codec, scene(12, 12), 99).fits
    assert codec.tried == [0, 0]
