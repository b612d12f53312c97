"""Vectors that depend on the quality, and what they modulate. Quality is a number in [0, 1]; 1 is the finest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ANCHORS = 9  # qualities, evenly spaced, at which a quality-dependent vector is stored


class QualityVector(nn.Module):
    """A vector that depends on the quality: piecewise linear between ANCHORS evenly spaced qualities."""

    def __init__(self, channels: int, first: float = 0.0, last: float = 0.0) -> None:
        super().__init__()
        ramp = torch.linspace(first, last, ANCHORS)[:, None]
        self.anchors = nn.Parameter(ramp.repeat(1, channels))

    def forward(self, quality: Tensor) -> Tensor:
        """[B] -> [B, C, 1, 1]."""
        return (hat_weights(quality) @ self.anchors)[:, :, None, None]


def hat_weights(quality: Tensor) -> Tensor:
    """Weights [B, ANCHORS] of the anchors for qualities [B] in [0, 1]; each row sums to 1."""
    places = torch.arange(ANCHORS, device=quality.device)
    return (1 - (quality[:, None] * (ANCHORS - 1) - places).abs()).clamp_min(0)


class Modulation(nn.Module):
    """x * (1 + a) + b with quality-dependent a and b per channel (FiLM, Perez et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = QualityVector(channels)
        self.shift = QualityVector(channels)

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        """[B, C, H, W], [B] -> [B, C, H, W]."""
        scale, shift = self.scale(quality).to(x.dtype), self.shift(quality).to(x.dtype)
        modulated: Tensor = x * (1 + scale) + shift
        return modulated
