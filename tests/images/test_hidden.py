"""Colours under full transparency are replaced by what continues the visible ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gmvqzip.images.preparing import fill_hidden, read_prepared


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_visible_pixels_stay_and_hidden_ones_lie_between_them(width, height, seed, share):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    alpha = np.where(rng.random((height, width)) < share, rng.integers(1, 256, (height, width)), 0).astype(np.uint8)
    before = pixels.copy()
    filled = fill_hidden(pixels, alpha)
    seen = alpha > 0
    assert np.array_equal(pixels, before) and np.array_equal(filled[seen], pixels[seen])
    other = fill_hidden(np.where(seen[:, :, None], pixels, 255 - pixels), alpha)
    assert np.array_equal(other, filled)  # whatever was hidden
    if seen.any():
        low, high = pixels[seen].min(axis=0).astype(int), pixels[seen].max(axis=0).astype(int)
        assert (filled >= low - 3).all() and (filled <= high + 3).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (257, 129)])
def test_any_size(size):
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    nothing = np.zeros((height, width), np.uint8)
    assert (fill_hidden(pixels, nothing) == 128).all()
    one = nothing.copy()
    one[height // 2, width // 2] = 7
    assert np.abs(fill_hidden(pixels, one).astype(int) - pixels[height // 2, width // 2]).max() <= 2
    assert fill_hidden(pixels, one + 1) is pixels


def test_it_is_smooth_and_gray_stays_gray():
    y, x = np.mgrid[0:96, 0:96]
    alpha = np.where(np.hypot(x - 48, y - 48) < 30, 255, 0).astype(np.uint8)
    shade = (100 + 50 * np.sin(x / 20)).astype(np.uint8)
    gray = np.repeat(shade[:, :, None], 3, axis=2)
    gray[alpha == 0] = np.random.default_rng(0).integers(0, 256, (int((alpha == 0).sum()), 3))
    filled = fill_hidden(gray, alpha).astype(int)
    assert (filled[..., 0] == filled[..., 1]).all() and (filled[..., 0] == filled[..., 2]).all()
    assert max(np.abs(np.diff(filled, axis=0)).max(), np.abs(np.diff(filled, axis=1)).max()) < 16


def test_what_is_coded_has_no_hidden_colours(scene, encoded):
    pixels = scene(40, 30)
    alpha = np.full((30, 40), 255, np.uint8)
    alpha[:, :20] = 0
    expected = fill_hidden(pixels, alpha)
    for hidden in (0, 255):
        shown = pixels.copy()
        shown[:, :20] = hidden
        four = np.dstack([shown, alpha])
        for source in (four, Image.fromarray(four), encoded(Image.fromarray(four), "PNG")):
            picture = read_prepared(source)
            assert np.array_equal(picture.pixels, expected) and np.array_equal(picture.alpha, alpha)
