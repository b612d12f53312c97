"""The transforms of a hyperprior model: picture to latents and back, for every quality.

Shapes are [B, C, H, W]; pictures are in [0, 1]; `quality` is [B] in [0, 1]. Latents live in units of the quantiser's
step: the encoder multiplies them by a gain that grows with the quality, the decoder divides by it.
"""

from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmvqzip.models.hyperconfig import HyperpriorConfig
from gmvqzip.models.network import Encoder, residual_blocks
from gmvqzip.models.quality import Modulation, QualityVector

_HYPER_WIDTH = 96  # channels between the features and the hyper-latent
_GAIN_ENDS = (0.3, 2.3)  # logarithm of the gain at the start: its square goes with lambda over the range of qualities


class Analysis(nn.Module):
    """Picture to latent and hyper-latent."""

    def __init__(self, config: HyperpriorConfig) -> None:
        super().__init__()
        top = config.channels[-1]
        self.encoder = Encoder(config)
        self.films = nn.ModuleList([Modulation(width) for width in config.channels])
        self.latent = nn.Conv2d(top, config.latents, 1)
        self.hyper_down = nn.Conv2d(top, _HYPER_WIDTH, 4, stride=2, padding=1)
        self.hyper = nn.Conv2d(_HYPER_WIDTH, config.hyper_latents, 1)

    def forward(self, image: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, H, W] -> latent without its gain [B, M, H/16, W/16], hyper-latent [B, Z, H/32, W/32]; float32."""
        x = F.pixel_unshuffle(image - 0.5, self.encoder.patch).contiguous(memory_format=torch.channels_last)
        x = self.encoder.stem(x)
        for index, (level, film) in enumerate(zip(self.encoder.levels, self.films, strict=True)):
            if index:
                x = self.encoder.down[index - 1](x)
            x = level(film(x, quality))
        hyper = self.hyper(F.gelu(self.hyper_down(x), approximate="tanh"))
        return self.latent(x).float(), hyper.float()


class Synthesis(nn.Module):
    """Decoded latent to picture."""

    def __init__(self, config: HyperpriorConfig) -> None:
        super().__init__()
        channels = config.channels
        self.patch = config.strides[0]
        self.project = nn.Conv2d(config.latents, channels[-1], 1)
        pairs = zip(channels, config.decoder_blocks, strict=True)
        self.levels = nn.ModuleList([residual_blocks(width, count) for width, count in pairs])
        self.films = nn.ModuleList([Modulation(width) for width in channels])
        self.up = nn.ModuleList([nn.Conv2d(wide, narrow * 4, 1) for narrow, wide in pairwise(channels)])
        self.final = nn.Conv2d(channels[0], 3 * self.patch**2, 3, padding=1)

    def forward(self, latent: Tensor, quality: Tensor, *, fast: bool = False) -> Tensor:
        """[B, M, H/16, W/16] without its gain -> [B, 3, H, W], not clamped.

        fast: residual branches in bfloat16; state, and layers between levels, stay in float32.
        """
        state = self.project(latent)
        for index in reversed(range(len(self.levels))):
            state = self.films[index](state, quality)
            with torch.autocast(state.device.type, torch.bfloat16) if fast else nullcontext():
                state = self.levels[index](state)
            if index:
                state = F.pixel_shuffle(self.up[index - 1](state), 2).contiguous(memory_format=torch.channels_last)
        return F.pixel_shuffle(self.final(state).float(), self.patch) + 0.5


class Transform(nn.Module):
    """Both directions, and the gain between them."""

    def __init__(self, config: HyperpriorConfig) -> None:
        super().__init__()
        self.analysis = Analysis(config)
        self.synthesis = Synthesis(config)
        self.gain = QualityVector(config.latents, *_GAIN_ENDS)  # logarithm

    def analyse(self, image: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Latent in units of the quantiser's step, and hyper-latent. See `Analysis`."""
        latent, hyper = self.analysis(image, quality)
        return latent * self.gain(quality).exp(), hyper

    def synthesise(self, latent: Tensor, quality: Tensor, *, fast: bool = False) -> Tensor:
        """Picture [B, 3, H, W], not clamped, of a latent in units of the quantiser's step. fast: see `Synthesis`."""
        image: Tensor = self.synthesis(latent * (-self.gain(quality)).exp(), quality, fast=fast)
        return image
