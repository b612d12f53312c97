"""GM-VQ of pairs of dimensions with one codebook for all groups, which reaches from a fraction of a step to hundreds.

The mixture is that of `groups`: weights that depend on two context classes, code 0 at zero, the MAP rule. What differs:

- Its codes are the leaves of a quadtree over the plane, single points around zero and squares of 2 x 2, 4 x 4, ...
  points further out, so that a side is a like part of the distance from zero everywhere. A code of a square has *extra
  bits*, which tell the point; they are all equally likely. In the weights its point nearest to zero, in each dimension,
  takes the place of the codeword.
- Only codes next to a residual are candidates of the choice, from a table by the rounded residual.
- Bits are the mean over the rounding of a class with uniform noise of one class, which is the bilinear interpolation of
  those under the four class pairs around. So their gradient reaches the predicted scale.
"""

from __future__ import annotations

import heapq
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmvqzip.quantizers.groups import CLASS_OFFSET, CLASSES_PER_OCTAVE, START_WEIGHT

CLASSES = 20  # context classes of each half: deviations of 1/8 to 90 steps
_EXTENT = 11  # log2 of the points along a side of the plane
MAX_EXTRA = 8
LEAST_CODES = 100
CANDIDATES = 9  # codes around a residual, beside code 0
_REACH = 6  # cells on each side of zero: of a step, and of 2, 4, ... steps where they would be too many
_SIDE = 2 * _REACH + 1
_LEVELS = 9


class SharedGMVQ(nn.Module):
    """K codes of L = 2 dimensions for G groups."""

    optimizer_group = "mixture"

    weight: Tensor
    extra: Tensor

    def __init__(self, groups: int, codes: int, dimensions: int = 2) -> None:
        super().__init__()
        if dimensions != 2:
            raise ValueError(f"a shared codebook has 2 dimensions, not {dimensions}")
        self.groups, self.codes, self.dimensions, self.classes = groups, codes, dimensions, CLASSES
        words, extra = quadtree(codes)
        self.codebook = nn.Parameter(words[None])
        self.register_buffer("extra", extra)  # [K], extra bits for each dimension
        self.code_bias = nn.Parameter(2 * math.log(2) * extra[None].float())  # of a flat density
        scale = 2 ** ((torch.arange(CLASSES) - CLASS_OFFSET) / CLASSES_PER_OCTAVE)
        self.log_precision = nn.Parameter((-(scale**2 + 1 / 12).log()).repeat(1, 2, 1))
        self.slope = nn.Parameter(torch.zeros(1, 2, CLASSES))
        self.register_buffer("weight", torch.full((groups,), START_WEIGHT))

    def codewords(self) -> Tensor:
        """The codebook [1, K, 2], code 0 at zero."""
        return torch.cat([torch.zeros_like(self.codebook[:, :1]), self.codebook[:, 1:]], 1)

    def prepared(self) -> Prepared:
        """What the choice needs of the parameters as they are."""
        words = self.codewords()[0]
        reach = ((1 << self.extra) - 1).to(words.dtype) / 2
        nearest = (words.abs() - reach[:, None]).clamp_min(0).T[:, None]  # the point of a square nearest to zero
        halves = -0.5 * self.log_precision.exp()[0, :, :, None] * nearest.square()
        halves = halves - self.slope[0, :, :, None] * nearest  # [2, T, K]
        prior = (self.code_bias[0] + halves[0][:, None] + halves[1]).log_softmax(2)
        with torch.no_grad():
            candidates = _candidates(words, reach)
        return Prepared(words, reach, prior, candidates)

    def forward(
        self, residual: Tensor, scale: Tensor, prepared: Prepared | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise residuals [G, N, 2] under log2 scales [G, N, 2].

        Returns the points [G, N, 2], bits [G, N] under the prior, and indices [G, N]. Points carry gradient to the
        codebook, bits to the prior, its classes and the codebook; none of them reaches the residual. prepared: of the
        parameters as they are, where it is known.
        """
        prepared = prepared or self.prepared()
        flat = residual.detach().reshape(-1, 2)
        classes = (CLASSES_PER_OCTAVE * scale + CLASS_OFFSET).clamp(0, CLASSES - 1).reshape(-1, 2)
        weights = self.weight.repeat_interleave(residual.shape[1])
        with torch.no_grad():
            rounded = classes.round().long()
            codes, offset = self._choose(flat, rounded, weights, prepared)
            implied = (rounded == 0).all(1) if not self.training else None
            if implied is not None:  # where both classes are the lowest, the codec sends nothing and code 0 is implied
                codes, offset = codes.masked_fill(implied, 0), offset.masked_fill(implied[:, None], 0)
        if self.training:
            bits = -self._between(prepared.prior, classes, codes)
        else:
            bits = -prepared.prior[rounded[:, 0], rounded[:, 1], codes]
        bits = bits / math.log(2) + 2 * self.extra[codes]
        if implied is not None:
            bits = bits.masked_fill(implied, 0)
        points = F.embedding(codes, prepared.words) + offset
        reach = prepared.reach[codes][:, None]
        places = (offset + reach).round().long()
        indices = codes + self.codes * ((places[:, 0] << self.extra[codes]) + places[:, 1])
        return points.reshape(residual.shape), bits.reshape(residual.shape[:2]), indices.reshape(residual.shape[:2])

    def _choose(self, residual: Tensor, classes: Tensor, weights: Tensor, prepared: Prepared) -> tuple[Tensor, Tensor]:
        """MAP codes [N] of residuals [N, 2], and from the codeword to the point nearest to each [N, 2]."""
        candidates = prepared.candidates[_cells(residual)]  # [N, C]
        rows = (classes[:, 0] * CLASSES + classes[:, 1]) * self.codes
        score = prepared.prior.flatten()[rows[:, None] + candidates]
        score -= 2 * math.log(2) * self.extra[candidates]
        apart = residual[:, None] - prepared.words[candidates]
        reach = prepared.reach[candidates][..., None]
        offset = torch.minimum(torch.maximum((apart + reach).round() - reach, -reach), reach)
        score -= (weights[:, None] / 2) * (apart - offset).square().sum(2)
        best = score.argmax(1, keepdim=True)
        codes = candidates.gather(1, best)[:, 0]
        return codes, offset.gather(1, best[..., None].expand(-1, -1, 2))[:, 0]

    def _between(self, prior: Tensor, classes: Tensor, codes: Tensor) -> Tensor:
        """log p [N] of codes [N] under real classes [N, 2]: bilinear between class pairs."""
        low = classes.detach().floor().clamp_max(CLASSES - 2)
        part = classes - low
        first = (low[:, 0] * CLASSES + low[:, 1]).long() * self.codes + codes
        steps = torch.tensor([0, 1, CLASSES, CLASSES + 1], device=codes.device) * self.codes
        corners = F.embedding(first[:, None] + steps, prior.reshape(-1, 1))[..., 0]  # [N, 4]
        sides = torch.stack([1 - part, part], 2)  # [N, 2, 2]
        shares = (sides[:, 0, :, None] * sides[:, 1, None, :]).flatten(1)
        return (shares * corners).sum(1)

    @torch.no_grad()
    def initialise(self, residuals: Tensor) -> None:
        """Nothing: the codebook starts as the quadtree, which suits residuals [G, N, 2] of any scale."""


class Prepared:
    """Parameters in the form in which they are looked up.

    words: [K, 2]; reach: [K], steps from a codeword to the last points of its square; prior: log p [T, T, K];
    candidates: [cells, C].
    """

    def __init__(self, words: Tensor, reach: Tensor, prior: Tensor, candidates: Tensor) -> None:
        self.words, self.reach, self.prior, self.candidates = words, reach, prior, candidates


def quadtree(codes: int) -> tuple[Tensor, Tensor]:
    """Centres [K, 2] of the leaves of a quadtree of the plane's points, nearest to zero first, and log2 of their sides.

    Points are one step apart, from -1024 to 1023. The leaf of the largest side for its distance from zero is the next
    to be split.
    """
    if codes < LEAST_CODES or codes % 3 != 1:
        raise ValueError(f"a shared codebook has 1 + 3n codes, at least {LEAST_CODES}, not {codes}")
    half = 1 << (_EXTENT - 1)
    leaves = [(0.0, _EXTENT, -half, -half)]  # negative side over distance, log2 of the side, first point
    while len(leaves) < codes:
        _, size, row, column = heapq.heappop(leaves)
        side = 1 << (size - 1)
        for first in (row, row + side):
            for second in (column, column + side):
                middle = (side - 1) / 2
                distance = math.hypot(first + middle, second + middle)
                order = (-side / distance if size - 1 <= MAX_EXTRA else -math.inf) if side > 1 else 0.0
                heapq.heappush(leaves, (order, size - 1, first, second))
    found = sorted(
        (math.hypot(row + ((1 << size) - 1) / 2, column + ((1 << size) - 1) / 2), size, row, column)
        for _, size, row, column in leaves
    )
    sizes = torch.tensor([size for _, size, _, _ in found])
    corners = torch.tensor([[row, column] for _, _, row, column in found], dtype=torch.float32)
    return corners + ((1 << sizes[:, None]) - 1) / 2, sizes


def _cells(residual: Tensor) -> Tensor:
    """The cell [N] of each residual [N, 2] in the table of candidates."""
    exponent = torch.frexp(residual.abs().amax(1) / (_REACH + 0.5))[1].clamp(0, _LEVELS - 1)
    places = torch.ldexp(residual, -exponent[:, None]).round().clamp(-_REACH, _REACH).long() + _REACH
    return (exponent.long() * _SIDE + places[:, 0]) * _SIDE + places[:, 1]


def _candidates(words: Tensor, reach: Tensor) -> Tensor:
    """The codes [cells, C] whose squares lie nearest to each cell's centre, and code 0."""
    centres = torch.arange(-_REACH, _REACH + 1, device=words.device, dtype=words.dtype)
    cells = torch.cartesian_prod(centres, centres)
    scales = 2.0 ** torch.arange(_LEVELS, device=words.device)
    cells = (scales[:, None, None] * cells).flatten(0, 1)
    apart = ((cells[:, None] - words).abs() - reach[:, None]).clamp_min(0)
    nearest = apart.square().sum(2).topk(min(CANDIDATES, len(words)), largest=False, sorted=False).indices
    return torch.cat([nearest, torch.zeros_like(nearest[:, :1])], 1)
