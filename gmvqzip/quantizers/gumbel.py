"""Gumbel-VQVAE: logits straight from the encoder (Jang et al. 2017, arXiv 1611.01144; the dVAE of Ramesh et al. 2021,
arXiv 2102.12092, sec. 2.1).

A 1x1 convolution gives the K logits of each site; no distance is involved:

    q(c | x) = softmax(l),    z_q = y E,  y = softmax((l + g) / tau)                                   (Jang, eq. 1, 2)
    loss = kl * mean over sites of sum_c q ln(q K)                               (the KL to a uniform prior of the ELBO)

Evaluation takes the argmax, without noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gmvqzip.quantizers.base import UNIT_RAW, PlainForm, Quantizer, QuantizerSettings
from gmvqzip.quantizers.blocks import row_blocks
from gmvqzip.quantizers.result import QuantizerResult, soft_result
from gmvqzip.quantizers.soft import Sample, noise_places, soft_codes

_ZERO_RAW = -60.0  # the raw weight of a dimension that has no say: its softplus is 1e-26


@dataclass(frozen=True)
class GumbelSettings(QuantizerSettings):
    """Settings of a Gumbel-VQVAE."""

    method: ClassVar[str] = "gumbel"
    fractions: ClassVar[tuple[str, ...]] = ("kl_ramp",)

    kl: float = 5e-4  # weight of the KL, in nats a site
    kl_ramp: float = 0.1  # fraction of a run over which that weight rises from 0

    def widths(self, codes: int, dimensions: int, weights: int) -> tuple[int, int]:
        """The head gives the K logits in the place of a proxy."""
        return codes, 0

    def build(self, codes: int, dimensions: int) -> GumbelVQ:
        """The quantiser."""
        return GumbelVQ(codes, dimensions, self)


class GumbelVQ(Quantizer):
    """Quantiser with K codes of L dimensions; the "proxies" are logits [N, K]. See the module's docstring."""

    settings: GumbelSettings

    def __init__(self, codes: int, dimensions: int, settings: GumbelSettings | None = None) -> None:
        super().__init__(codes, dimensions, settings or GumbelSettings())
        self.codebook = nn.Parameter(torch.randn(codes, dimensions))

    def _quantise(self, proxy: Tensor, raw_weights: Tensor, temperature: float) -> QuantizerResult:
        if self.training:
            sample = Sample(self.codebook, temperature, noise_places(len(proxy), proxy))
            found = soft_codes(proxy, None, sample=sample, fast=self.fast)
            words, indices, posterior, negentropy = found.mixed, found.indices, found.posterior, found.negentropy
        else:
            blocks = [self._evaluated(proxy[part]) for part in row_blocks(len(proxy), self.codes, proxy.device)]
            codes, *parts = zip(*blocks, strict=True)
            indices = torch.cat(codes)
            words = self._lookup(indices)
            posterior, negentropy = (torch.stack(part).sum(0) for part in parts)
        information = negentropy / len(proxy)
        divergence = information + math.log(self.codes)
        terms = {"divergence": divergence, "conditional_entropy": -information.detach()}
        return soft_result(words, indices, self.settings.kl * divergence, terms, posterior / len(proxy))

    def _evaluated(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of one block of sites: indices, and the sums over sites of q(c | x) [K] and of sum_c q ln q."""
        log_posterior = logits.log_softmax(1)
        posterior = log_posterior.exp()
        return logits.argmax(1), posterior.sum(0), (posterior * log_posterior).sum()

    def _assign(self, proxy: Tensor, raw_weights: Tensor) -> Tensor:
        return proxy.argmax(1)

    def passing(self, proxy: Tensor) -> Tensor:
        """The mean codeword under q(c | x): logits [N, K] to [N, L]."""
        with torch.autocast(proxy.device.type, enabled=False):
            return proxy.softmax(1) @ self.codebook

    def plain(self, head_weight: Tensor, head_bias: Tensor, project_weight: Tensor) -> PlainForm:
        """The logits l_c = W_c h + b_c of hidden features h [N, C], as a mixture in C + L dimensions.

        With mu_c = [W_c, e_c], z_hat = [h, 0], w = [1, 0] and log pi_c = b_c + ||W_c||^2 / 2, the rule's logits are
        -||h - W_c||^2 / 2 + log pi_c = l_c but for a term that is the same for all codes; the decoder reads the last L.
        """
        hidden, words = head_weight.shape[1], self.codebook.detach()
        size = hidden + self.dimensions
        weight, bias = head_weight.new_zeros(2 * size, hidden), head_bias.new_zeros(2 * size)
        weight[:hidden] = torch.eye(hidden, dtype=weight.dtype, device=weight.device)
        bias[size : size + hidden] = UNIT_RAW
        bias[size + hidden :] = _ZERO_RAW
        prior = head_bias + 0.5 * (head_weight * head_weight).sum(1)
        codebook = torch.cat([head_weight, words], 1)
        project = torch.cat([project_weight.new_zeros(len(project_weight), hidden), project_weight], 1)
        return PlainForm(codebook, prior - prior.mean(), weight, bias, project, torch.ones_like(prior[0]))
