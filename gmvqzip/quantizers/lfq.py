"""LFQ: look-up-free quantisation, of MAGVIT-v2.

Yu et al. 2023, "Language model beats diffusion: tokenizer is key to visual generation", arXiv 2310.05737, sec. 3.1.

Each of L = log2 K channels is quantised to its sign, the gradient going straight through; the code is the binary number
of the signs, and there is no codebook to learn:

    q(z)_i = sign(z_i) = 1 for z_i > 0, else -1,    index = sum_i 2^i [z_i > 0]

The loss makes single choices sure and all of them together varied, and holds z at the signs:

    entropy (E H(q(c | z)) - H(E q(c | z))) + commitment ||z - sg q(z)||^2

with q(c | z) = softmax_c(-||z - c||^2 / tau), the independent q(c_i = 1 | z_i) = 1 / (1 + exp(-4 z_i / tau)); the first
term is a sum over channels, the second is of all K codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gmvqzip.quantizers import ranks
from gmvqzip.quantizers.base import PlainForm, Quantizer, QuantizerSettings, nearest_form
from gmvqzip.quantizers.blocks import row_blocks
from gmvqzip.quantizers.result import QuantizerResult, entropy, hard_result


@dataclass(frozen=True)
class LFQSettings(QuantizerSettings):
    """Settings of an LFQ."""

    method: ClassVar[str] = "lfq"
    positive: ClassVar[tuple[str, ...]] = ("tau",)

    entropy: float = 0.1  # weight of the entropies, in nats a site
    commitment: float = 0.25  # weight of the squared distance, mean over sites and dimensions
    tau: float = 1.0

    def check(self, codes: int, dimensions: int) -> None:
        """Raise ValueError where K is not 2^L."""
        if codes != 2**dimensions:
            raise ValueError(f"dimensions must be log2 of the codes: {dimensions} make {2**dimensions}, not {codes}")

    def build(self, codes: int, dimensions: int) -> LFQ:
        """The quantiser. Raises ValueError as `check` does."""
        return LFQ(codes, dimensions, self)


class LFQ(Quantizer):
    """Quantiser with K = 2^L codes of L dimensions; proxies [N, L], no raw weights. See the module's docstring."""

    settings: LFQSettings

    def __init__(self, codes: int, dimensions: int, settings: LFQSettings | None = None) -> None:
        settings = settings or LFQSettings()
        super().__init__(codes, dimensions, settings)
        bits = torch.arange(codes)[:, None] >> torch.arange(dimensions) & 1
        self.register_buffer("codebook", 2.0 * bits - 1, persistent=False)

    def _quantise(self, proxy: Tensor, raw_weights: Tensor, temperature: float) -> QuantizerResult:
        indices = self._assign(proxy, raw_weights)
        words = self._lookup(indices)
        terms = {"distance": ((proxy - words) ** 2).mean()}
        if not self.training:
            return hard_result(words, indices, torch.zeros_like(words[0, 0]), terms, self.codes)
        logits = 4 * proxy / self.settings.tau  # [N, L], of +1 against -1
        single = F.binary_cross_entropy_with_logits(logits, logits.sigmoid(), reduction="none").sum(1).mean()
        sums = [
            (
                F.logsigmoid(logits[part]) @ (self.codebook.t() > 0).to(proxy.dtype)
                + F.logsigmoid(-logits[part]) @ (self.codebook.t() < 0).to(proxy.dtype)
            )
            .exp()
            .sum(0)
            for part in row_blocks(len(proxy), self.codes, proxy.device)
        ]
        terms["aggregated_entropy"] = entropy(ranks.mean(torch.stack(sums).sum(0) / len(proxy)))
        loss = self.settings.entropy * (single - terms["aggregated_entropy"])
        loss = loss + self.settings.commitment * terms["distance"]
        return hard_result(proxy + (words - proxy).detach(), indices, loss, terms, self.codes)

    def _assign(self, proxy: Tensor, raw_weights: Tensor) -> Tensor:
        return ((proxy > 0) << torch.arange(self.dimensions, device=proxy.device)).sum(1)

    def plain(self, head_weight: Tensor, head_bias: Tensor, project_weight: Tensor) -> PlainForm:
        """The nearest corner of the cube."""
        return nearest_form(self.codebook.to(head_bias), head_weight, head_bias, project_weight)
