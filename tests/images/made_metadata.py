"""Metadata as cameras and programs write them."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from gmvqzip.images import exif as exifs

EXIF, GPS = exifs.EXIF_POINTER, exifs.GPS_POINTER
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" xmp:Rating="5"/></x:xmpmeta>'
IPTC = b"\x1c\x02\x05\x00\x05Lake\x00\x1c\x02\x50\x00\x08Jane Roe"
PIXELS = np.random.default_rng(2).integers(0, 256, (6, 10, 3), dtype=np.uint8)


def phone_exif(orientation: int = 6) -> Image.Exif:
    """What a telephone writes."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "ACME", "Phone 3", orientation
    exif[0x0132], exif[0x8298] = "2024:05:06 07:08:09", "(c) Jane Roe 2024"
    exif.get_ifd(EXIF).update(
        {
            0x829A: IFDRational(1, 120),
            0x9003: "2024:05:06 07:08:09",
            0x927C: b"maker\0note\1\2\3",
            0xA002: 10,
            0xA003: 6,
        }
    )
    exif.get_ifd(GPS).update({1: "N", 2: (37.0, 25.0, 19.5), 3: "W", 4: (122.0, 5.0, 6.25)})
    return exif


def with_thumbnail(order: str, orientation: int = 6) -> tuple[bytes, bytes]:
    """A block with a second directory and a thumbnail: (the block, its thumbnail)."""
    thumbnail = bytes(range(1, 200))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    first = struct.pack(f"{order}H", 2)
    first += struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    first += struct.pack(f"{order}HHII", 0x010F, 2, 5, 38)
    first += struct.pack(f"{order}I", 44)
    second = struct.pack(f"{order}H", 3)
    second += struct.pack(f"{order}HHII", 0x0201, 4, 1, 86)
    second += struct.pack(f"{order}HHII", 0x0202, 4, 1, len(thumbnail))
    second += struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    second += struct.pack(f"{order}I", 0)
    block = head + first + b"ACME\0\0" + second + thumbnail
    assert block.index(b"ACME") == 38 and block.index(thumbnail) == 86
    return block, thumbnail


def saved(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


def tags(exif: Image.Exif) -> dict[Any, Any]:
    """Every tag that is not about encoding."""
    found = {tag: exif[tag] for tag in exif if tag not in (EXIF, GPS, 0x0112, 0x0100, 0x0101)}
    for pointer in (EXIF, GPS):
        found |= {(pointer, tag): value for tag, value in exif.get_ifd(pointer).items() if tag not in (0xA002, 0xA003)}
    return found
