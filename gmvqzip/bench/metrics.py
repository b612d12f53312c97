"""How near two pictures of 8-bit sRGB are: PSNR and MS-SSIM over the three channels, and SSIMULACRA2."""

from __future__ import annotations

import io
import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gmvqzip.errors import ImageError

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Plane = NDArray[np.float32]

PEAK = 255
LEAST_ERROR = 1e-10  # caps PSNR, and MS-SSIM in decibels, at 100 dB: no picture is infinitely good in a mean

_BAND_ROWS = 256  # of pictures that are compared at once, so that large ones take little memory
WINDOW_SIDE = 11  # pixels; window, its deviation and the two constants are those of Wang et al. 2004
WINDOW_SIGMA = 1.5  # pixels
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, finest scale first; their sum is 1.0001
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2

SSIMULACRA2_SIDE = 225  # pixels: the shortest side whose sixth scale, a 32nd of it, still has eight
_SSIMULACRA2_MEMORY = 520  # bytes for each pixel, measured


def decibels(error: float) -> float:
    """-10 log10 of an error in [0, 1], at most 100 dB: PSNR of an MSE in [0, 1] units, or MS-SSIM of 1 - MS-SSIM."""
    return -10 * math.log10(max(error, LEAST_ERROR))


def psnr(original: Pixels, decoded: Pixels) -> float:
    """PSNR in dB of two pictures [H, W, 3], from the mean squared error of all samples; 100 where they are equal."""
    _check_same(original, decoded)
    total = 0.0
    for top in range(0, len(original), _BAND_ROWS):
        difference = original[top : top + _BAND_ROWS].astype(np.float32) - decoded[top : top + _BAND_ROWS]
        total += float(np.sum(difference * difference, dtype=np.float64))
    return decibels(total / original.size / PEAK**2)


def ms_ssim(original: Pixels, decoded: Pixels) -> float:
    """Multi-scale structural similarity of two pictures [H, W, 3], in [0, 1]; 1 where they are equal.

    Wang, Simoncelli and Bovik, "Multi-scale structural similarity for image quality assessment", 2003, equation 7, with
    beta_j = gamma_j: the mean contrast-structure term of each scale to the power of its weight, times the luminance
    term of the coarsest scale. Taken of each RGB channel, then averaged. The window is valid everywhere: none reaches
    over the border. Between two scales each 2x2 block becomes its mean; an odd last row or column is repeated first.
    A negative term counts as 0.

    A picture with a side below 161 pixels has fewer scales, as many as hold the window of 11 pixels, and the weights
    kept are then divided by their sum. Raises ImageError for a side below 11 pixels.
    """
    _check_same(original, decoded)
    scales = scales_of(*original.shape[:2])
    weights = np.array(SCALE_WEIGHTS[:scales])
    if scales < len(SCALE_WEIGHTS):
        weights /= weights.sum()
    return float(np.mean([_channel(original[:, :, c], decoded[:, :, c], weights) for c in range(3)]))


def ssimulacra2(original: Pixels, decoded: Pixels) -> float:
    """SSIMULACRA2 of two pictures [H, W, 3] of sRGB, by the package `ssimulacra2`: at most 100, where they are equal.

    Near 30 is low quality, 50 medium, 70 high, 90 not told from the original; it has no lower end, and below 0 it ranks
    little. Raises ImageError where it cannot be measured, for the reason in `no_ssimulacra2`.
    """
    _check_same(original, decoded)
    if (reason := no_ssimulacra2(*original.shape[:2])) is not None:
        raise ImageError(reason)
    from ssimulacra2 import compute_ssimulacra2

    return float(compute_ssimulacra2(_as_file(original), _as_file(decoded)))


def no_ssimulacra2(height: int, width: int) -> str | None:
    """Why a picture of this size has no SSIMULACRA2 here, None where it has.

    Of a picture with fewer than six scales the metric gives the weights of one scale to another, by its definition:
    such numbers are on no scale of quality.
    """
    try:
        import ssimulacra2  # noqa: F401
    except ImportError as error:
        return f"{error.name} is not installed: pip install {error.name}"
    if min(height, width) < SSIMULACRA2_SIDE:
        return f"{width}x{height} is too small for SSIMULACRA2: a side must have {SSIMULACRA2_SIDE} pixels"
    if height * width * _SSIMULACRA2_MEMORY > _half_of_memory():
        gigabytes = height * width * _SSIMULACRA2_MEMORY / 1e9
        return f"{width}x{height} is too large for SSIMULACRA2 here: it takes {gigabytes:.1f} GB of memory"
    return None


def _as_file(pixels: Pixels) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PPM")
    file.seek(0)
    return file


def _half_of_memory() -> float:
    """Half of the machine's memory in bytes, infinite where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
    except (AttributeError, ValueError, OSError):
        return math.inf


def scales_of(height: int, width: int) -> int:
    """How many scales MS-SSIM takes of a picture of this size. Raises ImageError where not one fits."""
    side, scales = min(height, width), 0
    while scales < len(SCALE_WEIGHTS) and side >= WINDOW_SIDE:
        side, scales = (side + 1) // 2, scales + 1
    if not scales:
        raise ImageError(f"{width}x{height} is too small to be measured: a side must have {WINDOW_SIDE} pixels")
    return scales


def _check_same(original: Pixels, decoded: Pixels) -> None:
    if original.shape != decoded.shape or original.ndim != 3 or original.shape[2] != 3:
        raise ImageError(f"pictures of shapes {original.shape} and {decoded.shape} cannot be compared")


def _channel(original: Pixels, decoded: Pixels, weights: NDArray[np.float64]) -> float:
    """MS-SSIM of one channel [H, W]."""
    # Levels around zero: the variances below are differences of squares, which single precision then holds well.
    x, y = original.astype(np.float32) - 128, decoded.astype(np.float32) - 128
    result = 1.0
    for scale, weight in enumerate(weights):
        if scale:
            x, y = _halved(x), _halved(y)
        luminance, structure = _terms(x, y)
        term = luminance if scale == len(weights) - 1 else structure
        result *= max(term, 0.0) ** weight
    return result


def _terms(x: Plane, y: Plane) -> tuple[float, float]:
    """The means over all windows of luminance times contrast-structure, and of contrast-structure alone."""
    mean_x, mean_y = _blurred(x), _blurred(y)
    squares = mean_x * mean_x + mean_y * mean_y
    product = mean_x * mean_y
    variances = _blurred(x * x + y * y) - squares
    covariance = _blurred(x * y) - product
    structure = (2 * covariance + np.float32(C2)) / (variances + np.float32(C2))
    # The means stand 128 too low, which only the luminance term minds.
    level_x, level_y = mean_x + 128, mean_y + 128
    luminance = (2 * level_x * level_y + np.float32(C1)) / (level_x * level_x + level_y * level_y + np.float32(C1))
    return float(np.mean(luminance * structure, dtype=np.float64)), float(np.mean(structure, dtype=np.float64))


def _window() -> Plane:
    places = np.arange(WINDOW_SIDE) - WINDOW_SIDE // 2
    window = np.exp(-(places**2) / (2 * WINDOW_SIGMA**2))
    return np.asarray(window / window.sum(), dtype=np.float32)


_WEIGHTS = _window()


def _blurred(plane: Plane) -> Plane:
    """The Gaussian mean of each window that lies inside: [H, W] -> [H - 10, W - 10]."""
    return _blurred_down(np.ascontiguousarray(_blurred_down(plane).T)).T


def _blurred_down(plane: Plane) -> Plane:
    """[H, W] -> [H - 10, W]; the window is symmetric, so its rows are taken in pairs."""
    rows, last = len(plane) - WINDOW_SIDE + 1, WINDOW_SIDE - 1
    middle = WINDOW_SIDE // 2
    total: Plane = plane[middle : middle + rows] * _WEIGHTS[middle]
    pair = np.empty_like(total)
    for row in range(middle):
        np.add(plane[row : row + rows], plane[last - row : last - row + rows], out=pair)
        pair *= _WEIGHTS[row]
        total += pair
    return total


def _halved(plane: Plane) -> Plane:
    """The means of 2x2 blocks: [H, W] -> [ceil(H / 2), ceil(W / 2)]."""
    height, width = plane.shape
    even = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    total: Plane = even[0::2, 0::2] + even[0::2, 1::2] + even[1::2, 0::2] + even[1::2, 1::2]
    return total * np.float32(0.25)
