"""What a PNG says of its samples beyond what Pillow hands out: exact 16 bits, transparent colours, colour space.

References: PNG Specification, third edition (2025).
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from gmvqzip.errors import ImageError
from gmvqzip.format.limits import MAX_PROFILE_BYTES
from gmvqzip.format.metadata import PNG_CHUNK, Part, Text
from gmvqzip.images.colour import Unpacked, to_8_bit, unpack_pillow
from gmvqzip.images.colourspace import ColourSpace, coded_space, gamma_space, is_known_space, space_notes
from gmvqzip.images.notes import Notes, Range
from gmvqzip.images.pixels import Pixels
from gmvqzip.images.profiles import agrees

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
MAX_TEXT_BYTES = 2**25  # of all texts together once inflated; Pillow would stop at 2^26
MAX_PARTS_BYTES = 2**18  # of chunks that are kept as they are
_KEPT_BYTES = 1024  # of a chunk that is looked at here; all of them are shorter
_LOOKED_AT = (b"IHDR", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs", b"tIME")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_FRAMES = (b"acTL", b"fcTL", b"fdAT")
_OF_CODING = (b"IDAT", b"PLTE", b"IEND", b"sBIT", b"bKGD", b"hIST", b"sPLT", b"mDCV", b"cLLI", b"iDOT", b"orNT")
_KNOWN = frozenset((*_LOOKED_AT, *_TEXTS, *_FRAMES, *_OF_CODING, b"iCCP", b"eXIf"))
"""Chunks that are kept otherwise, or say how the file is made and is best shown."""


@dataclass
class Header:
    """The chunks of a PNG that say what its samples mean."""

    depth: int = 8
    colour: int = RGB
    chunks: dict[bytes, bytes] = field(default_factory=dict)  # the first bytes of each
    too_long: list[tuple[int, int]] = field(default_factory=list)  # places of chunks beyond our limits
    profile: bool = False  # there is a chunk for one, whatever is in it
    frames: bool = False  # there are more than the picture
    texts: list[Text] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)  # other chunks, of those that may outlive a change of the pixels
    ranges: list[Range] = field(default_factory=list)
    end: int | None = None  # where the picture ends; None where that was not found

    def transparent(self) -> tuple[int, ...] | None:
        """The colour that stands for full transparency, at the depth of the samples."""
        data, count = self.chunks.get(b"tRNS", b""), {GRAY: 1, RGB: 3}.get(self.colour, 0)
        if not count or len(data) < 2 * count:
            return None
        return tuple(value & ((1 << self.depth) - 1) for value in struct.unpack(f">{count}H", data[: 2 * count]))

    def space(self, icc: bytes | None, notes: Notes) -> tuple[ColourSpace | None, bytes | None]:
        """The colour space of the samples, None for sRGB, or the profile that gives it, as far as code points allow."""
        points = self.chunks.get(b"cICP", b"")
        if len(points) < 4:
            return (None, icc) if icc else (self._measured_space(), None)
        primaries, transfer, _, full = points[:4]
        space = coded_space(primaries, transfer, full, notes)
        if icc and (not is_known_space(primaries, transfer) or agrees(icc, space)):
            return None, icc
        if icc:
            notes.say("the colour profile contradicts the code points (cICP), which overrule it: dropped")
        return space, None

    def _measured_space(self) -> ColourSpace | None:
        if b"sRGB" in self.chunks:
            return None
        gamma, white = self.chunks.get(b"gAMA", b""), self.chunks.get(b"cHRM", b"")
        exponent = struct.unpack(">I", gamma[:4])[0] / 100_000 if len(gamma) >= 4 else 0.0
        points = tuple(value / 100_000 for value in struct.unpack(">8I", white[:32])) if len(white) >= 32 else ()
        return gamma_space(exponent, points) if exponent or points else None


def read_header(file: BinaryIO) -> Header:
    """Go over the chunks of a PNG, and leave the file where it stood. Damage is for Pillow to find."""
    before = file.tell()
    try:
        return _collected(file)
    finally:
        file.seek(before)


def _collected(file: BinaryIO) -> Header:
    header = Header()
    texts = parts = 0
    for kind, start, length in _chunks(file):
        known, name = kind in _KNOWN, kind.decode("latin-1")
        header.profile |= kind == b"iCCP"
        header.frames |= kind == b"fdAT"
        if kind in _TEXTS or kind == b"iCCP":
            opened = _opened(kind, file.read(length), MAX_PROFILE_BYTES)
            size = len(opened) if kind in _TEXTS else 0
            texts += size
            if len(opened) > MAX_PROFILE_BYTES or texts > MAX_TEXT_BYTES:
                header.too_long.append((start - 8, start + length + 4))
                texts -= size
                continue
            known = bool(opened) or kind == b"iCCP"  # a damaged text is lost
            if opened and kind in _TEXTS:
                header.texts.append(_text(opened))
        elif kind in _LOOKED_AT and kind not in header.chunks:
            header.chunks[kind] = file.read(min(length, _KEPT_BYTES))
        elif not known and name[3:].islower() and parts + length <= MAX_PARTS_BYTES:  # "safe to copy"
            parts += length
            header.parts.append(Part(PNG_CHUNK, kind + file.read(length)))
            known = True
        header.ranges.append(Range(start - 8, start + length + 4, "" if known else f"of a chunk {name!a}"))
        if kind == b"IEND":
            header.end = start + 4
            break
    else:
        header.ranges.append(Range(0, file.seek(0, os.SEEK_END)))  # cut
    density = header.chunks.get(b"pHYs", b"")
    if len(density) == 9 and not density[8] and density[:4] != density[4:8]:  # no resolution, but the shape of pixels
        header.parts.append(Part(PNG_CHUNK, b"pHYs" + density))
    if len(header.chunks.get(b"IHDR", b"")) >= 13:
        header.depth, header.colour = header.chunks[b"IHDR"][8:10]
    return header


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """(kind, place of the data, its bytes) of each chunk that lies within the file."""
    end = file.seek(0, os.SEEK_END)
    place = len(SIGNATURE)
    while place + 12 <= end:
        file.seek(place)
        length, kind = struct.unpack(">I4s", file.read(8))
        if place + 12 + length > end:
            return
        yield kind, place + 8, length
        place += 12 + length


def _opened(kind: bytes, data: bytes, limit: int) -> bytes:
    """A text as uncompressed as in an iTXt chunk, or a profile; longer than `limit` where it passes that."""
    keyword, _, rest = data.partition(b"\0")
    try:
        if kind == b"tEXt":
            return keyword + b"\0" * 5 + rest.decode("latin-1").encode()
        if kind == b"iTXt":
            language, translated, text = rest[2:].split(b"\0", 2)
            if rest[:1] == b"\1":
                text = _inflated(text, limit)
            return keyword + b"\0" * 3 + language + b"\0" + translated + b"\0" + text
        inflated = _inflated(rest[1:], limit)
        return inflated if kind == b"iCCP" else keyword + b"\0" * 5 + inflated.decode("latin-1").encode()
    except (zlib.error, ValueError):
        return b""  # damaged: Pillow passes over it


def _inflated(data: bytes, limit: int) -> bytes:
    return zlib.decompressobj().decompress(data, limit + 1)


def _text(opened: bytes) -> Text:
    """A text of the contents of an iTXt chunk without compression."""
    keyword, _, rest = opened.partition(b"\0")
    language, translated, text = (part.decode(errors="replace") for part in rest[2:].split(b"\0", 2))
    return Text(keyword.decode("latin-1"), text, language, translated)


def png_ranges(file: BinaryIO, found: dict[str, Any]) -> Iterator[Range]:
    """The chunks. found: texts, parts, the time, and whether there are a profile and further frames."""
    header = read_header(file)
    found["texts"], found["parts"] = tuple(header.texts), tuple(header.parts)
    found["frames"], found["has_profile"] = header.frames, header.profile
    time = header.chunks.get(b"tIME", b"")
    if len(time) == 7:
        found["time"] = (int.from_bytes(time[:2], "big"), *time[2:])
    yield Range(0, len(SIGNATURE))
    yield from header.ranges


def without_long_chunks(file: BinaryIO, notes: Notes) -> BinaryIO:
    """The file itself; or, where texts or a profile in it are beyond our limits, a copy without these."""
    header = read_header(file)
    if not header.too_long:
        return file
    notes.drop(f"texts or profiles of more than {MAX_PROFILE_BYTES} bytes in the PNG: dropped")
    out, place = io.BytesIO(), 0
    file.seek(0)
    for start, end in [*header.too_long, (file.seek(0, os.SEEK_END), 0)]:
        file.seek(place)
        out.write(file.read(start - place))
        place = end
    out.seek(0)
    return out


def unpack_png(image: Image.Image, header: Header, file: BinaryIO | None, notes: Notes) -> Unpacked:
    """The samples of a loaded PNG; file: where it was read from. Raises ImageError."""
    if header.colour == PALETTE:
        unpacked = unpack_pillow(image, "PNG", notes)
        samples, alpha = np.asarray(unpacked.image.convert("RGB")), unpacked.alpha
    else:
        unpacked = Unpacked(image, None, image.info.get("icc_profile"))
        samples, alpha = _samples(image, header, file, notes)
    space, icc = header.space(unpacked.icc, notes)
    if space is not None:
        space_notes(space, notes, gray=samples.shape[2] == 1)
        levels = space.to_srgb(samples)
    else:
        levels = to_8_bit(samples, 8 * samples.dtype.itemsize)
    picture = Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
    return replace(unpacked, image=picture, alpha=alpha, icc=icc)


def _samples(
    image: Image.Image, header: Header, file: BinaryIO | None, notes: Notes
) -> tuple[NDArray[Any], Pixels | None]:
    """Gray or RGB [H, W, 1 or 3] of 8 or 16 bits, and alpha [H, W] of 8."""
    if header.depth == 16:
        notes.reduce(16)
        samples: NDArray[Any] = _sixteen_bits(image, header, file)
    else:
        samples = np.asarray(image.convert("L") if image.mode == "1" else image)
        samples = samples if samples.ndim == 3 else samples[:, :, None]
    bits = 8 * samples.dtype.itemsize
    key = header.transparent()
    if key is not None:
        full = (1 << header.depth) - 1
        stored = [value * ((1 << bits) - 1) // full for value in key]
        return samples, np.where((samples == stored).all(axis=-1), np.uint8(0), np.uint8(255))
    if header.colour in (GRAY_ALPHA, RGB_ALPHA):
        return samples[:, :, :-1], to_8_bit(samples[:, :, -1], bits)
    return samples, None


def _sixteen_bits(image: Image.Image, header: Header, file: BinaryIO | None) -> NDArray[np.uint16]:
    """The samples [H, W, channels] of a PNG of 16 bits.

    Pillow gives the high bytes of colours; the low ones come from a second pass, as if their order were the other.
    """
    if header.colour == GRAY:
        return np.asarray(image).astype(np.uint16)[:, :, None]
    if file is None:
        raise ImageError("the picture's file is closed: give its path, or the image before it is loaded")
    rawmode = {RGB: "RGB;16L", RGB_ALPHA: "RGBA;16L", GRAY_ALPHA: "RGBA"}[header.colour]
    before = file.tell()
    try:
        file.seek(0)
        second = PngImagePlugin.PngImageFile(file)
        second.tile = [tile._replace(args=rawmode) for tile in second.tile]
        low = np.asarray(second)
    finally:
        file.seek(before)
    if header.colour == GRAY_ALPHA:  # four bytes of a pixel: two of gray, two of alpha
        high, low = low[..., ::2], low[..., 1::2]
    else:
        high = np.asarray(image)
    return np.asarray((high.astype(np.uint16) << 8) | low)
