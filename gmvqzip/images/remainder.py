"""What a file holds besides the picture that is read: said, so that nobody throws it away unknowingly."""

from __future__ import annotations

import os
import re
import struct
from typing import BinaryIO

from PIL import Image

from gmvqzip.images import boxes, png
from gmvqzip.images.colourspace import ColourSpace, coded_space
from gmvqzip.images.notes import Notes

BOXED_FORMATS = ("AVIF", "HEIF")
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)  # in entropy-coded data, whatever is no data
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_STANDALONE = (0x01, 0xD8, *range(0xD0, 0xD8))
_PPM_NUMBERS = re.compile(rb"P[56]\s(?:\s|#[^\n]*\n)*(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")
_PPM_PLAIN = re.compile(rb"P[23]\s(?:\s|#[^\n]*\n)*\d+(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+(\d+)\s")


def note_remainder(image: Image.Image, file: BinaryIO | None, notes: Notes) -> ColourSpace | None:
    """Say what of a picture's file is not read. file: where it was opened from, None where that is not known.

    Returns the colour space of the samples, where the file gives one that Pillow passes over.
    """
    _note_frames(image, notes)
    sizes = {tuple(size) for size in image.info.get("sizes", ())} if image.format in ("ICO", "ICNS") else set()
    if len(sizes) > 1:
        notes.drop(f"only one of {len(sizes)} sizes is kept: {image.width}x{image.height}")
    if file is None or image.format is None:
        return None
    before = file.tell()
    try:
        if image.format in BOXED_FORMATS:
            return _note_boxes(image, file, notes)
        if image.format in ("JPEG", "PNG", "PPM"):
            end = {"JPEG": _jpeg_end, "PNG": _png_end, "PPM": _ppm_end}[image.format](file)
            note_behind(file, end, notes)
        if image.format in ("PPM", "JPEG2000"):
            depth = (_ppm_depth if image.format == "PPM" else _jpeg2000_depth)(file)
            notes.reduce(depth)
    finally:
        file.seek(before)
    return None


def _note_frames(image: Image.Image, notes: Notes) -> None:
    frames = int(getattr(image, "n_frames", 1))
    if image.format == "PSD":
        if frames > 1:
            notes.drop("the layers are not kept, only the picture that they make")
    elif image.format == "MPO":
        if frames > 1:
            notes.drop(f"only one of {frames} pictures is kept: number {image.tell() + 1}, without previews or maps")
    elif frames > 1 and image.format != "TIFF":
        notes.drop(f"only one of {frames} frames is kept: number {image.tell() + 1}")


def _note_boxes(image: Image.Image, file: BinaryIO, notes: Notes) -> ColourSpace | None:
    found = boxes.describe(file)
    notes.reduce(found.depth)
    for extra in found.extras:
        notes.drop(f"the {extra} is not kept")
    if image.info.get("icc_profile") or found.code_points is None:
        return None
    return coded_space(*found.code_points, 1, notes)  # the decoder has widened the range


def note_behind(file: BinaryIO, end: int | None, notes: Notes, *, least: int = 1) -> None:
    """Say that something follows the picture, of `least` bytes or more, and more than padding."""
    if end is None:
        return
    length = file.seek(0, os.SEEK_END) - end
    if length < least:
        return
    file.seek(end)
    if any(part.strip(b"\0\n\r \xff") for part in iter(lambda: file.read(1 << 20), b"")):
        notes.drop(f"{length} bytes behind the picture are not kept (a video, a gain map or further pictures?)")


def _jpeg_end(file: BinaryIO) -> int | None:
    """Where the first picture of a JPEG ends; None where that is not found."""
    file.seek(0)
    data = file.read()
    place = 2
    while match := _MARKER.match(data, place) if place < len(data) else None:
        kind, place = match[1][0], match.end()
        if kind == _END_OF_IMAGE:
            return place
        if kind in _STANDALONE:
            continue
        if place + 2 > len(data):
            return None
        place += struct.unpack_from(">H", data, place)[0]
        if kind == _START_OF_SCAN:
            following = _MARKER.search(data, place)
            if following is None:
                return None
            place = following.start()
    return None


def _png_end(file: BinaryIO) -> int | None:
    return png.read_header(file).end


def _ppm_head(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(4096)


def _ppm_end(file: BinaryIO) -> int | None:
    head = _ppm_head(file)
    match = _PPM_NUMBERS.match(head)
    if match is None:
        return None
    width, height, most = (int(number) for number in match.groups())
    return match.end() + width * height * (3 if head[1:2] == b"6" else 1) * (2 if most > 255 else 1)


def _ppm_depth(file: BinaryIO) -> int:
    head = _ppm_head(file)
    match = _PPM_NUMBERS.match(head) or _PPM_PLAIN.match(head)
    return int(match[match.lastindex or 1]).bit_length() if match else 8


def _jpeg2000_depth(file: BinaryIO) -> int:
    """Bits of the deepest component, from the codestream's SIZ marker."""
    file.seek(0)
    head = file.read(1 << 16)
    place = head.find(b"\xff\x4f\xff\x51")
    if place < 0 or place + 42 > len(head):
        return 8
    (count,) = struct.unpack_from(">H", head, place + 40)
    return max((1 + (value & 0x7F) for value in head[place + 42 : place + 42 + 3 * count : 3]), default=8)
