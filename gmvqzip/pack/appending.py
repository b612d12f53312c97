"""Records into a pack, new or old, so that nothing that was there is ever lost. Standard library only.

A pack only grows. Records and their index go behind its end and are synced; then one write of a few bytes fills the
slot of the header that is not in use, and is synced. Before that write the pack is what it was, after it the new
pictures are there; whatever ends the process in between leaves bytes behind the end that the next append removes.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from gmvqzip.errors import FormatError, OutputError, safe_name
from gmvqzip.format.limits import MAX_ALL_INDEX_BYTES, MAX_INDEX_BYTES, MAX_SEGMENT_ENTRIES, MAX_SEGMENTS
from gmvqzip.format.packheader import PACK_HEADER_BYTES, Slot, empty_header, slot_offset
from gmvqzip.format.packindex import Index, Kind, check_name, pack_names, write_index
from gmvqzip.images.files import NewFile, reason
from gmvqzip.pack.file import Entry, PackFile

_WRITE_BYTES = 1 << 20  # so many are gathered before they are written
_Result = TypeVar("_Result")
_FULL_INDEX_BYTES = MAX_INDEX_BYTES // 2  # about; a segment is ended before its index is beyond its limit


class Appender:
    """Adds records to a new pack, or behind those of an existing one.

    path: the pack; append: add to it where it exists; force: replace it where it exists. `commit` makes all that was
    added part of the pack; then `finish`, or `discard` what was added since. A new pack appears under its name when it
    is finished, and not at all where it is discarded. Raises OutputError; FormatError for an old pack that is damaged.
    """

    def __init__(self, path: Path, *, append: bool = False, force: bool = False) -> None:
        self.path = path
        self._new: NewFile | None = None
        self._parts: list[bytes] = []  # records that are not written yet
        self._waiting = 0  # bytes of them
        self._open = True
        self.names: set[str] = set()
        if append and os.path.lexists(path):
            self._descriptor = _locked(path)
            try:
                self._continue()
            except BaseException:
                os.close(self._descriptor)
                raise
        else:
            self._new = NewFile(path, force=force)
            self._descriptor = self._new.descriptor
            try:
                self._write(empty_header(), 0)
            except BaseException:
                self._new.discard()
                raise
            self._slot, self._committed, self._segments, self._index_bytes = 0, PACK_HEADER_BYTES, 0, 0
            self._start_segment(None)

    def _continue(self) -> None:
        with PackFile(self.path) as pack:
            if pack.lost is not None:
                raise FormatError(f"{pack.lost}: unpack it and make it again, nothing can be added")
            self.names = set(pack.names)
            slot, size = pack.header.slot, pack.file_bytes
            self._slot, self._committed = 1 - pack.header.number, slot.end
            self._segments, self._index_bytes = pack.segments, pack.index_bytes
        if size > self._committed:  # what an interrupted append has left
            self._truncate()
        self._start_segment((slot.index_bytes, slot.index_crc32))

    def _start_segment(self, previous: tuple[int, int] | None) -> None:
        self._previous = previous
        self._kinds: dict[Kind, int] = {}
        self._kind_numbers: list[int] = []
        self._lengths: list[int] = []
        self._new_names: list[str] = []
        self._end = self._committed  # of what is written
        self._weight = 0  # bytes of the index, about

    def __len__(self) -> int:
        """Pictures in the pack, with those that are not committed yet."""
        return len(self.names)

    def add(self, name: str, kind: Kind, record: bytes) -> None:
        """Add a record. Raises FormatError for a name that the pack has, or that no pack may have; OutputError once
        the pack is finished."""
        check_name(name)
        self._check_open()
        if name in self.names:
            raise FormatError(f"the pack has a picture named {name!r}")
        weight = len(name.encode()) + 16 + (0 if kind in self._kinds else 32 + len(kind.profile))
        if len(self._lengths) == MAX_SEGMENT_ENTRIES or self._weight + weight > _FULL_INDEX_BYTES:
            self.commit()
        self._weight += weight
        self.names.add(name)
        self._new_names.append(name)
        self._kind_numbers.append(self._kinds.setdefault(kind, len(self._kinds)))
        self._lengths.append(len(record))
        self._parts.append(record)
        self._waiting += len(record)
        if self._waiting >= _WRITE_BYTES:
            self._flush()

    def commit(self) -> None:
        """Make what was added part of the pack. A new pack gets its first segment even without a picture."""
        self._check_open()
        if not self._lengths and self._segments:
            return
        kinds = list(self._kinds)
        index = Index(self._previous, kinds, self._kind_numbers, self._lengths, pack_names(self._new_names))
        stored = write_index(index)
        if self._segments == MAX_SEGMENTS or self._index_bytes + self._weight > MAX_ALL_INDEX_BYTES:
            raise FormatError(
                "nothing more can be appended to this pack: start another, or unpack it and make it again"
            )
        self._parts.append(stored)
        self._flush()
        self._sync()
        slot = Slot(self._end, len(stored), zlib.crc32(stored))
        self._write(slot.write(), slot_offset(self._slot))
        self._sync()
        self._slot, self._committed = 1 - self._slot, self._end
        self._segments += 1
        self._index_bytes += self._weight
        self._start_segment((slot.index_bytes, slot.index_crc32))

    def finish(self) -> None:
        """Commit, and give a new pack its name."""
        self.commit()
        if self._new is None and not _is_named(self._descriptor, self.path):
            raise OutputError(f"another process has replaced {safe_name(self.path)}: nothing was added")
        self._open = False
        if self._new is not None:
            self._new.finish()
        else:
            os.close(self._descriptor)

    def discard(self) -> None:
        """Drop what was added since the last commit; a new pack as a whole. Harmless once the pack is finished."""
        if not self._open:
            return
        self._open = False
        if self._new is not None:
            self._new.discard()
            return
        try:
            self._truncate()
        finally:
            os.close(self._descriptor)

    def _check_open(self) -> None:
        if not self._open:
            raise OutputError(f"{safe_name(self.path)} is finished: append to it with a new writer")

    def _flush(self) -> None:
        data, self._parts, self._waiting = b"".join(self._parts), [], 0
        self._write(data, self._end)
        self._end += len(data)

    def _write(self, data: bytes, offset: int) -> None:
        rest = memoryview(data)
        while rest:
            taken = self._do(partial(os.pwrite, self._descriptor, rest, offset))
            rest, offset = rest[taken:], offset + taken

    def _sync(self) -> None:
        self._do(partial(os.fsync, self._descriptor))

    def _truncate(self) -> None:
        self._do(partial(os.ftruncate, self._descriptor, self._committed))

    def _do(self, action: Callable[[], _Result]) -> _Result:
        try:
            return action()
        except OSError as error:
            raise OutputError(f"cannot write {safe_name(self.path)}: {reason(error)}") from error


def add_pack(appender: Appender, pack: PackFile) -> Iterator[tuple[str, Entry, FormatError | OSError | None]]:
    """Add a pack's pictures in their order; yield the name of each, what it was there, and why it was not added.

    A record that cannot be read, or whose own check fails, is left out, and so is a picture whose name is there. Raises
    OutputError where the new pack cannot be written, FormatError where the names of the old one are damaged.
    """
    for number, name in enumerate(pack.names):
        entry = pack.entry(number)
        try:
            appender.add(name, entry.kind, pack.stored(number))
        except (FormatError, OSError) as error:
            yield name, entry, error
        else:
            yield name, entry, None


def _locked(path: Path) -> int:
    """A descriptor of a pack that no other process appends to."""
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise OutputError(f"cannot append to {safe_name(path)}: {reason(error)}") from error
    try:
        _lock(descriptor, path)
        if not _is_named(descriptor, path):
            raise OutputError(f"another process has replaced {safe_name(path)}: try again")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether a name is still that of an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not a POSIX system: without a lock, two appends at once are the user's own affair
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(f"another process is appending to {safe_name(path)}: wait for it") from None
    except OSError:
        pass  # a file system without locks
