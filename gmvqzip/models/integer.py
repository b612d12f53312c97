"""From trained context networks and groups to the integers that the entropy coder reads (`entropy.context`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gmvqzip.entropy.context import (
    ACTIVATION_LIMIT,
    ACTIVATION_UNIT,
    CODED_LIMIT,
)
from gmvqzip.entropy.layers import QUALITIES
from gmvqzip.entropy.mixture import LATENT_UNIT, LIMITS, SCORE_BITS, SHIFT
from gmvqzip.errors import ModelError
from gmvqzip.models.context import ContextLayer, ContextStep
from gmvqzip.models.hyperconfig import QUARTERS, HyperpriorConfig
from gmvqzip.models.hyperprior import HyperpriorModel, Quantiser
from gmvqzip.models.quality import QualityVector
from gmvqzip.quantizers.groups import CLASS_OFFSET, CLASSES_PER_OCTAVE
from gmvqzip.quantizers.shared import SharedGMVQ

_EXACT = 1 << 24
_MAX_SHIFT = 24
_MAX_WEIGHT = 127
_MAX_BIAS = 1 << 28
_MAX_MEAN = (1 << 15) - 1
SCORES_PER_NAT = 2.0**SCORE_BITS * math.log2(math.e)
PRECISION_UNIT = SCORES_PER_NAT * 2.0**SHIFT / 2 / LATENT_UNIT**2
SLOPE_UNIT = SCORES_PER_NAT * 2.0**SHIFT / LATENT_UNIT

Tensors = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]


def integer_tensors(model: HyperpriorModel) -> Tensors:
    """All integer tensors of a model file: context layers, hyper-latent, groups. See docs/format.md.

    Raises ModelError where a weight is not finite.
    """
    for name, value in model.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise ModelError(f"weight {name!r} is not finite")
    config = model.config
    active = np.full(config.context_width, ACTIVATION_LIMIT)
    latent = np.full(config.latents, CODED_LIMIT)
    hyper = model.hyper_decoder
    tensors: Tensors = {}
    tensors |= _hidden("hyper.spread", hyper.spread, np.full(config.hyper_latents, CODED_LIMIT))
    tensors |= _hidden("hyper.up", hyper.up, active)
    tensors |= _hidden("hyper.smooth", hyper.smooth, active, hyper.bias)
    for number, step in enumerate(model.steps()):
        inputs = active if step.first else np.concatenate([active, latent])
        tensors |= _hidden(f"step.{number}.spatial", step.spatial, inputs, step.bias)
        tensors |= _hidden(f"step.{number}.mix", step.mix, active)
        weight, bias = _heads(step, config)
        tensors |= integer_layer(f"step.{number}.head", weight / ACTIVATION_UNIT, bias, active)
    tensors["hyper.mean"] = _rounded(model.hyper_mean, LATENT_UNIT, _MAX_MEAN, np.int16)
    tensors["hyper.classes"] = _hyper_classes(model)
    hyper_parts = len(config.hyper)
    for number, part in enumerate(model.all_groups()):
        prefix = f"hyper.groups.{number}" if number < hyper_parts else f"groups.{number - hyper_parts}"
        tensors |= {f"{prefix}.{name}": value for name, value in group_tensors(part).items()}
    return tensors


def integer_layer(name: str, weight: Floats, bias: Floats, limits: NDArray[Any]) -> Tensors:
    """Weight, bias and shift of one layer. weight: [O, I, k, k] and bias: [A, O], in units of integers in and out.

    limits: the largest magnitude of each input [I]. Each output channel takes the largest shift at which its weights
    fit 8 bits and its sums stay exact; where none does, weights and bias are scaled down until they fit, which keeps
    their sign. Raises ModelError where the inputs are too many for exact sums.
    """
    total = np.abs(weight).sum((2, 3)) @ limits
    rounding = limits.sum() * weight.shape[2] * weight.shape[3] / 2  # what rounding may add to a sum of products
    with np.errstate(divide="ignore"):
        room = np.minimum(_MAX_WEIGHT / np.abs(weight).max((1, 2, 3)), (_EXACT - rounding - 1) / total)
        room = np.minimum(room, _MAX_BIAS / np.abs(bias).max(0))
    if rounding >= _EXACT - 1:
        raise ModelError(f"context layer {name!r} has too many inputs for exact sums: {len(limits)}")
    shift = np.floor(np.log2(room)).clip(1, _MAX_SHIFT).astype(np.int8)
    scale = np.minimum(2.0 ** shift.astype(np.float64), room)
    return {
        f"{name}.weight": np.rint(weight * scale[:, None, None, None]).clip(-_MAX_WEIGHT, _MAX_WEIGHT).astype(np.int8),
        f"{name}.bias": np.rint(bias * scale).clip(-_MAX_BIAS, _MAX_BIAS).astype(np.int32),
        f"{name}.shift": shift,
    }


def _hidden(name: str, layer: ContextLayer, limits: NDArray[Any], quality: QualityVector | None = None) -> Tensors:
    """A hidden layer, with its quality-dependent bias if it has one. All inputs and outputs are in 1/32."""
    weight, bias = _numbers(layer.conv.weight), _bias(layer)[None]
    if quality is not None:
        bias = bias + _numbers(quality.anchors)
    return integer_layer(name, weight, bias * ACTIVATION_UNIT, limits)


def _heads(step: ContextStep, config: HyperpriorConfig) -> tuple[Floats, Floats]:
    """Weight [O, C, 1, 1] and bias [A, O] of means in 1/32 of the step, then of the class of each half of each group,
    part by part."""
    weight, bias = _numbers(step.head.conv.weight), _bias(step.head)
    latents = config.latents
    scale, offset = weight[latents:], bias[latents:] + _numbers(step.growth.anchors)
    rows, shifts = [], []
    first = 0
    for part in config.quarter:
        half = part.dimensions // 2
        for quarter in range(QUARTERS):
            start = quarter * latents // QUARTERS + first
            own = slice(start, start + part.count * part.dimensions)
            rows.append(scale[own].reshape(2 * part.count, half, *scale.shape[1:]).mean(1))
            shifts.append(offset[:, own].reshape(len(offset), 2 * part.count, half).mean(2))
        first += part.count * part.dimensions
    classes = CLASSES_PER_OCTAVE * np.concatenate(rows)
    class_bias = CLASSES_PER_OCTAVE * np.concatenate(shifts, 1) + CLASS_OFFSET
    means = slice(0, latents)
    biases = np.concatenate([np.tile(bias[means] * LATENT_UNIT, (len(offset), 1)), class_bias], 1)
    same = bool((biases == biases[0]).all())
    return np.concatenate([weight[means] * LATENT_UNIT, classes]), biases[:1] if same else biases


def _hyper_classes(model: HyperpriorModel) -> NDArray[Any]:
    """Class of each half of each group of the hyper-latent at qualities 1 to 100: int8 [100, G, 2]."""
    device = model.hyper_mean.device
    qualities = torch.arange(QUALITIES, device=device) / (QUALITIES - 1)
    parts = []
    with torch.no_grad():
        for vector, groups in zip(model.hyper_scales(), model.all_groups(), strict=False):
            scales = vector(qualities)[:, :, 0, 0]  # [100, 2G]
            parts.append((CLASSES_PER_OCTAVE * scales + CLASS_OFFSET).round().clamp(0, groups.classes - 1))
    return torch.cat(parts, 1).to("cpu", torch.int8).numpy().reshape(QUALITIES, -1, 2)


def group_tensors(groups: Quantiser) -> Tensors:
    """Codebooks, biases and context weights of groups, as `entropy.mixture` reads them."""
    extra = {"extra": groups.extra.cpu().numpy().astype(np.int8)} if isinstance(groups, SharedGMVQ) else {}
    return extra | {
        "codebook": _rounded(groups.codewords(), LATENT_UNIT, LIMITS["codebook"], np.int16),
        "bias": _rounded(groups.code_bias, SCORES_PER_NAT, LIMITS["bias"], np.int32),
        "precision": _rounded(groups.log_precision.exp(), PRECISION_UNIT, LIMITS["precision"], np.int32),
        "slope": _rounded(groups.slope, SLOPE_UNIT, LIMITS["slope"], np.int32),
    }


def _numbers(tensor: torch.Tensor) -> Floats:
    value: Floats = tensor.detach().cpu().double().numpy()
    return value


def _bias(layer: ContextLayer) -> Floats:
    if layer.conv.bias is None:
        raise ValueError("a context layer needs a bias")
    return _numbers(layer.conv.bias)


def _rounded(tensor: torch.Tensor, unit: float, limit: int, dtype: Any) -> NDArray[Any]:
    """Times `unit`, rounded, limited to a magnitude."""
    return np.rint(_numbers(tensor) * unit).clip(-limit, limit).astype(dtype)
