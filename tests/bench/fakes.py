"""A codec whose sizes are known, and pictures with known errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from gmvqzip.bench.metrics import Pixels


class Quantiser:
    """Levels rounded to a step that falls with quality; a file is the pixels, cut or padded to a given size."""

    name = "fake"
    options: Mapping[str, object] = {}

    def __init__(self, size: Callable[[float], int], ladder: Sequence[float] = range(1, 101)) -> None:
        self.title = "a fake <codec>"
        self.ladder = [float(quality) for quality in ladder]
        self.tried: list[float] = []
        self._size = size
        self._shape: tuple[int, ...] = ()

    def label(self, quality: float) -> str:
        return f"level {quality:g}"

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        self.tried.append(quality)
        self._shape = pixels.shape
        return bytes([round(101 - quality)]) * self._size(quality)

    def decode(self, data: bytes) -> Pixels:
        return np.full(self._shape, data[0], dtype=np.uint8)


class Model:
    """What is asked of a `gmvqzip.codec.Codec`; a file is the two sides and `quality` zero bytes."""

    name = "fake"

    def __init__(self, qualities: Sequence[int] = ()) -> None:
        self.qualities = qualities
        self.asked: list[int | None] = []
        self.efforts: list[int | None] = []

    def compress(self, image: Pixels, *, quality: int | None = None, effort: int | None = None) -> bytes:
        self.asked.append(quality)
        self.efforts.append(effort)
        return bytes(image.shape[:2]) + bytes(quality or 0)

    def decompress(self, data: bytes) -> Image.Image:
        return Image.new("L", (data[1], data[0]), 100)


def scene(height: int, width: int, seed: int = 0) -> Pixels:
    """A smooth picture with some noise [height, width, 3]."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (5 + 3 * c) + c) * np.cos(y / (7 - c)) for c in range(3)]
    levels = 128 + 80 * np.stack(waves, axis=2) + generator.normal(0, 8, (height, width, 3))
    return np.clip(levels, 0, 255).astype(np.uint8)
