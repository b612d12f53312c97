"""Packs of made-up records: what is tested of the file needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gmvqzip.format.packindex import Kind
from gmvqzip.format.packrecord import seal_record
from gmvqzip.pack.appending import Appender

MODEL = bytes.fromhex("c0ffee1100000000")
SMALL = Kind(MODEL, 32, 32, 0)

Made = tuple[str, Kind, bytes]  # name, kind, payload


def made(count: int, start: int = 0, kind: Kind = SMALL) -> list[Made]:
    """Pictures named 00000, 00001, ... with payloads of different lengths."""
    return [
        (f"{n:05d}", kind, bytes((n * 7 + place) % 256 for place in range(3 + n % 5)))
        for n in range(start, start + count)
    ]


def write_pack(path: Path, segments: Sequence[Sequence[Made]]) -> Path:
    """A pack with these segments."""
    for segment in segments:
        appender = Appender(path, append=True)
        for name, kind, payload in segment:
            appender.add(name, kind, seal_record(kind.width, kind.height, 0x12345678, payload))
        appender.finish()
    return path
