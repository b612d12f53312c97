"""What is done to a picture between reading and coding: nothing that is seen changes.

What lies under full transparency is replaced before it costs bytes and leaves fringes; a picture that is gray but for
noise is coded as gray, so that no model tints it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gmvqzip.errors import ImageError, one_line, safe_name
from gmvqzip.format.limits import MAX_PIXELS
from gmvqzip.images.colour import BAND_ROWS, is_gray
from gmvqzip.images.picture import read_picture
from gmvqzip.images.pixels import Picture, PictureSource, Pixels

NOISE_NOTE = "gray but for noise: taken as gray"
NOTHING_SEEN = 128  # level of a picture without a visible pixel
NOTHING_LOST = 2  # levels between the channels of any pixel: then none is more than one off their mean
MOST_NOISE = 32  # levels between the channels of any pixel of a picture that is gray but for noise
MOST_TINT = {
    4: 4.0,
    8: 2.0,
    16: 1.0,
}  # levels off gray, of a channel's mean over a block, by the block's side in pixels


def read_prepared(source: PictureSource, *, strip: bool = False, max_pixels: int = MAX_PIXELS) -> Picture:
    """As `read_picture`, and `prepared` for coding."""
    return prepared(read_picture(source, strip=strip, max_pixels=max_pixels))


def read_all_prepared(images: Iterable[PictureSource], *, strip: bool, max_pixels: int) -> list[Picture]:
    """As `read_prepared`, of several. An error says of which one it is."""
    try:
        if hasattr(images, "read") or isinstance(images, str | bytes | bytearray | memoryview):
            raise TypeError  # the lines of a file and the letters of a name are none
        sources = iter(images)
    except TypeError:
        raise ImageError(f"{one_line(images)} are no pictures: give a sequence of them") from None
    pictures = []
    for number, image in enumerate(sources):
        try:
            pictures.append(read_prepared(image, strip=strip, max_pixels=max_pixels))
        except ImageError as error:
            name = safe_name(image) if isinstance(image, str | Path) else f"picture {number}"
            raise ImageError(f"{name}: {error}") from error
    return pictures


def prepared(picture: Picture) -> Picture:
    """The picture without colours that alpha 0 hides (`fill_hidden`), and gray where but noise is not (`as_gray`)."""
    if picture.alpha is not None:
        picture = replace(picture, pixels=fill_hidden(picture.pixels, picture.alpha))
    if not picture.gray:
        gray = as_gray(picture.pixels)
        if gray is not None:
            exact = is_gray(picture.pixels)  # only what was hidden may have had colour
            said, original = ([], None) if exact else ([NOISE_NOTE], picture.pixels)
            warnings = picture.warnings + said
            picture = replace(picture, pixels=gray, gray=True, as_rgb=True, warnings=warnings, original=original)
    return picture


def fill_hidden(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Pixels [H, W, 3] whose colours under alpha [H, W] 0 smoothly continue those of their visible neighbours.

    Push and pull over a pyramid: each level is the mean of the visible pixels of 2 x 2 of the level below, until none
    is hidden; on the way back each hidden pixel takes the bilinear interpolation of the level above. Time and memory
    are linear in the pixels, whatever the shape of the hidden area. Visible pixels stay as they are, gray stays gray.
    """
    seen = alpha != 0
    if seen.all():
        return pixels
    if not seen.any():
        return np.full_like(pixels, NOTHING_SEEN)
    levels = [Image.fromarray(np.dstack([pixels, np.where(seen, np.uint8(255), np.uint8(0))]))]
    while levels[-1].getchannel("A").getextrema()[0] == 0:
        level = levels[-1].reduce(2)  # weighted by alpha
        level.putalpha(level.getchannel("A").point(lambda weight: 255 if weight else 0))
        levels.append(level)
    filled = levels.pop().convert("RGB")
    while levels:
        level = levels.pop()
        width, height = level.size
        above = filled.resize((width, height), Image.Resampling.BILINEAR, box=(0, 0, width / 2, height / 2))
        filled = Image.composite(level.convert("RGB"), above, level.getchannel("A"))
    return np.array(filled)


def as_gray(pixels: Pixels) -> Pixels | None:
    """The gray picture [H, W, 3] that RGB pixels [H, W, 3] can be taken for, or None where they have colour.

    That is where no channel is more than a level off gray, but for noise, which no area has in its mean. Gray is the
    mean of the three channels, rounded, as in the file format. Raises nothing; most colour pictures are told by their
    first pixels.
    """
    out = np.empty_like(pixels)
    for start in range(0, len(pixels), BAND_ROWS):
        top = max(0, min(start, len(pixels) - BAND_ROWS))  # the last one is as high as the others
        band = pixels[top : top + BAND_ROWS]
        red, green, blue = (band[..., channel] for channel in range(3))
        spread = int((np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)).max())
        if spread > MOST_NOISE:
            return None
        sums = red.astype(np.uint16) + green + blue
        if spread > NOTHING_LOST and _has_tint(band, sums):
            return None
        out[top : top + BAND_ROWS] = ((2 * sums + 3) // 6).astype(np.uint8)[..., None]
    return out


def _has_tint(band: Pixels, sums: NDArray[np.uint16]) -> bool:
    """Whether any block of pixels that are gray within MOST_NOISE has a tint."""
    thrice = (3 * band.astype(np.int16) + 128 - sums[..., None]).astype(np.uint8)  # off gray, times three
    return any(_any_tint(part) for part in _whole_blocks(thrice, max(MOST_TINT)))


def _any_tint(thrice: Pixels) -> bool:
    blocks, side = Image.fromarray(thrice), 1
    for wanted, most in MOST_TINT.items():
        blocks, side = blocks.reduce(wanted // side), wanted
        if np.abs(np.asarray(blocks).astype(np.int16) - 128).max() > 3 * most:
            return True
    return False


def _whole_blocks(pixels: Pixels, side: int) -> Iterator[Pixels]:
    """Parts that together are all pixels, each of whole blocks: parts of a block have more noise in their mean."""
    height, width = pixels.shape[:2]
    for top in {0, height % side if height > side else 0}:
        for left in {0, width % side if width > side else 0}:
            down, across = max(1, (height - top) // side) * side, max(1, (width - left) // side) * side
            yield pixels[top : top + down, left : left + across]
