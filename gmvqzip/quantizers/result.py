"""The one result type that every quantiser returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class QuantizerResult:
    """What a quantiser makes of N sites with L dimensions and K codes.

    quantised: [N, L] what the decoder reads; indices: [N] int64 codes; loss: scalar, the weighted sum of the
    quantiser's own terms; terms: those terms before weighting, scalars by name; perplexity_soft: exp of the entropy
    (in nats) of the aggregated posterior; perplexity_hard: the same of the counts of `indices`; utilisation: fraction
    of the K codes used in this batch. The last three carry no gradient.
    """

    quantised: Tensor
    indices: Tensor
    loss: Tensor
    terms: dict[str, Tensor]
    perplexity_soft: Tensor
    perplexity_hard: Tensor
    utilisation: Tensor


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats of a distribution over the last axis; terms of probability zero count as zero."""
    terms: Tensor = torch.special.xlogy(probabilities, probabilities.clamp_min(1e-30))
    return -terms.sum(-1)


def hard_statistics(indices: Tensor, codes: int) -> tuple[Tensor, Tensor]:
    """Perplexity of the code counts, and the fraction of codes used, of `indices` [N] with values below `codes`."""
    counts = torch.bincount(indices.flatten(), minlength=codes).float()
    return entropy(counts / counts.sum().clamp_min(1)).exp(), (counts > 0).float().mean()
