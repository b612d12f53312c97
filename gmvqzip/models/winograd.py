"""3x3 convolutions with a quarter of their products: F(4x4, 3x3) of Winograd's minimal filtering (Lavin and Gray 2016).

    Y = A' [(G g G') * (B' d B)] A

for a tile d of 6x6 sites, of which 4x4 outputs Y come. Both transforms of all tiles are products with the Kronecker
square of their matrix; between them stand 36 products over channels. Sums differ from the plain ones by some 10^-5 of
the largest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIDE = 4  # of a tile's outputs
_SEEN = SIDE + 2
Floats = NDArray[np.float32]

_INPUTS = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_WEIGHTS: list[list[float]] = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_OUTPUTS = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


def _square(rows: Sequence[Sequence[float]]) -> Floats:
    matrix = np.array(rows, dtype=np.float64)
    return np.kron(matrix, matrix).astype(np.float32)


_OF_INPUTS, _OF_WEIGHTS, _OF_OUTPUTS = _square(_INPUTS), _square(_WEIGHTS), _square(_OUTPUTS)


def transformed(matrix: Floats) -> Floats:
    """Weights [36, I, O] of those of a convolution [9 * I, O]."""
    inputs, outputs = len(matrix) // 9, matrix.shape[1]
    return (_OF_WEIGHTS @ matrix.reshape(9, -1)).reshape(-1, inputs, outputs)


def tiles(sites: int) -> int:
    """How many tiles stand along so many sites."""
    return -(-sites // SIDE)


def padded(x: Floats) -> Floats:
    """Sites [rows, columns, I] with a margin of one, and zeros up to whole tiles."""
    rows, columns, channels = x.shape
    out = np.zeros((SIDE * tiles(rows) + 2, SIDE * tiles(columns) + 2, channels), np.float32)
    out[1 : rows + 1, 1 : columns + 1] = x
    return out


def convolved(around: Floats, strip: slice, weights: Floats) -> Floats:
    """The outputs [4 * n, 4 * columns, O] of a strip of n rows of tiles. around: as `padded` gives it."""
    high, wide = strip.stop - strip.start, (around.shape[1] - 2) // SIDE
    down, right, along = around.strides
    seen = np.lib.stride_tricks.as_strided(
        around[SIDE * strip.start :],
        (_SEEN, _SEEN, high, wide, around.shape[2]),
        (down, right, SIDE * down, SIDE * right, along),
        writeable=False,
    )
    inputs = _OF_INPUTS @ np.ascontiguousarray(seen).reshape(len(_OF_INPUTS), -1)
    products = inputs.reshape(len(weights), high * wide, -1) @ weights
    out = (_OF_OUTPUTS @ products.reshape(len(weights), -1)).reshape(SIDE, SIDE, high, wide, -1)
    placed: Floats = np.ascontiguousarray(out.transpose(2, 0, 3, 1, 4))
    return placed.reshape(SIDE * high, SIDE * wide, -1)
