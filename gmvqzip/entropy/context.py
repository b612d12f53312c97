"""The integer context model: from indices decoded so far to the tables of the next ones, the same on every machine.

Latents are integers in units of 1/32 of the quantiser's step; the layers between are exact (`layers`). In a step each
channel quarter is coded at one phase of 2x2 sites, so nothing else is predicted, and of the latent only what earlier
steps coded is looked at. Arrays are [..., rows, columns, channels], with a leading axis where several pictures of one
size go together. docs/format.md specifies all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.blas import Share, alone, workers
from gmvqzip.entropy.blocks import EVERYWHERE, Block, Visitor, grouped
from gmvqzip.entropy.layers import QUALITIES, Floats, IntegerLayer, Integers, Tensors, convolve
from gmvqzip.entropy.mixture import load_mixtures
from gmvqzip.entropy.prior import Memo, Part, Prior
from gmvqzip.errors import ModelError

CODED_LIMIT = 1023  # the layers see decoded latents limited to this magnitude, 32 steps
ACTIVATION_UNIT, ACTIVATION_LIMIT = 32, 255  # and each other's outputs in 1/32, from 0 to this
PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))  # row and column of the four phases of 2x2 sites
STEPS = len(PHASES)
MAX_ENTRIES = 1 << 25  # of the tables of all groups under all class pairs, which are kept once they are made
_KERNEL = 3  # of a step's first layer
_KEPT_FEATURES = 1 << 24  # numbers, up to which what they add up to is computed for all steps at once: 32 megapixels


@dataclass(frozen=True)
class GroupShape:
    """`count` groups of `dimensions` channels with `codes` codewords each, or all with the same."""

    count: int
    codes: int
    dimensions: int
    shared: bool = False


def _activation(x: Floats) -> NDArray[np.float32]:
    return np.clip(x, 0, ACTIVATION_LIMIT, out=x).astype(np.float32, copy=False)


def _seen(coded: NDArray[Any]) -> NDArray[np.float32]:
    """Decoded latents as the layers see them."""
    return coded.clip(-CODED_LIMIT, CODED_LIMIT).astype(np.float32)


class _Step:
    """The layers of one coding step, cut down to what each quarter needs at the phase where it is coded."""

    def __init__(self, tensors: Tensors, number: int, limits: Integers, width: int, heads: Sequence[Integers]) -> None:
        """limits: of the inputs: `width` features and, but for the first step, the latent; heads: the head's outputs
        that belong to each quarter. Raises ModelError and KeyError as `IntegerLayer`."""
        self.number = number
        active = limits[:width]
        self.spatial = IntegerLayer(tensors, f"step.{number}.spatial", limits, width, _KERNEL)
        self.mix = IntegerLayer(tensors, f"step.{number}.mix", active, width, 1)
        head = IntegerLayer(tensors, f"step.{number}.head", active, sum(map(len, heads)), 1)
        self.heads = [head.outputs(chosen) for chosen in heads]
        self.of_features = self.spatial.weight[:, :, :width]  # [3, 3, width, width]
        self._share = share = (len(limits) - width) // STEPS
        self._taps: list[list[tuple[int, int, int]]] = []  # of each quarter: row, column and channels of known inputs
        self._matrices: list[NDArray[np.float32]] = []
        for quarter in range(STEPS) if number else ():
            taps, rows = [], []
            row, column = PHASES[quarter ^ number]
            for i, j in product(range(_KERNEL), repeat=2):
                phase = PHASES.index(((row + i - 1) % 2, (column + j - 1) % 2))
                for known in (phase ^ earlier for earlier in range(number)):
                    taps.append((row + i, column + j, known))
                    rows.append(self.spatial.weight[i, j, width:][known * share : (known + 1) * share])
            self._taps.append(taps)
            self._matrices.append(np.concatenate(rows))

    def predict(
        self, features: NDArray[np.float32], seen: NDArray[np.float32], quality: int, share: Share = alone
    ) -> NDArray[np.int32]:
        """The head's outputs of each quarter [4, ..., h, w, O].

        features: sums of products of the features at all sites [..., 2h, 2w, width]; seen: the latent as the layers see
        it, with a margin of one site [..., 2h + 2, 2w + 2, M].
        """
        phases = [PHASES[quarter ^ self.number] for quarter in range(STEPS)]
        sums = np.stack([features[..., row::2, column::2, :] for row, column in phases])
        for quarter, matrix in enumerate(self._matrices):
            self._add_latent(sums[quarter], seen, self._taps[quarter], matrix, share)
        hidden = _activation(self.mix(_activation(self.spatial.finish(sums, quality)), quality, share))
        out = [head(own, quality, share) for head, own in zip(self.heads, hidden, strict=True)]
        return np.stack(out, dtype=np.int32, casting="unsafe")

    def _add_latent(
        self,
        sums: NDArray[np.float32],
        seen: NDArray[np.float32],
        taps: list[tuple[int, int, int]],
        matrix: NDArray[np.float32],
        share: Share,
    ) -> None:
        """Add the sums of products of what is known of the latent to those at a quarter's sites [..., h, w, width]."""
        high, wide = seen.shape[-3:-1]
        channels = seen.reshape(-1, self._share)  # of a quarter, at each site
        flat = sums.reshape(-1, *sums.shape[-3:])
        rows, columns = flat.shape[1:3]
        inside = [  # of tiny pictures, most taps lie beyond the edge
            row + 2 * (rows - 1) > 0 and row < high - 1 and column + 2 * (columns - 1) > 0 and column < wide - 1
            for row, column, _ in taps
        ]
        runs = [list(run) for used, run in groupby(range(len(taps)), inside.__getitem__) if used]
        offsets = np.array([(row * wide + column) * STEPS + known for row, column, known in taps])
        first = np.arange(len(flat))[:, None, None] * (high * wide)

        def work(strip: slice) -> None:
            sites = first + np.arange(strip.start, strip.stop)[:, None] * (2 * wide) + np.arange(columns) * 2
            target = flat[:, strip]
            for run in runs:
                places = sites[..., None] * STEPS + offsets[run[0] : run[-1] + 1]
                own = matrix[run[0] * self._share : (run[-1] + 1) * self._share]
                patches = channels.take(places, axis=0, mode="clip").reshape(-1, len(own))
                target += (patches @ own).reshape(target.shape)

        share(work, rows, len(flat) * columns * len(matrix))


class ContextModel(Prior):
    """All integer parts of a model. `walk` leads a visitor through the parts in coding order."""

    def __init__(
        self, tensors: Tensors, hyper: Sequence[GroupShape], quarter: Sequence[GroupShape], width: int
    ) -> None:
        """tensors: the model's, by name; hyper, quarter: groups of the hyper-latent and of each quarter of the latent;
        width: channels of the layers. Raises ModelError where a tensor is wrong, KeyError where one is missing."""
        self.hyper_shapes, self.quarter_shapes, self.width = tuple(hyper), tuple(quarter), width
        hyper_channels = sum(shape.count * shape.dimensions for shape in hyper)
        self.channels = STEPS * sum(shape.count * shape.dimensions for shape in quarter)
        active = np.full(width, ACTIVATION_LIMIT)
        latent = np.full(self.channels, CODED_LIMIT)
        self._spread = IntegerLayer(tensors, "hyper.spread", np.full(hyper_channels, CODED_LIMIT), width, 3)
        self._up = IntegerLayer(tensors, "hyper.up", active, 4 * width, 1)
        self._smooth = IntegerLayer(tensors, "hyper.smooth", active, width, 3)
        quarters = self._heads()
        self._steps = [
            _Step(tensors, number, active if number == 0 else np.concatenate([active, latent]), width, quarters)
            for number in range(STEPS)
        ]
        self._of_features = np.concatenate([step.of_features for step in self._steps], 3)
        self._hyper_parts = [
            load_mixtures(tensors, (s.count, s.codes, s.dimensions), f"hyper.groups.{n}.", shared=s.shared)
            for n, s in enumerate(hyper)
        ]
        self._parts = [
            load_mixtures(tensors, (STEPS * s.count, s.codes, s.dimensions), f"groups.{n}.", shared=s.shared)
            for n, s in enumerate(quarter)
        ]
        self.mixtures = (*self._hyper_parts, *self._parts)  # of each part, the hyper-latent's first
        self.parts = (
            *[Part(s.count, 1, own) for s, own in zip(hyper, self._hyper_parts, strict=True)],
            *[Part(STEPS * s.count, 2, own) for s, own in zip(quarter, self._parts, strict=True)],
        )
        if sum(part.entries for part in self.mixtures) > MAX_ENTRIES:
            raise ModelError(f"the tables of all groups have more than {MAX_ENTRIES} entries together")
        mean, classes = tensors["hyper.mean"], tensors["hyper.classes"]
        groups = sum(shape.count for shape in hyper)
        if mean.shape != (hyper_channels,) or mean.dtype != np.int16:
            raise ModelError(f"wrong tensor 'hyper.mean': int16 {[hyper_channels]} expected")
        if classes.shape != (QUALITIES, groups, 2) or classes.dtype != np.int8:
            raise ModelError(f"wrong tensor 'hyper.classes': int8 {[QUALITIES, groups, 2]} expected")
        self._hyper_mean, self._hyper_classes = mean.astype(np.int64), classes.astype(np.int64)
        limits = np.repeat([part.classes for part in self._hyper_parts], [shape.count for shape in hyper])
        if (self._hyper_classes < 0).any() or (self._hyper_classes >= limits[:, None]).any():
            raise ModelError("tensor 'hyper.classes' has a class that its groups do not know")

    def walk(
        self,
        rows: int,
        columns: int,
        quality: int,
        visit: Visitor,
        *,
        lead: tuple[int, ...] = (),
        memo: Memo | None = None,
    ) -> NDArray[np.int32]:
        """Visit every part at all its sites in coding order; the visitor gives the indices [G, ..., h, w] of a block.

        rows, columns: of the hyper-latent's grid; lead: (B,) for B pictures together. Returns the decoded latent
        [..., 2 * rows, 2 * columns, M] in 1/32 of the step: means and points added up.
        """
        hyper = self._walk_hyper((*lead, rows, columns), quality, visit)
        memo = memo or Memo()
        with workers() as share:
            if memo.features is None:
                memo.features = self._features(hyper, quality, share)
            features = memo.features
            if features.size <= _KEPT_FEATURES:
                if memo.sums is None:
                    memo.sums = convolve(features, self._of_features, share)
                sums = np.split(memo.sums, STEPS, -1)
                return self._walk_latent(sums, features.shape[:-1], quality, visit, share)
            later = (convolve(features, step.of_features, share) for step in self._steps)
            return self._walk_latent(later, features.shape[:-1], quality, visit, share)

    def _walk_latent(
        self,
        sums: Iterable[NDArray[np.float32]],
        shape: tuple[int, ...],
        quality: int,
        visit: Visitor,
        share: Share,
    ) -> NDArray[np.int32]:
        """The decoded latent. sums: what the features add up to in each step's first layer [..., width]; shape: of the
        sites of all [..., 2 * rows, 2 * columns]."""
        *lead, rows, columns = shape
        coded = np.zeros((*lead, rows, columns, self.channels), dtype=np.int32)
        seen = np.zeros((*lead, rows + 2, columns + 2, self.channels), dtype=np.float32)
        for number, (step, own) in enumerate(zip(self._steps, sums, strict=True)):
            for block in self._blocks(number, step.predict(own, seen, quality, share)):
                block.put_channels(coded, block.means + block.mixtures.points(visit(block)))
            if number < STEPS - 1:
                seen[..., 1:-1, 1:-1, :] = _seen(coded)
        return coded

    def _heads(self) -> list[Integers]:
        """The outputs of a step's head that belong to each quarter: means, then classes part by part."""
        share = self.channels // STEPS
        chosen = [[np.arange(quarter * share, (quarter + 1) * share)] for quarter in range(STEPS)]
        start = self.channels
        for shape in self.quarter_shapes:
            for quarter in range(STEPS):
                chosen[quarter].append(np.arange(start, start + 2 * shape.count))
                start += 2 * shape.count
        return [np.concatenate(parts) for parts in chosen]

    def _walk_hyper(self, grid: tuple[int, ...], quality: int, visit: Visitor) -> NDArray[np.int32]:
        decoded = np.empty((*grid, len(self._hyper_mean)), dtype=np.int32)
        group = channel = 0
        for number, (part, shape) in enumerate(zip(self._hyper_parts, self.hyper_shapes, strict=True)):
            first, second = self._hyper_classes[quality - 1, group : group + shape.count].T
            here = (shape.count, *(1,) * len(grid))
            pairs = np.broadcast_to((first * part.classes + second).reshape(here), (shape.count, *grid))
            own = slice(channel, channel + shape.count * shape.dimensions)
            means = np.broadcast_to(
                self._hyper_mean[own].reshape(*here, shape.dimensions), (*pairs.shape, shape.dimensions)
            )
            block = Block(number, EVERYWHERE, (own,), pairs, means, part)
            block.put_channels(decoded, means + part.points(visit(block)))
            group, channel = group + shape.count, own.stop
        return decoded

    def _features(self, hyper: NDArray[np.int32], quality: int, share: Share) -> NDArray[np.float32]:
        """Features [..., 2h, 2w, width] from the decoded hyper-latent [..., h, w, Z]."""
        *lead, rows, columns, _ = hyper.shape
        up = _activation(self._up(_activation(self._spread(_seen(hyper), quality, share)), quality, share))
        shuffled = up.reshape(-1, rows, columns, self.width, 2, 2).transpose(0, 1, 4, 2, 5, 3)
        wide = np.ascontiguousarray(shuffled).reshape(*lead, 2 * rows, 2 * columns, self.width)
        return _activation(self._smooth(wide, quality, share))

    def _blocks(self, step: int, predicted: NDArray[np.int32]) -> Iterator[Block]:
        """The parts of a step. predicted: of each quarter, means and unlimited classes [4, ..., h, w, O]."""
        share = self.channels // STEPS
        windows = []
        for quarter in range(STEPS):
            row, column = PHASES[quarter ^ step]
            windows.append((slice(row, None, 2), slice(column, None, 2)))
        first, before = 0, share  # channel within the quarter, and output, of the part's first group
        for number, (part, shape) in enumerate(zip(self._parts, self.quarter_shapes, strict=True)):
            end, after = first + shape.count * shape.dimensions, before + 2 * shape.count
            classes = predicted[..., before:after].clip(0, part.classes - 1)
            pairs = grouped(classes[..., ::2] * part.classes + classes[..., 1::2], 1)[..., 0]
            means = grouped(predicted[..., first:end], shape.dimensions)
            channels = tuple(slice(quarter * share + first, quarter * share + end) for quarter in range(STEPS))
            yield Block(len(self._hyper_parts) + number, tuple(windows), channels, pairs, means, part)
            first, before = end, after
