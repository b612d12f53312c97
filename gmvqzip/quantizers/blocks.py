"""Scores of all codes at all sites, block by block: never more of them at once than a processor's cache holds.

Of G groups, N sites and K codes the [G, N, K] scores of a mixture's MAP codes are made again for the gradient: to make
a number there is faster than to fetch it.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_BLOCK = 1 << 18  # scores at once on a processor
_BLOCK_ELSEWHERE = 1 << 26
_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if platform.machine() in ("x86_64", "AMD64") else None
_FAR = 1e30  # times the least difference of two scores, still more than any number of codes


def map_codes(features: Tensor, sides: Tensor, pull: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """-log p(c) [G, N] in nats of the codes c = argmax log p(c) + pull . target_c, and these codes [G, N] int64.

    log p(c) = feature . side_c - logsumexp over all codes. features: [G, N, F]; sides: [G, K, F]; pull: [G, N, P];
    targets: [G, K, P]. Gradients reach features and sides.
    """
    nats, indices = _MapCodes.apply(features, sides, pull.detach(), targets.detach())  # type: ignore[no-untyped-call]
    return nats, indices


class _MapCodes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, sides: Tensor, pull: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        nats = features.new_empty(features.shape[:2])
        indices = torch.empty_like(nats, dtype=torch.int64)
        for part in _parts(features, sides):
            group = part[0]
            logits = features[part] @ sides[group].transpose(1, 2)  # [G', N', K]
            codes = argmax_(torch.baddbmm(logits, pull[part], targets[group].transpose(1, 2)))
            nats[part] = -logits.log_softmax(2).gather(2, codes[..., None])[..., 0]
            indices[part] = codes
        ctx.save_for_backward(features, sides, indices)
        ctx.mark_non_differentiable(indices)
        return nats, indices

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        features, sides, indices = ctx.saved_tensors
        weight = gradients[0][..., None]
        for_features, for_sides = torch.empty_like(features), torch.zeros_like(sides)
        for part in _parts(features, sides):
            group = part[0]
            slope = (features[part] @ sides[group].transpose(1, 2)).softmax(2)
            codes = indices[part][..., None]
            slope.scatter_add_(2, codes, slope.new_full((), -1).expand(codes.shape))
            # Products in this order, the narrow side first, take half the time of the other.
            for_features[part] = weight[part] * (sides[group].transpose(1, 2) @ slope.transpose(1, 2)).transpose(1, 2)
            for_sides[group] += ((weight[part] * features[part]).transpose(1, 2) @ slope).transpose(1, 2)
        return for_features, for_sides, None, None


def affine(rows: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """rows weights' + bias, without gradients. rows: [N, F]; weights: [K, F]; bias: [K]. Returns [N, K].

    In float32 on a processor by oneDNN, where torch has it: in the same precision, on processors of AMD twice as fast
    as the library that `addmm` takes.
    """
    if _ONEDNN is None or rows.device.type != "cpu" or rows.dtype != torch.float32:
        return torch.addmm(bias, rows, weights.t())
    found: Tensor = _ONEDNN(rows, weights, bias, "none", [], "")
    return found


def argmax_(scores: Tensor) -> Tensor:
    """`scores.argmax(-1)`, the first of equals, of scores [..., K], which it spoils; half the time on a processor."""
    return first_zero(scores.sub_(scores.amax(-1, keepdim=True)))


def first_zero(below: Tensor) -> Tensor:
    """The first place [...] along the last axis at which numbers [..., K], all others below zero, are zero."""
    places = torch.arange(below.shape[-1], dtype=below.dtype, device=below.device)
    found = -torch.add(-places, below, alpha=_FAR).amax(-1)
    return found.long().clamp_(0, len(places) - 1)  # where numbers are not finite, there is none


def row_blocks(rows: int, codes: int, device: torch.device) -> Iterator[slice]:
    """Slices of `rows` rows, as many at once as make a [rows, K] block that the cache holds."""
    step = max(1, _most(device) // codes)
    return (slice(start, start + step) for start in range(0, rows, step))


def _most(device: torch.device) -> int:
    """Scores in a block."""
    return _BLOCK if device.type == "cpu" else _BLOCK_ELSEWHERE


def _parts(features: Tensor, sides: Tensor) -> Iterator[tuple[slice, slice]]:
    """Groups and sites of each block."""
    groups, sites, codes = *features.shape[:2], sides.shape[1]
    most = _most(features.device)
    rows = max(1, min(sites, most // codes))
    several = max(1, most // (rows * codes))
    for group in range(0, groups, several):
        for row in range(0, sites, rows):
            yield slice(group, group + several), slice(row, row + rows)
