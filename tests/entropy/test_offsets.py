"""The offsets section: any offsets there and back, and damage refused."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmvqzip.entropy import offsets
from gmvqzip.entropy.offsets import read_offsets, sorted_offsets, write_offsets
from gmvqzip.errors import FormatError
from gmvqzip.format.varint import write_varint

CHANNELS, ROWS, COLUMNS = 320, 7, 300
PLACES = st.tuples(st.integers(0, CHANNELS - 1), st.integers(0, ROWS - 1), st.integers(0, COLUMNS - 1))
VALUES = st.integers(-32767, 32767).filter(bool)


def section(values: Sequence[int]) -> bytes:
    return zlib.compress(b"".join(map(write_varint, values)))


@given(st.dictionaries(PLACES, VALUES, min_size=1, max_size=30))
def test_there_and_back(found: dict[tuple[int, int, int], int]) -> None:
    given_ = np.array([(*place, value) for place, value in found.items()], dtype=np.int32)
    expected = np.array([(*place, value) for place, value in sorted(found.items())], dtype=np.int32)
    assert np.array_equal(sorted_offsets(given_), expected)
    content = write_offsets(expected, ROWS, COLUMNS)
    assert np.array_equal(read_offsets(content, CHANNELS, ROWS, COLUMNS), expected)


@pytest.mark.parametrize(
    "values",
    [
        [0],
        [1, 0],
        [1, 0, 0, 0],
        [2, 0, 0],
        [1, CHANNELS * ROWS * COLUMNS, 0],
        [2, 0, CHANNELS * ROWS * COLUMNS - 1, 0, 0],
        [1, 0, 2 * 32767],
        [1, 0, 2 * 32767 + 1],
        [1, 2**36, 0],
        [2, 0, 0],
        [3, 0, 0, 0, 0],
        [2**21 + 1, *[0] * (2**22 + 2)],
    ],
    ids=lambda values: str(values[:5]),
)
def test_numbers_that_say_nothing(values: list[int]) -> None:
    with pytest.raises(FormatError, match="damaged"):
        read_offsets(section(values), CHANNELS, ROWS, COLUMNS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut inside the number of offsets"),
        (b"\x01\x00\x80", "not 3 numbers: the file is damaged"),
        (b"\x01\x80\x00\x00", "not written in the fewest bytes: the file is damaged"),
        (b"\x01\x00\x80\x00", "not written in the fewest bytes: the file is damaged"),
        (b"\x80" * 7 + b"\x01", "the number of offsets takes more than 5 bytes: the file is damaged"),
    ],
)
def test_what_are_no_varints(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_offsets(zlib.compress(data), CHANNELS, ROWS, COLUMNS)


@given(st.binary(max_size=40), st.booleans())
def test_any_bytes_end_in_offsets_or_a_refusal(data: bytes, whole: bool) -> None:
    try:
        found = read_offsets(zlib.compress(data) if whole else data, CHANNELS, ROWS, COLUMNS)
    except FormatError:
        return
    assert zlib.decompress(write_offsets(found, ROWS, COLUMNS)) == data


def test_of_too_many_the_largest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets, "MAX_OFFSETS", 2)
    found = sorted_offsets(np.array([[3, 0, 0, -9], [2, 0, 0, 1], [1, 0, 0, 8]], dtype=np.int32))
    assert found.tolist() == [[1, 0, 0, 8], [3, 0, 0, -9]]
