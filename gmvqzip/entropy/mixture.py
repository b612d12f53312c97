"""Integer tables of a mixture under a context: p(code | group, class pair), computed from a model's integers alone.

A group g of L dimensions has K codewords mu_c, integers in units of 1/32 of the quantiser's step, cut into two halves.
Under the context classes (t_0, t_1) of its halves the code c has the score, in units of 1/1024 bit,

    s_c = bias_c - floor((sum_h precision_h[t_h] * |mu_c,h|^2 + slope_h[t_h] * |mu_c,h|_1) / 2^16)

its weight is e_c = EXPONENTIAL[d mod 1024] >> (d div 1024) with d = max s - s_c, and its frequency
1 + floor(e_c (2^24 - K) / sum e). What is left to 2^24 goes to the first code of the largest score. Everything is
64-bit integer arithmetic, the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.coder import CodingTable
from gmvqzip.entropy.tables import TOTAL
from gmvqzip.errors import ModelError

SCORE_BITS = 10  # scores are in units of 2^-10 bit
SHIFT = 16
_EXPONENTIAL_BITS = 30
EXPONENTIAL: NDArray[np.int64] = np.rint(
    2.0 ** (_EXPONENTIAL_BITS - np.arange(1 << SCORE_BITS) / (1 << SCORE_BITS))
).astype(np.int64)
"""round(2^(30 - f/1024)) for f = 0 .. 1023; every entry is further than 10^-4 from a tie."""

Integers = NDArray[np.int64]


@dataclass
class GroupMixtures:
    """G groups of one shape. codebook: [G, K, L]; bias: [G, K]; precision, slope: [G, 2, T]; all int64."""

    codebook: Integers
    bias: Integers
    precision: Integers
    slope: Integers
    _tables: dict[tuple[int, int], CodingTable] = field(default_factory=dict, repr=False)

    @property
    def classes(self) -> int:
        """T, context classes of each half."""
        return int(self.precision.shape[2])

    @property
    def entries(self) -> int:
        """Entries of the tables of all groups under all class pairs."""
        return int(self.bias.size) * self.classes**2

    def tables(self, group: int, pairs: Integers) -> list[Integers]:
        """The frequency tables [K] of a group under class pairs, given as t_0 * T + t_1."""
        return [table.frequencies for table in self.coding_tables(group, pairs)]

    def coding_tables(self, group: int, pairs: Integers) -> list[CodingTable]:
        """The same, ready for a coder; kept once computed."""
        wanted = pairs.tolist()
        missing = [pair for pair in wanted if (group, pair) not in self._tables]
        if missing:
            for pair, row in zip(missing, self._compute(group, np.array(missing, dtype=np.int64)), strict=True):
                self._tables[group, pair] = CodingTable(row)
        return [self._tables[group, pair] for pair in wanted]

    def _compute(self, group: int, pairs: Integers) -> Integers:
        square, absolute = _sides(self.codebook[group])  # [K, 2]
        score = np.zeros((len(pairs), len(square)), dtype=np.int64)
        for half, classes in enumerate(np.divmod(pairs, self.classes)):
            score += self.precision[group, half, classes][:, None] * square[:, half]
            score += self.slope[group, half, classes][:, None] * absolute[:, half]
        score = self.bias[group] - (score >> SHIFT)
        best = score.argmax(1)
        rows = np.arange(len(pairs))
        below = score[rows, best][:, None] - score
        weight = EXPONENTIAL[below & ((1 << SCORE_BITS) - 1)] >> np.minimum(below >> SCORE_BITS, 63)
        spare = TOTAL - score.shape[1]
        frequency: Integers = 1 + weight * spare // weight.sum(1, keepdims=True)
        frequency[rows, best] += TOTAL - frequency.sum(1)
        return frequency


MAX_CLASSES = 64  # of each half
LIMITS = {"codebook": 1 << 12, "bias": 1 << 24, "precision": 1 << 28, "slope": 1 << 28}  # largest magnitudes
_SCORE_LIMIT = 1 << 62  # of what is added up for a score


def load_mixtures(tensors: Mapping[str, NDArray[Any]], shape: tuple[int, int, int], prefix: str = "") -> GroupMixtures:
    """Groups from a model's tensors codebook, bias, precision and slope, their names after `prefix`. shape: (G, K, L).

    Raises ModelError for tensors of other shapes, that are no integers, or so large that 64 bits might not hold, and
    KeyError for one that is missing.
    """
    groups, codes, dimensions = shape
    precision = tensors[f"{prefix}precision"]
    classes = precision.shape[-1] if precision.ndim == 3 else 0
    if not 1 <= classes <= MAX_CLASSES:
        raise ModelError(f"wrong tensor {prefix + 'precision'!r} of groups: 1 to {MAX_CLASSES} classes expected")
    wanted = {
        "codebook": (groups, codes, dimensions),
        "bias": (groups, codes),
        "precision": (groups, 2, classes),
        "slope": (groups, 2, classes),
    }
    values = {}
    for name, expected in wanted.items():
        tensor, title = tensors[f"{prefix}{name}"], f"{prefix}{name}"
        if tensor.dtype.kind != "i" or tensor.shape != expected:
            raise ModelError(f"wrong tensor {title!r} of groups: integers {list(expected)} expected")
        if tensor.min() < -LIMITS[name] or tensor.max() > LIMITS[name]:
            raise ModelError(f"tensor {title!r} of groups is out of range: at most {LIMITS[name]} is allowed")
        values[name] = tensor.astype(np.int64)
    if values["codebook"][:, 0].any():
        raise ModelError(f"tensor {prefix + 'codebook'!r}: code 0 of a group must be the zero vector")
    mixtures = GroupMixtures(values["codebook"], values["bias"], values["precision"], values["slope"])
    square, absolute = _sides(mixtures.codebook)  # [G, K, 2]
    most = np.abs(mixtures.precision).max(2) * square.max(1).astype(float)  # float: it may be beyond 64 bits
    most += np.abs(mixtures.slope).max(2) * absolute.max(1).astype(float)
    if most.sum(1).max() >= _SCORE_LIMIT:
        raise ModelError(f"tensors {prefix}* of groups are so large that scores do not fit 64 bits")
    return mixtures


def _sides(codebook: Integers) -> tuple[Integers, Integers]:
    """|mu_h|^2 and |mu_h|_1 of both halves [..., K, 2] of codewords [..., K, L]."""
    halves = codebook.reshape(*codebook.shape[:-1], 2, -1)
    return (halves * halves).sum(-1), np.abs(halves).sum(-1)
