"""From a model file back to a model that trains: the inverse of `integer` and `hyperstore`, and of `store`.

What a file rounds stays rounded: written again, the revived model gives the same tensors, but for a rare context layer
that rounding has left between two shifts, and for hyper-latent classes beyond what anchors of a quality can follow.
Not in a file, and estimated: the deviation of the hyper-latent under noise, which only the gradient of the rate reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gmvqzip.entropy.context import ACTIVATION_UNIT
from gmvqzip.entropy.layers import QUALITIES
from gmvqzip.entropy.mixture import LATENT_UNIT, load_mixtures
from gmvqzip.errors import ModelError
from gmvqzip.models.context import ContextLayer, ContextStep
from gmvqzip.models.hyperconfig import QUARTERS, HyperpriorConfig
from gmvqzip.models.hyperprior import SPREAD_FLOOR, SPREAD_SHIFT, HyperpriorModel, Quantiser
from gmvqzip.models.hyperstore import load_context, load_precisions, load_transform, read_context
from gmvqzip.models.integer import PRECISION_UNIT, SCORES_PER_NAT, SLOPE_UNIT, Floats, Tensors
from gmvqzip.models.quality import QualityVector, hat_weights
from gmvqzip.models.registry import ModelInfo
from gmvqzip.quantizers.groups import CLASS_OFFSET, CLASSES_PER_OCTAVE
from gmvqzip.quantizers.shared import SharedGMVQ

_LEAST_PRECISION = 0.25  # of a precision that the file rounds to 0, in its unit
_CLASS_ROOM = 0.45  # how far from a class its scale may lie; 1/2 is rounded to it
_CLASS_TURNS = 500  # of the search for anchors whose classes are the file's


def revive_hyperprior(info: ModelInfo, config: HyperpriorConfig) -> HyperpriorModel:
    """The model of a file, to be trained on, on the CPU; its context networks round as the integers do.

    Raises ModelError where the file is damaged, or has other classes than this version trains.
    """
    load_context(info, config)  # checks every tensor's type, shape and range
    tensors = read_context(info)
    with torch.random.fork_rng(devices=[]):
        model = HyperpriorModel(config)
    model.transform.load_state_dict(load_transform(info, config).state_dict())
    with torch.no_grad():
        _revive_context(model, tensors)
        _revive_hyper(model, tensors)
        _revive_groups(model, tensors, load_precisions(info, config))
    model.set_rounding(True)
    return model


def _revive_context(model: HyperpriorModel, tensors: Tensors) -> None:
    """Weights and biases of the context networks."""
    hyper = model.hyper_decoder
    _set_hidden(hyper.spread, tensors, "hyper.spread")
    _set_hidden(hyper.up, tensors, "hyper.up")
    _set_hidden(hyper.smooth, tensors, "hyper.smooth", hyper.bias)
    for number, step in enumerate(model.steps()):
        _set_hidden(step.spatial, tensors, f"step.{number}.spatial", step.bias)
        _set_hidden(step.mix, tensors, f"step.{number}.mix")
        weight, bias = _layer(tensors, f"step.{number}.head")
        _set_head(step, weight * ACTIVATION_UNIT, bias, model.config)


def _layer(tensors: Tensors, name: str) -> tuple[Floats, Floats]:
    """Weight [O, I, k, k] and bias [A, O] of a layer, in units of integers in and out."""
    scale = 0.5 ** tensors[f"{name}.shift"].astype(np.float64)
    return tensors[f"{name}.weight"] * scale[:, None, None, None], tensors[f"{name}.bias"] * scale


def _set_hidden(layer: ContextLayer, tensors: Tensors, name: str, quality: QualityVector | None = None) -> None:
    """A hidden layer; with `quality` its bias is the mean of the anchors, and theirs what is left."""
    weight, bias = _layer(tensors, name)
    if len(bias) != (1 if quality is None else len(quality.anchors)):
        raise ModelError(f"context layer {name!r} has {len(bias)} anchors of quality, which cannot be trained on")
    common = np.rint(bias.mean(0)) if quality is not None else bias[0]
    _set(layer.conv.weight, weight)
    _set(layer.conv.bias, common / ACTIVATION_UNIT)
    if quality is not None:
        _set(quality.anchors, (bias - common) / ACTIVATION_UNIT)


def _set_head(step: ContextStep, weight: Floats, bias: Floats, config: HyperpriorConfig) -> None:
    """Means, and for each channel the log2 scale of the half of its group: the inverse of `integer._heads`."""
    latents = config.latents
    anchors = len(step.growth.anchors)
    if len(bias) not in (1, anchors):
        raise ModelError(f"context heads have {len(bias)} anchors of quality, which cannot be trained on")
    bias = np.broadcast_to(bias, (anchors, bias.shape[1]))
    means, classes = (weight[:latents], bias[:, :latents].mean(0)), (weight[latents:], bias[:, latents:])
    scale, offset = np.empty_like(means[0]), np.empty((anchors, latents))
    first = before = 0
    for part in config.quarter:
        width = part.count * part.dimensions
        for quarter in range(QUARTERS):
            start = quarter * latents // QUARTERS + first
            own = np.repeat(np.arange(before, before + 2 * part.count), part.dimensions // 2)
            scale[start : start + width], offset[:, start : start + width] = classes[0][own], classes[1][:, own]
            before += 2 * part.count
        first += width
    growth = (offset - CLASS_OFFSET) / CLASSES_PER_OCTAVE
    _set(step.head.conv.weight, np.concatenate([means[0] / LATENT_UNIT, scale / CLASSES_PER_OCTAVE]))
    _set(step.head.conv.bias, np.concatenate([means[1] / LATENT_UNIT, growth[0]]))
    _set(step.growth.anchors, growth - growth[0])


def _revive_hyper(model: HyperpriorModel, tensors: Tensors) -> None:
    """Mean, scales and deviations of the hyper-latent."""
    _set(model.hyper_mean, tensors["hyper.mean"] / LATENT_UNIT)
    classes = tensors["hyper.classes"].reshape(QUALITIES, -1).astype(np.float64)  # [100, 2G]
    deviations, first = [], 0
    for scales, part, groups in zip(model.hyper_scales(), model.config.hyper, model.all_groups(), strict=False):
        own = slice(first, first + 2 * part.count)
        anchors = _class_anchors(classes[:, own], groups.classes - 1)
        _set(scales.anchors, (anchors - CLASS_OFFSET) / CLASSES_PER_OCTAVE)
        spread = np.exp2((classes[:, own] - CLASS_OFFSET) / CLASSES_PER_OCTAVE).mean(0)
        deviations.append(np.repeat(spread, part.dimensions // 2))
        first = own.stop
    inner = np.maximum(np.concatenate(deviations) - SPREAD_FLOOR, SPREAD_FLOOR)
    _set(model.hyper_spread, np.log(np.expm1(inner)) - SPREAD_SHIFT)


def _class_anchors(classes: Floats, highest: int) -> Floats:
    """Anchors [A, C] of classes [100, C], as real numbers, that lie at each quality in the class that the file has.

    From least squares, by projections of what lies outside of its class. The lowest and the highest class have no end.
    """
    hats = hat_weights(torch.arange(QUALITIES, dtype=torch.float64) / (QUALITIES - 1)).numpy()
    inverse = np.linalg.pinv(hats)
    low = np.where(classes > 0, classes - _CLASS_ROOM, -np.inf)
    high = np.where(classes < highest, classes + _CLASS_ROOM, np.inf)
    anchors: Floats = inverse @ classes
    for _ in range(_CLASS_TURNS):
        scales = hats @ anchors
        outside = scales - scales.clip(low, high)
        if not outside.any():
            break
        anchors = anchors - inverse @ outside
    return anchors


def _revive_groups(model: HyperpriorModel, tensors: Tensors, precisions: NDArray[np.float32]) -> None:
    """Codebooks, biases and context weights of all groups, and their w."""
    start = 0
    for prefix, groups in _named_groups(model):
        shape = (groups.groups, groups.codes, groups.dimensions)
        mixtures = load_mixtures(tensors, shape, prefix, shared=isinstance(groups, SharedGMVQ))
        if mixtures.classes != groups.classes:
            raise ModelError(f"the model has {mixtures.classes} context classes, but training has {groups.classes}")
        if isinstance(groups, SharedGMVQ):
            groups.extra.copy_(torch.from_numpy(mixtures.extra))
        _set(groups.codebook, mixtures.codebook / LATENT_UNIT)
        _set(groups.code_bias, mixtures.bias / SCORES_PER_NAT)
        _set(groups.log_precision, np.log(np.maximum(mixtures.precision, _LEAST_PRECISION) / PRECISION_UNIT))
        _set(groups.slope, mixtures.slope / SLOPE_UNIT)
        _set(groups.weight, precisions[start : start + groups.groups])
        start += groups.groups


def _named_groups(model: HyperpriorModel) -> Iterator[tuple[str, Quantiser]]:
    """The groups of every part, with the beginning of their tensors' names in a file."""
    hyper_parts = len(model.config.hyper)
    for number, part in enumerate(model.all_groups()):
        yield f"hyper.groups.{number}." if number < hyper_parts else f"groups.{number - hyper_parts}.", part


def _set(target: Tensor | nn.Parameter | None, values: NDArray[Any]) -> None:
    if target is None:
        raise ValueError("a context layer needs a bias")
    target.copy_(torch.from_numpy(np.ascontiguousarray(values)).to(target.dtype))
