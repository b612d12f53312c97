"""Metadata from Pillow's images, and back into what Pillow's users look for."""

from __future__ import annotations

import math
import re
from dataclasses import astuple, replace
from typing import Any, BinaryIO

from PIL import Image

from gmvqzip.format.limits import MAX_METADATA_BYTES
from gmvqzip.format.metadata import (
    IPTC_RESOURCE,
    JPEG_SEGMENT,
    MAX_RESOLUTION,
    RESOLUTION_UNIT,
    Metadata,
    Moment,
    Part,
    Text,
    iptc_resource,
    read_resources,
    without_resources,
    write_resource,
)
from gmvqzip.images import exif as exifs
from gmvqzip.images.notes import Notes

_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8]")
_XMP_KEYWORD = "XML:com.adobe.xmp"
_RAW_EXIF = frozenset({"Raw profile type exif", "Raw profile type APP1", _XMP_KEYWORD})  # texts that are no texts
_NOT_KEPT = frozenset({0x03ED, 0x0409, 0x040C, 0x040F, 0x0422, 0x0423, 0x0424})
"""Image resources that say again what is elsewhere (resolution, profile, EXIF, XMP), and thumbnails."""
_RESOLUTION_RESOURCE = 0x03ED
MAX_PARTS_BYTES = 2**18  # of all segments of a JPEG that are kept as they are
_PHOTOSHOP, _XMP = b"Photoshop 3.0\0", b"http://ns.adobe.com/xap/1.0/\0"
_ELSEWHERE = (
    ("APP0", b"JFIF\0"),
    ("APP0", b"JFXX\0"),  # a thumbnail
    ("APP1", b"Exif\0\0"),
    ("APP2", b"ICC_PROFILE\0"),
    ("APP2", b"MPF\0"),  # where further pictures are: these are said to be lost
    ("APP13", _PHOTOSHOP),
    ("APP14", b"Adobe"),  # the colour transform
)
_JUMBF = "APP11"  # credentials that are signed for the very bytes of the file, or residuals of JPEG XT
_COMMENT, _FIRST_APP = 0xFE, 0xE0
_TIFF_ENCODING = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291}
    | {292, 293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 332, 333, 334, 336, 338, 339, 340, 341}
    | {342, 347, *range(512, 522), 529, 530, 531, 532, exifs.XMP_TAG, exifs.IPTC_TAG, exifs.RESOURCES_TAG, 34675}
)
"""Tags of a TIFF file that say how its samples lie, and those that are taken otherwise."""


def metadata_of(image: Image.Image, found: dict[str, Any], notes: Notes) -> Metadata | None:
    """What an image knows beside its pixels, and `found` besides (`note_remainder`). `notes` hears of what is lost."""
    texts = getattr(image, "text", None)
    texts = texts if isinstance(texts, dict) else {}
    info = {str(key): value for key, value in image.info.items() if not _is_text(key, value, texts)} | found
    known = Metadata(
        exif=_exif(image, info, notes),
        xmp=_xmp(info),
        resources=_resources(image, info, notes),
        dpi=dpi_of(image) or _photoshop_dpi(info),
        time=_time(info.get("time")),
        comment=_bytes(info.get("comment") or info.get("id_section")),
        texts=_texts(info.get("texts"), texts),
        parts=_jpeg_parts(image, info, notes) if hasattr(image, "applist") else _parts(info.get("parts")),
    )
    return _bounded(known, notes)


def _is_text(key: Any, value: Any, texts: dict[Any, Any]) -> bool:
    """Whether Pillow has a text of a PNG there, whatever else has its keyword for a name."""
    return isinstance(value, str) and texts.get(key) == value and key != _XMP_KEYWORD


def tiff_metadata(file: BinaryIO, offset: int, notes: Notes) -> Metadata | None:
    """What the directory at an offset of a TIFF file says beside the pixels."""
    file.seek(0)
    head = file.read(4)
    exif = Image.Exif()
    exif.endian = "<" if head[:1] == b"I" else ">"
    exif.bigtiff = b"+" in head
    try:
        exif.load_from_fp(file, offset)
        block = _block_of(exif)
        tidy = exifs.tidied(block) if block else b""
        xmp, blocks, records = (_bytes(exif.get(tag)) for tag in (exifs.XMP_TAG, exifs.RESOURCES_TAG, exifs.IPTC_TAG))
        unit, across, down = (exif.get(tag) for tag in (exifs.RESOLUTION_UNIT, exifs.X_RESOLUTION, exifs.Y_RESOLUTION))
    except Exception:  # damaged directories make Pillow raise almost anything
        notes.drop("the metadata of the TIFF are damaged: dropped")
        return None
    resources = _joined(blocks, records, notes)
    factor = {None: 1.0, exifs.INCH: 1.0, exifs.CENTIMETRE: 2.54}.get(unit)
    dpi = None if factor is None else _resolution((across, down), factor)
    return _bounded(Metadata(tidy, _XMP_ORIENTATION.sub(rb"\g<1>1", xmp), resources, dpi), notes)


def sized(metadata: Metadata, width: int, height: int) -> Metadata:
    """The metadata of a picture of this size in pixels."""
    return replace(metadata, exif=exifs.resized(metadata.exif, width, height)) if metadata.exif else metadata


def _bounded(found: Metadata, notes: Notes) -> Metadata | None:
    """The metadata, if there are any, and not too many."""
    length = sum(map(len, (found.exif, found.xmp, found.resources, found.comment)))
    length += sum(sum(map(len, astuple(text))) * 4 + 16 for text in found.texts)
    length += sum(len(part.data) + 16 for part in found.parts)
    if length > MAX_METADATA_BYTES - 1024:
        notes.drop(f"the metadata are longer than {MAX_METADATA_BYTES} bytes: dropped")
        return None
    return found or None


def embed(image: Image.Image, metadata: Metadata) -> None:
    """Put metadata where `Image.getexif`, `Image.info` and `text` have them after opening a file."""
    info: dict[Any, Any] = image.info
    texts = {text.keyword: text.text for text in metadata.texts}
    image.text = texts  # type: ignore[attr-defined]
    info.update(texts)
    if metadata.exif:
        info["exif"] = exifs.PREFIX + exifs.resized(metadata.exif, *image.size)
    if metadata.xmp:
        info["xmp"] = metadata.xmp
    if metadata.resources:
        info["photoshop"] = dict(read_resources(metadata.resources))
    if metadata.dpi is not None:
        info["dpi"] = metadata.dpi
    if metadata.comment:
        info["comment"] = metadata.comment
    if metadata.time is not None:
        info["time"] = metadata.time
    if metadata.parts:
        info["parts"] = metadata.parts


def exif_of(metadata: Metadata) -> Image.Exif:
    """EXIF as Pillow reads it; empty where it cannot."""
    exif = Image.Exif()
    try:
        exif.load(exifs.PREFIX + metadata.exif if metadata.exif else b"")
        for pointer in (exifs.EXIF_POINTER, exifs.GPS_POINTER):
            exif.get_ifd(pointer)
    except Exception:  # on damaged blocks Pillow raises almost anything
        return Image.Exif()
    return exif


def _exif(image: Image.Image, info: dict[str, Any], notes: Notes) -> bytes:
    try:
        exif = image.getexif()  # where this raises, no orientation was applied
        block = exifs.bare(_bytes(info.get("exif"))) or _block_of(exif)
        tidy = exifs.tidied(block) if block else b""
        check = Image.Exif()
        check.load(exifs.PREFIX + tidy)
        if check.get(exifs.ORIENTATION, 1) != 1:
            raise ValueError("orientation")
    except Exception:  # as above
        notes.drop("the EXIF block is damaged: dropped")
        return b""
    return tidy


def _block_of(exif: Image.Exif) -> bytes:
    """A block of the tags of a TIFF file, or of what else Pillow finds, without those that say how samples lie."""
    kept = Image.Exif()
    for tag in exif:
        if tag not in _TIFF_ENCODING and tag not in exifs.POINTERS:
            kept[tag] = exif[tag]
    parts = 0
    for pointer in (exifs.EXIF_POINTER, exifs.GPS_POINTER):
        part = {tag: value for tag, value in exif.get_ifd(pointer).items() if tag not in exifs.POINTERS}
        if part:
            kept.get_ifd(pointer).update(part)
            parts += 1
    return exifs.bare(kept.tobytes()) if kept or parts else b""


def _xmp(info: dict[str, Any]) -> bytes:
    packet = _bytes(info.get("xmp")) or _bytes(info.get(_XMP_KEYWORD))
    return _XMP_ORIENTATION.sub(rb"\g<1>1", packet)


def _resources(image: Image.Image, info: dict[str, Any], notes: Notes) -> bytes:
    """Photoshop's image resources: JPEG's segments joined, PSD's section, or as `embed` gives them."""
    segments = [bytes(data) for name, data in getattr(image, "applist", ()) if str(name) == "APP13"]
    blocks = b"".join(x[len(_PHOTOSHOP) :] for x in segments if x.startswith(_PHOTOSHOP)) or _bytes(
        info.get("resources")
    )
    if not blocks and isinstance(info.get("photoshop"), dict):
        blocks = b"".join(
            write_resource(kind, data)
            for kind, data in info["photoshop"].items()
            if isinstance(data, bytes) and kind in range(1 << 16)
        )
    return _joined(blocks, _bytes(info.get("iptc")), notes)


def _joined(blocks: bytes, records: bytes, notes: Notes) -> bytes:
    """The blocks of image resources that are kept, and of IPTC records where there are none among them."""
    kept, rest = without_resources(blocks, _NOT_KEPT)
    if rest.strip(b"\0"):
        notes.drop(f"{len(rest)} bytes of image resources are malformed: not kept")
    has_records = any(kind == IPTC_RESOURCE for kind, _ in read_resources(kept))
    return kept + (iptc_resource(records) if records and not has_records else b"")


def _photoshop_dpi(info: dict[str, Any]) -> tuple[float, float] | None:
    """The resolution in a PSD."""
    data = dict(read_resources(_bytes(info.get("resources")))).get(_RESOLUTION_RESOURCE, b"")
    if len(data) < 16:
        return None
    return _resolution([int.from_bytes(data[place : place + 4], "big") / 65536 for place in (0, 8)], 1.0)


def dpi_of(image: Image.Image) -> tuple[float, float] | None:
    """The resolution that an image's own file states, pixels per inch across and down."""
    if image.format in ("JPEG", "MPO") and not image.info.get("jfif_unit"):
        return None  # Pillow has it from EXIF then, or has made it up
    return _resolution(image.info.get("dpi"), 1.0)


def _resolution(value: Any, factor: float) -> tuple[float, float] | None:
    try:
        across, down = (float(part) * factor for part in (() if isinstance(value, str) else value))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    good = all(math.isfinite(part) and 1 <= part * RESOLUTION_UNIT <= MAX_RESOLUTION for part in (across, down))
    return (across, down) if good else None


def _texts(known: Any, texts: dict[Any, Any]) -> tuple[Text, ...]:
    """Texts as a PNG has them, or as Pillow has them."""
    if isinstance(known, tuple):
        found = [text for text in known if isinstance(text, Text)]
    else:
        found = [
            Text(str(keyword), str(value), *(str(getattr(value, name, "") or "") for name in ("lang", "tkey")))
            for keyword, value in texts.items()
            if isinstance(value, str)
        ]
    return tuple(map(_clean, (text for text in found if text.keyword not in _RAW_EXIF)))


def _clean(text: Text) -> Text:
    """A text that can be stored: no surrogates, and no byte 0 but in the text itself."""
    parts = [part.encode(errors="replace").decode() for part in astuple(text)]
    return Text(parts[0].replace("\0", ""), parts[1], *(part.replace("\0", "") for part in parts[2:]))


def _parts(value: Any) -> tuple[Part, ...]:
    return tuple(part for part in value if isinstance(part, Part)) if isinstance(value, tuple) else ()


def _time(value: Any) -> Moment | None:
    """A time as `embed` gives it."""
    if not (isinstance(value, tuple) and len(value) == 6 and all(isinstance(part, int) for part in value)):
        return None
    inside = all(0 <= part < 256 for part in value[1:]) and 0 <= value[0] < 1 << 16
    return (value[0], value[1], value[2], value[3], value[4], value[5]) if inside else None


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="replace")
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""


def _jpeg_parts(image: Image.Image, info: dict[str, Any], notes: Notes) -> tuple[Part, ...]:
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
    if size > MAX_PARTS_BYTES:
        names = ", ".join(sorted({part_name(part) for part in parts}))
        notes.drop(f"{size} bytes of further segments ({names}) are not kept: they are more than {MAX_PARTS_BYTES}")
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
    return data.startswith(_XMP) and data[len(_XMP) :] == info.get("xmp")
