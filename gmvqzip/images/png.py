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
from gmvqzip.images.colour import Pixels, Unpacked, to_8_bit, unpack_pillow
from gmvqzip.images.colourspace import ColourSpace, coded_space, gamma_space, space_notes
from gmvqzip.images.notes import Notes

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
MAX_TEXT_BYTES = 2**25  # of all texts together once inflated; Pillow would stop at 2^26
_KEPT_BYTES = 1024  # of a chunk that is looked at here; all of them are shorter
_LOOKED_AT = (b"IHDR", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"iCCP", b"sBIT")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")


@dataclass
class Header:
    """The chunks of a PNG that say what its samples mean."""

    depth: int = 8
    colour: int = RGB
    animated: bool = False
    chunks: dict[bytes, bytes] = field(default_factory=dict)  # the first bytes of each
    too_long: list[tuple[int, int]] = field(default_factory=list)  # places of chunks beyond our limits
    end: int | None = None  # where the picture ends; None where that was not found

    def transparent(self) -> tuple[int, ...] | None:
        """The colour that stands for full transparency, at the depth of the samples."""
        data, count = self.chunks.get(b"tRNS", b""), {GRAY: 1, RGB: 3}.get(self.colour, 0)
        if not count or len(data) < 2 * count:
            return None
        return tuple(value & ((1 << self.depth) - 1) for value in struct.unpack(f">{count}H", data[: 2 * count]))

    def space(self, notes: Notes) -> ColourSpace | None:
        """The colour space of the samples where no profile gives it; None: sRGB."""
        if b"cICP" in self.chunks and len(self.chunks[b"cICP"]) >= 4:
            primaries, transfer, _, full = self.chunks[b"cICP"][:4]
            return coded_space(primaries, transfer, full, notes)
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
    texts = 0
    for kind, start, length in _chunks(file):
        if kind == b"IEND":
            header.end = start + 4
            break
        header.animated = header.animated or kind == b"acTL"
        if kind in _TEXTS or kind == b"iCCP":
            size = _inflated(kind, file.read(length), MAX_PROFILE_BYTES)
            texts += size if kind in _TEXTS else 0
            if size > MAX_PROFILE_BYTES or texts > MAX_TEXT_BYTES:
                header.too_long.append((start - 8, start + length + 4))
                texts -= size if kind in _TEXTS else 0
                continue
            file.seek(start)
        if kind in _LOOKED_AT and kind not in header.chunks:
            header.chunks[kind] = file.read(min(length, _KEPT_BYTES))
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


def _inflated(kind: bytes, data: bytes, limit: int) -> int:
    """Bytes of a text or profile once inflated; more than `limit` where it passes that."""
    _, _, rest = data.partition(b"\0")
    if kind == b"iTXt" and rest[:1] == b"\1":
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    elif kind in (b"zTXt", b"iCCP"):
        rest = rest[1:]
    else:
        return len(data)
    try:
        return len(zlib.decompressobj().decompress(rest, limit + 1))
    except zlib.error:
        return 0  # Pillow passes over it


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
    space = None if unpacked.icc else header.space(notes)
    if space is not None:
        space_notes(space, notes, gray=samples.shape[2] == 1)
        levels = space.to_srgb(samples)
    else:
        levels = to_8_bit(samples, 8 * samples.dtype.itemsize)
    return replace(unpacked, image=Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels), alpha=alpha)


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
