"""What reading a picture changed, and what of it was left behind.

Every byte of a file belongs to the picture, to how it is coded, to what is kept beside it, or is said to be lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import BinaryIO

_PADDING = b"\0\n\r \xff"
_BLOCK = 1 << 20
_REDUCED = "bits per channel reduced to 8"


@dataclass
class Notes:
    """One line for each thing that reading lost or changed, in order."""

    lines: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Something was changed, and nothing lost that a user would miss."""
        if line not in self.lines:
            self.lines.append(line)

    def reduce(self, bits: int) -> None:
        """The samples have so many bits, and the picture's 8. What is said first counts: it knows the file best."""
        if bits > 8 and not any(_REDUCED in line for line in self.lines):
            self.drop(f"{bits} {_REDUCED}")

    def drop(self, line: str) -> None:
        """Something of the source is not in the picture: who has this source must not lose it."""
        self.say(line)
        if line not in self.dropped:
            self.dropped.append(line)


@dataclass(frozen=True, order=True)
class Range:
    """Bytes of a file, from `start` up to `end`. lost: what they hold where nothing of it is in the picture."""

    start: int
    end: int
    lost: str = ""


def note_ranges(file: BinaryIO, ranges: Iterable[Range], notes: Notes) -> None:
    """Say what is lost of a file: ranges that are, what lies between ranges, and what follows the last.

    Padding is no loss. Where the ranges break off (they may raise what parsing damaged files raises), the rest of the
    file is the decoder's matter.
    """
    lost: dict[str, int] = {}
    place = 0
    for part in sorted(ranges):
        if part.start > place:
            lost["between its parts"] = lost.get("between its parts", 0) + _filled(file, place, part.start)
        if part.lost:
            lost[part.lost] = lost.get(part.lost, 0) + _filled(file, part.start, part.end)
        place = max(place, part.end)
    for what, size in lost.items():
        if size:
            notes.drop(f"{size} bytes {what} are not kept")
    note_behind(file, place, notes)


def note_behind(file: BinaryIO, end: int | None, notes: Notes, *, least: int = 1) -> None:
    """Say that something follows the picture, of `least` bytes or more, and more than padding."""
    if end is None:
        return
    length = file.seek(0, os.SEEK_END)
    if length - end >= least and _filled(file, end, length):
        notes.drop(f"{length - end} bytes behind the picture are not kept (a video, a gain map or further pictures?)")


def _filled(file: BinaryIO, start: int, end: int) -> int:
    """The bytes of a range, 0 where they are nothing but padding."""
    file.seek(start)
    for place in range(start, end, _BLOCK):
        if file.read(min(_BLOCK, end - place)).strip(_PADDING):
            return end - start
    return 0
