"""Integer tables of a mixture under a context: p(code | codebook, class pair), computed from a model's integers alone.

A codebook of L dimensions has K codewords mu_c, integers in units of 1/32 of the quantiser's step, cut into two halves.
Under the context classes (t_0, t_1) of its halves the code c has the score, in units of 1/1024 bit,

    s_c = bias_c - floor((sum_h precision_h[t_h] * |mu_c,h|^2 + slope_h[t_h] * |mu_c,h|_1) / 2^16)

its weight is e_c = EXPONENTIAL[d mod 1024] >> (d div 1024) with d = max s - s_c, and its frequency
1 + floor(e_c (2^24 - K) / sum e). What is left to 2^24 goes to the first code of the largest score. Everything is
64-bit integer arithmetic, the same on every machine.

The groups of a part have a codebook each, or share one. In a shared one of two dimensions a code may have *extra bits*,
as large lengths have in DEFLATE: with x of them for each dimension it stands for the points of a square around its
codeword, 2^x along each side and a step apart. So a few hundred codes reach hundreds of steps. Scores then take, in
each half, the point nearest to zero in the place of the codeword.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.coder import CodingTable
from gmvqzip.entropy.tables import TOTAL
from gmvqzip.errors import ModelError

LATENT_UNIT = 32  # codewords, decoded latents and means are in 1/32 of the quantiser's step
SCORE_BITS = 10  # scores are in units of 2^-10 bit
SHIFT = 16
_EXPONENTIAL_BITS = 30
EXPONENTIAL: NDArray[np.int64] = np.rint(
    2.0 ** (_EXPONENTIAL_BITS - np.arange(1 << SCORE_BITS) / (1 << SCORE_BITS))
).astype(np.int64)
"""round(2^(30 - f/1024)) for f = 0 .. 1023; every entry is further than 10^-4 from a tie."""

Integers = NDArray[np.int64]


class Mixtures(Protocol):
    """Where the tables of a part's codes come from: `books` codebooks of `codes` codes, under `classes` classes."""

    codes: int
    point_bits: Integers  # [K], of a code's point number

    @property
    def books(self) -> int:
        """One for each group, or one for all."""

    @property
    def classes(self) -> int:
        """Context classes of each half of a codeword."""

    def coding_tables(self, book: int, pairs: Integers) -> list[CodingTable]:
        """Of a codebook under class pairs, given as t_0 * T + t_1."""

    def check(self, indices: NDArray[Any]) -> None:
        """Raise ModelError unless there are all these indices, of any shape."""


@dataclass(frozen=True)
class Lengths:
    """What codes cost under class pairs. A pair t_0 * T + t_1 of codebook b has the key b T^2 + t_0 * T + t_1.

    rows: [B T^2], the row of each key, -1 where it is not known; bits: [P, K], of each code and its point's number;
    least: [P], of the cheapest code but 0.
    """

    rows: NDArray[np.int32]
    bits: NDArray[np.float32]
    least: NDArray[np.float32]


@dataclass(eq=False)
class GroupMixtures:
    """B codebooks of a part, one for each of its groups or a single one that they share.

    codebook: [B, K, L]; bias: [B, K]; precision, slope: [B, 2, T]; extra: [K], extra bits for each dimension; all
    int64. The *index* of a point is c + K * r: of code c the point number r in raster order, 0 without extra bits.
    """

    codebook: Integers
    bias: Integers
    precision: Integers
    slope: Integers
    extra: Integers
    _tables: dict[tuple[int, int], CodingTable] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.codes, self.dimensions = self.codebook.shape[1:]
        self.wide = bool(self.extra.any())
        self.point_bits = self.dimensions * self.extra  # [K], of a code's point number
        self._words = self.codebook.reshape(-1, self.dimensions).astype(np.int32)
        self._square, self._absolute = self._sides()
        nothing = np.empty((0, self.codes), dtype=np.float32)
        self._lengths = Lengths(np.full(self.books * self.classes**2, -1, dtype=np.int32), nothing, nothing[:, 0])

    @property
    def classes(self) -> int:
        """T, context classes of each half."""
        return int(self.precision.shape[2])

    @property
    def entries(self) -> int:
        """Entries of the tables of all codebooks under all class pairs."""
        return int(self.bias.size) * self.classes**2

    @property
    def books(self) -> int:
        """B."""
        return len(self.codebook)

    @property
    def shared(self) -> bool:
        """Whether one codebook stands for all groups."""
        return self.books == 1

    def points(self, indices: NDArray[Any]) -> NDArray[np.int32]:
        """Where the indices [G, ...] of all groups lie [G, ..., L], in 1/32 of the step."""
        codes, numbers = np.divmod(indices, self.codes)[::-1] if self.wide else (indices, None)
        first = 0 if self.shared else np.arange(len(codes)).reshape(-1, *(1,) * (codes.ndim - 1)) * self.codes
        points: NDArray[np.int32] = self._words[codes + first]
        if numbers is not None:
            at = self.extra[codes].nonzero()
            extra = self.extra[codes[at]]
            side = 1 << extra
            places = np.stack([numbers[at] >> extra, numbers[at] & (side - 1)], 1)
            points[at] += (LATENT_UNIT // 2 * (2 * places + 1 - side[:, None])).astype(np.int32)
        return points

    def check(self, indices: NDArray[Any]) -> None:
        """Raise ModelError unless all indices, of any shape, are of codes and points that there are."""
        numbers, codes = np.divmod(indices, self.codes)
        if (indices < 0).any() or (numbers >> self.point_bits[codes]).any():
            wrong = int(indices.flat[np.argmax((indices < 0) | (numbers >> self.point_bits[codes] > 0))])
            raise ModelError(f"codes do not fit: the model has no index {wrong} there: another model's?")

    def tables(self, book: int, pairs: Integers) -> list[Integers]:
        """The frequency tables [K] of a codebook under class pairs, given as t_0 * T + t_1."""
        return [table.frequencies for table in self.coding_tables(book, pairs)]

    def coding_tables(self, book: int, pairs: Integers) -> list[CodingTable]:
        """The same, ready for a coder; kept once computed."""
        wanted = pairs.tolist()
        missing = [pair for pair in wanted if (book, pair) not in self._tables]
        if missing:
            for pair, row in zip(missing, self._compute(book, np.array(missing, dtype=np.int64)), strict=True):
                self._tables[book, pair] = CodingTable(row)
        return [self._tables[book, pair] for pair in wanted]

    def lengths(self, keys: NDArray[Any]) -> Lengths:
        """What codes cost under these keys [N] at least; kept once computed."""
        known = self._lengths  # replaced as a whole: other threads go on with what they have
        unknown = np.unique(keys[known.rows[keys] < 0])
        if unknown.size:
            tables = []
            for book in np.unique(unknown // self.classes**2).tolist():
                own = unknown[unknown // self.classes**2 == book] - book * self.classes**2
                tables += self.coding_tables(book, own)
            bits = np.stack([table.bits for table in tables]) + self.point_bits.astype(np.float32)
            rows = known.rows.copy()
            rows[unknown] = np.arange(len(bits)) + len(known.bits)
            least = np.concatenate([known.least, bits[:, 1:].min(1)])
            self._lengths = known = Lengths(rows, np.concatenate([known.bits, bits]), least)
        return known

    def _compute(self, book: int, pairs: Integers) -> Integers:
        score = np.zeros((len(pairs), self.codes), dtype=np.int64)
        for half, classes in enumerate(np.divmod(pairs, self.classes)):
            score += self.precision[book, half, classes][:, None] * self._square[book, :, half]
            score += self.slope[book, half, classes][:, None] * self._absolute[book, :, half]
        score = self.bias[book] - (score >> SHIFT)
        best = score.argmax(1)
        rows = np.arange(len(pairs))
        below = score[rows, best][:, None] - score
        weight = EXPONENTIAL[below & ((1 << SCORE_BITS) - 1)] >> np.minimum(below >> SCORE_BITS, 63)
        spare = TOTAL - score.shape[1]
        frequency: Integers = 1 + weight * spare // weight.sum(1, keepdims=True)
        frequency[rows, best] += TOTAL - frequency.sum(1)
        return frequency

    def _sides(self) -> tuple[Integers, Integers]:
        """|mu_h|^2 and |mu_h|_1 of both halves [B, K, 2], of the points nearest to zero."""
        magnitude = np.abs(self.codebook) - LATENT_UNIT // 2 * ((1 << self.extra[:, None]) - 1)
        halves = magnitude.clip(0).reshape(*self.bias.shape, 2, -1)
        return (halves * halves).sum(-1), halves.sum(-1)

    def most(self) -> float:
        """A bound of what is added up for a score; a float, for it may be beyond 64 bits."""
        most = np.abs(self.precision).max(2) * self._square.max(1).astype(float)
        most += np.abs(self.slope).max(2) * self._absolute.max(1).astype(float)
        return float(most.sum(1).max())


MAX_CLASSES = 64  # of each half
MAX_EXTRA = 8  # extra bits of a code for each of its two dimensions
LIMITS = {"codebook": (1 << 15) - 1, "bias": 1 << 24, "precision": 1 << 28, "slope": 1 << 28}  # largest magnitudes
_SCORE_LIMIT = 1 << 62  # of what is added up for a score


def load_mixtures(
    tensors: Mapping[str, NDArray[Any]], shape: tuple[int, int, int], prefix: str = "", *, shared: bool = False
) -> GroupMixtures:
    """Groups from a model's tensors codebook, bias, precision and slope, their names after `prefix`. shape: (G, K, L).

    shared: one codebook for all groups, with a tensor `extra` besides. Raises ModelError for tensors of other shapes,
    that are no integers, or so large that 64 bits might not hold, and KeyError for one that is missing.
    """
    groups, codes, dimensions = shape
    books = 1 if shared else groups
    precision = tensors[f"{prefix}precision"]
    classes = precision.shape[-1] if precision.ndim == 3 else 0
    if not 1 <= classes <= MAX_CLASSES:
        raise ModelError(f"wrong tensor {prefix + 'precision'!r} of groups: 1 to {MAX_CLASSES} classes expected")
    wanted = {
        "codebook": (books, codes, dimensions),
        "bias": (books, codes),
        "precision": (books, 2, classes),
        "slope": (books, 2, classes),
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
    extra = np.zeros(codes, dtype=np.int64)
    if shared:
        extra = _extra(tensors[f"{prefix}extra"], codes, dimensions, f"{prefix}extra")
    mixtures = GroupMixtures(values["codebook"], values["bias"], values["precision"], values["slope"], extra)
    if mixtures.most() >= _SCORE_LIMIT:
        raise ModelError(f"tensors {prefix}* of groups are so large that scores do not fit 64 bits")
    return mixtures


def _extra(tensor: NDArray[Any], codes: int, dimensions: int, title: str) -> Integers:
    """The extra bits of a codebook's codes, checked."""
    if tensor.dtype != np.int8 or tensor.shape != (codes,):
        raise ModelError(f"wrong tensor {title!r} of groups: int8 {[codes]} expected")
    most = MAX_EXTRA if dimensions == 2 else 0
    if tensor.min() < 0 or tensor.max() > most or tensor[0]:
        raise ModelError(f"tensor {title!r} of groups is out of range: 0 to {most}, and 0 of code 0")
    return tensor.astype(np.int64)
