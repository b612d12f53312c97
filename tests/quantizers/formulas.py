"""What the tests of the quantiser share: eq. (16) as it is written, and quantisers drawn at random."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gmvqzip.quantizers import GMVQ, GMVQSettings


def inverse_softplus(weights: Tensor) -> Tensor:
    """The raw weights whose softplus is `weights`."""
    return weights + (-(-weights).expm1()).log()


def drawn(
    sites: int = 12, codes: int = 5, dimensions: int = 3, weights: int = 3, **settings: Any
) -> tuple[GMVQ, Tensor, Tensor]:
    """A quantiser in float64 with a prior that is not uniform, proxies [N, L] and raw weights [N, L or 1]."""
    torch.manual_seed(sites * codes + dimensions)
    quantizer = GMVQ(codes, dimensions, GMVQSettings(**settings)).double()
    quantizer.log_prior = torch.randn(codes, dtype=torch.float64)
    quantizer.precision.fill_(1.7)
    return quantizer, torch.randn(sites, dimensions, dtype=torch.float64), torch.randn(sites, weights).double()


def naive_logits(proxy: Tensor, weights: Tensor, codebook: Tensor) -> Tensor:
    """Eq. (16) as it is written, over [N, K, L]."""
    difference = proxy[:, None, :] - codebook[None]
    return -0.5 * (weights[:, None, :] * difference**2).sum(2)
