"""ICC profiles: what they do to samples counts, not what they are called."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from gmvqzip.errors import ImageError
from gmvqzip.images.colourspace import SRGB_SPACE, ColourSpace
from gmvqzip.images.notes import Notes

HEADER_BYTES = 128  # of the fixed header of a profile
GRAY_SPACE, RGB_SPACE, CMYK_SPACE = b"GRAY", b"RGB ", b"CMYK"
NEAR = 1  # levels by which a conversion that changes nothing may round
ALIKE = 4  # levels between two descriptions of one colour space


def is_profile(icc: bytes) -> bool:
    """Whether these bytes look like a profile."""
    return len(icc) >= HEADER_BYTES and icc[36:40] == b"acsp"


def profile_space(icc: bytes) -> bytes:
    """The signature of the colour space that a profile is for."""
    return icc[16:20]


def to_srgb(image: Image.Image, icc: bytes, notes: Notes) -> Image.Image:
    """An image of mode L or RGB, converted from its profile to sRGB; as it is where that would change nothing."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if _is_srgb(profile, image.mode):
            return image  # the conversion would only add rounding
        converted = _convert(image, profile)
    except (ImageCms.PyCMSError, OSError):
        notes.drop("the colour profile cannot be used: dropped, colours may be off")
        return image
    return converted.getchannel(1) if image.mode == "L" else converted


def print_to_screen(image: Image.Image, icc: bytes | None, notes: Notes) -> Image.Image:
    """CMYK or LAB -> sRGB, through the profile where there is one that fits."""
    notes.drop(f"{image.mode} converted to RGB")
    try:
        if image.mode == "LAB":
            return _convert(image, ImageCms.createProfile("LAB"))
        if icc is not None and profile_space(icc) == CMYK_SPACE:
            return _convert(image, ImageCms.ImageCmsProfile(io.BytesIO(icc)))
    except (ImageCms.PyCMSError, OSError) as error:
        if image.mode == "LAB":
            raise ImageError(f"LAB samples cannot be converted here ({error})") from error
        notes.drop("the colour profile cannot be used: converted without it")
    return image.convert("RGB")


def _is_srgb(profile: Any, mode: str) -> bool:
    """Whether a profile leaves a grid of colours, and every gray, as they are."""
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    grays = np.arange(256, dtype=np.uint8)
    if mode == "L":
        trial = Image.fromarray(grays[None])
        expected = np.repeat(grays[:, None], 3, axis=1)
    else:
        cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
        expected = np.concatenate([cube, np.repeat(grays[:, None], 3, axis=1)])
        trial = Image.fromarray(expected[None])
    done = np.asarray(_convert(trial, profile))[0]
    return bool(np.abs(done.astype(np.int16) - expected).max() <= NEAR)


def agrees(icc: Any, space: ColourSpace | None) -> bool:
    """Whether a profile of RGB does to colours what a colour space does (None: sRGB), nearly."""
    if not (isinstance(icc, bytes) and is_profile(icc) and profile_space(icc) == RGB_SPACE):
        return False
    steps = np.arange(0, 256, 51, dtype=np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    try:
        found = np.asarray(_convert(Image.fromarray(cube), ImageCms.ImageCmsProfile(io.BytesIO(icc))))
    except (ImageCms.PyCMSError, OSError):
        return False
    return bool(np.abs(found.astype(np.int16) - (space or SRGB_SPACE).to_srgb(cube)).max() <= ALIKE)


def _convert(image: Image.Image, profile: Any) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image, profile, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB"
    )
    if converted is None:
        raise ImageError("the colour conversion gave no picture")
    return converted
