"""Metadata into files: the options with which Pillow writes them, and what a format has no place for."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from PIL import Image, PngImagePlugin

from gmvqzip.format.metadata import JPEG_SEGMENT, PNG_CHUNK, Metadata
from gmvqzip.images import exif as exifs
from gmvqzip.images.metadata import exif_of
from gmvqzip.images.outputs import FORMATS, Format

_TITLES = {
    "exif": "EXIF",
    "xmp": "XMP",
    "resources": "IPTC",
    "dpi": "dpi",
    "time": "time of change",
    "comment": "comment",
    "texts": "texts",
    "parts": "further segments or chunks",
}
_PARTS = {Format.JPG: JPEG_SEGMENT, Format.PNG: PNG_CHUNK}  # the kind that a format has a place for
_DPI_UNITS = {Format.JPG: (1.0, 65_535), Format.PNG: (0.0254, 2**31 - 1), Format.BMP: (0.0254, 2**31 - 1)}
"""The unit in which a format stores a resolution, in pixels per inch, and the most of them that it holds."""
_XMP_AS_TEXT = (Format.PNG, Format.HEIC)  # which hold UTF-8 alone, or are written so
_SEGMENT = 65_533  # bytes in a segment of JPEG
_PHOTOSHOP, _XMP_PREFIX = b"Photoshop 3.0\0", 29
_PNG_HEAD = 33  # bytes of the signature and the first chunk


def save_options(metadata: Metadata, name: Format, size: tuple[int, int]) -> tuple[dict[str, Any], list[str]]:
    """The options for `Image.save`, and one line for what the format cannot hold; `size` is the picture's.

    Of PNG, `chunks` among them are for `with_chunks`: Pillow writes none that it does not know.
    """
    places = FORMATS[name].metadata
    given = {part for part in _TITLES if getattr(metadata, part)}
    lost = given - places
    kept = {part: getattr(metadata, part) for part in given & places}
    if any(part.kind != _PARTS.get(name) for part in metadata.parts):
        lost.add("parts")
        kept["parts"] = [part for part in metadata.parts if part.kind == _PARTS.get(name)]
    if "exif" in kept:
        kept["exif"] = exifs.resized(metadata.exif, *size)
    if "xmp" in kept and name in _XMP_AS_TEXT and not _is_utf_8(metadata.xmp):
        del kept["xmp"]
        lost.add("xmp")
    if "dpi" in kept and not _holds(name, kept["dpi"]):
        del kept["dpi"]
        lost.add("dpi")
    if "dpi" in lost and "exif" in places and metadata.dpi is not None:
        with_dpi = _with_resolution(metadata, metadata.dpi)
        if with_dpi:
            kept["exif"] = kept.get("exif") or with_dpi
            lost.discard("dpi")
    options, too_long = _WRITERS.get(name, _plain)(kept)
    lost |= too_long
    order = [_TITLES[part] for part in _TITLES if part in lost]
    return options, [f"{name} has no place for {', '.join(order)}: left out"] if order else []


def _holds(name: Format, dpi: tuple[float, float]) -> bool:
    """Whether a format's own place for a resolution holds this one."""
    unit, most = _DPI_UNITS.get(name, (0.0, 0))
    return not unit or all(1 <= round(part / unit) <= most for part in dpi)


def _is_utf_8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _plain(kept: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """WebP, AVIF and others: EXIF, XMP and dpi as they are."""
    options = dict(kept)
    options.pop("parts", None)
    if "exif" in options:
        options["exif"] = exifs.PREFIX + options["exif"]
    return options, set()


def _png(kept: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    chunks = PngImagePlugin.PngInfo()
    if "xmp" in kept:
        chunks.add_itxt("XML:com.adobe.xmp", kept["xmp"].decode())
    if "comment" in kept:
        text = kept["comment"].decode() if _is_utf_8(kept["comment"]) else kept["comment"].decode("latin-1")
        _add_text(chunks, "Comment", text, "", "")  # of an unknown encoding each byte stays
    for text in kept.get("texts", ()):
        _add_text(chunks, text.keyword, text.text, text.language, text.translated)
    if "time" in kept:
        year, *rest = kept["time"]
        chunks.add(b"tIME", year.to_bytes(2, "big") + bytes(rest))
    options: dict[str, Any] = {"pnginfo": chunks}
    if "exif" in kept:
        options["exif"] = kept["exif"]
    if "dpi" in kept:
        options["dpi"] = kept["dpi"]
    if kept.get("parts"):
        options["chunks"] = [part.data for part in kept["parts"]]
    return options, set()


def with_chunks(png: bytes, chunks: Sequence[bytes]) -> bytes:
    """A PNG file with more chunks, each its type and contents, behind its head."""
    parts = [
        (len(data) - 4).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")
        for data in chunks
        if len(data) >= 4
    ]
    return b"".join((png[:_PNG_HEAD], *parts, png[_PNG_HEAD:]))


def _add_text(chunks: PngImagePlugin.PngInfo, keyword: str, text: str, language: str, translated: str) -> None:
    """A text chunk of the plainest kind that holds it."""
    keyword = keyword.encode("latin-1", "replace").decode("latin-1").strip()[:79] or "Comment"
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        plain = False
    else:
        plain = not language and not translated and "\0" not in text
    if plain:
        chunks.add_text(keyword, text)
    else:
        chunks.add_itxt(keyword, text, language.encode("latin-1", "replace").decode("latin-1"), translated)


def _jpeg(kept: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    options, lost = _plain(kept)
    for part, room in (("exif", _SEGMENT), ("xmp", _SEGMENT - _XMP_PREFIX), ("comment", _SEGMENT)):
        if part in options and len(options[part]) > room:
            del options[part]
            lost.add(part)
    blocks = options.pop("resources", b"")
    room = _SEGMENT - len(_PHOTOSHOP)
    segments = [b"\xed" + _PHOTOSHOP + blocks[start : start + room] for start in range(0, len(blocks), room)]
    segments += [part.data for part in kept.get("parts", ()) if 0 < len(part.data) <= 1 + _SEGMENT]
    options["extra"] = b"".join(
        b"\xff" + segment[:1] + (1 + len(segment)).to_bytes(2, "big") + segment[1:] for segment in segments
    )
    return options, lost


def _tiff(kept: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    metadata = Metadata(exif=kept.get("exif", b""), resources=kept.get("resources", b""))
    exif = exif_of(metadata)
    lost = {"exif"} if metadata.exif and not len(exif) else set()
    if "xmp" in kept:
        exif[exifs.XMP_TAG] = kept["xmp"]
    if metadata.iptc:
        exif[exifs.IPTC_TAG] = metadata.iptc
    if metadata.resources:
        exif[exifs.RESOURCES_TAG] = metadata.resources
    options: dict[str, Any] = {"exif": exif}
    if any(exif.get_ifd(pointer) for pointer in (exifs.EXIF_POINTER, exifs.GPS_POINTER)):
        options["compression"] = "raw"  # Pillow writes these directories only then
    if "dpi" in kept:
        options["dpi"] = kept["dpi"]
    return options, lost


_WRITERS = {Format.PNG: _png, Format.JPG: _jpeg, Format.TIF: _tiff}


def _with_resolution(metadata: Metadata, dpi: tuple[float, float]) -> bytes:
    """EXIF with a resolution: a block of its own where there is none, the block itself where it has one, else empty."""
    if metadata.exif:
        return metadata.exif if exifs.X_RESOLUTION in exif_of(metadata) else b""
    exif = Image.Exif()
    exif[exifs.X_RESOLUTION], exif[exifs.Y_RESOLUTION], exif[exifs.RESOLUTION_UNIT] = *dpi, exifs.INCH
    return exifs.bare(exif.tobytes())
