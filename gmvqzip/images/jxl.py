"""What the head of a JPEG XL codestream says (ISO/IEC 18181-1, annex D), and whether the file goes on behind it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import BinaryIO

from gmvqzip.images.formats import ADD_ONS
from gmvqzip.images.notes import Notes

NAKED = b"\xff\x0a"  # a codestream without boxes begins with this
_BOXES = (b"jxlc", b"jxlp")
_HEAD = 1 << 16
_SIZE = ((1, 9), (1, 13), (1, 18), (1, 30))  # numbers of these many bits, and what is added
_PREVIEW, _PREVIEW_DIV8 = ((1, 6), (65, 8), (321, 10), (1345, 12)), ((16, 0), (32, 0), (1, 5), (33, 9))
_INTEGERS, _FLOATS = ((8, 0), (10, 0), (12, 0), (1, 6)), ((32, 0), (16, 0), (24, 0), (1, 6))
_ALPHA = 0


@dataclass(frozen=True)
class CodestreamHead:
    """Orientation as in EXIF, which decoders have applied; bits per channel; channels beside colour and alpha."""

    orientation: int = 1
    animated: bool = False
    bits: int = 8
    is_float: bool = False
    further_channels: int = 0


def read_codestream_head(file: BinaryIO) -> CodestreamHead:
    """Of a file with or without boxes. Raises ValueError where it is damaged."""
    file.seek(0)
    data = file.read(_HEAD)
    if not data.startswith(NAKED):
        places = [place for box in _BOXES if (place := data.find(box)) > 0]
        if not places:
            return CodestreamHead()
        place = min(places)
        data = data[place + (4 if data[place : place + 4] == _BOXES[0] else 8) :]
    bits = _Bits(data)
    if bits.take(16) != int.from_bytes(NAKED, "little"):
        raise ValueError("no codestream")
    bits.size()
    if bits.take(1):  # everything is as usual
        return CodestreamHead()
    orientation, animated = 1, False
    if bits.take(1):
        orientation = 1 + bits.take(3)
        if bits.take(1):
            bits.size()
        if bits.take(1):
            bits.preview()
        animated = bool(bits.take(1))
        if animated:
            bits.animation()
    is_float = bool(bits.take(1))
    depth = bits.number(*(_FLOATS if is_float else _INTEGERS))
    bits.take(4 * is_float + 1)
    channels = bits.number((0, 0), (1, 0), (2, 4), (1, 12))
    if channels and (bits.take(1) or bits.number((0, 0), (1, 0), (2, 4), (18, 6)) == _ALPHA):
        channels -= 1
    return CodestreamHead(orientation, animated, depth, is_float, channels)


def note_codestream(head: CodestreamHead, notes: Notes) -> None:
    """Say what Pillow's add-on does not give of it."""
    if head.animated:
        notes.drop("only the first frame of an animation is kept")
    if head.is_float:
        notes.drop("floating-point samples reduced to 8 bits")
    else:
        notes.reduce(head.bits)
    if head.further_channels:
        notes.drop(f"{head.further_channels} further channel{'s' * (head.further_channels > 1)} not kept")


def note_behind_codestream(file: BinaryIO, notes: Notes) -> None:
    """Say that a file without boxes goes on behind its picture: that can be decoded, then, without the last byte."""
    file.seek(0)
    data = file.read().rstrip(b"\0\n\r ")
    try:
        importlib.import_module(ADD_ONS["JXL"][0]).Decoder()(data[:-1])
    except Exception:  # as it should be, or damaged
        return
    notes.drop("bytes behind the picture are not kept")


class _Bits:
    """Numbers of bits, the lowest first."""

    def __init__(self, data: bytes) -> None:
        self._number, self._left = int.from_bytes(data[:256], "little"), 8 * len(data[:256])

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("cut")
        value = self._number & ((1 << count) - 1)
        self._number >>= count
        return value

    def number(self, *ways: tuple[int, int]) -> int:
        """One of four ways: what is added to a number of so many bits."""
        offset, count = ways[self.take(2)]
        return offset + self.take(count)

    def size(self) -> None:
        small = self.take(1)
        if small:
            self.take(5)
        else:
            self.number(*_SIZE)
        if self.take(3) == 0:
            self.take(5) if small else self.number(*_SIZE)

    def preview(self) -> None:
        ways = _PREVIEW_DIV8 if self.take(1) else _PREVIEW
        self.number(*ways)
        if self.take(3) == 0:
            self.number(*ways)

    def animation(self) -> None:
        self.number((100, 0), (1000, 0), (1, 10), (1, 30))
        self.number((1, 0), (1001, 0), (1, 8), (1, 10))
        self.number((0, 0), (0, 3), (0, 16), (0, 32))
        self.take(1)
