"""The one result type that every quantiser returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gmvqzip.quantizers import ranks


@dataclass
class QuantizerResult:
    """What a quantiser makes of N sites with L dimensions and K codes.

    quantised: [N, L] what the decoder reads; indices: [N] int64 codes; loss: scalar, the weighted sum of the
    quantiser's own terms; terms: those terms before weighting, scalars by name, among them `conditional_entropy`, the
    mean over sites of H(q(c | x)) in nats, zero for a rule that picks one code; posterior: [K], the aggregated
    posterior q_bar(c), the mean of q(c | x) over the sites, or in training with `posterior_decay` the running mean of
    it; perplexity_soft: exp of its entropy (in nats); perplexity_hard: the same of the counts of `indices`;
    utilisation: fraction of the K codes used in this batch. The last four carry no gradient.
    """

    quantised: Tensor
    indices: Tensor
    loss: Tensor
    terms: dict[str, Tensor]
    posterior: Tensor
    perplexity_soft: Tensor
    perplexity_hard: Tensor
    utilisation: Tensor


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats of a distribution over the last axis; terms of probability zero count as zero."""
    terms: Tensor = torch.special.xlogy(probabilities, probabilities.clamp_min(1e-30))
    return -terms.sum(-1)


def hard_statistics(indices: Tensor, codes: int) -> tuple[Tensor, Tensor]:
    """Perplexity of the code counts, and the fraction of codes used, of `indices` [N] with values below `codes`.

    Of the whole batch, where several processes share it.
    """
    counts = ranks.total(torch.bincount(indices.flatten(), minlength=codes)).float()
    return entropy(counts / counts.sum().clamp_min(1)).exp(), (counts > 0).float().mean()


def soft_result(
    quantised: Tensor, indices: Tensor, loss: Tensor, terms: dict[str, Tensor], posterior: Tensor
) -> QuantizerResult:
    """The result of a method with probabilities q(c | x), whose mean over the sites is `posterior` [K].

    Loss and terms are means over this process's sites, the rest is of the whole batch.
    """
    posterior = ranks.mean(posterior.detach())
    hard, used = hard_statistics(indices, len(posterior))
    return QuantizerResult(quantised, indices, loss, terms, posterior, entropy(posterior).exp(), hard, used)


def hard_result(
    quantised: Tensor, indices: Tensor, loss: Tensor, terms: dict[str, Tensor], codes: int
) -> QuantizerResult:
    """The result of a method that picks one code: q(c | x) is all on it, and the soft perplexity is the hard one."""
    counts = torch.bincount(indices, minlength=codes).to(quantised.dtype)
    terms = terms | {"conditional_entropy": torch.zeros((), dtype=quantised.dtype, device=quantised.device)}
    return soft_result(quantised, indices, loss, terms, counts / counts.sum().clamp_min(1))
