"""FSQ: finite scalar quantisation (Mentzer et al. 2023, arXiv 2309.15505).

Each of L channels is bounded to Q_i levels and rounded, the gradient going straight through; there is no codebook to
learn, and no loss:

    f(z)_i = h_i tanh(z_i + s_i) - o_i,  h_i = (Q_i - 1)(1 - 1e-3) / 2,  o_i = 1/2 for even Q_i, else 0   (appendix A.1)
    z_q,i = round(f(z)_i) / floor(Q_i / 2)

with s_i = atanh(o_i / h_i), so that 0 stays 0; the appendix has tan, which is within 0.2 % of it. The code is the
mixed-radix number of the levels, the first channel running fastest; there are prod Q_i codes: [8, 5, 5, 5] is 1000, to
compare with 1024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gmvqzip.quantizers.base import UNIT_RAW, PlainForm, Quantizer, QuantizerSettings
from gmvqzip.quantizers.result import QuantizerResult, hard_result

_MARGIN = 1e-3  # the outermost levels are reached before tanh is saturated
# Table 1 of the paper where that is no more codes (it has 4375 for 4096), and small codebooks besides.
RECOMMENDED = {
    8: (8,), 16: (4, 4), 64: (8, 8), 256: (8, 6, 5), 1024: (8, 5, 5, 5), 4096: (8, 8, 8, 8),
    16384: (8, 8, 8, 6, 5), 65536: (8, 8, 8, 5, 5, 5),
}  # fmt: skip
_LEVELS_OF = {math.prod(levels): levels for levels in RECOMMENDED.values()}


@dataclass(frozen=True)
class FSQSettings(QuantizerSettings):
    """Settings of an FSQ."""

    method: ClassVar[str] = "fsq"

    levels: tuple[int, ...] = RECOMMENDED[1024]  # Q_i of each channel, 3 or more

    def check(self, codes: int, dimensions: int) -> None:
        """Raise ValueError where the levels do not make K codes of L dimensions."""
        levels = self.levels
        if not isinstance(levels, tuple) or any(type(count) is not int or count < 3 for count in levels):
            raise ValueError(f"levels must be whole numbers of 3 or more, not {levels!r}")
        if len(levels) != dimensions or math.prod(levels) != codes:
            raise ValueError(
                f"levels {', '.join(map(str, levels))} make {math.prod(levels)} codes of {len(levels)} dimensions, "
                f"not {codes} of {dimensions}"
            )

    def build(self, codes: int, dimensions: int) -> FSQ:
        """The quantiser. Raises ValueError as `check` does."""
        return FSQ(codes, dimensions, self)


class FSQ(Quantizer):
    """Quantiser with K = prod Q_i codes of L dimensions; proxies [N, L], no raw weights. See the module's docstring."""

    settings: FSQSettings
    levels: Tensor
    basis: Tensor

    def __init__(self, codes: int, dimensions: int, settings: FSQSettings | None = None) -> None:
        settings = settings or FSQSettings(_LEVELS_OF.get(codes, RECOMMENDED[1024]))
        super().__init__(codes, dimensions, settings)
        levels = torch.tensor(settings.levels)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("basis", torch.cumprod(levels, 0) // levels, persistent=False)
        self.register_buffer("codebook", (self._digits() - levels // 2) / (levels // 2), persistent=False)

    def _digits(self) -> Tensor:
        """The level [K, L], from 0, of each code in each channel."""
        codes = torch.arange(self.codes, device=self.levels.device)
        digits: Tensor = codes[:, None] // self.basis % self.levels
        return digits

    def bound(self, proxy: Tensor) -> Tensor:
        """f(z) [N, L]: channel i within half a level of -floor(Q_i / 2) .. floor((Q_i - 1) / 2)."""
        half, offset = self._shape(proxy.dtype)
        return half * torch.tanh(proxy + torch.atanh(offset / half)) - offset

    def _shape(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """h and o of each channel, [L]."""
        levels = self.levels.to(dtype)
        return (levels - 1) * (1 - _MARGIN) / 2, (1 - levels % 2) / 2

    def _quantise(self, proxy: Tensor, raw_weights: Tensor, temperature: float) -> QuantizerResult:
        bounded = self.bound(proxy)
        rounded = bounded.round()
        indices = self._index(rounded)
        words = self._lookup(indices)
        terms = {"distance": (((bounded - rounded) / (self.levels // 2)) ** 2).mean()}
        if self.training:
            passed = self.passing(proxy)
            words = passed + (words - passed).detach()
        return hard_result(words, indices, torch.zeros_like(words[0, 0]), terms, self.codes)

    def _assign(self, proxy: Tensor, raw_weights: Tensor) -> Tensor:
        return self._index(self.bound(proxy).round())

    def _index(self, rounded: Tensor) -> Tensor:
        return ((rounded.long() + self.levels // 2) * self.basis).sum(1)

    def passing(self, proxy: Tensor) -> Tensor:
        """f(z) in the units of the codewords, not rounded: [N, L] to [N, L]."""
        return self.bound(proxy) / (self.levels // 2)

    def thresholds(self, channel: int) -> Tensor:
        """The values [Q - 1] of z in a channel at which its level changes, ascending; float64."""
        half, offset = (part[channel] for part in self._shape(torch.float64))
        count = int(self.levels[channel])
        edges = torch.arange(count - 1, dtype=torch.float64) - count // 2 + 0.5
        return torch.atanh((edges + offset) / half) - torch.atanh(offset / half)

    def plain(self, head_weight: Tensor, head_bias: Tensor, project_weight: Tensor) -> PlainForm:
        """The grid with a prior that puts the borders of the cells where tanh has them.

        Along a channel the rule's logits are lines z p_l - a_l in z, p_l the levels; their upper envelope changes from
        l to l + 1 at t_l where a_(l+1) = a_l + t_l (p_(l+1) - p_l). So log pi is the sum over channels of p^2 / 2 - a.
        """
        prior = torch.zeros(self.codes, dtype=torch.float64)
        for channel in range(self.dimensions):
            count = int(self.levels[channel])
            values = (torch.arange(count, dtype=torch.float64) - count // 2) / (count // 2)
            steps = self.thresholds(channel).cpu() * values.diff()
            intercepts = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
            prior += (0.5 * values**2 - intercepts)[self._digits()[:, channel].cpu()]
        prior = (prior - prior.mean()).to(head_bias)
        weight = torch.cat([head_weight, torch.zeros_like(head_weight[:1])])
        bias = torch.cat([head_bias, torch.full_like(head_bias[:1], UNIT_RAW)])
        return PlainForm(self.codebook.to(head_bias), prior, weight, bias, project_weight, torch.ones_like(prior[0]))
