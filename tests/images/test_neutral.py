"""Pictures that are gray but for noise are coded as gray; a tint that can be seen is colour."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import gmvqzip.pillow  # noqa: F401
from gmvqzip.codec import Codec
from gmvqzip.images.preparing import as_gray, read_prepared

RNG = np.random.default_rng(7)


def shades(height: int = 90, width: int = 130) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.clip(128 + 90 * np.sin(x / 17) * np.cos(y / 23) + RNG.normal(0, 4, (height, width)), 20, 235)


def noisy(noise: np.ndarray) -> np.ndarray:
    size = noise.shape[:2] if noise.ndim == 3 else (90, 130)
    return np.clip(np.rint(shades(*size))[..., None] + noise, 0, 255).astype(np.uint8)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_within_two_levels_nothing_is_more_than_one_off(width, height, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 254, (height, width, 1)) + rng.integers(0, 3, (height, width, 3))
    gray = as_gray(pixels.astype(np.uint8))
    assert gray is not None and np.abs(gray.astype(int) - pixels).max() <= 1
    assert (gray[..., 0] == gray[..., 1]).all() and (gray[..., 0] == gray[..., 2]).all()


@pytest.mark.parametrize("size", [(90, 130), (97, 161), (530, 33)])
def test_noise_is_no_colour(size):
    size = (*size, 3)
    draws = [RNG.integers(-1, 2, size), RNG.integers(-2, 3, size), *(RNG.normal(0, sigma, size) for sigma in (1, 2, 3))]
    for noise in draws:
        pixels = noisy(noise)
        gray = as_gray(pixels)
        assert gray is not None
        assert np.abs(gray[..., 0] - np.rint(pixels.mean(axis=2))).max() <= 0.5


@pytest.mark.parametrize(
    "tint",
    [(0, 0, 4), (3, 0, -3), (6, 2, -4)],
    ids=["bluish", "warm", "sepia"],
)
def test_a_tint_is_colour(tint):
    assert as_gray(noisy(np.array(tint))) is None
    assert as_gray(noisy(np.array(tint) + RNG.normal(0, 1, (90, 130, 3)))) is None


def test_a_tint_at_the_border_is_colour():
    for rows, columns in (
        (slice(None, 7), slice(None)),
        (slice(-7, None), slice(None)),
        (slice(None), slice(-9, None)),
    ):
        pixels = noisy(np.zeros((97, 161, 3)))
        pixels[rows, columns] += np.array((0, 0, 8), np.uint8)
        assert as_gray(pixels) is None


def test_a_small_coloured_thing_is_colour():
    pixels = noisy(np.zeros(3))
    pixels[40:46, 50:56] = (200, 60, 60)
    assert as_gray(pixels) is None
    faint = noisy(np.zeros(3))
    faint[40:50, 50:60] = (120, 128, 132)
    assert as_gray(faint) is None


def test_what_is_coded(scene, encoded):
    gray = np.repeat(shades().astype(np.uint8)[:, :, None], 3, axis=2)
    for source in (gray, Image.fromarray(gray), encoded(Image.fromarray(gray), "PNG")):
        picture = read_prepared(source)
        assert picture.gray and picture.as_rgb and not picture.warnings and np.array_equal(picture.pixels, gray)
    picture = read_prepared(noisy(RNG.integers(-2, 3, (90, 130, 3))))
    assert picture.gray and picture.as_rgb and "taken as gray" in picture.warnings[0] and not picture.dropped
    picture = read_prepared(scene(60, 40))
    assert not picture.gray and not picture.warnings


def test_gray_comes_back_gray_in_the_mode_that_was_given(tiny: Codec):
    plane = shades().astype(np.uint8)
    gray, noise = np.repeat(plane[:, :, None], 3, axis=2), noisy(RNG.integers(-1, 2, (90, 130, 3)))
    alpha = np.full(plane.shape, 99, np.uint8)
    for source, mode in ((plane, "L"), (gray, "RGB"), (noise, "RGB"), (np.dstack([gray, alpha]), "RGBA")):
        image = tiny.decompress(tiny.compress(source))
        assert image.mode == mode
        pixels = np.asarray(image.convert("RGB"))
        assert (pixels == pixels[..., :1]).all()
        with Image.open(io.BytesIO(tiny.compress(source))) as image:  # the mode is known before the pixels
            assert image.mode == mode
    first, second = (tiny.compress(source) for source in (plane, gray))
    assert len(second) - len(first) == 3
