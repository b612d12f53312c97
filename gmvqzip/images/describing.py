"""Metadata for people and scripts: EXIF by the names of its tags, texts by their keywords."""

from __future__ import annotations

import math
from typing import Any

from PIL import ExifTags

from gmvqzip.format.metadata import Metadata, read_resources
from gmvqzip.images import exif as exifs
from gmvqzip.images.metadata import exif_of, part_name

_SHOWN = 64  # bytes of an unknown meaning that are shown as text


def described(metadata: Metadata) -> dict[str, Any]:
    """What there is, as JSON takes it: exif by name of tag, xmp as text, dpi, time, comment, texts by keyword, the
    bytes of IPTC and of other image resources, and of further parts by name."""
    found: dict[str, Any] = {}
    if metadata.exif:
        found["exif"] = _tags(metadata)
    if metadata.xmp:
        found["xmp"] = metadata.xmp.decode("utf-8", "replace").strip()
    if metadata.iptc:
        found["iptc_bytes"] = len(metadata.iptc)
    others = [len(data) for _, data in read_resources(metadata.resources)]
    if others and len(others) > bool(metadata.iptc):
        found["image_resources"] = len(others)
    if metadata.dpi is not None:
        found["dpi"] = list(metadata.dpi)
    if metadata.time is not None:
        found["time"] = "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z".format(*metadata.time)
    if metadata.comment:
        found["comment"] = metadata.comment.decode("utf-8", "replace")
    if metadata.parts:
        names = [part_name(part) for part in metadata.parts]
        sizes = [len(part.data) for part in metadata.parts]
        found["parts"] = {name: sum(s for n, s in zip(names, sizes, strict=True) if n == name) for name in names}
    if metadata.texts:
        found["texts"] = {text.keyword: text.text for text in metadata.texts}
    return found


def lines(metadata: Metadata) -> list[tuple[str, str]]:
    """The same as title and value of each line, for people."""
    found = described(metadata)
    out = [(f"EXIF {name}", _text(value)) for name, value in found.pop("exif", {}).items()]
    out += [(f"kept {name}", f"{size} bytes") for name, size in found.pop("parts", {}).items()]
    out += [(f"text {keyword}", _text(text)) for keyword, text in found.pop("texts", {}).items()]
    if "xmp" in found:
        found["xmp"] = f"{len(metadata.xmp)} bytes"
    return out + [(name.replace("_", " "), _text(value)) for name, value in found.items()]


def _tags(metadata: Metadata) -> dict[str, Any]:
    exif = exif_of(metadata)
    found = {}
    for part, names in (
        (exif, ExifTags.TAGS),
        (exif.get_ifd(exifs.EXIF_POINTER), ExifTags.TAGS),
        (exif.get_ifd(exifs.GPS_POINTER), ExifTags.GPSTAGS),
    ):
        for tag, value in part.items():
            if tag not in exifs.POINTERS:
                found[names.get(tag, f"0x{tag:04x}")] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    """A tag's value as JSON takes it."""
    if isinstance(value, bytes):
        text = value.rstrip(b"\0")
        return text.decode() if len(text) <= _SHOWN and text.isascii() and text.decode().isprintable() else len(value)
    if isinstance(value, str):
        return value.rstrip("\0")
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, int):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return str(value)
    return number if math.isfinite(number) else None


def _text(value: Any) -> str:
    shown = (
        ", ".join(map(_text, value))
        if isinstance(value, list)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
    return "".join(c if c.isprintable() else " " for c in shown)
