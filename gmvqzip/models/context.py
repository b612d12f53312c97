"""The context networks in floating point, as they are trained; `entropy.context` runs them in integers.

They see decoded latents in units of the quantiser's step and hand on activations between 0 and 255/32 in units of
1/32, so that rounding them to integers changes little. Shapes are [B, C, H, W].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmvqzip.entropy.context import ACTIVATION_LIMIT, ACTIVATION_UNIT, CODED_LIMIT, PHASES
from gmvqzip.entropy.mixture import LATENT_UNIT
from gmvqzip.models.hyperconfig import QUARTERS, HyperpriorConfig
from gmvqzip.models.network import EdgeConv2d
from gmvqzip.models.quality import QualityVector


def straight_round(x: Tensor) -> Tensor:
    """Rounding with the gradient of the identity."""
    return x + (x.round() - x).detach()


def pieces(x: Tensor, step: int) -> Tensor:
    """What a step codes: [B, M, H, W] -> [4, B, M/4, H/2, W/2], channel quarter g at phase g ^ step of 2x2 sites."""
    quarters = x.reshape(len(x), QUARTERS, -1, *x.shape[2:])
    phases = [PHASES[quarter ^ step] for quarter in range(QUARTERS)]
    return torch.stack([quarters[:, g, :, row::2, column::2] for g, (row, column) in enumerate(phases)])


def assemble(parts: Tensor, step: int) -> Tensor:
    """The inverse of `pieces`, zero elsewhere: [4, B, M/4, H/2, W/2] -> [B, M, H, W]."""
    _, batch, channels, rows, columns = parts.shape
    full = parts.new_zeros(batch, QUARTERS, channels, 2 * rows, 2 * columns)
    for quarter in range(QUARTERS):
        row, column = PHASES[quarter ^ step]
        full[:, quarter, :, row::2, column::2] = parts[quarter]
    return full.flatten(1, 2)


class ContextLayer(nn.Module):
    """A convolution; a hidden one is followed by a clamp and, where `rounding` is set, by rounding to 1/32."""

    def __init__(self, channels: int, out_channels: int, kernel: int, *, hidden: bool) -> None:
        super().__init__()
        self.conv = (nn.Conv2d if hidden else EdgeConv2d)(channels, out_channels, kernel, padding=kernel // 2)
        self.hidden, self.rounding = hidden, False

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        out: Tensor = self.conv(x)
        if bias is not None:
            out = out + bias.to(out.dtype)
        if not self.hidden:
            return out.float()
        out = out.clamp(0, ACTIVATION_LIMIT / ACTIVATION_UNIT)
        return straight_round(out * ACTIVATION_UNIT) / ACTIVATION_UNIT if self.rounding else out


class ContextStep(nn.Module):
    """Mean and log2 scale of the latent from hyper features and the latent as far as it is coded."""

    spatial: ContextLayer
    mix: ContextLayer
    head: ContextLayer
    bias: QualityVector
    growth: QualityVector  # of the log2 scale with the quality

    def __init__(self, config: HyperpriorConfig, *, first: bool) -> None:
        super().__init__()
        width = config.context_width
        self.first = first  # nothing of the latent is coded yet
        self.spatial = ContextLayer(width + (0 if first else config.latents), width, 3, hidden=True)
        self.mix = ContextLayer(width, width, 1, hidden=True)
        self.head = ContextLayer(width, 2 * config.latents, 1, hidden=False)
        self.bias = QualityVector(width, distortions=config.distortions)
        octaves = 0.5 * math.log2(config.lambda_last / config.lambda_first)  # by which the transform's gain grows
        self.growth = QualityVector(config.latents, 0.0, octaves, distortions=config.distortions)

    def forward(self, features: Tensor, coded: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, C, H, W], coded latent [B, M, H, W] in steps, quality [B] -> mean, log2 scale [B, M, H, W]."""
        limit = CODED_LIMIT / LATENT_UNIT
        inputs = features if self.first else torch.cat([features, coded.clamp(-limit, limit).to(features.dtype)], 1)
        mean, scale = self.head(self.mix(self.spatial(inputs, self.bias(quality)))).chunk(2, 1)
        return mean, scale + self.growth(quality)


class HyperDecoder(nn.Module):
    """Features [B, W, 2h, 2w] from the decoded hyper-latent [B, Z, h, w]."""

    spread: ContextLayer
    up: ContextLayer
    smooth: ContextLayer
    bias: QualityVector

    def __init__(self, config: HyperpriorConfig) -> None:
        super().__init__()
        width = config.context_width
        self.spread = ContextLayer(config.hyper_latents, width, 3, hidden=True)
        self.up = ContextLayer(width, 4 * width, 1, hidden=True)
        self.smooth = ContextLayer(width, width, 3, hidden=True)
        self.bias = QualityVector(width, distortions=config.distortions)

    def forward(self, hyper: Tensor, quality: Tensor) -> Tensor:
        """Decoded hyper-latent and quality [B] to features."""
        x = F.pixel_shuffle(self.up(self.spread(hyper)), 2).contiguous(memory_format=torch.channels_last)
        out: Tensor = self.smooth(x, self.bias(quality))
        return out
