"""Wasserstein VQ: a VQ-VAE whose codes are drawn to the distribution of the proxies.

Fang et al. 2025, "Enhancing vector quantization with distributional matching", arXiv 2506.15078.

Gaussians are fitted to the proxies and to the codes; the squared 2-Wasserstein (Bures) distance of two Gaussians is

    W^2 = ||m_1 - m_2||^2 + tr S_1 + tr S_2 - 2 tr((S_1^1/2 S_2 S_1^1/2)^1/2)

and the loss of the VQ-VAE gets `matching` times W. Before, proxies and codes are divided by the largest standard
deviation of the proxies over the dimensions. The proxies' statistics are of the last 65,536 of them, without gradient:
only the codebook moves. The paper judges by a triple: quantisation error, utilisation and perplexity of the codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gmvqzip.quantizers import ranks
from gmvqzip.quantizers.base import nearest
from gmvqzip.quantizers.result import hard_statistics
from gmvqzip.quantizers.vq import VQ, VQSettings

_EIGENVALUE_FLOOR = 1e-8
_DISTANCE_FLOOR = 1e-10  # under the root, where its slope would be infinite


@dataclass(frozen=True)
class WassersteinSettings(VQSettings):
    """Settings of a Wasserstein VQ; the defaults are the paper's."""

    method: ClassVar[str] = "wasserstein"
    positive: ClassVar[tuple[str, ...]] = ("queue",)

    commitment: float = 0.1
    kmeans: bool = False
    spread: float = 0.01
    matching: float = 0.5  # weight of W
    queue: int = 65536  # proxies whose statistics count

    def build(self, codes: int, dimensions: int) -> WassersteinVQ:
        """The quantiser. Raises ValueError as `check` does."""
        return WassersteinVQ(codes, dimensions, self)


def gaussian_fit(points: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [L] and covariance [L, L] (over N, not N - 1) of points [N, L]."""
    mean = points.mean(0)
    centred = points - mean
    return mean, centred.t() @ centred / len(points)


def bures_squared(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> Tensor:
    """The squared 2-Wasserstein distance of two Gaussians, means [L], covariances [L, L]; not below 0.

    Eigenvalues are held above 1e-8. The gradient is meant for the second Gaussian; the first gives the square root.
    """
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp_min(_EIGENVALUE_FLOOR).sqrt() @ vectors.t()
    cross = torch.linalg.eigvalsh(root @ other_covariance @ root).clamp_min(_EIGENVALUE_FLOOR**2).sqrt().sum()
    traces = covariance.trace() + other_covariance.trace()
    squared: Tensor = ((mean - other_mean) ** 2).sum() + traces - 2 * cross
    return squared.clamp_min(0)


def criterion_triple(latents: Tensor, codebook: Tensor) -> tuple[float, float, float]:
    """(E, U, C) of a codebook [K, L] on latents [N, L]: quantisation error, the mean over sites of ||z - z_q||^2 (it
    scales with the latents: compare it on equal ones), utilisation in [0, 1], and perplexity of the hard codes."""
    indices = nearest(latents, codebook)
    error = ((latents - codebook[indices]) ** 2).sum(1).mean()
    perplexity, utilisation = hard_statistics(indices, len(codebook))
    return float(error), float(utilisation), float(perplexity)


class WassersteinVQ(VQ):
    """Quantiser with K codes of L dimensions; proxies [N, L], no raw weights. See the module's docstring."""

    settings: WassersteinSettings
    queue: Tensor
    filled: Tensor

    def __init__(self, codes: int, dimensions: int, settings: WassersteinSettings | None = None) -> None:
        settings = settings or WassersteinSettings()
        super().__init__(codes, dimensions, settings)
        self.register_buffer("queue", torch.zeros(settings.queue, dimensions), persistent=False)
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64), persistent=False)  # proxies ever seen

    def _extra(self, z: Tensor) -> Tensor:
        return self.settings.matching * self.distance(self._remember(ranks.gathered(z.detach())))

    def distance(self, proxies: Tensor) -> Tensor:
        """W of Gaussian fits to proxies [N, L] and codes, both over the proxies' largest deviation; scalar."""
        scale = proxies.std(0, unbiased=False).max().clamp_min(_EIGENVALUE_FLOOR)
        squared = bures_squared(*gaussian_fit(proxies / scale), *gaussian_fit(self.codewords() / scale))
        return (squared + _DISTANCE_FLOOR).sqrt()

    def _remember(self, z: Tensor) -> Tensor:
        """Put proxies [N, L] into the queue, the oldest leaving it, and return what it holds."""
        size, seen = len(self.queue), int(self.filled)
        kept = z[-size:]
        places = (seen + torch.arange(len(kept), device=z.device)) % size
        self.queue[places] = kept.to(self.queue.dtype)
        self.filled.add_(len(kept))
        return self.queue[: min(size, seen + len(kept))]
