"""What HEIF and AVIF files say of a picture that Pillow does not: colour space, depth, and pictures besides.

Reference: ISO/IEC 23008-12 (HEIF), its boxes after ISO/IEC 14496-12.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

MAX_META_BYTES = 2**24  # of the box that describes the pictures; more is not looked at
_EXTRAS = {b"hdrgainmap": "gain map", b"tmap": "gain map", b"auxid:2": "depth map", b"disparity": "depth map",
           b"semantic": "matte", b"portraiteffectsmatte": "matte"}  # fmt: skip


@dataclass
class Description:
    """What the boxes say."""

    depth: int = 8  # bits per channel, of the deepest picture
    code_points: tuple[int, int] | None = None  # primaries and transfer
    extras: list[str] = field(default_factory=list)  # kinds of pictures besides the one that is read


def describe(file: BinaryIO) -> Description:
    """Read the boxes, and leave the file where it stood. What is damaged is passed over."""
    before = file.tell()
    found = Description()
    try:
        end = file.seek(0, os.SEEK_END)
        for kind, start, stop in _boxes(file, 0, end):
            if kind == b"meta" and stop - start <= MAX_META_BYTES:
                file.seek(start)
                _look(file.read(stop - start)[4:], found)
    except (struct.error, ValueError, IndexError):
        pass
    finally:
        file.seek(before)
    return found


def _boxes(file: BinaryIO, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, first byte, end) of the contents of each box of the file itself."""
    while place + 8 <= end:
        file.seek(place)
        head = file.read(16)
        size, kind = struct.unpack(">I4s", head[:8])
        start = place + 8
        if size == 1:
            (size,) = struct.unpack(">Q", head[8:16])
            start = place + 16
        stop = end if size == 0 else place + size
        if stop <= place or stop > end:
            return
        yield kind, start, stop
        place = stop


def _inner(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        if size < 8 or place + size > len(data):
            return
        yield kind, data[place + 8 : place + size]
        place += size


def _look(meta: bytes, found: Description) -> None:
    for kind, content in _inner(meta):
        if kind == b"iprp":
            for inner, properties in _inner(content):
                if inner == b"ipco":
                    _properties(properties, found)
        elif kind == b"iinf" and b"tmap" in content and "gain map" not in found.extras:
            found.extras.append("gain map")


def _properties(data: bytes, found: Description) -> None:
    for kind, content in _inner(data):
        if kind == b"pixi" and len(content) > 5:
            found.depth = max(found.depth, *content[5 : 5 + content[4]])
        elif kind == b"av1C" and len(content) > 2:
            found.depth = max(found.depth, 12 if content[2] & 0x20 else 10 if content[2] & 0x40 else 8)
        elif kind == b"hvcC" and len(content) > 17:
            found.depth = max(found.depth, 8 + (content[17] & 7))
        elif kind == b"colr" and content[:4] == b"nclx" and found.code_points is None:
            primaries, transfer = struct.unpack(">HH", content[4:8])
            found.code_points = primaries, transfer
        elif kind == b"auxC":
            for mark, name in _EXTRAS.items():
                if mark in content and name not in found.extras:
                    found.extras.append(name)
