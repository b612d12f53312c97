"""The hyperprior model as it is trained: transform, context networks and GM-VQ groups.

A hyper-latent at twice the latent's stride is coded first. The latent follows in four steps: in each, the context
networks predict mean and scale of what the step codes from the hyper-latent and from all that the earlier steps coded.
What remains after the mean is quantised: rounded like a scalar codec's while the transform is learned (`scalar`), by
GM-VQ groups in the finished codec. There, gradient reaches the encoder through the identity for the distortion and
through additive uniform noise for the rate; decoder, codebooks and prior see true codes only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmvqzip.models.context import ContextLayer, ContextStep, HyperDecoder, assemble, pieces, straight_round
from gmvqzip.models.hyperconfig import DISTORTIONS, QUARTERS, GroupsConfig, HyperpriorConfig
from gmvqzip.models.quality import ANCHORS, SECOND, QualityVector
from gmvqzip.models.transform import Transform
from gmvqzip.quantizers import ranks
from gmvqzip.quantizers.groups import GroupGMVQ
from gmvqzip.quantizers.shared import Prepared, SharedGMVQ

Quantiser = GroupGMVQ | SharedGMVQ
STEPS = QUARTERS
_SCALE_MIN, _SCALE_MAX = -3.65, 6.0  # of the log2 scale in the rate under noise
SPREAD_FLOOR, SPREAD_SHIFT = 0.05, 1.0  # deviation of the hyper-latent = softplus(spread + shift) + floor
_COMMITMENT = 0.5  # weight of the encoder's side of the distance to the code, beside the codebook's


@dataclass
class HyperpriorOutput:
    """A training step's result.

    reconstruction: [B, 3, H, W]; bits, hyper_bits: [B], whose gradients are those of the training's rate; distance: the
    mean squared distance of residuals and codewords with its gradients, zero in the scalar form; residuals: what the
    groups of each part saw, [G, N, L], the hyper-latent's first, and their log2 scales [G, N, 2]; indices: [G, N].
    """

    reconstruction: Tensor
    bits: Tensor
    hyper_bits: Tensor
    distance: Tensor
    residuals: list[list[Tensor]]
    indices: list[list[Tensor]]


class HyperpriorModel(nn.Module):
    """Everything that is trained. `forward` only: the codec runs `Transform` and integer tables made from the rest."""

    def __init__(self, config: HyperpriorConfig) -> None:
        super().__init__()
        self.config = config
        self.transform = Transform(config)
        self.hyper_mean = nn.Parameter(torch.zeros(config.hyper_latents))
        self.hyper_spread = nn.Parameter(torch.zeros(config.hyper_latents))  # of the scalar form
        self.hyper_decoder = HyperDecoder(config)
        self.context = nn.ModuleList([ContextStep(config, first=step == 0) for step in range(STEPS)])
        self.hyper_groups = nn.ModuleList([_quantiser(g, g.count) for g in config.hyper])
        self.hyper_scale = _Scales(QualityVector(2 * g.count, distortions=config.distortions) for g in config.hyper)
        self.groups = nn.ModuleList([_quantiser(g, QUARTERS * g.count) for g in config.quarter])

    def steps(self) -> list[ContextStep]:
        """The context network of each coding step."""
        return [module for module in self.context.children() if isinstance(module, ContextStep)]

    def hyper_scales(self) -> list[QualityVector]:
        """log2 scales of the halves of the hyper-latent's groups, part by part."""
        return [module for module in self.hyper_scale.children() if isinstance(module, QualityVector)]

    def all_groups(self) -> list[Quantiser]:
        """The groups of every part, the hyper-latent's first."""
        parts = [*self.hyper_groups.children(), *self.groups.children()]
        return [module for module in parts if isinstance(module, GroupGMVQ | SharedGMVQ)]

    def of_one_distortion(self) -> HyperpriorModel:
        """A copy for the configuration's distortion alone; the model itself where it knows no other."""
        if self.config.distortions == 1:
            return self
        first = DISTORTIONS.index(self.config.distortion) * int(SECOND) * (ANCHORS - 1)
        state = {
            name: value[first : first + ANCHORS] if name.endswith("anchors") else value
            for name, value in self.state_dict().items()
        }
        with torch.random.fork_rng(devices=[]):
            model = HyperpriorModel(replace(self.config, distortions=1))
        model.load_state_dict(state)
        model.train(self.training)
        return model

    def set_rounding(self, rounding: bool) -> None:
        """Round the context networks' activations as the integer form does."""
        for module in self.modules():
            if isinstance(module, ContextLayer):
                module.rounding = rounding

    def forward(self, image: Tensor, quality: Tensor, *, scalar: bool, collect: bool = False) -> HyperpriorOutput:
        """Encode, quantise and decode. image: [B, 3, H, W], sides multiples of the alignment; quality: [B].

        scalar: rounding and the rate under noise, instead of codebooks; collect: keep residuals for the k-means start.
        """
        latent, hyper = self.transform.analyse(image, quality)
        nothing = torch.zeros(len(image), device=image.device)
        output = HyperpriorOutput(image, nothing, nothing, torch.zeros((), device=image.device), [], [])
        with torch.autocast(image.device.type, enabled=False):
            decoded = self._hyper(hyper, quality, output, scalar=scalar, collect=collect)
            prepared = [] if scalar else [g.prepared() for g in self.all_groups()[len(self.config.hyper) :]]
        features = self.hyper_decoder(decoded, quality)
        coded = torch.zeros_like(latent)
        for number, step in enumerate(self.steps()):
            mean, scale = step(features, coded, quality)
            part, mean, scale = pieces(latent, number), pieces(mean, number), pieces(scale, number)
            with torch.autocast(image.device.type, enabled=False):
                words = self._latent(part - mean, scale, output, prepared, scalar=scalar, collect=collect)
            coded = coded + assemble(words + mean, number)
        output.reconstruction = self.transform.synthesise(coded, quality)
        return output

    def _hyper(
        self, hyper: Tensor, quality: Tensor, output: HyperpriorOutput, *, scalar: bool, collect: bool
    ) -> Tensor:
        """The decoded hyper-latent; adds its bits to `output`."""
        mean = self.hyper_mean[:, None, None]
        centred = hyper - mean
        deviation = (F.softplus(self.hyper_spread + SPREAD_SHIFT) + SPREAD_FLOOR)[:, None, None]
        noisy = hyper + ranks.rand(hyper.shape, hyper) - 0.5 if self.training else hyper.round()
        surrogate = gaussian_bits(noisy - mean, deviation).sum((1, 2, 3))
        if collect:
            output.residuals.append([_grouped(part, c)[0] for part, c in _split(centred[None], self.config.hyper)])
        if scalar:
            output.hyper_bits = surrogate
            return straight_round(hyper)
        words, indices = [], []
        parts = _split(centred[None], self.config.hyper)
        for (part, config), groups, scales in zip(parts, self.hyper_groups, self.hyper_scales(), strict=True):
            flat, shape = _grouped(part, config)  # [G, N, L]
            scale = scales(quality)[:, :, 0, 0].reshape(len(hyper), config.count, 2).transpose(0, 1)  # [G, B, 2]
            scale = scale.repeat_interleave(flat.shape[1] // len(hyper), 1)
            word, bits, index = groups(flat, scale)
            words.append(_ungrouped(_straight(word, flat), shape)[0])
            indices.append(index)
            output.hyper_bits = output.hyper_bits + _by_picture(bits, len(hyper))
            output.distance = output.distance + _distance(flat, word)
        output.hyper_bits = output.hyper_bits + surrogate - surrogate.detach()
        output.indices.append(indices)
        return torch.cat(words, 1) + mean

    def _latent(
        self,
        residual: Tensor,
        scale: Tensor,
        output: HyperpriorOutput,
        prepared: list[Prepared | None],
        *,
        scalar: bool,
        collect: bool,
    ) -> Tensor:
        """The quantised residual [4, B, M/4, H/2, W/2] of one step; adds its bits to `output`.

        prepared: of each part's groups.
        """
        noisy = residual + ranks.rand(residual.shape, residual, axis=1) - 0.5 if self.training else residual.round()
        surrogate = gaussian_bits(noisy, scale.clamp(_SCALE_MIN, _SCALE_MAX).exp2()).sum((0, 2, 3, 4))
        if collect:
            parts = _split(residual, self.config.quarter)
            output.residuals.append([_grouped(part, config)[0] for part, config in parts])
        if scalar:
            output.bits = output.bits + surrogate
            return straight_round(residual)
        words, indices = [], []
        parts = _split(torch.stack([residual, scale]), self.config.quarter, axis=3)
        for (pair, config), groups, known in zip(parts, self.groups, prepared, strict=True):
            flat, shape = _grouped(pair[0], config)
            scales = _grouped(pair[1], config)[0]  # [G, N, L]
            spread = scales.reshape(*scales.shape[:2], 2, -1).mean(3)
            word, bits, index = groups(flat, spread, known)
            words.append(_ungrouped(_straight(word, flat), shape))
            indices.append(index)
            output.bits = output.bits + _by_picture(bits, residual.shape[1])
            output.distance = output.distance + _distance(flat, word)
        output.bits = output.bits + surrogate - surrogate.detach()
        output.indices.append(indices)
        return torch.cat(words, 2)


class _Scales(nn.ModuleList):
    """log2 scales, which mixtures go by."""

    optimizer_group = "mixture"


def _quantiser(config: GroupsConfig, groups: int) -> Quantiser:
    return (SharedGMVQ if config.shared else GroupGMVQ)(groups, config.codes, config.dimensions)


def _split(x: Tensor, parts: tuple[GroupsConfig, ...], axis: int = 2) -> list[tuple[Tensor, GroupsConfig]]:
    """Cut the channel axis into its parts' channels."""
    cut = torch.split(x, [g.count * g.dimensions for g in parts], axis)
    return list(zip(cut, parts, strict=True))


def _grouped(x: Tensor, config: GroupsConfig) -> tuple[Tensor, tuple[int, ...]]:
    """[Q, B, count * L, h, w] -> [Q * count, B * h * w, L], and the shape for the way back."""
    quarters, batch, _, rows, columns = x.shape
    split = x.reshape(quarters, batch, config.count, config.dimensions, rows, columns)
    flat = split.permute(0, 2, 1, 4, 5, 3).reshape(quarters * config.count, batch * rows * columns, config.dimensions)
    return flat, (quarters, config.count, batch, rows, columns, config.dimensions)


def _ungrouped(flat: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `_grouped`."""
    return flat.reshape(shape).permute(0, 2, 1, 5, 3, 4).flatten(2, 3)


def _by_picture(bits: Tensor, batch: int) -> Tensor:
    """[G, B * sites] -> sums [B]."""
    return bits.reshape(len(bits), batch, -1).sum((0, 2))


def _straight(word: Tensor, residual: Tensor) -> Tensor:
    """The codeword, with the identity's gradient to the residual beside its own to the codebook."""
    return word + residual - residual.detach()


def _distance(residual: Tensor, word: Tensor) -> Tensor:
    """Mean over sites, summed over groups: the codebook's pull to the residuals and the encoder's commitment."""
    pull = (residual.detach() - word).square().mean((1, 2)).sum()
    return pull + _COMMITMENT * (residual - word.detach()).square().mean((1, 2)).sum()


def gaussian_bits(distance: Tensor, deviation: Tensor) -> Tensor:
    """Bits of an integer cell at `distance` from the mean of a Gaussian, elementwise."""
    d = distance.abs()
    inverse = 1 / (math.sqrt(2) * deviation)
    mass = 0.5 * (torch.erfc((d - 0.5) * inverse) - torch.erfc((d + 0.5) * inverse))
    return -mass.clamp_min(1e-9).log2()
