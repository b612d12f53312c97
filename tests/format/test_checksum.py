import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmvqzip.format.checksum import crc8


def bit_by_bit(data: bytes) -> int:
    """CRC-8 as the specification words it."""
    register = 0xFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register << 1 ^ (0x12F if register & 0x80 else 0)
    return register ^ 0xFF


@pytest.mark.parametrize("size", [0, 1, 2, 256, 511, 512, 513, 514, 1023, 1024, 1025, 5003])
def test_folding_agrees_with_the_definition(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert crc8(data) == bit_by_bit(data)
    assert crc8(bytes(size)) == bit_by_bit(bytes(size))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=1500), st.integers(0, 1500))
def test_goes_on_from_a_value(data: bytes, cut: int) -> None:
    assert crc8(data[cut:], crc8(data[:cut])) == crc8(data)


def test_every_change_of_one_byte_is_seen() -> None:
    for size in (1, 7, 600):
        data = bytearray(random.Random(size).randbytes(size))
        right = crc8(bytes(data))
        for position in (0, size // 2, size - 1):
            kept = data[position]
            for other in set(range(256)) - {kept}:
                data[position] = other
                assert crc8(bytes(data)) != right
            data[position] = kept
