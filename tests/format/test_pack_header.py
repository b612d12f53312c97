"""The header of a pack and its two slots; records and their checks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmvqzip.errors import FormatError
from gmvqzip.format.container import read_header
from gmvqzip.format.packheader import (
    PACK_HEADER_BYTES,
    PACK_MAGIC,
    SLOT_BYTES,
    Slot,
    empty_header,
    read_pack_header,
    slot_offset,
)
from gmvqzip.format.packrecord import check_record, open_record, seal_record

SIZE = 10_000


def header(*slots: Slot | None) -> bytes:
    data = bytearray(empty_header())
    for number, slot in enumerate(slots):
        if slot is not None:
            data[slot_offset(number) : slot_offset(number) + SLOT_BYTES] = slot.write()
    return bytes(data)


def test_the_slot_with_the_greater_end_counts() -> None:
    early, late = Slot(100, 20, 1), Slot(200, 30, 2)
    for slots, number in (((early, late), 1), ((late, early), 0), ((late, None), 0), ((None, late), 1)):
        found = read_pack_header(header(*slots), SIZE)
        assert (found.slot, found.number, found.other_damaged) == (late, number, False)


def test_every_damaged_byte() -> None:
    early, late = Slot(100, 20, 1), Slot(200, 30, 2)
    data = header(early, late)
    for position in range(PACK_HEADER_BYTES):
        for change in range(1, 256):
            damaged = bytearray(data)
            damaged[position] ^= change
            if position < slot_offset(0):
                with pytest.raises(FormatError):
                    read_pack_header(bytes(damaged), SIZE)
            else:
                found = read_pack_header(bytes(damaged), SIZE)
                assert found.slot == (late if position < slot_offset(1) else early)
                assert found.other_damaged


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"PK\3\4", "not a .gmvqp pack"),
        (b"\x9dG0", "not a .gmvqp pack"),
        (PACK_MAGIC, "cut after 2 bytes"),
        (header(Slot(100, 20, 1))[:-1], "cut after"),
        (PACK_MAGIC + b"\x40" + bytes(34), "pack version 2"),
        (PACK_MAGIC + b"\x00" + bytes(34), "version 0 does not exist"),
        (PACK_MAGIC + b"\x21" + bytes(34), "reserved bits"),
        (empty_header(), "never finished"),
        (header(Slot(SIZE + 1, 20, 1)), "cut: 10001 bytes are wanted"),
        (header(Slot(100, 64, 1)), "inside it"),
    ],
)
def test_refusals(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        read_pack_header(data, SIZE)
    assert "\n" not in str(caught.value)


def test_a_pack_beyond_the_limit() -> None:
    assert len(Slot(2**40 - 1, 1, 1).write()) == SLOT_BYTES
    with pytest.raises(FormatError, match="beyond the limit"):
        Slot(2**40, 1, 1).write()


def test_a_pack_is_no_gmvq_file_and_says_so() -> None:
    with pytest.raises(FormatError, match="a pack of pictures"):
        read_header(header(Slot(100, 20, 1)))


@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=40),
    st.dictionaries(st.sampled_from([1, 64, 300]), st.binary(max_size=9)),
)
def test_records(width: int, height: int, crc: int, payload: bytes, sections: dict[int, bytes]) -> None:
    data = seal_record(width, height, crc, payload, sections)
    record = open_record(data, width, height, has_sections=bool(sections))
    assert (record.payload, record.sections) == (payload, sections)
    assert record.accepts(crc)
    assert not record.accepts(crc ^ 0x80)
    assert len(data) >= len(payload) + (2 if max(width, height) <= 256 else 5)


def test_a_short_record_costs_two_bytes_and_a_long_one_five() -> None:
    assert len(seal_record(256, 256, 0, b"")) == 2
    assert len(seal_record(257, 1, 0, b"")) == 5


def test_every_damaged_byte_of_a_record() -> None:
    data = seal_record(32, 32, 0xDEADBEEF, bytes(range(80)))
    check_record(data)
    for position in range(len(data)):
        for change in range(1, 256):
            damaged = bytearray(data)
            damaged[position] ^= change
            with pytest.raises(FormatError, match="damaged"):
                check_record(bytes(damaged))


def test_bad_records() -> None:
    for data in (b"", b"\0", seal_record(32, 32, 0, b"")):
        with pytest.raises(FormatError, match="too short"):
            open_record(data, 300, 300, has_sections=False)
    with pytest.raises(FormatError, match="whose place is the index"):
        open_record(seal_record(1, 1, 0, b"", {2: b"profile"}), 1, 1, has_sections=True)
    with pytest.raises(FormatError):
        open_record(seal_record(1, 1, 0, b"\1"), 1, 1, has_sections=True)
