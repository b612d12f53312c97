"""From any mode of Pillow to 8-bit RGB or gray, alpha apart; colour profiles kept, converted to sRGB, or dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from gmvqzip.errors import ImageError
from gmvqzip.format.limits import MAX_PROFILE_BYTES
from gmvqzip.images.notes import Notes
from gmvqzip.images.pixels import Picture, Pixels
from gmvqzip.images.profiles import GRAY_SPACE, RGB_SPACE, is_profile, print_to_screen, profile_space, to_srgb

GRAY_MODES = frozenset({"1", "L", "LA", "La"})
BAND_ROWS = 256  # of a picture that are worked on at once where copies would be as large as the picture

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture of each EXIF orientation upright."""


def to_8_bit(samples: np.ndarray[Any, Any], bits: int) -> Pixels:
    """0 to 2^bits - 1 -> 0 to 255, rounded; bits up to 16."""
    if bits == 8:
        return samples.astype(np.uint8)
    most = (1 << bits) - 1
    return ((samples.astype(np.uint32) * 510 + most) // (2 * most)).astype(np.uint8)


def drop_opaque(alpha: Pixels | None) -> Pixels | None:
    """The alpha plane, or None where it is 255 everywhere."""
    return None if alpha is None or bool((alpha == 255).all()) else np.array(alpha, order="C")


@dataclass(frozen=True)
class Unpacked:
    """A picture as its file has it: samples of 8 bits, in any colours, perhaps turned."""

    image: Image.Image  # of any mode of 8 bits; its own transparency counts where `alpha` is None
    alpha: Pixels | None  # [H, W]
    icc: Any = None  # what the file gives as its colour profile
    orientation: int = 1  # as in EXIF
    palette: bool = False  # colours were named by numbers: nothing says whether gray is meant


def unpack_pillow(image: Image.Image, file_format: str | None, notes: Notes) -> Unpacked:
    """What a loaded image of Pillow has. ImageError: samples without an 8-bit meaning."""
    icc, palette = image.info.get("icc_profile"), image.mode in ("P", "PA")
    if image.mode.startswith("I") or image.mode == "F":
        image, alpha = _deep_gray(image, file_format, notes)
    else:
        image, alpha = _split_alpha(image)
    return Unpacked(image, alpha, icc, palette=palette)


def separate(unpacked: Unpacked, *, strip: bool, notes: Notes) -> Picture:
    """The picture, upright. `notes` hears of everything that is lost or changed."""
    image, alpha = unpacked.image, unpacked.alpha
    turn = TURNS.get(unpacked.orientation)
    if turn is not None:
        image = image.transpose(turn)
        alpha = None if alpha is None else np.asarray(Image.fromarray(alpha).transpose(turn))
    icc = _profile(unpacked.icc, notes)
    if image.mode in ("CMYK", "LAB"):
        image, icc = print_to_screen(image, icc, notes), None
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode in GRAY_MODES else "RGB")
    gray = image.mode == "L"
    if icc is not None and profile_space(icc) != (GRAY_SPACE if gray else RGB_SPACE):
        notes.drop("the colour profile does not belong to these samples: dropped")
        icc = None
    if strip and icc is not None:
        image, icc = to_srgb(image, icc, notes), None
    pixels = _three_channels(image)
    equal = image.mode != "L" and is_gray(pixels)
    return Picture(
        pixels,
        gray=equal or image.mode == "L",
        alpha=drop_opaque(alpha),
        icc=icc,
        warnings=notes.lines,
        as_rgb=equal and (not unpacked.palette or icc is not None),
        dropped=notes.dropped,
    )


def is_gray(pixels: Pixels) -> bool:
    """Whether the three channels [H, W, 3] are equal."""
    if not (pixels[0, 0, 0] == pixels[0, 0, 1] == pixels[0, 0, 2]):
        return False
    bands = (pixels[top : top + BAND_ROWS] for top in range(0, len(pixels), BAND_ROWS))
    return all(bool((band[..., :1] == band[..., 1:]).all()) for band in bands)


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
    if not is_profile(icc):
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


def _deep_gray(image: Image.Image, file_format: str | None, notes: Notes) -> tuple[Image.Image, Pixels | None]:
    """Gray of 16 bits -> 8 bits. Integers of 32 bits and floats have no agreed white: refused."""
    if image.mode == "F" or (image.mode == "I" and file_format not in ("PNG", "PPM")):
        kind = "floating-point" if image.mode == "F" else "32-bit integer"
        raise ImageError(f"{kind} samples have no agreed black and white; convert to 8 or 16 bits first")
    samples = np.asarray(image).astype(np.int64)
    transparent = image.info.get("transparency")
    alpha = np.where(samples == transparent, 0, 255).astype(np.uint8) if isinstance(transparent, int) else None
    notes.reduce(16)
    return Image.fromarray(to_8_bit(np.clip(samples, 0, 65535), 16)), alpha
