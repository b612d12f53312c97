"""Convolutions over integers, exact on every machine. Arrays are [..., rows, columns, channels]. See docs/format.md.

A layer computes floor((sum w x + bias + 2^(shift-1)) / 2^shift) for each output channel. Its inputs and 8-bit weights
are integers held as float32, and it is refused unless every partial sum stays below 2^24, where float32 is exact in any
order of summation. What follows the sum is a power of two and a floor, exact too in the type that holds sum and bias.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.errors import ModelError

QUALITIES = 100  # qualities 1 .. 100
_EXACT = 1 << 24  # float32 holds every integer below
_TILE_NUMBERS = 1 << 23  # layers work in square tiles of about so many inputs, so that memory stays bounded ...
_TILE_SITES = 16  # ... of at least so many sites along each side

Integers = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]  # integers held as float32, or float64 where a layer's biases need it
Tensors = Mapping[str, NDArray[Any]]


class IntegerLayer:
    """A convolution with an odd kernel, zeros beyond the edges."""

    def __init__(self, tensors: Tensors, name: str, limits: Integers, out_channels: int, kernel: int) -> None:
        """Take weight int8 [O, I, k, k], bias int32 [A, O] (A anchors of quality, or 1) and shift int8 [O].

        limits: the largest magnitude of each input [I]. Raises ModelError where a tensor is wrong or a sum might be
        inexact, KeyError where one is missing.
        """
        weight, bias, shift = (tensors[f"{name}.{part}"] for part in ("weight", "bias", "shift"))
        shapes = ((out_channels, len(limits), kernel, kernel), (*bias.shape[:1], out_channels), (out_channels,))
        if (weight.shape, bias.shape, shift.shape) != shapes or len(bias) < 1:
            raise ModelError(f"context layer {name!r} has tensors of wrong shapes")
        if weight.dtype != np.int8 or bias.dtype != np.int32 or shift.dtype != np.int8:
            raise ModelError(f"context layer {name!r} has tensors of wrong types")
        sums = np.abs(weight.astype(np.int64)).sum((2, 3)) @ limits
        if sums.max() >= _EXACT or np.abs(bias.astype(np.int64)).max() >= 1 << 29:
            raise ModelError(f"context layer {name!r} might not be exact: its weights are too large")
        if shift.min() < 1 or shift.max() > 24:
            raise ModelError(f"context layer {name!r} has a shift outside 1 to 24")
        self.weight = np.ascontiguousarray(weight.transpose(2, 3, 1, 0), dtype=np.float32)  # [k, k, I, O]
        self._bias = bias.astype(np.int64)
        self._shift = shift.astype(np.int64)
        most = sums + np.abs(self._bias).max(0) + (1 << (self._shift - 1))
        self._type = np.float32 if most.max() < _EXACT else np.float64

    def outputs(self, chosen: Integers) -> IntegerLayer:
        """The same layer with these output channels only."""
        part = copy.copy(self)
        part.weight = np.ascontiguousarray(self.weight[..., chosen])
        part._bias, part._shift = self._bias[:, chosen], self._shift[chosen]
        return part

    def __call__(self, x: Floats, quality: int) -> Floats:
        """[..., H, W, I] integers, quality 1 to 100 -> integers [..., H, W, O]."""
        return self.finish(convolve(x, self.weight), quality)

    def finish(self, sums: NDArray[np.float32], quality: int) -> Floats:
        """From sums of products [..., O], which are overwritten, to outputs at a quality of 1 to 100."""
        out: Floats = sums.astype(self._type, copy=False)
        np.add(out, (at_quality(self._bias, quality) + (1 << (self._shift - 1))).astype(self._type), out=out)
        np.multiply(out, (0.5**self._shift).astype(self._type), out=out)
        return np.floor(out, out)


def convolve(x: Floats, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums of products [..., H, W, O] of inputs [..., H, W, I] and weights [k, k, I, O]."""
    *lead, rows, columns, channels = x.shape
    kernel = len(weight)
    matrix = weight.reshape(-1, weight.shape[3])
    if kernel == 1:
        return products(x.reshape(-1, channels), matrix).reshape(*lead, rows, columns, -1)
    margin = kernel // 2
    padded = np.pad(x, ((0, 0),) * len(lead) + ((margin, margin), (margin, margin), (0, 0)))
    out = np.empty((*lead, rows, columns, matrix.shape[1]), dtype=np.float32)
    for window in tiles(rows, columns, math.prod(lead) * len(matrix)):
        target = out[(..., *window, slice(None))]
        patches = np.empty((*target.shape[:-1], kernel, kernel, channels), dtype=np.float32)
        for i, j in product(range(kernel), repeat=2):
            patches[..., i, j, :] = padded[..., i:, j:, :][(..., *window, slice(None))]
        target[:] = products(patches.reshape(-1, len(matrix)), matrix).reshape(target.shape)
    return out


def products(inputs: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums of products [n, O] of inputs [n, I] and a matrix [I, O]."""
    return inputs @ matrix


def tiles(rows: int, columns: int, numbers: int) -> Iterator[tuple[slice, slice]]:
    """Windows that cover rows x columns sites, for work that takes `numbers` inputs at each."""
    side = max(_TILE_SITES, math.isqrt(_TILE_NUMBERS // numbers))
    for top, left in product(range(0, rows, side), range(0, columns, side)):
        yield slice(top, min(top + side, rows)), slice(left, min(left + side, columns))


def at_quality(anchors: Integers, quality: int) -> Integers:
    """Linear interpolation of anchors [A, O] at a quality of 1 to 100, rounded down; a single anchor stands for all."""
    index, rest = divmod((quality - 1) * (len(anchors) - 1), QUALITIES - 1)
    following = anchors[min(index + 1, len(anchors) - 1)]
    value: Integers = (anchors[index] * (QUALITIES - 1 - rest) + following * rest) // (QUALITIES - 1)
    return value
