"""Segments of a JPEG that are neither coding nor metadata of a kind with a place of its own: kept as they are."""

from __future__ import annotations

from typing import Any

from PIL import Image

from gmvqzip.format.metadata import JPEG_SEGMENT, Part
from gmvqzip.images.notes import Notes

MAX_BYTES = 2**18  # of all that is kept
PHOTOSHOP, XMP = b"Photoshop 3.0\0", b"http://ns.adobe.com/xap/1.0/\0"
_ELSEWHERE = (
    ("APP0", b"JFIF\0"),
    ("APP0", b"JFXX\0"),  # a thumbnail
    ("APP1", b"Exif\0\0"),
    ("APP2", b"ICC_PROFILE\0"),
    ("APP2", b"MPF\0"),  # where further pictures are: these are said to be lost
    ("APP13", PHOTOSHOP),
    ("APP14", b"Adobe"),  # the colour transform
)
_JUMBF = "APP11"  # credentials that are signed for the very bytes of the file, or residuals of JPEG XT
_COMMENT, _FIRST_APP = 0xFE, 0xE0


def jpeg_parts(image: Image.Image, info: dict[str, Any], notes: Notes) -> tuple[Part, ...]:
    """The segments of an image that Pillow has opened as a JPEG which are kept as they are.

    All or none: they may belong together. `notes` hears of those that are not kept.
    """
    parts, credentials = [], 0
    comments = [data for name, data in image.applist if name == "COM"]  # type: ignore[attr-defined]
    for name, data in image.applist:  # type: ignore[attr-defined]
        if name == _JUMBF and data.startswith(b"JP"):
            credentials += len(data)
        elif name == "COM":
            if data is not comments[-1]:  # the last is the comment
                parts.append(Part(JPEG_SEGMENT, bytes([_COMMENT]) + data))
        elif not (any(name == app and data.startswith(start) for app, start in _ELSEWHERE) or _is_packet(data, info)):
            parts.append(Part(JPEG_SEGMENT, bytes([_FIRST_APP + int(name[3:])]) + data))
    if credentials:
        notes.drop(f"{credentials} bytes of JUMBF (such as content credentials) are not kept")
    size = sum(len(part.data) for part in parts)
    if size > MAX_BYTES:
        names = ", ".join(sorted({part_name(part) for part in parts}))
        notes.drop(f"{size} bytes of further segments ({names}) are not kept: they are more than {MAX_BYTES}")
        return ()
    density = info.get("jfif_density")
    if info.get("jfif_unit") == 0 and isinstance(density, tuple) and density[0] != density[1]:
        notes.drop(f"the shape of the pixels ({density[0]}:{density[1]}) is not kept")
    return tuple(parts)


def part_name(part: Part) -> str:
    """The name of a part: of a segment its marker and the word at its beginning, of a chunk its type."""
    if part.kind != JPEG_SEGMENT:
        return part.data[:4].decode("latin-1")
    marker, content = part.data[0], part.data[1:]
    if marker == _COMMENT:
        return "COM"
    word = content[:40].partition(b"\0")[0]
    text = word.decode() if word.isascii() else ""
    return f"APP{marker - _FIRST_APP}" + (f" {text}" if text.isprintable() and len(text) > 1 else "")


def _is_packet(data: bytes, info: dict[str, Any]) -> bool:
    """Whether a segment is the XMP packet that Pillow found."""
    return data.startswith(XMP) and data[len(XMP) :] == info.get("xmp")
