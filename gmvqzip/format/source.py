"""The bytes of a `.gmvq` file, from wherever they are."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gmvqzip.errors import FormatError

Source = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO


def read_source(source: Source) -> bytes:
    """The bytes themselves, those of the file at a path, or what is left to read of a binary file object.

    Raises FormatError for a file object that gives text, or anything else; OSError where a path is unreadable.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        return Path(source).read_bytes()
    if not hasattr(source, "read"):
        raise FormatError(f"a {type(source).__name__} is no .gmvq file: give bytes, a path or a binary file object")
    data = source.read()
    if not isinstance(data, bytes | bytearray | memoryview):
        raise FormatError("the file object gives text: open it in binary mode")
    return bytes(data)


@contextmanager
def open_source(source: Source) -> Iterator[BinaryIO]:
    """The same as a file object that can be read at any place, from where it stands. Raises as `read_source`."""
    if isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            yield file
    elif getattr(source, "seekable", lambda: False)() and isinstance(source.read(0), bytes):  # type: ignore[union-attr]
        yield source  # type: ignore[misc]
    else:
        yield io.BytesIO(read_source(source))
