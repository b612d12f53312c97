"""Writing pictures in the formats that `decompress` offers."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gmvqzip.errors import ImageError
from gmvqzip.images.colour import BAND_ROWS, Pixels
from gmvqzip.images.picture import Picture, to_pil

FORMATS = ("png", "webp", "jpg", "ppm", "npy")
OTHER_ENDINGS = {"jpeg": "jpg", "jpe": "jpg", "jfif": "jpg", "pgm": "ppm", "pnm": "ppm"}

JPEG_QUALITY = 95  # what is written was coded with loss once already; this adds next to none
JPEG_SIDE = 65_535  # pixels, longest side of the format
WEBP_SIDE = 16_383
WHITE = 255


def format_of(path: Path) -> str | None:
    """The format that the ending of a file name asks for, None where it is none of FORMATS."""
    ending = path.suffix.lower().removeprefix(".")
    ending = OTHER_ENDINGS.get(ending, ending)
    return ending if ending in FORMATS else None


def write_picture(picture: Picture, file: BinaryIO, file_format: str) -> list[str]:
    """Write the picture to a binary file object and return one line for each thing that the format cannot hold.

    png, webp  lossless; gray, alpha and profile kept (webp stores gray as RGB, and then drops a gray profile)
    jpg        quality 95 without chroma subsampling; alpha laid over white
    ppm        binary P6, or P5 where gray; alpha laid over white, profile dropped
    npy        uint8 array [H, W] where gray, else [H, W, 3]; with alpha [H, W, 2] or [H, W, 4]; profile dropped

    ImageError: an unknown format, or a picture too large for it.
    """
    name = OTHER_ENDINGS.get(file_format.lower(), file_format.lower())
    if name not in FORMATS:
        raise ImageError(f"format {file_format!r} cannot be written: choose {', '.join(FORMATS)}")
    longest = {"jpg": JPEG_SIDE, "webp": WEBP_SIDE}.get(name)
    if longest is not None and max(picture.width, picture.height) > longest:
        raise ImageError(
            f"{picture.width}x{picture.height} is too large for {name} (at most {longest} a side): use png"
        )
    notes: list[str] = []
    if name in ("jpg", "ppm") and picture.alpha is not None:
        picture = _over_white(picture, picture.alpha)
        notes.append(f"{name} holds no transparency: laid over white")
    icc = picture.icc
    if icc is not None and (name in ("ppm", "npy") or (name == "webp" and picture.one_channel)):
        icc = None
        notes.append(f"{name} cannot hold this colour profile: dropped")
    if file.seekable():
        _save(picture, file, name, icc)
    else:
        whole = io.BytesIO()
        _save(picture, whole, name, icc)
        file.write(whole.getbuffer())
    return notes


def picture_bytes(picture: Picture, file_format: str) -> tuple[bytes, list[str]]:
    """As `write_picture`, in memory: (the file's bytes, the lines)."""
    file = io.BytesIO()
    notes = write_picture(picture, file, file_format)
    return file.getvalue(), notes


def _save(picture: Picture, file: BinaryIO, name: str, icc: bytes | None) -> None:
    """Write to a file object that can seek, as Pillow wants it."""
    if name == "npy":
        np.save(file, _planes(picture), allow_pickle=False)
        return
    image = to_pil(picture)
    try:
        if name == "png":
            image.save(file, "PNG", icc_profile=icc)
        elif name == "webp":
            image.save(file, "WEBP", lossless=True, exact=True, icc_profile=icc or b"")
        elif name == "jpg":
            image.save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0, icc_profile=icc or b"")
        else:
            image.save(file, "PPM")
    except (OSError, ValueError, MemoryError) as error:
        raise ImageError(f"cannot be written as {name}: {' '.join(str(error).split())}") from error


def _over_white(picture: Picture, alpha: Pixels) -> Picture:
    """Composite over white, rounded to the nearest level."""
    pixels = np.empty_like(picture.pixels)
    for top in range(0, picture.height, BAND_ROWS):
        band = slice(top, top + BAND_ROWS)
        weight = alpha[band, :, None].astype(np.uint16)
        blend = picture.pixels[band] * weight + WHITE * (255 - weight)  # at most 255 * 255: fits 16 bits
        pixels[band] = (blend + np.uint16(127)) // 255
    return replace(picture, pixels=pixels, alpha=None)


def _planes(picture: Picture) -> Pixels:
    array = picture.pixels[:, :, :1] if picture.one_channel else picture.pixels
    if picture.alpha is not None:
        array = np.concatenate([array, picture.alpha[:, :, None]], axis=2)
    elif picture.one_channel:
        array = array[:, :, 0]
    return np.ascontiguousarray(array)
