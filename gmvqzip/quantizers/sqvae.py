"""SQ-VAE: stochastic quantisation that sharpens itself (Takida et al. 2022, arXiv 2205.07547, Gaussian SQ-VAE).

Codes e_k [K, L] and a learned variance give the posterior of a dequantised code

    q(k | z) = softmax_k(-||z - e_k||^2 / (2 s^2))                                                       (sec. 3.1)

from which training samples a relaxed one-hot y by Gumbel-softmax, z_q = y E; evaluation takes the argmax, which is the
nearest code. With the mixture's decoder variance at its optimum the loss of an image with D pixel values is

    D/2 ln(SSE) + sum over sites of [sum_k q ln q + ||z - z_q||^2 / (2 s^2)]                                  (sec. 3.2)

The first term belongs to the training (`reconstruction = "log"`), the second is the loss here, a mean over sites times
`weight`. The variance is s^2 = exp(phi) + 1, phi a scalar, (I of the paper's table) or exp(phi) + exp(r(x)) with a
value r for each site (III). One for each image (II) would need a head that sees the whole image, one for each element
(IV) has no plain form. A k-means start on proxies is not the paper's. Proxies are then at the network's scale, far
below 1: s^2 is exp(phi), or exp(phi) (1 + exp(r(x))), and exp(phi) begins as `start_variance` times the mean squared
error of k-means in a dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gmvqzip.quantizers.base import PlainForm, Quantizer, QuantizerSettings, nearest, nearest_form
from gmvqzip.quantizers.blocks import row_blocks
from gmvqzip.quantizers.gmvq import kmeans
from gmvqzip.quantizers.result import QuantizerResult, soft_result
from gmvqzip.quantizers.soft import Sample, noise_places, soft_codes

VARIANCES = ("shared", "site")


@dataclass(frozen=True)
class SQVAESettings(QuantizerSettings):
    """Settings of an SQ-VAE."""

    method: ClassVar[str] = "sqvae"
    positive: ClassVar[tuple[str, ...]] = ("weight", "start_variance")

    variance: str = "shared"  # "shared": exp(phi) + 1; "site": exp(phi) + exp(r(x)), r from the head
    start_variance: float = 20.0  # exp(phi) at the start; with k-means in units of its error
    weight: float = 1.0  # of both terms; 1 / (pixel values a site) where the reconstruction term is 1/2 ln(MSE)
    kmeans: bool = False  # start of the codebook by k-means on proxies; the paper's is normal

    def widths(self, codes: int, dimensions: int, weights: int) -> tuple[int, int]:
        """Proxy, and r(x) where each site has its own variance."""
        return dimensions, int(self.variance == "site")

    def check(self, codes: int, dimensions: int) -> None:
        """Raise ValueError for an unknown variance."""
        if self.variance not in VARIANCES:
            raise ValueError(f"variance must be one of {', '.join(VARIANCES)}, not {self.variance!r}")

    def build(self, codes: int, dimensions: int) -> SQVAE:
        """The quantiser. Raises ValueError as `check` does."""
        return SQVAE(codes, dimensions, self)


class SQVAE(Quantizer):
    """Quantiser with K codes of L dimensions; proxies [N, L], raw weights r [N, 0 or 1]. See the module's docstring."""

    settings: SQVAESettings

    def __init__(self, codes: int, dimensions: int, settings: SQVAESettings | None = None) -> None:
        settings = settings or SQVAESettings()
        super().__init__(codes, dimensions, settings)
        self.codebook = nn.Parameter(torch.randn(codes, dimensions))
        self.log_variance = nn.Parameter(torch.tensor(math.log(settings.start_variance)))  # phi

    def precision(self, raw_weights: Tensor) -> Tensor:
        """1 / (2 s^2), [N, 1] or [1, 1]. raw_weights: r [N, 0 or 1]."""
        shared = self.log_variance.exp()[None, None]
        if self.settings.variance == "site":
            return 0.5 / (shared + (shared if self.settings.kmeans else 1) * raw_weights.exp())
        return 0.5 / (shared if self.settings.kmeans else shared + 1)

    def logits(self, proxy: Tensor, precision: Tensor) -> Tensor:
        """-||z - e_k||^2 / (2 s^2), [N, K]. proxy: [N, L]; precision: [N or 1, 1]."""
        square = (proxy * proxy).sum(1, keepdim=True) - 2 * proxy @ self.codebook.t() + (self.codebook**2).sum(1)
        return -precision * square

    @property
    def wants_proxies(self) -> bool:
        """Whether there is a k-means start."""
        return self.settings.kmeans

    def _quantise(self, proxy: Tensor, raw_weights: Tensor, temperature: float) -> QuantizerResult:
        precision = self.precision(raw_weights)
        if self.training:
            found = soft_codes(
                *self._factors(proxy, precision),
                sample=Sample(self.codebook, temperature, noise_places(len(proxy), proxy)),
                fast=self.fast,
            )
            words, indices, posterior, negentropy = found.mixed, found.indices, found.posterior, found.negentropy
        else:
            precision = precision.expand(len(proxy), 1)
            blocks = [self._evaluated(proxy[p], precision[p]) for p in row_blocks(len(proxy), self.codes, proxy.device)]
            codes, *parts = zip(*blocks, strict=True)
            indices = torch.cat(codes)
            words = self._lookup(indices)
            posterior, negentropy = (torch.stack(part).sum(0) for part in parts)
        information = negentropy / len(proxy)
        distance = ((proxy - words) ** 2).sum(1, keepdim=True)
        terms = {
            "distance": distance.mean() / self.dimensions,
            "continuous": (distance * precision).mean(),
            "conditional_entropy": -information.detach(),
        }
        loss = self.settings.weight * (information + terms["continuous"])
        return soft_result(words, indices, loss, terms, posterior / len(proxy))

    def _factors(self, proxy: Tensor, precision: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Sides, codes and bias of `soft_codes`, whose logits are those of `logits` but for a number a site."""
        square = (self.codebook**2).sum(1)
        if len(precision) == 1:
            return 2 * precision * proxy, self.codebook, -precision[0] * square
        sides = torch.cat([2 * precision * proxy, precision], 1)
        return sides, torch.cat([self.codebook, -square[:, None]], 1), None

    def _evaluated(self, proxy: Tensor, precision: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of one block of sites: indices, and the sums over sites of q(k | z) [K] and of sum_k q ln q."""
        log_posterior = self.logits(proxy, precision).log_softmax(1)
        posterior = log_posterior.exp()
        return nearest(proxy, self.codebook), posterior.sum(0), (posterior * log_posterior).sum()

    def _assign(self, proxy: Tensor, raw_weights: Tensor) -> Tensor:
        return nearest(proxy, self.codebook)

    def plain(self, head_weight: Tensor, head_bias: Tensor, project_weight: Tensor) -> PlainForm:
        """The nearest codeword: the posterior's argmax, whatever the variance."""
        return nearest_form(self.codebook.detach(), head_weight, head_bias, project_weight)

    def _initialise(self, proxies: Tensor, sharpness: float) -> None:
        """k-means start of the codebook on proxies [N, L], and of s^2 from its error."""
        proxies = proxies.to(self.codebook.dtype)
        self.codebook.copy_(kmeans(proxies, self.codes))
        error = (proxies - self._lookup(nearest(proxies, self.codebook))).square().mean()
        self.log_variance.copy_((self.settings.start_variance * error.clamp_min(1e-12)).log())
