"""Reduced pictures are enlarged as docs/format.md says, 3.3."""

from __future__ import annotations

import numpy as np

from gmvqzip.images.scaling import resize


def lanczos(line: np.ndarray, side: int) -> np.ndarray:
    """A longer line of `side` values, by the document's formula."""
    scale = len(line) / side
    out = np.empty((side, *line.shape[1:]))
    for place in range(side):
        x = (place + 0.5) * scale - np.arange(len(line)) - 0.5
        weights = np.where(abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
        out[place] = np.tensordot(weights / weights.sum(), line, 1)
    return np.clip(np.round(out), 0, 255)


def test_enlarged_by_the_formula() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    wide = lanczos(pixels.swapaxes(0, 1), 50).swapaxes(0, 1)
    expected = lanczos(wide, 36)
    found = resize(pixels, 50, 36)
    assert found.shape == (36, 50, 3)
    assert abs(found - expected).max() <= 1
    assert (found == expected).mean() > 0.99


def test_smaller_ones_are_smooth_means() -> None:
    pixels = np.tile(np.array([0, 255], dtype=np.uint8)[:, None], (16, 32, 3)).reshape(32, 32, 3)
    assert set(np.unique(resize(pixels, 4, 4))) <= set(range(110, 146))
