"""The bytes of an EXIF block: orientation and size put right, the thumbnail taken out, everything else where it was.

Values stay at their offsets, since makers' notes may point to places of the block.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

PREFIX = b"Exif\0\0"  # before the block, in JPEG
ORIENTATION, WIDTH, HEIGHT, PIXELS_ACROSS, PIXELS_DOWN = 0x0112, 0x0100, 0x0101, 0xA002, 0xA003
EXIF_POINTER, GPS_POINTER, INTEROP_POINTER = 0x8769, 0x8825, 0xA005
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, INCH, CENTIMETRE = 0x011A, 0x011B, 0x0128, 2, 3
XMP_TAG, IPTC_TAG, RESOURCES_TAG = 700, 33723, 34377  # of TIFF
POINTERS = (EXIF_POINTER, GPS_POINTER, INTEROP_POINTER)
_DIRECTORIES = 8  # of a block, at most
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes of a value by type
_THUMBNAIL = ((0x0201, 0x0202), (0x0111, 0x0117))  # offset and length, of JPEG and of strips
_ENCODING = {ORIENTATION, WIDTH, HEIGHT, 0x0213, PIXELS_ACROSS, PIXELS_DOWN, 0x9000, 0x9101, 0xA000, 0xA001}
"""Tags that say how a file is made, and nothing of the picture."""


@dataclass(frozen=True)
class Entry:
    """An entry of a directory: where it stands, and where its value does."""

    tag: int
    kind: int
    count: int
    place: int  # of its 12 bytes
    start: int  # of its value
    end: int


class Block:
    """A block's bytes, and how to read numbers there. Raises ValueError where a directory is cut."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        if data[:4] not in (b"II*\0", b"MM\0*"):
            raise ValueError("no TIFF header")
        self._order = "<" if data[:1] == b"I" else ">"
        self.first = self.number(4, 4)

    def number(self, place: int, size: int) -> int:
        """The unsigned number of 2 or 4 bytes at a place."""
        if place + size > len(self.data):
            raise ValueError("cut")
        return int(struct.unpack_from(self._order + {2: "H", 4: "I"}[size], self.data, place)[0])

    def put(self, place: int, size: int, value: int) -> None:
        """Write an unsigned number of 2 or 4 bytes."""
        struct.pack_into(self._order + {2: "H", 4: "I"}[size], self.data, place, value)

    def directory(self, place: int) -> tuple[list[Entry], int]:
        """The entries of the directory at a place, and where the offset of the next one stands, 0 for nowhere.

        An entry whose value is not in the block has none, and stays as it is.
        """
        entries = []
        count = self.number(place, 2)
        for at in range(place + 2, place + 2 + 12 * count, 12):
            tag, kind, values = self.number(at, 2), self.number(at + 2, 2), self.number(at + 4, 4)
            size = _SIZES.get(kind, 1) * values
            start = at + 8 if size <= 4 else self.number(at + 8, 4)
            inside = start + size <= len(self.data)
            entries.append(Entry(tag, kind, values, at, start if inside else at, start + size if inside else at))
        end = place + 2 + 12 * count
        return entries, end if end + 4 <= len(self.data) else 0

    def directories(self) -> Iterator[list[Entry]]:
        """The main directory and those that it points to, each once."""
        seen, waiting = set[int](), [self.first]
        while waiting:
            place = waiting.pop()
            if place in seen:
                continue
            seen.add(place)
            if len(seen) > _DIRECTORIES:
                raise ValueError("too many directories")
            entries, _ = self.directory(place)
            yield entries
            waiting += [self.number(entry.start, 4) for entry in entries if entry.tag in POINTERS and entry.count == 1]

    def value(self, entry: Entry) -> int | None:
        """The value of an entry that holds one number of 2 or 4 bytes."""
        size = _SIZES.get(entry.kind, 0)
        single = entry.count == 1 and entry.kind in (3, 4) and entry.end > entry.start
        return self.number(entry.start, size) if single else None

    def set_value(self, entry: Entry, value: int) -> None:
        """Change such a value, where it fits."""
        size = _SIZES[entry.kind]
        if value < 1 << 8 * size:
            self.put(entry.start, size, value)


def bare(data: bytes) -> bytes:
    """The block without the prefix that JPEG has before it, and some writers have twice."""
    while data.startswith(PREFIX):
        data = data[len(PREFIX) :]
    return data


def tidied(data: bytes) -> bytes:
    """The block with orientation 1 and without its thumbnail; empty where it says nothing of the picture then.

    Raises ValueError where it is damaged.
    """
    block = Block(data)
    directories = list(block.directories())
    for entries in directories:
        for entry in entries:
            if entry.tag == ORIENTATION and block.value(entry) is not None:
                block.set_value(entry, 1)
    _, next_place = block.directory(block.first)
    second = block.number(next_place, 4) if next_place else 0
    if second:
        block.put(next_place, 4, 0)
        _clear(block, second, _used(block, directories))
    tags = {entry.tag for entries in directories for entry in entries}
    if tags <= _ENCODING | set(POINTERS):
        return b""
    return bytes(block.data)


def resized(data: bytes, width: int, height: int) -> bytes:
    """The block with another size of the picture in pixels, in those tags that it has."""
    try:
        block = Block(data)
        for entries in block.directories():
            for entry in entries:
                side = {WIDTH: width, PIXELS_ACROSS: width, HEIGHT: height, PIXELS_DOWN: height}.get(entry.tag)
                if side is not None and block.value(entry) is not None:
                    block.set_value(entry, side)
    except ValueError:
        return data
    return bytes(block.data)


def _used(block: Block, directories: list[list[Entry]]) -> bytearray:
    """For each byte of the block 1 where the main directories, or what they point to, have it."""
    ranges = [(0, 8)]
    for entries in directories:
        ranges += [(entry.start, entry.end) for entry in entries]
        if entries:
            ranges.append((entries[0].place - 2, entries[-1].place + 16))
    return _covered(ranges, len(block.data))


def _clear(block: Block, place: int, used: bytearray) -> None:
    """Zero the directory at a place with its values and its thumbnail, as far as nobody else uses them; cut the end."""
    try:
        entries, _ = block.directory(place)
    except ValueError:
        return  # of a damaged one all but the pointer stays
    ranges = [(place, place + 6 + 12 * len(entries)), *((entry.start, entry.end) for entry in entries)]
    values = {entry.tag: block.value(entry) for entry in entries}
    for offset, length in _THUMBNAIL:
        start, size = values.get(offset), values.get(length)
        if start is not None and size is not None:
            ranges.append((start, start + size))
    free = _covered(ranges, len(used))
    block.data = bytearray(
        0 if clear and not kept else byte for byte, clear, kept in zip(block.data, free, used, strict=True)
    )
    end = max(used.rfind(1), len(block.data.rstrip(b"\0")) - 1) + 1
    del block.data[end:]


def _covered(ranges: list[tuple[int, int]], size: int) -> bytearray:
    """For each of so many bytes 1 where it is in one of the ranges."""
    covered, reached = bytearray(size), 0
    for start, end in sorted(ranges):
        first, last = max(start, reached), min(end, size)
        if first < last:
            covered[first:last] = b"\1" * (last - first)
            reached = last
    return covered
