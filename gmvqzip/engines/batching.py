"""Many pictures through a network: those of one padded size together, as many as fit a limit of pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gmvqzip.engines.base import without_torch
from gmvqzip.engines.engine import Engine
from gmvqzip.entropy.prior import Piece
from gmvqzip.setting import Setting

_PIXELS = {"cpu": 1 << 18, "cuda": 1 << 22}  # of all pictures of a batch: enough to keep the device busy


def batch_pixels(device: str) -> int:
    """Pixels of the pictures that go through a network together on a device: auto, cpu or cuda."""
    return _PIXELS["cpu" if without_torch(device) else "cuda"]


def analyse_all(engine: Engine, pictures: Sequence[NDArray[np.uint8]], setting: Setting) -> Iterator[tuple[int, Piece]]:
    """Yield number and codes of each of `pictures` [H, W, 3], padded by its edge to the model's alignment.

    They come batch by batch: whoever packs each as it comes keeps the contexts of one batch alone.
    """
    limit = batch_pixels(engine.device)
    alignment = engine.config.alignment
    groups: dict[tuple[int, int], list[int]] = {}
    for number, pixels in enumerate(pictures):
        height, width = (-(-side // alignment) * alignment for side in pixels.shape[:2])
        groups.setdefault((height, width), []).append(number)
    for (height, width), members in groups.items():
        most = max(1, limit // (height * width))
        for start in range(0, len(members), most):
            batch = members[start : start + most]
            pixels = np.stack([_padded(pictures[number], height, width) for number in batch])
            yield from zip(batch, engine.network.analyse(pixels, setting), strict=True)


def _padded(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.pad(pixels, ((0, height - len(pixels)), (0, width - pixels.shape[1]), (0, 0)), mode="edge")
