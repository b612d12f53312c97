"""A file of which header and sections are read, once, and the payload as far as it is wanted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from gmvqzip.format.container import Container, read_front, read_rest, unpack
from gmvqzip.format.limits import MAX_PIXELS
from gmvqzip.format.source import Source, open_source, read_source


class Opened:
    """box: header and sections; with the payload, and all verified, where the whole file is read."""

    def __init__(self, box: Container, file: BinaryIO | None = None, start: int = 0) -> None:
        self.box, self._file, self._start = box, file, start

    @property
    def whole(self) -> bool:
        """Whether all of it is read."""
        return self._file is None

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        if self._file is None:
            return self.box.header_bytes + self.box.sections_bytes + len(self.box.payload)
        return self._file.seek(0, os.SEEK_END) - self._start

    def read_whole(self) -> Container:
        """All of it, verified. Raises FormatError."""
        if self._file is None:
            return self.box
        self._file.seek(self._start)
        return read_rest(self.box, self._file.read())

    def payload(self, start: int, end: int) -> bytes:
        """A part of the payload of a file that is not read whole."""
        if self._file is None:
            return self.box.payload[start:end]
        self._file.seek(self._start + self.box.header_bytes + self.box.sections_bytes + start)
        return self._file.read(end - start)


@contextmanager
def opened(source: Source, *, part: bool, max_pixels: int = MAX_PIXELS) -> Iterator[Opened]:
    """An opened file, given as for `read_source`. part: read nothing of the payload yet.

    Raises FormatError as `container.unpack` or `read_front`; OSError.
    """
    if not part:
        yield Opened(unpack(read_source(source), max_pixels=max_pixels))
        return
    with open_source(source) as file:
        start = file.tell()
        front, _ = read_front(file, max_pixels=max_pixels)
        yield Opened(front, file, start)
