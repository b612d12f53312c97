"""Writing pictures in the formats that `decompress` offers."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from gmvqzip.errors import ImageError
from gmvqzip.images.formats import ADD_ONS
from gmvqzip.images.opening import register_add_ons
from gmvqzip.images.outputs import FORMATS, FileFormat, Format, by_ending, refusal
from gmvqzip.images.pixels import Picture, Pixels, to_pil

WHITE = 255
_BAND_ROWS = 256  # of a picture that are laid over white at once


def write_picture(picture: Picture, file: BinaryIO, file_format: str) -> list[str]:
    """Write the picture to a binary file object and return one line for each thing that the format cannot hold.

    file_format: an ending. Without loss are png, webp, jxl, tif, bmp, jp2, tga, qoi, sgi, pcx, ppm (P5 where the
    picture is gray) and npy (uint8 array [H, W] where gray, else [H, W, 3]; with alpha [H, W, 2] or [H, W, 4]); jpg,
    avif and heic are of quality 95 without chroma subsampling. Alpha is laid over white where there is no place for it;
    metadata go where the format has one.

    ImageError: an unknown format, one whose add-on of Pillow is missing, or a picture too large for it.
    """
    name = by_ending(file_format)
    if name is None:
        raise ImageError(refusal(file_format))
    kind = FORMATS[name]
    if kind.side is not None and max(picture.width, picture.height) > kind.side:
        raise ImageError(
            f"{picture.width}x{picture.height} is too large for {name} (at most {kind.side} a side): use png"
        )
    notes: list[str] = []
    if not kind.alpha and picture.alpha is not None:
        picture = over_white(picture, picture.alpha)
        notes.append(f"{name} holds no transparency: laid over white")
    icc = picture.icc
    if icc is not None and not kind.profiles[picture.one_channel]:
        icc = None
        notes.append(f"{name} cannot hold this colour profile: dropped")
    options = dict(kind.options)
    if any(kind.profiles):
        options["icc_profile"] = icc or (None if name == Format.PNG else b"")
    if picture.metadata is not None:
        from gmvqzip.images.embedding import save_options

        found, lost = save_options(picture.metadata, name, (picture.width, picture.height))
        options |= found
        notes += lost
    if file.seekable():
        _save(picture, file, name, options)
    else:
        whole = io.BytesIO()
        _save(picture, whole, name, options)
        file.write(whole.getbuffer())
    return notes


def picture_bytes(picture: Picture, file_format: str) -> tuple[bytes, list[str]]:
    """As `write_picture`, in memory: (the file's bytes, the lines)."""
    file = io.BytesIO()
    notes = write_picture(picture, file, file_format)
    return file.getvalue(), notes


def _save(picture: Picture, file: BinaryIO, name: Format, options: dict[str, Any]) -> None:
    """Write to a file object that can seek, as Pillow wants it."""
    if name == Format.NPY:
        np.save(file, _planes(picture), allow_pickle=False)
        return
    kind = FORMATS[name]
    _check_writer(kind)
    chunks = options.pop("chunks", ())
    whole = io.BytesIO() if chunks else file
    image = to_pil(replace(picture, metadata=None))  # whose mode goes by the profile, too
    image.info.pop("icc_profile", None)  # the options have it, where the format does
    if picture.one_channel and not kind.gray:
        image = image.convert("RGBA" if picture.alpha is not None else "RGB")
    try:
        image.save(whole, kind.pillow, **options)
    except Exception as error:  # encoders of add-ons raise almost anything
        raise ImageError(f"cannot be written as {name}: {' '.join(str(error).split())}") from error
    if isinstance(whole, io.BytesIO) and chunks:
        from gmvqzip.images.embedding import with_chunks

        file.write(with_chunks(whole.getvalue(), chunks))


def _check_writer(kind: FileFormat) -> None:
    """Raise ImageError unless Pillow can write a format, with the add-ons that are installed."""
    if kind.pillow not in Image.SAVE:
        register_add_ons()
    if kind.pillow not in Image.SAVE:
        package = ADD_ONS[kind.pillow][1] if kind.pillow in ADD_ONS else "--upgrade pillow"
        raise ImageError(f"{kind.pillow} cannot be written with this Pillow: pip install {package}")


def over_white(picture: Picture, alpha: Pixels) -> Picture:
    """Composite over white, rounded to the nearest level."""
    pixels = np.empty_like(picture.pixels)
    for top in range(0, picture.height, _BAND_ROWS):
        band = slice(top, top + _BAND_ROWS)
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
