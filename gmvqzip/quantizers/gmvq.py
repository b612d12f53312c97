"""GM-VQ: Gaussian-mixture vector quantisation with the aggregated categorical posterior (arXiv 2410.10180).

The codebook M = [mu_1 .. mu_K] holds the means of a mixture of Gaussians. The encoder gives a proxy z_hat in R^L and
positive weights w; the categorical posterior is q(c | x) = softmax(l) with

    l_c = -1/2 sum_i w_i (z_hat_i - mu_ci)^2                                                            (eq. 16, 17)

and the training sample is a Gumbel-softmax relaxation of it. What is optimised here, and stated so because the paper's
bound does not hold as printed (the entropy of a Gaussian is differential), is the objective itself:

    reconstruction + beta E_q(c|x) ||z_hat - mu_c||^2 / L - gamma H(q_bar)                              (eq. 19-21)

with q_bar the mean of q(c | x) over all sites of the mini-batch. The distance is a mean over sites and dimensions, the
entropy is in nats. Only the gradient moves the codes.

Rate-aware training adds `rate` times E_q(c|x)[-log2 pi_c], the bits per site under the prior pi, which follows q_bar;
the mixture's weights then enter the logits as log pi_c, so that the argmax is the maximum a posteriori code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmvqzip.quantizers import ranks
from gmvqzip.quantizers.base import UNIT_RAW, PlainForm, Quantizer, QuantizerSettings
from gmvqzip.quantizers.blocks import argmax_, row_blocks
from gmvqzip.quantizers.result import QuantizerResult, entropy, hard_statistics
from gmvqzip.quantizers.soft import Sample, noise_places, soft_codes

_PRIOR_FLOOR = 1e-3  # share of the learned prior that is uniform, so that no code is lost for ever
_MAX_PRECISION = 2.0**15  # a model file keeps it as a half float
SAMPLINGS = ("gumbel", "straight-through", "identity")


@dataclass(frozen=True)
class GMVQSettings(QuantizerSettings):
    """Settings of the objective and of the sampling; a model in its plain form needs none of them."""

    method: ClassVar[str] = "gmvq"
    positive: ClassVar[tuple[str, ...]] = ("noise_scale",)
    fractions: ClassVar[tuple[str, ...]] = ("posterior_decay",)

    beta: float = 0.1  # weight of the expected squared distance, mean over sites and dimensions
    gamma: float = 0.01  # weight of the entropy of the aggregated posterior, in nats
    noise: bool = True  # the adaptive noise of eq. (18) around the codeword
    noise_scale: float = 0.5  # s^2 of eq. (18); 1/2 makes the variance ||z_hat - mu_c||^2 / L
    # "gumbel": y = softmax((l + g) / tau); "straight-through": argmax forward, the gradient of softmax(l / tau) back;
    # "identity": argmax forward, the decoder's gradient to the code and, as it is, to z_hat (VQ-VAE's estimator)
    sampling: str = "gumbel"
    posterior_decay: float = 0.0  # decay of a running mean of q_bar over steps; 0 uses the mini-batch alone
    rate: float = 0.0  # weight of the bits per site under the prior
    learned_prior: bool = False  # log pi_c in the logits; without it pi is uniform, as in the paper
    conditional: float = 0.0  # weight of H(q(c|x)), mean over sites: the plain ELBO's reward, which ALBO leaves out
    learned_weights: bool = True  # w(x) of eq. (15); without it every weight is the same

    def widths(self, codes: int, dimensions: int, weights: int) -> tuple[int, int]:
        """Proxy and as many weights as the network gives: one a dimension, or one a site."""
        return dimensions, weights

    def check(self, codes: int, dimensions: int) -> None:
        """Raise ValueError for an unknown sampling, or a running mean that never moves."""
        if self.sampling not in SAMPLINGS:
            raise ValueError(f"sampling must be one of {', '.join(SAMPLINGS)}, not {self.sampling!r}")
        if self.posterior_decay == 1:
            raise ValueError("posterior_decay must be below 1: the running mean would never move")

    def build(self, codes: int, dimensions: int) -> GMVQ:
        """The quantiser."""
        return GMVQ(codes, dimensions, self)


def gmvq_factors(proxy: Tensor, weights: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """[N, 2L] and [K, 2L], whose product is the logits of eq. (16) but for a number a site; [N, K, L] is never formed.

    proxy: [N, L]; weights: [N, L] or [N, 1], positive; codebook: [K, L].
    """
    weights = weights.expand_as(proxy)
    return torch.cat([weights * proxy, weights], 1), torch.cat([codebook, -0.5 * codebook * codebook], 1)


def gmvq_logits(proxy: Tensor, weights: Tensor, codebook: Tensor) -> Tensor:
    """Logits [N, K] of eq. (16). Arguments as of `gmvq_factors`."""
    sides, codes = gmvq_factors(proxy, weights, codebook)
    return torch.addmm(-0.5 * (weights * proxy * proxy).sum(1, keepdim=True), sides, codes.t())


def expected_distance(proxy: Tensor, probabilities: Tensor, codebook: Tensor) -> Tensor:
    """E_p ||z_hat - mu_c||^2 per site. proxy: [N, L]; probabilities: [N, K]; codebook: [K, L]. Returns [N]."""
    mean = probabilities @ codebook
    square = probabilities @ (codebook * codebook).sum(1)
    return (proxy * proxy).sum(1) - 2 * (proxy * mean).sum(1) + square


class GMVQ(Quantizer):
    """Quantiser with K codes of L dimensions. See the module's docstring for the equations.

    `forward` takes z_hat [N, L] and raw weights [N, L] or [N, 1], made positive by softplus (eq. 15); it gives a
    relaxed sample in training, and the argmax without noise in evaluation.
    """

    settings: GMVQSettings
    neutral = UNIT_RAW
    average_posterior: Tensor
    log_prior: Tensor
    precision: Tensor

    def __init__(self, codes: int, dimensions: int, settings: GMVQSettings | None = None) -> None:
        super().__init__(codes, dimensions, settings or GMVQSettings())
        self.codebook = nn.Parameter(torch.randn(codes, dimensions) / dimensions**0.5)
        # w = precision * softplus(raw): eq. (15) in units in which the posterior starts neither flat nor frozen.
        self.register_buffer("precision", torch.ones(()))
        self.register_buffer("log_prior", torch.zeros(codes))  # log pi_c up to a constant; zero is the uniform prior
        self.register_buffer("average_posterior", torch.full((codes,), 1.0 / codes), persistent=False)

    @property
    def wants_proxies(self) -> bool:
        """Always: the codebook has a k-means start."""
        return True

    def _quantise(self, proxy: Tensor, raw_weights: Tensor, temperature: float) -> QuantizerResult:
        weights = self._weights(raw_weights)
        if self.training:
            return self._trained(proxy, weights, temperature)
        parts = row_blocks(len(proxy), self.codes, proxy.device)
        blocks = [self._evaluated(proxy[part], weights[part]) for part in parts]
        codes, *sums = zip(*blocks, strict=True)
        indices = torch.cat(codes)
        return self._result(self._lookup(indices), indices, *(torch.stack(part).sum(0) for part in sums))

    def _trained(self, proxy: Tensor, weights: Tensor, temperature: float) -> QuantizerResult:
        """A training step. proxy: [N, L]; weights: [N, L] or [N, 1], positive."""
        settings = self.settings
        sample = None
        if settings.sampling == "gumbel":
            words = self.codebook
            if settings.noise:  # whose variance needs E_y ||mu_c||^2 besides
                words = torch.cat([words, words.square().sum(1, keepdim=True)], 1)
            # in full, for the variance is a small difference of large numbers
            sample = Sample(words, temperature, noise_places(len(proxy), proxy), exact=settings.noise)
        elif settings.sampling == "straight-through":
            sample = Sample(self.codebook.detach(), temperature)
        normal = ranks.randn(proxy.shape, proxy) if settings.noise else None
        found = soft_codes(
            *gmvq_factors(proxy, weights, self.codebook),
            self.log_prior,
            points=proxy,
            words=self.codebook,
            sample=sample,
            fast=self.fast,
        )
        if settings.sampling == "gumbel":
            quantised = found.mixed[:, : self.dimensions]
            square = (proxy * (proxy - 2 * quantised)).sum(1) + found.mixed[:, -1]
        else:
            mean = proxy if sample is None else found.mixed
            code = self._lookup(found.indices)
            square = (proxy - code).square().sum(1)
            quantised = code + (mean - mean.detach())
        if normal is not None:
            quantised = quantised + self.noise(square, normal)
        negentropy = found.negentropy if settings.conditional else found.negentropy.detach()
        return self._result(quantised, found.indices, found.distance, found.posterior, -negentropy)

    def _assign(self, proxy: Tensor, raw_weights: Tensor) -> Tensor:
        weights = self._weights(raw_weights)
        parts = row_blocks(len(proxy), self.codes, proxy.device)
        return torch.cat([argmax_(self._logits(proxy[part], weights[part])) for part in parts])

    def _weights(self, raw_weights: Tensor) -> Tensor:
        """Positive weights (eq. 15), [N, L] or [N, 1]."""
        if not self.settings.learned_weights:
            raw_weights = torch.zeros_like(raw_weights)
        return self.precision.to(raw_weights.dtype) * F.softplus(raw_weights)

    def _logits(self, proxy: Tensor, weights: Tensor) -> Tensor:
        return gmvq_logits(proxy, weights, self.codebook) + self.log_prior

    def _evaluated(self, proxy: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        """One block of sites: indices, and sums over sites of the distance, q(c|x) [K] and H(q(c|x))."""
        logits = self._logits(proxy, weights)
        log_posterior = logits.log_softmax(1)
        posterior = log_posterior.exp()
        distance = expected_distance(proxy, posterior, self.codebook).sum()
        return logits.argmax(1), distance, posterior.sum(0), -(posterior * log_posterior).sum()

    def noise(self, square_distance: Tensor, normal: Tensor) -> Tensor:
        """The adaptive noise of eq. (18): variance ||z_hat - mu_c||^2 / (2 s^2 L) in each dimension.

        square_distance: [N], the squared distance of the proxy from its code (its expectation under a relaxed sample);
        normal: [N, L], standard normal numbers. Returns [N, L].
        """
        variance = square_distance / (2 * self.settings.noise_scale * self.dimensions)
        return variance.clamp_min(1e-12).sqrt()[:, None] * normal

    def _result(
        self,
        quantised: Tensor,
        indices: Tensor,
        distance: Tensor,
        posterior: Tensor,
        conditional: Tensor,
    ) -> QuantizerResult:
        settings = self.settings
        bits = -(posterior @ self.log_prior.log_softmax(0)) / math.log(2)
        sums = torch.cat([torch.stack([distance / self.dimensions, bits, conditional]), posterior])
        means = ranks.mean(sums / len(indices))  # over all sites of the batch
        (distance, bits, conditional), aggregated = means[:3], means[3:]  # q_bar [K]
        if self.training and settings.posterior_decay:
            running = settings.posterior_decay * self.average_posterior + (1 - settings.posterior_decay) * aggregated
            self.average_posterior = running.detach()
            # The running value with the mini-batch's full gradient: gamma keeps its meaning.
            aggregated = self.average_posterior + aggregated - aggregated.detach()
        if self.training and settings.learned_prior:
            self.log_prior = (aggregated.detach() + _PRIOR_FLOOR / self.codes).log()
        reward = entropy(aggregated)
        perplexity_hard, utilisation = hard_statistics(indices, self.codes)
        loss = settings.beta * distance - settings.gamma * reward + settings.rate * bits
        if settings.conditional:
            loss = loss - settings.conditional * conditional
        return QuantizerResult(
            quantised=quantised,
            indices=indices,
            loss=loss,
            terms={
                "distance": distance,
                "bits": bits,
                "aggregated_entropy": reward,
                "conditional_entropy": conditional.detach(),
            },
            posterior=aggregated.detach(),
            perplexity_soft=reward.detach().exp(),
            perplexity_hard=perplexity_hard,
            utilisation=utilisation,
        )

    def plain(self, head_weight: Tensor, head_bias: Tensor, project_weight: Tensor) -> PlainForm | None:
        """None: this is the plain form, unless weights are not learned: then the head gives none."""
        if self.settings.learned_weights:
            return None
        head_weight, head_bias = head_weight.clone(), head_bias.clone()
        head_weight[self.dimensions :], head_bias[self.dimensions :] = 0, 0
        return PlainForm(self.codebook, self.log_prior, head_weight, head_bias, project_weight, self.precision)

    @torch.no_grad()
    def reseed(self, share: float = 0.02, spread: float = 0.3) -> int:
        """Move codes that are hardly used to the neighbourhood of popular ones; returns how many.

        share: codes whose running use is below this part of the uniform use 1/K count as dead; spread: distance of the
        new place from the popular code, in units of 1 / sqrt(precision). Needs `posterior_decay`. For rate-aware
        training; the paper's quantiser keeps its codes alive by the entropy reward alone.
        """
        use = self.average_posterior
        dead = (use < share / self.codes).nonzero()[:, 0]
        if len(dead):
            source = torch.multinomial(use, len(dead), replacement=True)
            noise = torch.randn(len(dead), self.dimensions, dtype=use.dtype, device=use.device)
            self.codebook[dead] = self.codebook[source] + spread * noise / self.precision.sqrt()
            self.log_prior[dead] = self.log_prior[source]
            use[dead] = 1 / self.codes
            self.average_posterior = use / use.sum()
        return len(dead)

    def _initialise(self, proxies: Tensor, sharpness: float) -> None:
        """k-means start of the codebook on encoder outputs [N, L].

        The precision is set to `sharpness` over the mean squared quantisation error per dimension.
        """
        centres = kmeans(proxies.to(self.codebook.dtype), self.codes)
        self.codebook.copy_(centres)
        nearest = torch.cat([torch.cdist(part, centres).argmin(1) for part in torch.split(proxies, 4096)])
        error = float(((proxies - centres[nearest]) ** 2).mean())
        self.precision.fill_(sharpness / max(error, sharpness / _MAX_PRECISION))


@torch.no_grad()
def kmeans(points: Tensor, clusters: int, iterations: int = 10) -> Tensor:
    """Lloyd's algorithm from random points. points: [N, L]; returns [clusters, L].

    With fewer points than clusters the surplus starts at repeated points with a little noise; a cluster that loses all
    its points moves to a random point.
    """
    order = torch.randperm(len(points), device=points.device)[:clusters]
    if len(order) < clusters:
        more = torch.randint(len(points), (clusters - len(order),), device=points.device)
        order = torch.cat([order, more])
    spread = points.std(0, unbiased=False) if len(points) > 1 else torch.ones_like(points[0])
    centres = points[order] + 1e-3 * spread * torch.randn_like(points[order])
    for _ in range(iterations):
        nearest = torch.cat([torch.cdist(part, centres).argmin(1) for part in torch.split(points, 4096)])
        counts = torch.bincount(nearest, minlength=clusters).to(points.dtype)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        empty = counts == 0
        centres = sums / counts.clamp_min(1)[:, None]
        centres[empty] = points[torch.randint(len(points), (int(empty.sum()),), device=points.device)]
    return centres
