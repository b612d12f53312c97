"""Numbers as colours: from dark blue for 0 over red to light yellow, ever lighter, so that gray shows the order too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

COLOURS = ((10, 10, 40), (70, 20, 120), (180, 40, 100), (240, 120, 40), (255, 245, 170))
"""At evenly spaced values from 0 to the largest."""


def heat(values: NDArray[Any], top: float) -> NDArray[np.uint8]:
    """The colours [H, W, 3] of values [H, W], 0 to `top`; all that of 0 where `top` is 0."""
    scale = (len(COLOURS) - 1) / top if top > 0 else 0.0
    places = np.clip(values * scale, 0, len(COLOURS) - 1)
    channels = [np.interp(places, range(len(COLOURS)), channel) for channel in zip(*COLOURS, strict=True)]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)


def gradient() -> str:
    """The scale as a CSS gradient, 0 on the left."""
    return f"linear-gradient(to right, {', '.join(f'rgb{colour}' for colour in COLOURS)})"
