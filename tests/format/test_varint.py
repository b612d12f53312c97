import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmvqzip.errors import FormatError
from gmvqzip.format.varint import read_varint, write_varint


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**35 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_round_trip_between_other_bytes(value: int, before: bytes, after: bytes) -> None:
    written = write_varint(value)
    assert len(written) == max(1, -(-value.bit_length() // 7))
    end = len(before) + len(written)
    assert read_varint(before + written + after, len(before), longest=5, what="number") == (value, end)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=6))
def test_what_is_read_is_what_would_be_written(data: bytes) -> None:
    try:
        value, end = read_varint(data, 0, longest=5, what="number")
    except FormatError:
        return
    assert write_varint(value) == data[:end]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut inside the number, at byte 0"),
        (b"\x80", "cut inside the number, at byte 1"),
        (b"\x80\x00", "not written in the fewest bytes"),
        (b"\xff\xff\xff\x01", "takes more than 3 bytes"),
    ],
)
def test_refusals(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_varint(data, 0, longest=3, what="number")


def test_negative_number_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="cannot hold -1"):
        write_varint(-1)
