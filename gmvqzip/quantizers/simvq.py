"""SimVQ: a frozen codebook behind one linear layer that is trained.

Zhu et al. 2024, "Addressing representation collapse in vector quantized models with one linear layer",
arXiv 2411.02038.

The codes are C W with C [K, L] random and fixed and W [L, L] learned, so that every step moves all of them, whichever
were picked. The nearest one is taken, the gradient goes straight through, and the loss is VQ-VAE's (arXiv 1711.00937,
eq. 3) on the moved codes, means over sites and dimensions:

    a ||sg z - (C W)_c||^2 + b ||z - sg (C W)_c||^2

W starts as the identity here. A k-means start, which is not the paper's, puts C on proxies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gmvqzip.quantizers.vq import VQ, VQSettings


@dataclass(frozen=True)
class SimVQSettings(VQSettings):
    """Settings of a SimVQ: those of a VQ-VAE whose codebook gradients move."""

    method: ClassVar[str] = "simvq"

    kmeans: bool = False

    def check(self, codes: int, dimensions: int) -> None:
        """Raise ValueError for options that would move the frozen codes."""
        if self.ema or self.replace_after or self.inner_rate or self.affine:
            raise ValueError("simvq excludes ema, replace_after, inner_rate and affine: its codes are frozen")

    def build(self, codes: int, dimensions: int) -> SimVQ:
        """The quantiser. Raises ValueError as `check` does."""
        return SimVQ(codes, dimensions, self)


class SimVQ(VQ):
    """Quantiser with K codes of L dimensions; proxies [N, L], no raw weights. See the module's docstring."""

    settings: SimVQSettings

    def __init__(self, codes: int, dimensions: int, settings: SimVQSettings | None = None) -> None:
        super().__init__(codes, dimensions, settings or SimVQSettings())
        self.codebook.requires_grad_(False)  # C
        self.mixing = nn.Parameter(torch.eye(dimensions))  # W

    def codewords(self, *, frozen: bool = False) -> Tensor:
        """The codes C W [K, L] that the decoder reads."""
        return self._on_sphere(self.codebook @ self.mixing)
