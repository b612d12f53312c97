"""GM-VQ of many small groups of dimensions, with mixture weights that depend on a context.

Each group g of L latent dimensions has its own codebook mu_g [K, L]; code 0 is the zero vector. A group's residual r is
quantised by the mixture's MAP rule (eq. 16 with the prior in the logits)

    c = argmax -w_g/2 ||r - mu_c||^2 + log p(c | t)

under weights that follow from context classes t = (t_1, t_2), one for each half of the dimensions:

    log p(c | t) = b_c - sum_h (P_h[t_h] ||mu_c,h||^2 / 2 + Q_h[t_h] |mu_c,h|_1) + constant

a zero-mean Gaussian (P, a precision) with exponential tails (Q), and a free weight b_c for each code. A class stands
for a scale of the residual; neighbours are 2^(1/CLASSES_PER_OCTAVE) apart. In training classes are real numbers with
uniform noise of one class, and P and Q are interpolated; in evaluation and in the codec they are integers, and where
both are 0 the code is 0 without a bit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gmvqzip.quantizers import ranks
from gmvqzip.quantizers.blocks import map_codes
from gmvqzip.quantizers.gmvq import kmeans

CLASSES = 14  # context classes of each half
CLASSES_PER_OCTAVE = 2
CLASS_OFFSET = 6  # class = CLASSES_PER_OCTAVE * log2(scale) + CLASS_OFFSET, limited to 0 .. CLASSES - 1
_TAIL_SPREADS = (1.5, 2.0, 3.0, 5.0, 8.0)  # integer points further out are looked for at residuals times these
_TAIL_POINTS = 8  # residuals for each of the outer codes that k-means needs
START_WEIGHT = 12.0  # w at the start: dD/dR of a uniform quantiser of unit step is -1/6 per nat, 2 / w


class GroupGMVQ(nn.Module):
    """G groups of L dimensions, an even number, and K codes each."""

    optimizer_group = "mixture"

    def __init__(self, groups: int, codes: int, dimensions: int) -> None:
        super().__init__()
        if dimensions % 2:
            raise ValueError(f"{dimensions} dimensions do not make two halves")
        self.groups, self.codes, self.dimensions, self.classes = groups, codes, dimensions, CLASSES
        self.codebook = nn.Parameter(torch.randn(groups, codes, dimensions))
        self.code_bias = nn.Parameter(torch.zeros(groups, codes))
        scale = 2 ** ((torch.arange(CLASSES) - CLASS_OFFSET) / CLASSES_PER_OCTAVE)
        self.log_precision = nn.Parameter((-(scale**2 + 1 / 12).log()).repeat(groups, 2, 1))
        self.slope = nn.Parameter(torch.zeros(groups, 2, CLASSES))
        self.register_buffer("weight", torch.full((groups,), START_WEIGHT))

    weight: Tensor

    def codewords(self) -> Tensor:
        """The codebooks [G, K, L], code 0 at zero."""
        return torch.cat([torch.zeros_like(self.codebook[:, :1]), self.codebook[:, 1:]], 1)

    def log_prior(self, classes: Tensor) -> Tensor:
        """log p(c | t) [G, N, K] for real classes [G, N, 2]."""
        return (self._features(classes) @ self._sides(self.codewords()).transpose(1, 2)).log_softmax(2)

    def _features(self, classes: Tensor) -> Tensor:
        """What the classes say [G, N, 5], whose product with `_sides` is log p(c | t) but for a constant."""
        places = torch.arange(CLASSES, device=classes.device)
        hats = (1 - (classes.transpose(1, 2)[..., None] - places).abs()).clamp_min(0)  # [G, 2, N, T]
        values = hats @ torch.stack([self.log_precision.exp(), self.slope], 3)  # [G, 2, N, 2], precision and slope
        both = values.transpose(1, 2).transpose(2, 3).flatten(2)  # [G, N, 4], precisions first
        return torch.cat([both, torch.ones_like(both[..., :1])], 2)

    def _sides(self, words: Tensor) -> Tensor:
        """[G, K, 5] of codewords [G, K, L]."""
        halves = words.reshape(self.groups, self.codes, 2, -1)  # [G, K, 2, L/2]
        return torch.cat([-0.5 * halves.square().sum(3), -halves.abs().sum(3), self.code_bias[..., None]], 2)

    def prepared(self) -> None:
        """Nothing that could be computed before residuals are known; see `SharedGMVQ`."""

    def forward(self, residual: Tensor, scale: Tensor, prepared: None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise residuals [G, N, L] under log2 scales [G, N, 2].

        Returns the codewords [G, N, L], bits [G, N] under the prior, and indices [G, N]. Codewords carry gradient to
        the codebook, bits to the prior, its classes and the codebook; none of them reaches the residual.
        """
        classes = CLASSES_PER_OCTAVE * scale + CLASS_OFFSET
        if self.training:
            classes = classes + ranks.rand(classes.shape, classes, axis=1) - 0.5
        classes = classes.clamp(0, CLASSES - 1) if self.training else classes.round().clamp(0, CLASSES - 1)
        words = self.codewords()
        # -w/2 ||r - mu_c||^2 but for a constant: [r, 1] . w [mu_c, -||mu_c||^2 / 2].
        pull = torch.cat([residual, torch.ones_like(residual[..., :1])], 2)
        targets = self.weight[:, None, None] * torch.cat([words, -0.5 * words.square().sum(2, keepdim=True)], 2)
        nats, indices = map_codes(self._features(classes), self._sides(words), pull, targets)
        bits = nats / math.log(2)
        if not self.training:  # where both classes are the lowest, the codec sends nothing and code 0 is implied
            implied = (classes == 0).all(2)
            indices, bits = indices.masked_fill(implied, 0), bits.masked_fill(implied, 0)
        chosen = words.gather(1, indices[..., None].expand(-1, -1, self.dimensions))
        return chosen, bits, indices

    @torch.no_grad()
    def initialise(self, residuals: Tensor, iterations: int = 8) -> None:
        """Start on residuals [G, N, L]: three quarters of the codes on the most frequent integer points, the rest by
        k-means on what lies elsewhere. So the codec starts where scalar rounding left it; biases are the logarithm of
        a code's cell.
        """
        for group in range(self.groups):
            points = residuals[group]
            rounded, place, counts = torch.unique(points.round(), dim=0, return_inverse=True, return_counts=True)
            kept = counts.argsort(descending=True)[: 3 * self.codes // 4]
            common = rounded[kept]
            zero = (common == 0).all(1)
            common = torch.cat([torch.zeros_like(points[:1]), common[~zero]])
            tail = _tail(points[~torch.isin(place, kept)], points, common, self.codes - len(common), iterations)
            gaps = torch.cdist(tail, torch.cat([common, tail]))
            gaps[:, len(common) :].fill_diagonal_(math.inf)
            self.codebook[group] = torch.cat([common, tail])
            self.code_bias[group, : len(common)] = 0
            self.code_bias[group, len(common) :] = self.dimensions * gaps.amin(1).clamp(0.05, 20).log()


def _tail(outer: Tensor, points: Tensor, common: Tensor, count: int, iterations: int) -> Tensor:
    """`count` outer codes [count, L]: k-means on residuals outside of `common`, or integer points around it."""
    if not count:  # a tiny codebook, and zero was not among its common points
        return points[:0]
    if len(outer) >= _TAIL_POINTS * count:
        return kmeans(outer, count, iterations)
    found = common
    for spread in _TAIL_SPREADS:
        found = torch.cat([found, (spread * points + torch.rand_like(points) - 0.5).round()])
    rounded, first = torch.unique(found, dim=0, return_inverse=True)
    order = torch.full((len(rounded),), len(found), device=points.device)
    order.scatter_reduce_(0, first, torch.arange(len(found), device=points.device), "amin")
    fresh = rounded[order.argsort()][len(common) :]  # nearest first
    if len(fresh) < count:
        rest = torch.randn(count - len(fresh), points.shape[1], device=points.device)
        fresh = torch.cat([fresh, rest * (4 + found.abs().amax())])
    tail: Tensor = fresh[:count]
    return tail
