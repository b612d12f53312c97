"""The transparency plane, without loss: each row filtered by one of four predictors, then deflated.

The content of an alpha section is one zlib stream of `height` rows, each a filter byte and `width` residuals. The
two bits of the filter byte ask for a sum along the row (1) and a sum with the row above (2), modulo 256; undoing
a filter is a running sum along either axis, and whole runs of rows are undone at once.
"""

from __future__ import annotations

import zlib
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gmvqzip.errors import FormatError, ImageError
from gmvqzip.format.limits import MAX_SIDE
from gmvqzip.format.sections import inflate

LEFT, ABOVE = 1, 2  # bits of a filter byte
FILTERS = 4
_LEVEL = 9

Plane = NDArray[np.uint8]


def compress_alpha(alpha: Plane) -> bytes:
    """The alpha section of a plane [height, width] of uint8. Raises ImageError for anything else."""
    if alpha.dtype != np.uint8 or alpha.ndim != 2 or not all(1 <= side <= MAX_SIDE for side in alpha.shape):
        raise ImageError(f"transparency must be a plane of 8-bit values, not {alpha.dtype} {list(alpha.shape)}")
    height = alpha.shape[0]
    choices = [np.full(height, kind, dtype=np.uint8) for kind in (0, ABOVE)]  # best for masks and flat areas
    choices.append(_smallest_residuals(alpha))
    return min((zlib.compress(_filtered(alpha, kinds).tobytes(), _LEVEL) for kinds in choices), key=len)


def decompress_alpha(data: bytes, width: int, height: int) -> Plane:
    """The plane [height, width] in an alpha section. Raises FormatError if it is damaged or of another size."""
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise FormatError(f"transparency of {width}x{height} pixels is beyond the limits")
    size = height * (width + 1)
    rows = inflate(data, size, "transparency")
    if len(rows) != size:
        raise FormatError(f"the transparency has {len(rows)} bytes, not {size}: the file is damaged")
    table = np.frombuffer(rows, dtype=np.uint8).reshape(height, width + 1)
    kinds = table[:, 0]
    if int(kinds.max()) >= FILTERS:
        raise FormatError(f"the transparency has a row of filter {int(kinds.max())}: 0 to {FILTERS - 1} exist")
    plane = table[:, 1:].copy()
    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), height]
    for start, stop in pairwise(edges):
        kind, block = int(kinds[start]), plane[start:stop]
        if kind & LEFT:
            np.add.accumulate(block, axis=1, dtype=np.uint8, out=block)
        if kind & ABOVE:
            if start:
                block[0] += plane[start - 1]
            np.add.accumulate(block, axis=0, dtype=np.uint8, out=block)
    return plane


def _residuals(alpha: Plane, kind: int) -> Plane:
    """What remains of each row [height, width] under one filter, modulo 256; beyond the edges all is zero."""
    out = alpha
    if kind & ABOVE:
        out = np.diff(out, axis=0, prepend=np.uint8(0))
    if kind & LEFT:
        out = np.diff(out, axis=1, prepend=np.uint8(0))
    return out


def _smallest_residuals(alpha: Plane) -> Plane:
    """For each row [height] the filter with the smallest sum of residuals as signed magnitudes; ties by number."""
    sums = []
    for kind in range(FILTERS):
        residuals = _residuals(alpha, kind)
        sums.append(np.minimum(residuals, np.negative(residuals)).sum(axis=1, dtype=np.int64))
    chosen: Plane = np.argmin(np.stack(sums), axis=0).astype(np.uint8)
    return chosen


def _filtered(alpha: Plane, kinds: Plane) -> Plane:
    """Rows [height, 1 + width] of filter byte and residuals."""
    height, width = alpha.shape
    rows = np.empty((height, width + 1), dtype=np.uint8)
    rows[:, 0] = kinds
    for kind in set(kinds.tolist()):
        chosen = kinds == kind
        rows[chosen, 1:] = _residuals(alpha, kind)[chosen]
    return rows
