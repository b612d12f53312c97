"""The integer context model: from indices decoded so far to the tables of the next ones, the same on every machine.

Latents are integers in units of 1/32 of the quantiser's step. Layers are convolutions with 8-bit weights over integers
whose products are summed exactly: a layer is refused unless every partial sum stays below 2^24, where float32 is exact
in any order of summation. Arrays are [rows, columns, channels]. docs/format.md specifies all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.mixture import GroupMixtures, load_mixtures
from gmvqzip.errors import ModelError

LATENT_UNIT = 32  # decoded latents and means are in 1/32 of the quantiser's step
CODED_LIMIT = 1023  # the layers see decoded latents limited to this magnitude, 32 steps
ACTIVATION_UNIT, ACTIVATION_LIMIT = 32, 255  # and each other's outputs in 1/32, from 0 to this
QUALITIES = 100  # qualities 1 .. 100
PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))  # row and column of the four phases of 2x2 sites
STEPS = len(PHASES)
_EXACT = 1 << 24  # float32 holds every integer below
_TILE_NUMBERS = 1 << 23  # layers work in square tiles of about so many inputs, so that memory stays bounded ...
_TILE_SITES = 16  # ... of at least so many sites along each side

Integers = NDArray[np.int64]
Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class GroupShape:
    """`count` groups of `dimensions` channels with `codes` codewords each."""

    count: int
    codes: int
    dimensions: int


@dataclass(frozen=True)
class Site:
    """What is asked of a visitor: the codes of one group at some sites.

    stage: number of the group in coding order; hyper: whether it is the hyper-latent's; window: its rows and columns in
    the group's index array; channels: its channels in the latent or hyper-latent; pairs: class pairs [h, w]; mean:
    [h, w, L] in 1/32 of the step; mixtures, group: whose tables and codewords apply. Where a pair is 0, both classes
    the lowest, the code is 0 and takes no bits.
    """

    stage: int
    hyper: bool
    window: tuple[slice, slice]
    channels: slice
    pairs: Integers
    mean: Integers
    mixtures: GroupMixtures
    group: int


Visitor = Callable[[Site], NDArray[Any]]


class IntegerLayer:
    """A convolution over integers: floor((sum w x + bias + 2^(shift-1)) / 2^shift), per output channel."""

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
        self.kernel = kernel
        self._matrix = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, out_channels), dtype=np.float32)
        self._bias = bias.astype(np.int64)
        self._shift = shift.astype(np.int32)

    def __call__(self, x: NDArray[np.float32], quality: int) -> NDArray[np.int32]:
        """[H, W, I] integers held as float32, quality 1 to 100 -> [H, W, O]."""
        rows, columns, _ = x.shape
        margin = self.kernel // 2
        padded = np.pad(x, ((margin, margin), (margin, margin), (0, 0)))
        offset = (at_quality(self._bias, quality) + (1 << (self._shift - 1))).astype(np.int32)
        out = np.empty((rows, columns, len(self._shift)), dtype=np.int32)
        side = max(_TILE_SITES, math.isqrt(_TILE_NUMBERS // len(self._matrix)))
        for top, left in product(range(0, rows, side), range(0, columns, side)):
            target = out[top : top + side, left : left + side]
            patches = self._patches(padded, (top, left), target.shape[:2])
            sums = (patches @ self._matrix).astype(np.int32)
            target[:] = ((sums + offset) >> self._shift).reshape(target.shape)
        return out

    def _patches(self, padded: NDArray[np.float32], start: tuple[int, int], shape: tuple[int, ...]) -> Any:
        """The inputs of each site of a tile [sites, k * k * I]. start: its first row and column; shape: [h, w]."""
        (top, left), (rows, columns) = start, shape
        patches = np.empty((rows, columns, self.kernel, self.kernel, padded.shape[2]), dtype=np.float32)
        for i, j in product(range(self.kernel), repeat=2):
            patches[:, :, i, j] = padded[top + i : top + i + rows, left + j : left + j + columns]
        return patches.reshape(rows * columns, -1)


def at_quality(anchors: Integers, quality: int) -> Integers:
    """Linear interpolation of anchors [A, O] at a quality of 1 to 100, rounded down; a single anchor stands for all."""
    index, rest = divmod((quality - 1) * (len(anchors) - 1), QUALITIES - 1)
    following = anchors[min(index + 1, len(anchors) - 1)]
    value: Integers = (anchors[index] * (QUALITIES - 1 - rest) + following * rest) // (QUALITIES - 1)
    return value


def _activation(x: NDArray[np.int32]) -> NDArray[np.float32]:
    return x.clip(0, ACTIVATION_LIMIT).astype(np.float32)


def _seen(coded: NDArray[np.int32]) -> NDArray[np.float32]:
    """Decoded latents as the layers see them."""
    return coded.clip(-CODED_LIMIT, CODED_LIMIT).astype(np.float32)


class ContextModel:
    """All integer parts of a model. `walk` leads a visitor through the groups in coding order."""

    def __init__(
        self, tensors: Tensors, hyper: Sequence[GroupShape], quarter: Sequence[GroupShape], width: int
    ) -> None:
        """tensors: the model's, by name; hyper, quarter: groups of the hyper-latent and of each quarter of the latent;
        width: channels of the layers. Raises ModelError where a tensor is wrong, KeyError where one is missing."""
        self.hyper_shapes, self.quarter_shapes, self.width = tuple(hyper), tuple(quarter), width
        hyper_channels = sum(shape.count * shape.dimensions for shape in hyper)
        self.channels = STEPS * sum(shape.count * shape.dimensions for shape in quarter)
        heads = self.channels + 2 * STEPS * sum(shape.count for shape in quarter)
        active = np.full(width, ACTIVATION_LIMIT)
        latent = np.full(self.channels, CODED_LIMIT)
        self._spread = IntegerLayer(tensors, "hyper.spread", np.full(hyper_channels, CODED_LIMIT), width, 3)
        self._up = IntegerLayer(tensors, "hyper.up", active, 4 * width, 1)
        self._smooth = IntegerLayer(tensors, "hyper.smooth", active, width, 3)
        self._steps = []
        for step in range(STEPS):
            inputs = active if step == 0 else np.concatenate([active, latent])
            spatial = IntegerLayer(tensors, f"step.{step}.spatial", inputs, width, 3)
            mix = IntegerLayer(tensors, f"step.{step}.mix", active, width, 1)
            head = IntegerLayer(tensors, f"step.{step}.head", active, heads, 1)
            self._steps.append((spatial, mix, head))
        self._hyper_parts = [
            load_mixtures(tensors, (s.count, s.codes, s.dimensions), f"hyper.groups.{n}.") for n, s in enumerate(hyper)
        ]
        self._parts = [
            load_mixtures(tensors, (STEPS * s.count, s.codes, s.dimensions), f"groups.{n}.")
            for n, s in enumerate(quarter)
        ]
        mean, classes = tensors["hyper.mean"], tensors["hyper.classes"]
        groups = sum(shape.count for shape in hyper)
        if mean.shape != (hyper_channels,) or mean.dtype != np.int16:
            raise ModelError(f"wrong tensor 'hyper.mean': int16 {[hyper_channels]} expected")
        if classes.shape != (QUALITIES, groups, 2) or classes.dtype != np.int8:
            raise ModelError(f"wrong tensor 'hyper.classes': int8 {[QUALITIES, groups, 2]} expected")
        self._hyper_mean, self._hyper_classes = mean.astype(np.int64), classes.astype(np.int64)
        limits = np.concatenate([np.full(part.codebook.shape[0], part.classes) for part in self._hyper_parts])
        if (self._hyper_classes < 0).any() or (self._hyper_classes >= limits[:, None]).any():
            raise ModelError("tensor 'hyper.classes' has a class that its groups do not know")

    def walk(self, rows: int, columns: int, quality: int, visit: Visitor) -> NDArray[np.int32]:
        """Visit every group at every site in coding order.

        rows, columns: of the hyper-latent's grid. Returns the decoded latent [2 * rows, 2 * columns, M] in 1/32 of the
        step: means and codewords added up.
        """
        features = self._features(self._walk_hyper(rows, columns, quality, visit), quality)
        coded = np.zeros((2 * rows, 2 * columns, self.channels), dtype=np.int32)
        for step in range(STEPS):
            mean, classes = self._predict(step, features, coded, quality)
            for site, target in self._sites(step, mean, classes):
                words = site.mixtures.codebook[site.group][visit(site)]
                coded[target] = site.mean + words
        return coded

    def _walk_hyper(self, rows: int, columns: int, quality: int, visit: Visitor) -> NDArray[np.int32]:
        decoded = np.empty((rows, columns, len(self._hyper_mean)), dtype=np.int32)
        stage = channel = 0
        everywhere = (slice(None), slice(None))
        for part in self._hyper_parts:
            for group in range(len(part.codebook)):
                first, second = self._hyper_classes[quality - 1, stage].tolist()
                pairs = np.full((rows, columns), first * part.classes + second, dtype=np.int64)
                own = slice(channel, channel + part.codebook.shape[2])
                mean = np.broadcast_to(self._hyper_mean[own], (rows, columns, part.codebook.shape[2]))
                codes = visit(Site(stage, True, everywhere, own, pairs, mean, part, group))
                decoded[:, :, own] = mean + part.codebook[group][codes]
                stage, channel = stage + 1, own.stop
        return decoded

    def _features(self, hyper: NDArray[np.int32], quality: int) -> NDArray[np.float32]:
        """Features [2h, 2w, width] from the decoded hyper-latent [h, w, Z]."""
        rows, columns, _ = hyper.shape
        up = _activation(self._up(_activation(self._spread(_seen(hyper), quality)), quality))
        shuffled = up.reshape(rows, columns, self.width, 2, 2).transpose(0, 3, 1, 4, 2)
        wide = np.ascontiguousarray(shuffled).reshape(2 * rows, 2 * columns, self.width)
        return _activation(self._smooth(wide, quality))

    def _predict(
        self, step: int, features: NDArray[np.float32], coded: NDArray[np.int32], quality: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Means [H, W, M] and classes [H, W, G, 2] of a step; classes are not limited yet."""
        spatial, mix, head = self._steps[step]
        inputs = features if step == 0 else np.concatenate([features, _seen(coded)], 2)
        out = head(_activation(mix(_activation(spatial(inputs, quality)), quality)), quality)
        classes = out[:, :, self.channels :]
        return out[:, :, : self.channels], classes.reshape(*classes.shape[:2], -1, 2)

    def _sites(
        self, step: int, mean: NDArray[np.int32], classes: NDArray[np.int32]
    ) -> Iterator[tuple[Site, tuple[slice, slice, slice]]]:
        """The groups of a step, and where their channels lie in the latent."""
        stage = sum(shape.count for shape in self.hyper_shapes)
        first, before = 0, 0  # channel within the quarter and group number of the part's first group
        for part, shape in zip(self._parts, self.quarter_shapes, strict=True):
            for quarter in range(STEPS):
                row, column = PHASES[quarter ^ step]
                window = (slice(row, None, 2), slice(column, None, 2))
                for index in range(shape.count):
                    group = quarter * shape.count + index
                    start = quarter * self.channels // STEPS + first + index * shape.dimensions
                    target = (*window, slice(start, start + shape.dimensions))
                    halves = classes[:, :, before + group][window].astype(np.int64).clip(0, part.classes - 1)
                    pairs = halves[..., 0] * part.classes + halves[..., 1]
                    offset = mean[target].astype(np.int64)
                    yield Site(stage + group, False, window, target[2], pairs, offset, part, group), target
            stage += STEPS * shape.count
            before += STEPS * shape.count
            first += shape.count * shape.dimensions
