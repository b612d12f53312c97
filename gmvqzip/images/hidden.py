"""Colours that nobody sees: what lies under full transparency is replaced before it costs bytes and leaves fringes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

NOTHING_SEEN = 128  # level of a picture without a visible pixel


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
