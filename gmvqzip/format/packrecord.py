"""A record of a pack: one picture without what the index says of it.

    check   1 byte       CRC-8 of the rest of the record
    codes   1 or 4 bytes CRC-32 of the indices; its lowest byte where both sides are at most 256 pixels
    sections             as in a `.gmvq` file, if the picture's kind says so
    payload              as in a `.gmvq` file

The check sees any damage of one byte with certainty and needs no model; whatever else passes it, or goes wrong in
decoding, meets the check of the codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gmvqzip.errors import FormatError
from gmvqzip.format.checksum import crc8
from gmvqzip.format.limits import SHORT_SIDE
from gmvqzip.format.sections import SECTION_ICC, read_sections, write_sections

MIN_RECORD_BYTES = 2
_LONG_CODES, _SHORT_CODES = 4, 1  # bytes


@dataclass(frozen=True)
class Record:
    """An opened record: codes_check is the CRC-32 of the indices, or as many of its low bits as are stored."""

    codes_check: int
    codes_bits: int  # 8 or 32
    sections: dict[int, bytes]
    payload: bytes

    def accepts(self, codes_crc32: int) -> bool:
        """Whether indices with this CRC-32 are those that the record was made from."""
        return self.codes_check == codes_crc32 & ((1 << self.codes_bits) - 1)


def seal_record(
    width: int, height: int, codes_crc32: int, payload: bytes, sections: Mapping[int, bytes] | None = None
) -> bytes:
    """The record of a picture of width x height pixels. Raises FormatError for sections that no reader would take."""
    size = codes_bytes(width, height)
    low = codes_crc32 & ((1 << 8 * size) - 1)
    rest = low.to_bytes(size, "big") + (write_sections(sections) if sections else b"") + payload
    return bytes([crc8(rest)]) + rest


def open_record(data: bytes, width: int, height: int, *, has_sections: bool) -> Record:
    """Open a record. Raises FormatError where it is damaged."""
    check_record(data)
    start = 1 + codes_bytes(width, height)
    if len(data) < start:
        raise FormatError("the picture's record is too short: the pack is damaged")
    sections, end = read_sections(data, start) if has_sections else ({}, start)
    if SECTION_ICC in sections:
        raise FormatError("the picture's record holds a colour profile, whose place is the index: the pack is damaged")
    return Record(int.from_bytes(data[1:start], "big"), 8 * (start - 1), sections, data[end:])


def check_record(data: bytes) -> None:
    """Raise FormatError unless the record's own check agrees."""
    if len(data) < MIN_RECORD_BYTES:
        raise FormatError("the picture's record is too short: the pack is damaged")
    if data[0] != (found := crc8(data[1:])):
        raise FormatError(f"the picture's record is damaged (check {data[0]:02x}, found {found:02x}): get it again")


def codes_bytes(width: int, height: int) -> int:
    """Bytes of the check of the codes in a record."""
    return _SHORT_CODES if max(width, height) <= SHORT_SIDE else _LONG_CODES
