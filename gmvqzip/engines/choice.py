"""The encoder's choice of codes: the mixture's MAP rule (eq. 16 with the prior) over all groups of a part at once.

    c = argmin w/2 ||r - mu_c||^2 - ln p(c | context)

Of a codebook of each group's own every code is looked at. Of a shared one of two dimensions only a few are: those next
to the residual, from a table by its rounded value, and code 0.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.blocks import Block
from gmvqzip.entropy.mixture import LATENT_UNIT, GroupMixtures

CANDIDATES = 10  # codes around a residual that are looked at, beside code 0
_REACH = 8  # cells on each side of zero: of a step, and of 2, 4, ... steps where they would be too many
_SIDE = 2 * _REACH + 1
_LEVELS = 8
_ROWS = 1 << 14  # residuals looked at together, whose candidates the processor's cache holds
_SCORES = 1 << 22  # of all codes for the residuals looked at together
_NAT = np.float32(math.log(2))  # of a bit
Floats = NDArray[np.float32]


class Candidates:
    """The codes of a shared codebook of two dimensions that lie next to a residual."""

    def __init__(self, mixtures: GroupMixtures) -> None:
        self.words = np.asfortranarray(mixtures.codebook[0].astype(np.float32) / LATENT_UNIT)  # [K, 2]
        self.reach = ((1 << mixtures.extra) - 1).astype(np.float32) / 2  # [K], from the codeword to the last points
        centres = np.arange(-_REACH, _REACH + 1, dtype=np.float32)
        cells = np.stack(np.meshgrid(centres, centres, indexing="ij"), -1).reshape(-1, 1, 2)
        tables = []
        for level in range(_LEVELS):
            apart = np.abs(cells * 2**level - self.words) - self.reach[:, None]
            distance = np.square(apart.clip(0)).sum(2)  # [cells, K]
            nearest = distance.argpartition(min(CANDIDATES, len(self.words)) - 1, 1)[:, :CANDIDATES]
            tables.append(np.concatenate([nearest, np.zeros((len(nearest), 1), nearest.dtype)], 1))
        self.table = np.concatenate(tables).astype(np.int32)  # [cells of all levels, C]

    def of(self, residual: Floats) -> NDArray[np.int32]:
        """Candidates [N, C] of residuals [N, 2], in steps."""
        largest = np.abs(residual).max(1)
        exponent = np.frexp(largest / (_REACH + 0.5))[1].clip(0, _LEVELS - 1)
        cells = np.rint(np.ldexp(residual, -exponent[:, None])).astype(np.int64).clip(-_REACH, _REACH) + _REACH
        found: NDArray[np.int32] = self.table[(exponent * _SIDE + cells[:, 0]) * _SIDE + cells[:, 1]]
        return found


def choose(
    target: Floats, block: Block, weights: Floats, candidates: Candidates | None
) -> tuple[NDArray[np.int32], Floats]:
    """The indices [G, ..., h, w] of a block by the MAP rule, and the bits of each.

    target: the latent there, in steps [G, ..., h, w, L]; weights: w of each group [G], or also of each site
    [G, ..., h, w]; candidates: of the codebook that the groups share, None to look at all codes.
    """
    residual = target - block.means.astype(np.float32) / np.float32(LATENT_UNIT)
    pairs = np.ascontiguousarray(block.pairs)
    weights = weights.reshape(*weights.shape, *(1,) * (pairs.ndim - weights.ndim))
    weight = np.broadcast_to(weights, pairs.shape).reshape(-1)
    indices, bits = np.zeros(pairs.shape, dtype=np.int32), np.zeros(pairs.shape, dtype=np.float32)
    flat, found, lengths = residual.reshape(-1, residual.shape[-1]), indices.reshape(-1), bits.reshape(-1)
    rows, mixtures = pairs.reshape(-1), block.mixtures
    live = np.flatnonzero(rows)  # of the others the index is 0
    groups = live // pairs[0].size
    most = _ROWS if candidates is not None else max(1, _SCORES // mixtures.codes)
    for start in range(0, len(live), most):
        at, group = live[start : start + most], groups[start : start + most]
        if candidates is not None:
            found[at], lengths[at] = _among(flat[at], rows[at], weight[at], mixtures, candidates)
        else:
            found[at], lengths[at] = _among_all(flat[at], rows[at], group, weight[at], mixtures)
    return indices, bits


def _among(
    residual: Floats, pairs: NDArray[Any], weights: Floats, mixtures: GroupMixtures, candidates: Candidates
) -> tuple[NDArray[np.int64], Floats]:
    """Indices [N] among the candidates of residuals [N, 2], and their bits."""
    known = mixtures.lengths(pairs)
    rows = known.rows[pairs]
    lengths = known.bits[rows, 0]  # of code 0, which no other code can beat where it costs less than the bits of these
    chosen = np.zeros(len(residual), dtype=np.int64)
    half = weights / 2
    zero = half * np.square(residual).sum(1) + lengths * _NAT
    at = np.flatnonzero(zero > known.least[rows] * _NAT)
    codes = candidates.of(residual[at])
    costs = known.bits.reshape(-1)[(rows[at] * np.int64(mixtures.codes))[:, None] + codes]
    score = np.zeros(codes.shape, dtype=np.float32)
    reach = candidates.reach[codes] if mixtures.wide else None
    for axis in range(2):
        apart = residual[at, axis, None] - candidates.words[:, axis][codes]
        if reach is not None:  # what is left at the nearest point of the code's square
            apart -= np.clip(np.rint(apart - reach) + reach, -reach, reach)
        score += np.square(apart, out=apart)
    score *= half[at, None]
    score += costs * _NAT
    best = score.argmin(1)[:, None]
    chosen[at] = np.take_along_axis(codes, best, 1)[:, 0]
    lengths[at] = np.take_along_axis(costs, best, 1)[:, 0]
    return _with_points(residual, chosen, mixtures, candidates), lengths


def _with_points(
    residual: Floats, codes: NDArray[np.int64], mixtures: GroupMixtures, candidates: Candidates
) -> NDArray[np.int64]:
    """Indices of codes [N]: with the number of the point that is nearest to the residual [N, 2]."""
    at = mixtures.extra[codes].nonzero()
    own = codes[at]
    extra, reach = mixtures.extra[own][:, None], candidates.reach[own][:, None]
    places = np.rint(residual[at] - candidates.words[own] + reach).clip(0, 2 * reach).astype(np.int64)
    codes[at] += mixtures.codes * (places[:, 0] << extra[:, 0] | places[:, 1])
    return codes


def _among_all(
    residual: Floats, pairs: NDArray[Any], groups: NDArray[Any], weights: Floats, mixtures: GroupMixtures
) -> tuple[NDArray[np.int64], Floats]:
    """Indices [N] among all codes of their group's codebook of residuals [N, L], and their bits. groups: [N], in
    order; weights: [N]."""
    books = np.zeros_like(groups) if mixtures.shared else groups
    keys = books * mixtures.classes**2 + pairs
    known = mixtures.lengths(keys)
    rows = known.rows[keys]
    words = mixtures.codebook.astype(np.float32) / LATENT_UNIT
    norms = np.square(words).sum(2)
    score = known.bits[rows]
    score *= _NAT
    ends = np.flatnonzero(np.diff(groups, append=-1)) + 1
    for start, end in pairwise([0, *ends.tolist()]):
        book, weight = books[start], weights[start:end, None]
        score[start:end] += weight / 2 * norms[book]
        score[start:end] -= weight * residual[start:end] @ words[book].T
    chosen = score.argmin(1)
    return chosen, known.bits[rows, chosen]
