"""Sections: the optional parts between header and payload, each a type, a length and bytes."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from typing import BinaryIO

from gmvqzip.errors import FormatError
from gmvqzip.format.limits import MAX_PROFILE_BYTES, MAX_SECTION_BYTES, MAX_SECTION_TYPE
from gmvqzip.format.varint import read_varint, write_varint

SECTION_END = 0  # closes the list; has neither length nor bytes
SECTION_ALPHA = 1  # the transparency plane, entropy/alpha.py
SECTION_ICC = 2  # the colour profile, a zlib stream
SECTION_TILES = 3  # where the tiles of a large picture lie in the payload, format/tiles.py
SECTION_OFFSETS = 4  # of latents that lie beyond the reach of codes, entropy/offsets.py
SECTION_METADATA = 65  # EXIF, XMP and their kin, format/metadata.py
SECTION_RGB = 66  # no bytes: a gray picture that was given as RGB, and is given back so
FIRST_ANCILLARY = 64  # a reader skips unknown types from here on, and refuses unknown types below
SECTION_NAMES = {
    SECTION_ALPHA: "alpha",
    SECTION_ICC: "icc",
    SECTION_TILES: "tiles",
    SECTION_OFFSETS: "offsets",
    SECTION_METADATA: "metadata",
    SECTION_RGB: "rgb",
}

_TYPE_BYTES, _LENGTH_BYTES = 2, 5


def write_sections(sections: Mapping[int, bytes]) -> bytes:
    """The sections in ascending order of type, closed by type 0. Raises FormatError for what no reader would take."""
    out = bytearray()
    for kind, content in sorted(sections.items()):
        _check_type(kind)
        if len(content) > MAX_SECTION_BYTES:
            raise FormatError(f"section {section_name(kind)} has {len(content)} bytes, limit {MAX_SECTION_BYTES}")
        out += write_varint(kind) + write_varint(len(content)) + content
    out += write_varint(SECTION_END)
    return bytes(out)


def read_sections(data: bytes, start: int) -> tuple[dict[int, bytes], int]:
    """Read the sections at offset `start`; returns them and the offset of the payload. Raises FormatError."""
    file = io.BytesIO(data)
    file.seek(start)
    return scan_sections(file)


def scan_sections(file: BinaryIO) -> tuple[dict[int, bytes], int]:
    """As `read_sections`, at the place where a file object stands, and without reading the payload."""
    sections: dict[int, bytes] = {}
    last, position = SECTION_END, file.tell()
    while True:
        head = file.read(_TYPE_BYTES + _LENGTH_BYTES)
        kind, used = read_varint(head, 0, longest=_TYPE_BYTES, what="type of a section", offset=position)
        if kind == SECTION_END:
            break
        if kind <= last:
            raise FormatError("sections are out of order or repeated: the file is damaged")
        _check_type(kind)
        length, used = read_varint(head, used, longest=_LENGTH_BYTES, what="length of a section", offset=position)
        if length > MAX_SECTION_BYTES:
            raise FormatError(f"section {section_name(kind)} claims {length} bytes, limit {MAX_SECTION_BYTES}")
        file.seek(position + used)
        content = file.read(length)
        if len(content) < length:
            raise FormatError(f"cut inside section {section_name(kind)}: {length} bytes wanted, {len(content)} left")
        sections[kind] = content
        last, position = kind, position + used + length
    if not sections:
        raise FormatError("the sections flag is set, but there is no section: the file is damaged")
    return sections, position + used


def section_name(kind: int) -> str:
    """The name of a section type, or its number."""
    return SECTION_NAMES.get(kind, str(kind))


def compress_profile(profile: bytes) -> bytes:
    """The content of the ICC section for a colour profile. Raises FormatError for one beyond the limit."""
    if len(profile) > MAX_PROFILE_BYTES:
        raise FormatError(f"a colour profile of {len(profile)} bytes is beyond {MAX_PROFILE_BYTES}: drop it (--strip)")
    return zlib.compress(profile, 9)


def decompress_profile(content: bytes) -> bytes:
    """The colour profile in an ICC section. Raises FormatError if it is damaged or beyond the limit."""
    return inflate(content, MAX_PROFILE_BYTES, "colour profile")


def is_for_rgb(profile: bytes) -> bool:
    """Whether a colour profile is for pixels of three channels."""
    return profile[16:20] == b"RGB "


def inflate(content: bytes, most: int, what: str) -> bytes:
    """Inflate one whole zlib stream to at most `most` bytes, never more. Raises FormatError, naming `what`."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(content, most + 1)  # one more, so that a stream that goes on is seen
    except zlib.error as error:
        raise FormatError(f"the {what} is damaged ({error}): get the file again") from None
    if len(data) > most:
        raise FormatError(f"the {what} inflates to more than {most} bytes: the file is damaged")
    if not inflater.eof:
        raise FormatError(f"the {what} is cut: get the file again")
    if inflater.unused_data:
        raise FormatError(f"{len(inflater.unused_data)} bytes follow the {what}: the file is damaged")
    return data


def _check_type(kind: int) -> None:
    if not 0 < kind <= MAX_SECTION_TYPE:
        raise FormatError(f"a section cannot be of type {kind}: types run from 1 to {MAX_SECTION_TYPE}")
    if kind < FIRST_ANCILLARY and kind not in SECTION_NAMES:
        raise FormatError(f"section type {kind} is not known to this version: a newer gmvqzip may read the file")
