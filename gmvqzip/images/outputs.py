"""The formats that pictures are written in: what each can hold, and how Pillow is told. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Format(StrEnum):
    """A format to decompress to, by its usual ending."""

    PNG = "png"
    WEBP = "webp"
    JPG = "jpg"
    AVIF = "avif"
    JXL = "jxl"
    HEIC = "heic"
    TIF = "tif"
    BMP = "bmp"
    JP2 = "jp2"
    TGA = "tga"
    QOI = "qoi"
    SGI = "sgi"
    PCX = "pcx"
    PPM = "ppm"
    NPY = "npy"


@dataclass(frozen=True)
class FileFormat:
    """What a format can hold, and the options with which Pillow writes it.

    profiles: colour profiles it takes, of RGB pixels and of gray ones; metadata: names of the fields of `Metadata` that
    have a place there; side: the longest, in pixels.
    """

    pillow: str
    options: Mapping[str, Any] = field(default_factory=dict)
    alpha: bool = True
    gray: bool = True
    profiles: tuple[bool, bool] = (False, False)
    metadata: frozenset[str] = frozenset()
    side: int | None = None


_BOTH = (True, True)
_MODERN = frozenset({"exif", "xmp"})

# What is written was coded with loss once already: formats that code with loss again add next to none.
FORMATS: Mapping[Format, FileFormat] = {
    # At level 2, photographs take as many bytes as at 6, Pillow's default, and a quarter of its time.
    Format.PNG: FileFormat(
        "PNG", {"compress_level": 2}, profiles=_BOTH, metadata=_MODERN | {"dpi", "time", "comment", "texts", "parts"}
    ),
    Format.WEBP: FileFormat(
        "WEBP", {"lossless": True, "exact": True}, gray=False, profiles=(True, False), metadata=_MODERN, side=16_383
    ),
    Format.JPG: FileFormat(
        "JPEG",
        {"quality": 95, "subsampling": 0},
        alpha=False,
        profiles=_BOTH,
        metadata=_MODERN | {"resources", "dpi", "comment", "parts"},
        side=65_535,
    ),
    Format.AVIF: FileFormat(
        "AVIF", {"quality": 95, "subsampling": "4:4:4"}, profiles=_BOTH, metadata=_MODERN, side=65_536
    ),
    Format.JXL: FileFormat("JXL", {"lossless": True, "use_container": True}, metadata=_MODERN, side=2**30),
    Format.HEIC: FileFormat("HEIF", {"quality": 95, "chroma": 444}, profiles=_BOTH, metadata=_MODERN, side=16_384),
    Format.TIF: FileFormat(
        "TIFF", {"compression": "tiff_adobe_deflate"}, profiles=_BOTH, metadata=_MODERN | {"resources", "dpi"}
    ),
    Format.BMP: FileFormat("BMP", alpha=False, metadata=frozenset({"dpi"})),
    Format.JP2: FileFormat("JPEG2000", {"irreversible": False}),
    Format.TGA: FileFormat("TGA", {"compression": "tga_rle"}, side=65_535),
    Format.QOI: FileFormat("QOI", gray=False),
    Format.SGI: FileFormat("SGI", gray=False, side=65_535),
    Format.PCX: FileFormat("PCX", alpha=False, side=65_535),
    Format.PPM: FileFormat("PPM", alpha=False),
    Format.NPY: FileFormat(""),
}
OTHER_ENDINGS = {
    "jpeg": Format.JPG,
    "jpe": Format.JPG,
    "jfif": Format.JPG,
    "tiff": Format.TIF,
    "heif": Format.HEIC,
    "hif": Format.HEIC,
    "dib": Format.BMP,
    "j2k": Format.JP2,
    "jpx": Format.JP2,
    "pgm": Format.PPM,
    "pnm": Format.PPM,
}
_ICON = "holds icons of a few sizes"
_DOCUMENT = "holds documents"
REFUSED = {
    "gif": "holds at most 256 colours",
    "apng": "holds animations",
    "ico": _ICON,
    "icns": _ICON,
    "pdf": _DOCUMENT,
    "eps": _DOCUMENT,
    "ps": _DOCUMENT,
    "svg": _DOCUMENT,
    "psd": "cannot be written here",
    "xbm": "holds black and white alone",
    "pbm": "holds black and white alone",
    "xpm": "holds at most 256 colours",
}
"""Formats of pictures that a photograph does not go into, by ending, and why."""


def by_ending(ending: str) -> Format | None:
    """The format of an ending, with or without its dot, None where it is none of them."""
    ending = ending.lower().removeprefix(".")
    if ending in OTHER_ENDINGS:
        return OTHER_ENDINGS[ending]
    return Format(ending) if ending in {name.value for name in Format} else None


def refusal(ending: str) -> str:
    """Why nothing can be written under an ending that is none of a format here, and what to do."""
    ending = ending.lower().removeprefix(".")
    if ending in REFUSED:
        return f"{ending} {REFUSED[ending]}: use png or webp"
    return f"no format is known for the ending {ending!r}: use {', '.join(Format)}"
