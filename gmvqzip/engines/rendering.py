"""From the network's picture, window by window, to 8-bit pixels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.errors import ImageError, one_line, real_number, whole_number
from gmvqzip.format.tiles import Box

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

SHRINKS = (1, 2, 4, 8)


def checked_part(region: tuple[int, int, int, int] | None, scale: float, width: int, height: int) -> tuple[Box, int]:
    """The box of a region (x, y, width, height) of a picture, by default all of it, and the factor of a scale.

    Raises ImageError where the region is not inside the picture, or the scale is not one of 1 / SHRINKS.
    """
    scale = real_number(scale, "scale", ImageError)
    shrink = next((factor for factor in SHRINKS if factor * scale == 1), None)
    if shrink is None:
        raise ImageError(f"scale {scale:g} is out of range: give 1, 1/2, 1/4 or 1/8")
    try:
        x, y, columns, rows = (0, 0, width, height) if region is None else region
    except Exception:  # whatever is given, it is no four values
        raise ImageError(f"region {one_line(region)}: give x, y, width and height in pixels") from None
    x, y, columns, rows = (whole_number(value, "region:", ImageError) for value in (x, y, columns, rows))
    if min(x, y) < 0 or min(columns, rows) < 1 or x + columns > width or y + rows > height:
        raise ImageError(f"region {x},{y},{columns},{rows} is not inside the picture of {width}x{height} pixels")
    return Box(x, y, x + columns, y + rows), shrink


def render(pieces: Iterable[tuple[Box, NDArray[np.float32]]], region: Box, *, gray: bool, shrink: int = 1) -> Pixels:
    """The pixels [h, w, 3] of a region: the network's output times 255, rounded and clipped.

    pieces: boxes that cover the region, each a multiple of `shrink` pixels from its corner, and their pixels
    [3, h, w] in [0, 1]; gray: the mean of the three channels stands for each; shrink: the mean of each square of so
    many pixels a side, or of what the region's end leaves of one, becomes a pixel. Means are taken before rounding.
    """
    out = np.empty((-(-region.height // shrink), -(-region.width // shrink), 3), dtype=np.uint8)
    for box, piece in pieces:
        image = piece.mean(0, keepdims=True) if gray else piece
        image = np.moveaxis(image, 0, 2)
        if shrink > 1:
            sums, counts = _squares(image, shrink)
            image = sums / counts.astype(np.float32)
        levels = np.rint(image * np.float32(255))
        out[box.seen_from(region).cells(shrink)] = levels.clip(0, 255, out=levels)
    return out


def shrunk(plane: NDArray[Any], shrink: int) -> Pixels:
    """8-bit numbers [H, W] or [H, W, C], each square of shrink x shrink its rounded mean, in the way of `render`."""
    if shrink == 1:
        return np.ascontiguousarray(plane)
    sums, counts = _squares(plane.astype(np.uint16), shrink)
    means: Pixels = ((sums + counts // 2) // counts).astype(np.uint8)
    return means


def _squares(plane: NDArray[Any], shrink: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The sum of each square of shrink x shrink numbers of [H, W] or [H, W, C], and how many there are in it."""
    rows, columns = (np.arange(0, size, shrink) for size in plane.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(plane, rows, axis=0), columns, axis=1)
    heights = np.minimum(shrink, plane.shape[0] - rows)
    widths = np.minimum(shrink, plane.shape[1] - columns)
    counts = (heights[:, None] * widths).reshape(len(rows), len(columns), *[1] * (plane.ndim - 2))
    return sums, counts
