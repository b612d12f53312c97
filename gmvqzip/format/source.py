"""The bytes of a `.gmvq` file, from wherever they are."""

from __future__ import annotations

import os
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
