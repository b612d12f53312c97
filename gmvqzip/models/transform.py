"""The transforms of a hyperprior model: picture to latents and back, for every quality.

Shapes are [B, C, H, W]; pictures are in [0, 1]; `quality` is [B] in [0, 1]. Latents live in units of the quantiser's
step: the encoder multiplies them by a gain that grows with the quality, the decoder divides by it.

Beside the network, a configuration with `linear` has a linear way in both directions: blocks of the latent's stride to
the latent, and the latent to patches of the first stride, which the last level sees and adds to its own. It holds what
a short training of the network alone does not learn to carry: fine detail.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmvqzip.models import walks
from gmvqzip.models.hyperconfig import HYPER_WIDTH, QUARTERS, HyperpriorConfig
from gmvqzip.models.network import EdgeConv2d, Encoder, Modules, ReducingConv2d, residual_blocks
from gmvqzip.models.quality import Modulation, QualityVector

_FIRST_GAIN = 0.3  # logarithm of the gain at the start, lowest quality; its square goes with lambda


_SMALL = 0.1  # factor of the network's last layers at the start, where a linear way stands beside it


def dct_basis(side: int, count: int) -> Tensor:
    """`count` rows of an orthonormal basis of blocks [3 * side^2], as `pixel_unshuffle` orders them: products of a
    colour axis (gray, and two opponents) and a DCT-II, the lowest frequencies first, colours at half their resolution.
    Rows are dealt out to the quarters of the latent's channels in turn; what is beyond the basis is zero.
    """
    places = torch.arange(side)
    cosines = torch.cos(math.pi * (places[:, None] + 0.5) * places / side).T * math.sqrt(2 / side)  # [frequency, place]
    cosines[0] /= math.sqrt(2)
    colours = F.normalize(torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]]))
    rows = torch.einsum("kc,ui,vj->kuvcij", colours, cosines, cosines).reshape(3 * side**2, -1)
    squares = (places[:, None] ** 2 + places**2 + 1).flatten()
    order = torch.cat([squares, 4 * squares, 4 * squares]).argsort(stable=True)[:count]
    basis = torch.zeros(count, 3 * side**2)
    basis[: len(order)] = rows[order]
    return basis.reshape(count // QUARTERS, QUARTERS, -1).transpose(0, 1).reshape(count, -1)


class LinearConv2d(nn.Conv2d):
    """A convolution of the linear way, which is exact from the start."""

    optimizer_group = "linear"


class HyperConv2d(ReducingConv2d):
    """The first convolution of the hyper-analysis. Its weights begin far larger than others (`training.first_scales`):
    Muon's steps, all of one length, would leave them as they are, and its decay shrink them."""

    optimizer_group = "rest"


class Analysis(nn.Module):
    """Picture to latent and hyper-latent."""

    def __init__(self, config: HyperpriorConfig) -> None:
        super().__init__()
        self.config = config
        top, stride = config.channels[-1], config.strides[-1]
        self.encoder = Encoder(config, config.edge_kernel)
        self.films = nn.ModuleList([Modulation(w, distortions=config.distortions) for w in config.channels])
        self.latent = nn.Conv2d(top, config.latents, 1)
        self.linear = LinearConv2d(3 * stride**2, config.latents, 1, bias=False) if config.linear else None
        if self.linear is not None:
            with torch.no_grad():
                self.linear.weight.copy_(dct_basis(stride, config.latents)[:, :, None, None])
                self.latent.weight.mul_(_SMALL)
        self.hyper_down = HyperConv2d(2, top, HYPER_WIDTH)
        self.hyper = EdgeConv2d(HYPER_WIDTH, config.hyper_latents, 1)

    def forward(self, image: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, H, W] -> latent without its gain [B, M, H/16, W/16], hyper-latent [B, Z, H/32, W/32]; float32."""
        modules = _Modules(self, quality, ("latent", "linear", "hyper"))
        both: tuple[Tensor, Tensor] = walks.analyse(modules, self.config, image - 0.5)
        return both


class Synthesis(nn.Module):
    """Decoded latent to picture."""

    def __init__(self, config: HyperpriorConfig) -> None:
        super().__init__()
        self.config = config
        channels, patch = config.channels, config.strides[0]
        self.project = nn.Conv2d(config.latents, channels[-1], 1)
        pairs = zip(channels, config.decoder_blocks, strict=True)
        self.levels = nn.ModuleList([residual_blocks(width, count) for width, count in pairs])
        self.films = nn.ModuleList([Modulation(width, distortions=config.distortions) for width in channels])
        self.up = nn.ModuleList([nn.Conv2d(wide, narrow * 4, 1) for narrow, wide in pairwise(channels)])
        patch_channels = 3 * patch**2
        kernel, inputs = config.edge_kernel, channels[0] + (patch_channels if config.linear else 0)
        self.final = EdgeConv2d(inputs, patch_channels, kernel, padding=kernel // 2)
        if config.linear:
            spread = config.spread
            self.linear = LinearConv2d(config.latents, patch_channels * spread**2, 1, bias=False)
            self.join = EdgeConv2d(patch_channels, channels[0], 1, bias=False)
            with torch.no_grad():  # starts as the inverse of the analysis, and goes to the same patch, not to the state
                basis = dct_basis(config.strides[-1], config.latents).reshape(-1, 3, spread, patch, spread, patch)
                self.linear.weight.copy_(basis.permute(1, 3, 5, 2, 4, 0).reshape(-1, config.latents, 1, 1))
                self.join.weight.zero_()
                self.final.weight.mul_(_SMALL)
                self.final.weight[:, channels[0] :].zero_()
                self.final.weight[:, channels[0] :, kernel // 2, kernel // 2] = torch.eye(patch_channels)

    def forward(self, latent: Tensor, quality: Tensor, *, fast: bool = False) -> Tensor:
        """[B, M, H/16, W/16] without its gain -> [B, 3, H, W], not clamped.

        fast: residual branches in bfloat16; state, and layers between levels, stay in float32.
        """
        return self.at(quality, fast=fast)(latent)

    def at(self, quality: Tensor, *, fast: bool = False) -> Callable[[Tensor], Tensor]:
        """`forward` at a quality, for several latents: what depends on the quality alone is computed once."""
        modules = _Modules(self, quality, ("final",), fast=fast)

        def synthesise(latent: Tensor) -> Tensor:
            image: Tensor = walks.synthesise(modules, self.config, latent)
            return image + 0.5

        return synthesise


class _Modules(Modules):
    """A transform's modules at a quality [B]."""

    def __init__(self, network: nn.Module, quality: Tensor, ends: Sequence[str], *, fast: bool = False) -> None:
        super().__init__(network, ends)
        self.quality, self.fast = quality, fast
        self._films: dict[str, tuple[Tensor, Tensor]] = {}

    def called(self, name: str, module: nn.Module, x: Tensor) -> Tensor:
        if isinstance(module, Modulation):
            if name not in self._films:
                self._films[name] = module.at(self.quality)
            return module.modulated(x, *self._films[name])
        fast = self.fast and name.startswith("levels")
        with torch.autocast(x.device.type, torch.bfloat16) if fast else nullcontext():
            out: Tensor = module(x)
        return out


class Transform(nn.Module):
    """Both directions, and the gain between them."""

    def __init__(self, config: HyperpriorConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = Analysis(config)
        self.synthesis = Synthesis(config)
        last = _FIRST_GAIN + 0.5 * math.log(config.lambda_last / config.lambda_first)
        self.gain = QualityVector(config.latents, _FIRST_GAIN, last, distortions=config.distortions)  # logarithm

    def analyse(self, image: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Latent in units of the quantiser's step, and hyper-latent. See `Analysis`."""
        latent, hyper = self.analysis(image, quality)
        return latent * self.gain(quality).exp(), hyper

    def synthesise(self, latent: Tensor, quality: Tensor, *, fast: bool = False) -> Tensor:
        """Picture [B, 3, H, W], not clamped, of a latent in units of the quantiser's step. fast: see `Synthesis`."""
        image: Tensor = self.synthesis(latent * (-self.gain(quality)).exp(), quality, fast=fast)
        return image

    def synthesiser(self, quality: Tensor, *, fast: bool = False) -> Callable[[Tensor], Tensor]:
        """`synthesise` at a quality, for several latents."""
        gain, synthesise = (-self.gain(quality)).exp(), self.synthesis.at(quality, fast=fast)
        return lambda latent: synthesise(latent * gain)
