"""What a file holds besides the picture that Pillow reads: taken where it is metadata, and said where it is lost."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from PIL import Image

from gmvqzip.images import boxes, containers, jxl, png, rasters
from gmvqzip.images.colourspace import coded_space
from gmvqzip.images.notes import Notes, Range, note_ranges

LAYERS_NOTE = "the layers are not kept, only the picture that they make"
_WALKERS: dict[str, Callable[[BinaryIO, dict[str, Any]], Iterator[Range]]] = {
    "AVIF": boxes.boxed_ranges,
    "BMP": rasters.bmp_ranges,
    "DIB": rasters.bmp_ranges,
    "GIF": containers.gif_ranges,
    "HEIF": boxes.boxed_ranges,
    "ICNS": rasters.icns_ranges,
    "ICO": rasters.ico_ranges,
    "JPEG": containers.jpeg_ranges,
    "JPEG2000": boxes.boxed_ranges,
    "JXL": boxes.boxed_ranges,
    "PCX": rasters.pcx_ranges,
    "PNG": png.png_ranges,
    "PPM": containers.pnm_ranges,
    "PSD": rasters.psd_ranges,
    "QOI": rasters.qoi_ranges,
    "SGI": rasters.sgi_ranges,
    "TGA": rasters.tga_ranges,
    "WEBP": containers.webp_ranges,
    "XBM": containers.c_source_ranges,
    "XPM": containers.c_source_ranges,
}
_J2K = b"\xff\x4f\xff\x51"


def note_remainder(image: Image.Image, file: BinaryIO | None, notes: Notes) -> dict[str, Any]:
    """Say what of a picture's file is not read. file: where it was opened from, None where that is not known.

    Returns what the file has that Pillow does not hand out: metadata under names of `Image.info` and others, for
    `metadata_of`; `icc_profile`; `space`, the colour space of the samples; `is_upright`, where EXIF is not to be
    applied.
    """
    found: dict[str, Any] = {}
    if file is not None and image.format is not None:
        before = file.tell()
        try:
            _note_ranges(image.format, file, found, notes)
            _note_found(image, found, notes)
            if image.format == "JPEG2000":
                notes.reduce(boxes.codestream_depth(file))
            elif image.format == "JXL":
                head = jxl.read_codestream_head(file)
                found["is_upright"] = head.orientation != 1  # what the decoder turned is not to be turned again by EXIF
                jxl.note_codestream(head, notes)
        except (struct.error, ValueError, IndexError, OverflowError, OSError):
            pass  # damaged: for the decoder to find
        finally:
            file.seek(before)
    if found.get("has_profile") and not image.info.get("icc_profile"):
        notes.drop("the colour profile is damaged: dropped")
    _note_frames(image, found, notes)
    return found


def _note_ranges(file_format: str, file: BinaryIO, found: dict[str, Any], notes: Notes) -> None:
    file.seek(0)
    head = file.read(len(_J2K))
    if head.startswith(jxl.NAKED) and file_format == "JXL":
        jxl.note_behind_codestream(file, notes)
        return
    walker = _WALKERS.get(file_format)
    if walker is not None:
        note_ranges(file, (boxes.codestream_ranges if head == _J2K else walker)(file, found), notes)


def _note_found(image: Image.Image, found: dict[str, Any], notes: Notes) -> None:
    """Say what the walkers found that Pillow's image has not."""
    notes.reduce(found.get("depth", 8))
    for extra in found.get("extras", ()):
        notes.drop(f"the {extra} is not kept")
    if not image.info.get("icc_profile") and "code_points" in found:
        primaries, transfer = found["code_points"]
        found["space"] = coded_space(primaries, transfer, 1, notes)  # the decoder has widened the range
    further = found.get("channels", 0) - len(image.getbands())
    if further > 0:
        notes.drop(f"{further} further channel{'s' * (further > 1)} not kept")


def _note_frames(image: Image.Image, found: dict[str, Any], notes: Notes) -> None:
    frames = int(getattr(image, "n_frames", 1))
    if image.format in ("ICO", "ICNS"):
        sizes = max(len({tuple(size) for size in image.info.get("sizes", ())}), found.get("icons", 1))
        if sizes > 1:
            notes.drop(f"only one of {sizes} sizes is kept: {image.width}x{image.height}")
    elif image.format == "PSD":
        if frames > 1:
            notes.drop(LAYERS_NOTE)
    elif image.format == "MPO":
        if frames > 1:
            notes.drop(f"only one of {frames} pictures is kept: number {image.tell() + 1}, without previews or maps")
    elif frames > 1 and image.format != "TIFF":
        notes.drop(f"only one of {frames} frames is kept: number {image.tell() + 1}")
    elif found.get("frames"):
        notes.drop("the animation is not kept")
