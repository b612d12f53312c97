"""A pack as a file: what it holds, and the bytes of one record, read with one call. Standard library only."""

from __future__ import annotations

import operator
import os
import stat
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

from gmvqzip.errors import FormatError, one_line, path_text
from gmvqzip.format.limits import MAX_ALL_INDEX_BYTES, MAX_ALL_NAME_BYTES, MAX_INDEX_BYTES, MAX_SEGMENTS
from gmvqzip.format.packheader import PACK_HEADER_BYTES, PackHeader, read_pack_header
from gmvqzip.format.packindex import Index, Kind, read_index, unpack_names
from gmvqzip.format.packrecord import Record, check_record, open_record

Key = int | str  # the number of a picture, from 0, or its name


@dataclass(frozen=True)
class Entry:
    """One picture of a pack. `offset` and `size` are those of its record, in bytes."""

    number: int
    kind: Kind
    offset: int
    size: int

    @property
    def bpp(self) -> float:
        """Bits of the record per pixel; header and index of the pack are shared."""
        return 8 * self.size / (self.kind.width * self.kind.height)


@dataclass(frozen=True)
class _Segment:
    index: Index
    first: int  # number of its first picture
    offsets: array[int]  # of the records, and the end of the last


class PackFile:
    """An open pack. Header and index are read at once, a record when it is asked for, and nothing else ever.

    Numbers run from 0 in the order in which the pictures were added; a negative one counts from the end. May be
    shared by threads, inherited by a child process, and pickled: the copy opens the file again. Raises FormatError for
    a file that is foreign, damaged or cut, OSError where it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path_text(path, "pack", FormatError)
        self._open()

    def _open(self) -> None:
        self._names: list[str] | None = None
        self._numbers: dict[str, int] = {}
        self._descriptor: int | None = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            status = os.fstat(self._descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FormatError("no regular file: a pack is read in pieces, so save it as a file")
            self.file_bytes = status.st_size
            head = self._read(0, min(PACK_HEADER_BYTES, self.file_bytes))
            self.header = read_pack_header(head, self.file_bytes)
            self._segments = list(_laid_out(self._indexes(self.header)))
        except BaseException:
            self.close()
            raise
        self._firsts = [segment.first for segment in self._segments]
        self.index_bytes = self.file_bytes - PACK_HEADER_BYTES - self.tail_bytes - self.record_bytes

    def _indexes(self, header: PackHeader) -> list[tuple[int, Index]]:
        """Where the records of each segment start, and its index; first to last."""
        end, size, crc32 = header.slot.end, header.slot.index_bytes, header.slot.index_crc32
        found: list[tuple[int, Index]] = []
        left = MAX_ALL_INDEX_BYTES
        while len(found) < MAX_SEGMENTS:
            if end - size < PACK_HEADER_BYTES or size > MAX_INDEX_BYTES:
                raise FormatError("the pack's index has an impossible length: the pack is damaged")
            index, inflated = read_index(self._read(end - size, size), crc32, end - size - PACK_HEADER_BYTES)
            start = end - size - sum(index.lengths)
            left -= inflated
            if left < 0:
                raise FormatError(f"the indexes of the pack inflate to more than {MAX_ALL_INDEX_BYTES} bytes: damaged")
            found.append((start, index))
            if start < PACK_HEADER_BYTES or (start == PACK_HEADER_BYTES) != (index.previous is None):
                raise FormatError("the records of the pack do not fill it: the pack is damaged")
            if index.previous is None:
                return found[::-1]
            end, (size, crc32) = start, index.previous
        raise FormatError(f"the pack has more than {MAX_SEGMENTS} segments: it is damaged")

    @property
    def warnings(self) -> list[str]:
        """What is odd about the pack although no picture is lost: a line each."""
        if self.header.other_damaged and not self.tail_bytes:
            return ["the header is damaged in a part that is not in use: no picture is lost"]
        if self.tail_bytes and not self.header.other_damaged:
            return [f"an append was not finished: the last {self.tail_bytes} bytes are no part of the pack"]
        return []

    @property
    def lost(self) -> str | None:
        """That pictures may be out of reach, in a line; None where all are there."""
        if self.header.other_damaged and self.tail_bytes:
            return f"the header is damaged: the last {self.tail_bytes} bytes, and pictures in them, cannot be reached"
        return None

    @property
    def tail_bytes(self) -> int:
        """Bytes of the file behind the end of the pack: of an append that was interrupted."""
        return self.file_bytes - self.header.slot.end

    @property
    def record_bytes(self) -> int:
        """Bytes of all records. With the header, `index_bytes` and `tail_bytes` they are the whole file."""
        return sum(segment.offsets[-1] - segment.offsets[0] for segment in self._segments)

    @property
    def segments(self) -> int:
        """How many times pictures were added."""
        return len(self._segments)

    def __len__(self) -> int:
        last = self._segments[-1]
        return last.first + len(last.index)

    @property
    def names(self) -> Sequence[str]:
        """All names, by number. Raises FormatError where they are damaged or one appears twice."""
        if self._names is None:
            names: list[str] = []
            left = MAX_ALL_NAME_BYTES
            for segment in self._segments:
                found, size = unpack_names(segment.index.packed_names, len(segment.index), left)
                names += found
                left -= size
            numbers = {name: number for number, name in enumerate(names)}
            if len(numbers) < len(names):
                raise FormatError("two pictures of the pack have one name: the pack is damaged")
            self._numbers, self._names = numbers, names  # in this order: other threads look at the names first
        return self._names

    def __contains__(self, name: object) -> bool:
        return bool(self.names) and name in self._numbers

    def number(self, key: Key) -> int:
        """The number of a picture, from 0. Raises KeyError for a name, IndexError for a number that is not there."""
        if isinstance(key, str):
            if key not in self:
                raise KeyError(key)
            return self._numbers[key]
        try:
            key = operator.index(key)  # any integer type's
        except Exception:  # TypeError, and what objects of others raise
            raise KeyError(one_line(key)) from None
        number = key + len(self) if key < 0 else key
        if not 0 <= number < len(self):
            raise IndexError(f"no picture {key} in a pack of {len(self)}")
        return number

    def entry(self, key: Key) -> Entry:
        """What the index says of a picture. Raises as `number`."""
        number = self.number(key)
        segment = self._segments[bisect_right(self._firsts, number) - 1]
        local = number - segment.first
        kind = segment.index.kinds[segment.index.kind_numbers[local]]
        return Entry(number, kind, segment.offsets[local], segment.index.lengths[local])

    def record(self, key: Key) -> Record:
        """A picture's record. Raises FormatError where it is damaged, and as `number`."""
        entry = self.entry(key)
        kind = entry.kind
        data = self._read(entry.offset, entry.size)
        return open_record(data, kind.width, kind.height, has_sections=kind.has_sections)

    def check(self, key: Key) -> None:
        """Compare a record with its own check, which takes no model. Raises as `record`."""
        self.stored(key)

    def stored(self, key: Key) -> bytes:
        """The bytes of a record, compared with its own check. Raises as `record`."""
        entry = self.entry(key)
        data = self._read(entry.offset, entry.size)
        check_record(data)
        return data

    def _read(self, offset: int, size: int) -> bytes:
        """Exactly these bytes of the file."""
        if self._descriptor is None:
            raise ValueError("the pack was closed")
        parts = []
        while size > 0:
            part = os.pread(self._descriptor, size, offset)
            if not part:
                raise FormatError(f"cut at byte {offset}: get the pack again")
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_descriptor", None) is not None:
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        own = ("_descriptor", "_segments", "_firsts", "_names", "_numbers", "header", "file_bytes", "index_bytes")
        return {key: value for key, value in self.__dict__.items() if key not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._open()


def _laid_out(indexes: Sequence[tuple[int, Index]]) -> Iterator[_Segment]:
    first = 0
    for start, index in indexes:
        yield _Segment(index, first, array("Q", accumulate(index.lengths, initial=start)))
        first += len(index)
