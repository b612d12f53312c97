"""The bytes of a `.gmvq` file, from wherever they are."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from gmvqzip.errors import FormatError, GmvqError, message_of, path_text

MAX_STREAM_BYTES = 2**30  # of what comes through a pipe or from a device: it must end somewhere
_READ_BYTES = 2**20  # at once, so that a signal is heeded between two reads

Source = bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes]


def read_source(source: Source) -> bytes:
    """The bytes themselves, those of the file at a path, or what is left to read of a binary file object.

    Raises FormatError for a file object that gives text, or anything else; OSError where a path is unreadable.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        with open_file(source, FormatError) as file:
            return file.read()
    if not callable(getattr(source, "read", None)):
        raise FormatError(f"a {type(source).__name__} is no .gmvq file: give bytes, a path or a binary file object")
    return read_bounded(source, FormatError)


@contextmanager
def open_file(path: str | os.PathLike[str], error: type[GmvqError]) -> Iterator[BinaryIO]:
    """A file for reading at any place; a pipe or device is read whole first. Raises `error` as `read_bounded`, and
    OSError.
    """
    with Path(path_text(path, "path", error)).open("rb") as file:
        regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        yield file if regular else io.BytesIO(read_bounded(file, error))


def read_bounded(file: IO[bytes], error: type[GmvqError], limit: int = MAX_STREAM_BYTES) -> bytes:
    """What is left to read of a file object. Raises `error`: it gives more than `limit` bytes, or text."""
    parts: list[bytes] = []
    total = 0
    while part := _next(file, error):
        if not isinstance(part, bytes | bytearray | memoryview):
            raise error("the file object gives text: open it in binary mode")
        parts.append(bytes(part))
        total += len(part)
        if total > limit:
            raise error(f"more than {limit} bytes came from a pipe, device or file object: save it as a file first")
    return b"".join(parts)


def _next(file: IO[bytes], error: type[GmvqError]) -> bytes:
    try:
        return file.read(_READ_BYTES)
    except (ValueError, TypeError) as problem:  # it is closed, or no file
        raise error(f"the file object cannot be read: {message_of(problem)}") from None


@contextmanager
def open_source(source: Source) -> Iterator[BinaryIO]:
    """The same as a file object that can be read at any place, from where it stands. Raises as `read_source`."""
    if isinstance(source, str | os.PathLike):
        with open_file(source, FormatError) as file:
            yield file
    elif _is_seekable(source):
        yield source  # type: ignore[misc]
    else:
        yield io.BytesIO(read_source(source))


def _is_seekable(source: object) -> bool:
    """Whether it is a binary file object that can be read at any place. Raises FormatError for a closed one."""
    if isinstance(source, io.RawIOBase):  # which may give less than it is asked for
        return False
    try:
        return bool(source.seekable()) and isinstance(source.read(0), bytes)  # type: ignore[attr-defined]
    except AttributeError:
        return False
    except (ValueError, TypeError) as error:
        raise FormatError(f"the file object cannot be read: {message_of(error)}") from None
