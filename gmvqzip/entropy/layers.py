"""Convolutions over integers, exact on every machine. Arrays are [..., rows, columns, channels]. See docs/format.md.

A layer computes floor((sum w x + bias + 2^(shift-1)) / 2^shift) for each output channel. Its inputs and 8-bit weights
are integers held as float32, and it is refused unless every partial sum stays below 2^24, where float32 is exact in any
order of summation. What follows the sum is a power of two and a floor, exact too in the type that holds sum and bias.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.blas import Share, alone
from gmvqzip.errors import ModelError

QUALITIES = 100  # qualities 1 .. 100
_EXACT = 1 << 24  # float32 holds every integer below

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
        self.weight = np.ascontiguousarray(weight.transpose(2, 3, 1, 0), dtype=np.float32)  # [k, k, I, O]
        sums = limits @ np.abs(self.weight).sum((0, 1)).astype(np.int64)
        if sums.max() >= _EXACT or np.abs(bias.astype(np.int64)).max() >= 1 << 29:
            raise ModelError(f"context layer {name!r} might not be exact: its weights are too large")
        if shift.min() < 1 or shift.max() > 24:
            raise ModelError(f"context layer {name!r} has a shift outside 1 to 24")
        self._bias = bias.astype(np.int64)
        self._shift = shift.astype(np.int64)
        most = sums + np.abs(self._bias).max(0) + (1 << (self._shift - 1))
        self._type = np.float32 if most.max() < _EXACT else np.float64
        self._scale: Floats = (0.5**self._shift).astype(self._type)
        self._offsets: dict[int, Floats] = {}  # by quality

    def outputs(self, chosen: Integers) -> IntegerLayer:
        """The same layer with these output channels only."""
        part = copy.copy(self)
        part.weight = np.ascontiguousarray(self.weight[..., chosen])
        part._bias, part._shift, part._scale = self._bias[:, chosen], self._shift[chosen], self._scale[chosen]
        part._offsets = {}
        return part

    def __call__(self, x: Floats, quality: int, share: Share = alone) -> Floats:
        """[..., H, W, I] integers, quality 1 to 100 -> integers [..., H, W, O]."""
        return self.finish(convolve(x, self.weight, share), quality)

    def finish(self, sums: NDArray[np.float32], quality: int) -> Floats:
        """From sums of products [..., O], which are overwritten, to outputs at a quality of 1 to 100."""
        out: Floats = sums.astype(self._type, copy=False)
        offset = self._offsets.get(quality)
        if offset is None:
            offset = (at_quality(self._bias, quality) + (1 << (self._shift - 1))).astype(self._type)
            self._offsets[quality] = offset
        np.add(out, offset, out=out)
        np.multiply(out, self._scale, out=out)
        return np.floor(out, out)


def convolve(x: Floats, weight: NDArray[np.float32], share: Share = alone) -> NDArray[np.float32]:
    """Sums of products [..., H, W, O] of inputs [..., H, W, I] and weights [k, k, I, O]; share: by several threads."""
    *lead, rows, columns, channels = x.shape
    kernel = len(weight)
    matrix = weight.reshape(-1, weight.shape[3])
    if kernel == 1:
        return products(x, matrix, share)
    margin, count = kernel // 2, math.prod(lead)
    padded = np.zeros((count, rows + 2 * margin, columns + 2 * margin, channels), dtype=np.float32)
    padded[:, margin:-margin, margin:-margin] = x.reshape(count, rows, columns, channels)
    down, right, along = padded.strides[1:]
    out = np.empty((count, rows, columns, matrix.shape[1]), dtype=np.float32)

    def work(strip: slice) -> None:
        height = strip.stop - strip.start
        patches = np.empty((count, height, columns, kernel, kernel * channels), dtype=np.float32)
        for row in range(kernel):
            source = padded[:, strip.start + row :]
            shape, strides = patches[:, :, :, row].shape, (padded.strides[0], down, right, along)
            patches[:, :, :, row] = np.lib.stride_tricks.as_strided(source, shape, strides, writeable=False)
        out[:, strip] = (patches.reshape(-1, len(matrix)) @ matrix).reshape(out[:, strip].shape)

    share(work, rows, count * columns * len(matrix))
    return out.reshape(*lead, rows, columns, -1)


def products(x: Floats, matrix: NDArray[np.float32], share: Share = alone) -> NDArray[np.float32]:
    """Sums of products [..., O] of inputs [..., I] and a matrix [I, O]; share: by several threads."""
    flat = x.reshape(-1, len(matrix))
    out = np.empty((len(flat), matrix.shape[1]), dtype=np.float32)

    def work(strip: slice) -> None:
        np.matmul(flat[strip], matrix, out=out[strip])

    share(work, len(flat), len(matrix))
    return out.reshape(*x.shape[:-1], -1)


def at_quality(anchors: Integers, quality: int) -> Integers:
    """Linear interpolation of anchors [A, O] at a quality of 1 to 100, rounded down; a single anchor stands for all."""
    index, rest = divmod((quality - 1) * (len(anchors) - 1), QUALITIES - 1)
    following = anchors[min(index + 1, len(anchors) - 1)]
    value: Integers = (anchors[index] * (QUALITIES - 1 - rest) + following * rest) // (QUALITIES - 1)
    return value
