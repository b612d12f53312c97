"""From any mode of Pillow to 8-bit RGB or gray, alpha apart; colour profiles kept, converted to sRGB, or dropped."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from gmvqzip.errors import ImageError
from gmvqzip.format.limits import MAX_PROFILE_BYTES
from gmvqzip.images.notes import Notes

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

GRAY_MODES = frozenset({"1", "L", "LA", "La"})
DEPTH_NOTE = "16 bits per channel reduced to 8"
BAND_ROWS = 256  # of a picture that are worked on at once where copies would be as large as the picture
PROFILE_HEADER = 128  # bytes of the fixed header of an ICC profile
PROFILE_SPACE = slice(16, 20)  # its colour space signature
PROFILE_MAGIC = slice(36, 40)  # b"acsp"


def from_16_bit(samples: np.ndarray[Any, Any]) -> Pixels:
    """0..65535 -> 0..255, rounded (a division by 257)."""
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def drop_opaque(alpha: Pixels | None) -> Pixels | None:
    """The alpha plane, or None where it is 255 everywhere."""
    return None if alpha is None or bool((alpha == 255).all()) else np.array(alpha, order="C")


@dataclass(frozen=True)
class Planes:
    """The parts of a picture."""

    pixels: Pixels  # [H, W, 3]
    gray: bool
    alpha: Pixels | None  # [H, W]
    icc: bytes | None


def separate(image: Image.Image, info: dict[str, Any], file_format: str | None, *, strip: bool, notes: Notes) -> Planes:
    """The planes of a loaded, upright image. `info` and `file_format` are those of the image as it was opened.

    `notes` hears of everything that is lost or changed. ImageError: samples without an 8-bit meaning.
    """
    icc = _profile(info.get("icc_profile"), notes)
    palette = image.mode in ("P", "PA")
    if image.mode.startswith("I") or image.mode == "F":
        image, alpha = _deep_gray(image, info, file_format, notes)
    else:
        image, alpha = _split_alpha(image)
    if palette:
        image = image.convert("RGB")
        if icc is None and _is_gray(np.asarray(image)):
            image = image.getchannel(0)
    if image.mode in ("CMYK", "LAB"):
        image, icc = _print_to_screen(image, icc, notes), None
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode in GRAY_MODES else "RGB")

    gray = image.mode == "L"
    if icc is not None and icc[PROFILE_SPACE] != (b"GRAY" if gray else b"RGB "):
        notes.drop("the colour profile does not belong to these samples: dropped")
        icc = None
    if strip and icc is not None:
        image, icc = _to_srgb(image, icc, notes), None
    return Planes(_three_channels(image), gray, drop_opaque(alpha), icc)


def _three_channels(image: Image.Image) -> Pixels:
    """The samples [H, W, 3] of an image of mode L or RGB, taken in bands: Pillow makes copies of what it hands out."""
    width, height = image.size
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, BAND_ROWS):
        band = np.asarray(image.crop((0, top, width, min(top + BAND_ROWS, height))))
        pixels[top : top + BAND_ROWS] = band if band.ndim == 3 else band[:, :, None]
    return pixels


def _profile(icc: Any, notes: Notes) -> bytes | None:
    """The colour profile where it looks like one and is not too long to be kept."""
    if not isinstance(icc, bytes) or not icc:
        return None
    if len(icc) < PROFILE_HEADER or icc[PROFILE_MAGIC] != b"acsp":
        notes.drop("the colour profile is damaged: dropped")
        return None
    if len(icc) > MAX_PROFILE_BYTES:
        notes.drop(f"the colour profile is longer than {MAX_PROFILE_BYTES} bytes: dropped")
        return None
    return icc


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Pixels | None]:
    """(the image without transparency, its alpha plane or None)."""
    if not image.has_transparency_data:
        return image, None
    if image.mode in ("RGBa", "La"):  # colours already multiplied by alpha
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    if image.mode in ("1", "L"):
        image = image.convert("LA")
    elif image.mode not in ("LA", "RGBA"):  # P with transparent entries, PA, RGB with a transparent colour
        image = image.convert("RGBA")
    alpha = np.array(image.getchannel("A"), dtype=np.uint8)
    if image.mode == "LA":
        return image.getchannel("L"), alpha
    return image.convert("RGB"), alpha


def _is_gray(pixels: Pixels) -> bool:
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all())


def _deep_gray(
    image: Image.Image, info: dict[str, Any], file_format: str | None, notes: Notes
) -> tuple[Image.Image, Pixels | None]:
    """Gray of 16 bits -> 8 bits. Integers of 32 bits and floats have no agreed white: refused."""
    if image.mode == "F" or (image.mode == "I" and file_format not in ("PNG", "PPM")):
        kind = "floating-point" if image.mode == "F" else "32-bit integer"
        raise ImageError(f"{kind} samples have no agreed black and white; convert to 8 or 16 bits first")
    samples = np.asarray(image).astype(np.int64)
    transparent = info.get("transparency")
    alpha = np.where(samples == transparent, 0, 255).astype(np.uint8) if isinstance(transparent, int) else None
    notes.drop(DEPTH_NOTE)
    return Image.fromarray(from_16_bit(np.clip(samples, 0, 65535))), alpha


def _print_to_screen(image: Image.Image, icc: bytes | None, notes: Notes) -> Image.Image:
    """CMYK or LAB -> sRGB, through the profile where there is one that fits."""
    from PIL import ImageCms

    notes.drop(f"{image.mode} converted to RGB")
    try:
        if image.mode == "LAB":
            return _cms_convert(image, ImageCms.createProfile("LAB"))
        if icc is not None and icc[PROFILE_SPACE] == b"CMYK":
            return _cms_convert(image, ImageCms.ImageCmsProfile(io.BytesIO(icc)))
    except (ImageCms.PyCMSError, OSError) as error:
        if image.mode == "LAB":
            raise ImageError(f"LAB samples cannot be converted here ({error})") from error
        notes.drop("the colour profile cannot be used: converted without it")
    return image.convert("RGB")


def _to_srgb(image: Image.Image, icc: bytes, notes: Notes) -> Image.Image:
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return image  # sRGB already: the conversion would only add rounding
        converted = _cms_convert(image, profile)
    except (ImageCms.PyCMSError, OSError):
        notes.drop("the colour profile cannot be used: dropped, colours may be off")
        return image
    return converted.getchannel(1) if image.mode == "L" else converted


def _cms_convert(image: Image.Image, profile: Any) -> Image.Image:
    from PIL import ImageCms

    converted = ImageCms.profileToProfile(
        image, profile, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB"
    )
    if converted is None:
        raise ImageError("the colour conversion gave no picture")
    return converted
