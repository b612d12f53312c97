"""Pictures made by code: smooth shading, coloured discs with sharp rims, and a little grain."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image


def draw_scene(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A picture with the mixture of areas, edges and texture of a photograph; uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    down, right = y / max(1, height - 1), x / max(1, width - 1)
    scene = np.stack([90 + 120 * right, 70 + 110 * down, 160 - 90 * right * down], axis=-1)
    for _ in range(6):
        centre, radius, paint = rng.random(2), 0.05 + 0.2 * rng.random(), rng.integers(0, 256, 3)
        scene[(right - centre[0]) ** 2 + (down - centre[1]) ** 2 < radius**2] = paint
    scene += rng.normal(0, 3, scene.shape)
    return np.clip(scene, 0, 255).astype(np.uint8)


@pytest.fixture
def scene() -> Callable[..., np.ndarray]:
    return draw_scene


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """encoded(image, "PNG", **options) -> the bytes of the file that Pillow writes."""

    def encode(image: Image.Image, file_format: str, **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, file_format, **options)
        return file.getvalue()

    return encode
