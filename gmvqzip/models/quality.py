"""Vectors that depend on the quality, and what they modulate. Quality is a number in [0, 1]; 1 is the finest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ANCHORS = 9  # qualities, evenly spaced, at which a quality-dependent vector is stored
SECOND = 2.0  # qualities of a second distortion are those of the first plus this, in training


class QualityVector(nn.Module):
    """A vector that depends on the quality: piecewise linear between ANCHORS evenly spaced qualities.

    With `distortions` 2 there are as many anchors again for the qualities from SECOND to SECOND + 1; those between are
    not used.
    """

    def __init__(self, channels: int, first: float = 0.0, last: float = 0.0, *, distortions: int = 1) -> None:
        super().__init__()
        ramp = torch.linspace(first, last, ANCHORS)[:, None]
        if distortions == 2:
            ramp = torch.cat([ramp, ramp.new_zeros(ANCHORS - 2, 1), ramp])
        self.anchors = nn.Parameter(ramp.repeat(1, channels))

    def forward(self, quality: Tensor) -> Tensor:
        """[B] -> [B, C, 1, 1]."""
        return (hat_weights(quality, len(self.anchors)) @ self.anchors)[:, :, None, None]


def hat_weights(quality: Tensor, anchors: int = ANCHORS) -> Tensor:
    """Weights [B, anchors] of the anchors for qualities [B] in [0, 1]; each row sums to 1."""
    places = torch.arange(anchors, device=quality.device)
    return (1 - (quality[:, None] * (ANCHORS - 1) - places).abs()).clamp_min(0)


class Modulation(nn.Module):
    """x * (1 + a) + b with quality-dependent a and b per channel (FiLM, Perez et al. 2018)."""

    def __init__(self, channels: int, *, distortions: int = 1) -> None:
        super().__init__()
        self.scale = QualityVector(channels, distortions=distortions)
        self.shift = QualityVector(channels, distortions=distortions)

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        """[B, C, H, W], [B] -> [B, C, H, W]."""
        return self.modulated(x, *self.at(quality))

    def at(self, quality: Tensor) -> tuple[Tensor, Tensor]:
        """a and b [B, C, 1, 1] at qualities [B]."""
        return self.scale(quality), self.shift(quality)

    @staticmethod
    def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """What a and b make of [B, C, H, W]."""
        return x * (1 + scale.to(x.dtype)) + shift.to(x.dtype)
