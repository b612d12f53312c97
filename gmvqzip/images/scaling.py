"""Smaller and larger pictures, for those that are coded at a reduced size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def resize(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Pixels [H, W, 3] at another size [height, width, 3], by Lanczos filters of three lobes on either side.

    Filters are widened where the picture gets smaller; what they would take from beyond the edge is left out.
    """
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
