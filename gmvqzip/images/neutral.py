"""Pictures that are gray but for noise: coded as gray, so that no model tints them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

NOTHING_LOST = 2  # levels between the channels of any pixel: then none is more than one off their mean
MOST_NOISE = 32  # levels between the channels of any pixel of a picture that is gray but for noise
MOST_TINT = {
    4: 4.0,
    8: 2.0,
    16: 1.0,
}  # levels off gray, of a channel's mean over a block, by the block's side in pixels
_BAND_ROWS = 256


def as_gray(pixels: Pixels) -> Pixels | None:
    """The gray picture [H, W, 3] that RGB pixels [H, W, 3] can be taken for, or None where they have colour.

    That is where no channel is more than a level off gray, but for noise, which no area has in its mean. Gray is the
    mean of the three channels, rounded, as in the file format. Raises nothing; most colour pictures are told by their
    first pixels.
    """
    out = np.empty_like(pixels)
    for start in range(0, len(pixels), _BAND_ROWS):
        top = max(0, min(start, len(pixels) - _BAND_ROWS))  # the last one is as high as the others
        band = pixels[top : top + _BAND_ROWS]
        red, green, blue = (band[..., channel] for channel in range(3))
        spread = int((np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)).max())
        if spread > MOST_NOISE:
            return None
        sums = red.astype(np.uint16) + green + blue
        if spread > NOTHING_LOST and _has_tint(band, sums):
            return None
        out[top : top + _BAND_ROWS] = ((2 * sums + 3) // 6).astype(np.uint8)[..., None]
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
