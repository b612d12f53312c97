"""Metadata from Pillow's images, and back into what Pillow's users look for."""

from __future__ import annotations

import math
import re
from dataclasses import astuple, replace
from typing import Any, BinaryIO

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from gmvqzip.format.limits import MAX_METADATA_BYTES
from gmvqzip.format.metadata import (
    IPTC_RESOURCE,
    MAX_RESOLUTION,
    RESOLUTION_UNIT,
    Metadata,
    Moment,
    Text,
    iptc_resource,
    read_resources,
    write_resource,
)
from gmvqzip.images import exif as exifs
from gmvqzip.images.notes import Notes

_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8]")
_XMP_KEYWORD = "XML:com.adobe.xmp"
_RAW_EXIF = frozenset({"Raw profile type exif", "Raw profile type APP1", _XMP_KEYWORD})  # texts that are no texts
_NOT_KEPT = frozenset({0x03ED, 0x0409, 0x040C, 0x040F, 0x0422, 0x0423, 0x0424})
"""Image resources that say again what is elsewhere (resolution, profile, EXIF, XMP), and thumbnails."""
_PHOTOSHOP = b"Photoshop 3.0\0"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_XMP_TAG, _IPTC_TAG, _RESOURCES_TAG = 700, 33723, 34377  # of TIFF
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _INCH, _CENTIMETRE = 282, 283, 296, 2, 3
_TIFF_ENCODING = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291}
    | {292, 293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 332, 333, 334, 336, 338, 339, 340, 341}
    | {342, 347, *range(512, 522), 529, 530, 531, 532, _XMP_TAG, _IPTC_TAG, _RESOURCES_TAG, 34675}
)
"""Tags of a TIFF file that say how its samples lie, and those that are taken otherwise."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNKS = 10_000  # of a PNG file that are looked at


def metadata_of(image: Image.Image, file: BinaryIO | None, notes: Notes) -> Metadata | None:
    """What an image, loaded from this file if from any, knows beside its pixels. `notes` hears of what is lost."""
    if file is not None and isinstance(image, TiffImageFile):
        return tiff_metadata(file, image.tag_v2.offset, notes)
    info: dict[str, Any] = {str(key): value for key, value in image.info.items()}
    found = Metadata(
        exif=_exif(image, info, notes),
        xmp=_xmp(image, info, notes),
        resources=_resources(image, info),
        dpi=dpi_of(image),
        time=_png_time(file) if image.format == "PNG" and file is not None else _time(info.get("time")),
        comment=_bytes(info.get("comment")),
        texts=_texts(image),
    )
    return _bounded(found, notes)


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
        xmp, blocks, records = (_bytes(exif.get(tag)) for tag in (_XMP_TAG, _RESOURCES_TAG, _IPTC_TAG))
        unit, across, down = (exif.get(tag) for tag in (_RESOLUTION_UNIT, _X_RESOLUTION, _Y_RESOLUTION))
    except Exception:  # damaged directories make Pillow raise almost anything
        notes.drop("the metadata of the TIFF are damaged: dropped")
        return None
    resources = _joined(dict(read_resources(blocks)), records)
    factor = {None: 1.0, _INCH: 1.0, _CENTIMETRE: 2.54}.get(unit)
    dpi = None if factor is None else _resolution((across, down), factor)
    return _bounded(Metadata(tidy, _XMP_ORIENTATION.sub(rb"\g<1>1", xmp), resources, dpi), notes)


def sized(metadata: Metadata, width: int, height: int) -> Metadata:
    """The metadata of a picture of this size in pixels."""
    return replace(metadata, exif=exifs.resized(metadata.exif, width, height)) if metadata.exif else metadata


def _bounded(found: Metadata, notes: Notes) -> Metadata | None:
    """The metadata, if there are any, and not too many."""
    length = sum(map(len, (found.exif, found.xmp, found.resources, found.comment)))
    length += sum(sum(map(len, astuple(text))) * 4 + 16 for text in found.texts)
    if length > MAX_METADATA_BYTES - 1024:
        notes.drop(f"the metadata are longer than {MAX_METADATA_BYTES} bytes: dropped")
        return None
    return found or None


def embed(image: Image.Image, metadata: Metadata) -> None:
    """Put metadata where `Image.getexif`, `Image.info` and `text` have them after opening a file."""
    info: dict[Any, Any] = image.info
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
    texts = {text.keyword: text.text for text in metadata.texts}
    info.update(texts)
    image.text = texts  # type: ignore[attr-defined]


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


def _xmp(image: Image.Image, info: dict[str, Any], notes: Notes) -> bytes:
    if any(str(name) == "APP1" and data.startswith(_EXTENDED_XMP) for name, data in getattr(image, "applist", ())):
        notes.drop("extended XMP, beyond 64 kB, is not kept")
    packet = _bytes(info.get("xmp")) or _bytes(info.get(_XMP_KEYWORD))
    return _XMP_ORIENTATION.sub(rb"\g<1>1", packet)


def _resources(image: Image.Image, info: dict[str, Any]) -> bytes:
    """Photoshop's image resources: of JPEG the segments, joined, of others as `embed` gives them."""
    segments = [bytes(data) for name, data in getattr(image, "applist", ()) if str(name) == "APP13"]
    found = dict(read_resources(b"".join(x[len(_PHOTOSHOP) :] for x in segments if x.startswith(_PHOTOSHOP))))
    if not segments and isinstance(info.get("photoshop"), dict):
        found |= {kind: data for kind, data in info["photoshop"].items() if isinstance(data, bytes)}
    return _joined(found, b"")


def _joined(resources: dict[int, bytes], records: bytes) -> bytes:
    """The blocks of image resources that are kept, and of IPTC records where there are none among them."""
    blocks = b"".join(write_resource(kind, data) for kind, data in sorted(resources.items()) if kind not in _NOT_KEPT)
    return blocks + (iptc_resource(records) if records and IPTC_RESOURCE not in resources else b"")


def dpi_of(image: Image.Image) -> tuple[float, float] | None:
    """The resolution that an image's own file states, pixels per inch across and down."""
    if image.format in ("JPEG", "MPO") and not image.info.get("jfif_unit"):
        return None  # Pillow has it from EXIF then, or has made it up
    return _resolution(image.info.get("dpi"), 1.0)


def _resolution(value: Any, factor: float) -> tuple[float, float] | None:
    try:
        across, down = (float(part) * factor for part in value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    good = all(math.isfinite(part) and 1 <= part * RESOLUTION_UNIT <= MAX_RESOLUTION for part in (across, down))
    return (across, down) if good else None


def _texts(image: Image.Image) -> tuple[Text, ...]:
    texts = getattr(image, "text", None)
    if not isinstance(texts, dict):
        return ()
    found = []
    for keyword, value in texts.items():
        if isinstance(value, str) and keyword not in _RAW_EXIF:
            language, translated = (str(getattr(value, name, "") or "") for name in ("lang", "tkey"))
            parts = (str(keyword), str(value), language, translated)
            clean = [part.encode(errors="replace").decode() for part in parts]
            found.append(Text(*(part if place == 1 else part.replace("\0", "") for place, part in enumerate(clean))))
    return tuple(found)


def _png_time(file: BinaryIO) -> Moment | None:
    """The time in a PNG file's tIME chunk, which Pillow passes over."""
    before = file.tell()
    try:
        file.seek(0)
        if file.read(8) != _PNG_SIGNATURE:
            return None
        for _ in range(_CHUNKS):
            head = file.read(8)
            size = int.from_bytes(head[:4], "big")
            if len(head) < 8 or head[4:] == b"IEND":
                return None
            if head[4:] == b"tIME" and size == 7:
                content = file.read(7)
                return _time((int.from_bytes(content[:2], "big"), *content[2:]))
            file.seek(size + 4, 1)
    except (OSError, ValueError):
        return None
    finally:
        file.seek(before)
    return None


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
