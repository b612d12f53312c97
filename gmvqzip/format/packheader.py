"""The header of a pack: magic, version, and two slots, of which one says where the pack ends and how to read it.

A pack grows behind its end; what is there is never written over. Its last step is to fill the slot that is not in
use, so that whatever interrupts it leaves the other one, and all that was there before. docs/format.md specifies it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from gmvqzip.errors import FormatError
from gmvqzip.format.limits import MAX_PACK_BYTES

PACK_MAGIC = b"\x9dP"  # 0x9D cannot start a text in UTF-8 or ASCII
PACK_VERSION = 1
_VERSION_SHIFT = 5
_FRONT = PACK_MAGIC + bytes([PACK_VERSION << _VERSION_SHIFT])
_END_BYTES, _LENGTH_BYTES, _CRC_BYTES = 5, 4, 4
SLOT_BYTES = _END_BYTES + _LENGTH_BYTES + _CRC_BYTES + _CRC_BYTES
SLOTS = 2
PACK_HEADER_BYTES = len(_FRONT) + SLOTS * SLOT_BYTES


@dataclass(frozen=True)
class Slot:
    """A state of the pack: its last segment, whose index ends at `end`, an offset in the file."""

    end: int
    index_bytes: int  # stored bytes of the index
    index_crc32: int  # of its stored bytes

    def write(self) -> bytes:
        """The bytes of the slot. Raises FormatError for an end that it cannot hold."""
        if self.end > MAX_PACK_BYTES:
            raise FormatError(f"a pack of {self.end} bytes is beyond the limit of {MAX_PACK_BYTES}: start another")
        fields = self.end.to_bytes(_END_BYTES, "big") + self.index_bytes.to_bytes(_LENGTH_BYTES, "big")
        fields += self.index_crc32.to_bytes(_CRC_BYTES, "big")
        return fields + _check(fields)


@dataclass(frozen=True)
class PackHeader:
    """What a pack's header says: the slot in use, its number, and whether the other one is damaged."""

    slot: Slot
    number: int  # 0 or 1
    other_damaged: bool


def empty_header() -> bytes:
    """The header of a pack that is being made: no slot is filled."""
    return _FRONT + bytes(SLOTS * SLOT_BYTES)


def slot_offset(number: int) -> int:
    """Where slot 0 or 1 starts in the file."""
    return len(_FRONT) + number * SLOT_BYTES


def read_pack_header(data: bytes, size: int) -> PackHeader:
    """Read the header at the start of a pack of `size` bytes; of two good slots the one with the greater end counts.

    Raises FormatError: empty, foreign, of another version, cut, or without a good slot.
    """
    if not data:
        raise FormatError("empty: there is nothing to read")
    start = data[: len(PACK_MAGIC)]
    if start != PACK_MAGIC[: len(start)]:
        raise FormatError(f"not a .gmvqp pack: it starts with {start.hex(' ')}, not with {PACK_MAGIC.hex(' ')}")
    if len(data) < PACK_HEADER_BYTES:
        raise FormatError(f"cut after {len(data)} bytes, inside the header: get the pack again")
    check_version(data[len(PACK_MAGIC)] >> _VERSION_SHIFT, PACK_VERSION, "pack")
    if data[len(PACK_MAGIC)] != _FRONT[-1]:
        raise FormatError("reserved bits are set: the pack is damaged, or made by a newer gmvqzip")
    parts = [data[slot_offset(number) :][:SLOT_BYTES] for number in range(SLOTS)]
    slots = [_read_slot(part) for part in parts]
    good = [(slot.end, -number, slot) for number, slot in enumerate(slots) if slot is not None]
    if not good:
        raise FormatError("the header is damaged, or the pack was never finished: get the pack again")
    end, number, slot = max(good)
    if end > size:
        raise FormatError(f"cut: {end} bytes are wanted, {size} are there; get the pack again")
    if PACK_HEADER_BYTES + slot.index_bytes > end:
        raise FormatError("the header is damaged: the index would start inside it; get the pack again")
    other = 1 + number  # `number` is 0 or -1
    return PackHeader(slot, -number, slots[other] is None and any(parts[other]))


def check_version(version: int, known: int, what: str) -> None:
    """Raise FormatError for a version that is not the known one, naming `what`."""
    if version > known:
        raise FormatError(f"{what} version {version}; this gmvqzip reads version {known}: use a newer one")
    if version < known:
        raise FormatError(f"{what} version {version} does not exist: it is damaged")


def _read_slot(data: bytes) -> Slot | None:
    """The slot in these bytes; None where it is empty or damaged."""
    fields, check = data[:-_CRC_BYTES], data[-_CRC_BYTES:]
    if _check(fields) != check:
        return None
    end, length = fields[:_END_BYTES], fields[_END_BYTES : _END_BYTES + _LENGTH_BYTES]
    return Slot(int.from_bytes(end, "big"), int.from_bytes(length, "big"), int.from_bytes(fields[-_CRC_BYTES:], "big"))


def _check(fields: bytes) -> bytes:
    """CRC-32 of the first three bytes of the pack and the slot's fields."""
    return zlib.crc32(_FRONT + fields).to_bytes(_CRC_BYTES, "big")
