"""The precision of a training: what of it is in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from gmvqzip.models.precision import bfloat16_wins, convolution
from gmvqzip.training.optim import orthogonalise

PRECISIONS = ("auto", "bf16", "fp32")


@dataclass(frozen=True)
class Precision:
    """What a training does in bfloat16; everything else is in float32."""

    convolutions: bool  # of the network, by autocast
    products: bool  # of matrices, in Muon

    @property
    def product_type(self) -> torch.dtype:
        """The type of Muon's matrices."""
        return torch.bfloat16 if self.products else torch.float32

    def __str__(self) -> str:
        network, optimizer = ("bf16" if fast else "fp32" for fast in (self.convolutions, self.products))
        return network if network == optimizer else f"{network}, Muon in {optimizer}"


def training_precision(wanted: str, device: torch.device) -> Precision:
    """What one of PRECISIONS means on a device: `auto` is measured on a processor; a GPU has bfloat16 or has not."""
    if wanted != "auto":
        return Precision(wanted == "bf16", wanted == "bf16")
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return Precision(fast, fast)
    if device.type != "cpu":
        return Precision(False, False)
    convolutions = bfloat16_wins("training", partial(convolution, 1, 128, True))
    return Precision(convolutions, bfloat16_wins("orthogonalisation", _orthogonalisation))


def _orthogonalisation(dtype: torch.dtype) -> Callable[[], object]:
    """Muon's work on a weight of 128 channels and 3x3 sites."""
    matrix = torch.full((128, 1152), 0.01)
    return lambda: orthogonalise(matrix, dtype)
