"""Masked VQ with Multiple Hypothesis Dropout (Nguyen et al. 2023, arXiv 2301.06626; 2312.11735).

A code mu_c is refined by a small network with n hidden units behind a gate: a mask m, one of the 2^n - 1 non-zero
binary patterns, lets some of them through, and each mask is a hypothesis

    h(c, m) = mu_c + V (m * gelu(U mu_c + b))

A unit is `width` neurons, so that what it adds differs between codes. Nothing is rescaled by 1 / (1 - p). In training
the code is the nearest one, and a random subset of the masks competes: the winner takes all,

    loss = a (||sg z - mu_c||^2 + min_m ||sg z - h(sg mu_c, m)||^2) + b ||z - sg h(c, m)||^2

means over sites and dimensions. The token is the pair (c, m): there are K of them, K / (2^n - 1) codes, and the index
c (2^n - 1) + m is what is sent, so the bits of the mask are counted. A decoder needs the table h [K, L] alone; in
evaluation the token is the nearest of all its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmvqzip.quantizers.base import PlainForm, Quantizer, QuantizerSettings, nearest, nearest_form
from gmvqzip.quantizers.gmvq import kmeans
from gmvqzip.quantizers.result import QuantizerResult, hard_result


@dataclass(frozen=True)
class MVQSettings(QuantizerSettings):
    """Settings of a masked VQ."""

    method: ClassVar[str] = "mvq"
    positive: ClassVar[tuple[str, ...]] = ("units", "width", "share")
    fractions: ClassVar[tuple[str, ...]] = ("share",)

    units: int = 4  # n, hidden units behind the gate
    width: int = 16  # neurons in a unit
    share: float = 0.6  # of the masks that compete in a training step, drawn without replacement
    codebook: float = 1.0  # a
    commitment: float = 0.25  # b
    kmeans: bool = True  # start of the codes by k-means on proxies

    @property
    def masks(self) -> int:
        """How many masks there are, 2^n - 1."""
        return int(2**self.units - 1)

    def check(self, codes: int, dimensions: int) -> None:
        """Raise ValueError where the tokens are not a whole number of codes for each mask."""
        if codes % self.masks:
            raise ValueError(f"units {self.units} make {self.masks} masks, and {codes} codes are no multiple of that")

    def build(self, codes: int, dimensions: int) -> MVQ:
        """The quantiser. Raises ValueError as `check` does."""
        return MVQ(codes, dimensions, self)


class MVQ(Quantizer):
    """Quantiser with K tokens of L dimensions; proxies [N, L], no raw weights. See the module's docstring."""

    settings: MVQSettings
    masks: Tensor

    def __init__(self, codes: int, dimensions: int, settings: MVQSettings | None = None) -> None:
        settings = settings or MVQSettings()
        super().__init__(codes, dimensions, settings)
        hidden = settings.units * settings.width
        self.codebook = nn.Parameter(torch.randn(codes // settings.masks, dimensions) / dimensions**0.5)
        self.inner = nn.Linear(dimensions, hidden)
        self.outer = nn.Linear(hidden, dimensions, bias=False)
        patterns = torch.arange(1, settings.masks + 1)[:, None] >> torch.arange(settings.units) & 1  # [masks, n]
        self.register_buffer("masks", patterns.repeat_interleave(settings.width, 1).float(), persistent=False)

    def hypotheses(self, words: Tensor) -> Tensor:
        """h(c, m) of codes [R, L] under all masks, [R, masks, L]."""
        gated = F.gelu(self.inner(words))[:, None] * self.masks.to(words.dtype)
        refined: Tensor = words[:, None] + self.outer(gated)
        return refined

    def codewords(self) -> Tensor:
        """The table [K, L] of all tokens, masks running fastest."""
        return self.hypotheses(self.codebook).flatten(0, 1)

    @property
    def wants_proxies(self) -> bool:
        """Whether there is a k-means start."""
        return self.settings.kmeans

    def _quantise(self, proxy: Tensor, raw_weights: Tensor, temperature: float) -> QuantizerResult:
        settings = self.settings
        if not self.training:
            indices = self._assign(proxy, raw_weights)
            words = self._lookup(indices)
            terms = {"distance": ((proxy - words) ** 2).mean()}
            return hard_result(words, indices, torch.zeros_like(words[0, 0]), terms, self.codes)
        codes = nearest(proxy, self.codebook)
        subset = torch.randperm(len(self.masks), device=proxy.device)[: max(1, round(settings.share * len(self.masks)))]
        hypotheses = self.hypotheses(self.codebook.detach())  # [codes, masks, L]
        indices = codes * len(self.masks) + winners(proxy, hypotheses.detach()[:, subset][codes], subset)
        words = F.embedding(indices, hypotheses.flatten(0, 1))
        target = proxy.detach()
        terms = {
            "distance": ((proxy - words.detach()) ** 2).mean(),
            "code_distance": ((target - F.embedding(codes, self.codebook)) ** 2).mean(),
            "winner_distance": ((target - words) ** 2).mean(),
        }
        loss = settings.codebook * (terms["code_distance"] + terms["winner_distance"])
        quantised = proxy + (words - proxy).detach()
        return hard_result(quantised, indices, loss + settings.commitment * terms["distance"], terms, self.codes)

    def _assign(self, proxy: Tensor, raw_weights: Tensor) -> Tensor:
        return nearest(proxy, self.codewords())

    def plain(self, head_weight: Tensor, head_bias: Tensor, project_weight: Tensor) -> PlainForm:
        """The nearest row of the table."""
        return nearest_form(self.codewords().detach(), head_weight, head_bias, project_weight)

    def _initialise(self, proxies: Tensor, sharpness: float) -> None:
        """k-means start of the codes on proxies [N, L]; hypotheses then lie as far from them as the proxies do."""
        proxies = proxies.to(self.codebook.dtype)
        self.codebook.copy_(kmeans(proxies, len(self.codebook)))
        error = (proxies - self.codebook[nearest(proxies, self.codebook)]).square().mean().sqrt()
        offset = (self.hypotheses(self.codebook) - self.codebook[:, None]).square().mean().sqrt()
        self.outer.weight.mul_(error / offset.clamp_min(1e-12))


@torch.no_grad()
def winners(points: Tensor, hypotheses: Tensor, masks: Tensor) -> Tensor:
    """The masks [N] whose hypotheses [N, S, L] lie nearest to the points [N, L]. masks: [S], the number of each."""
    return masks[((points[:, None] - hypotheses) ** 2).sum(2).argmin(1)]
