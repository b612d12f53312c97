"""Varints: unsigned integers in groups of seven bits, lowest group first, always in the fewest bytes."""

from __future__ import annotations

from gmvqzip.errors import FormatError


def write_varint(value: int) -> bytes:
    """The varint of a number >= 0. Raises ValueError for a negative one."""
    if value < 0:
        raise ValueError(f"a varint cannot hold {value}: it must be 0 or more")
    groups = bytearray()
    while value > 0x7F:
        groups.append(0x80 | value & 0x7F)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def read_varint(data: bytes, start: int, *, longest: int, what: str, offset: int = 0) -> tuple[int, int]:
    """Read the varint at offset `start`; returns the number and the offset of the byte after it.

    longest: the most bytes it may take; what: its name for the message; offset: of `data` in the
    file, for the message. Raises FormatError if it is cut, longer than
    `longest`, or not in the fewest bytes.
    """
    value = 0
    for position in range(start, start + longest):
        if position >= len(data):
            raise FormatError(f"cut inside the {what}, at byte {offset + len(data)}: get the file again")
        group = data[position]
        value |= (group & 0x7F) << 7 * (position - start)
        if group < 0x80:
            if group == 0 and position > start:
                raise FormatError(f"the {what} is not written in the fewest bytes: the file is damaged")
            return value, position + 1
    raise FormatError(f"the {what} takes more than {longest} bytes: the file is damaged")
