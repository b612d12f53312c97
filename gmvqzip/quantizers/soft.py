"""What soft methods need of all codes: the posterior, a relaxed sample, and their sums, block by block.

Of N sites and K codes the [N, K] numbers are made in blocks small enough for a processor's cache. Kept for the gradient
are the posterior and the sample alone; where products are in bfloat16, so are these. Logits, the posterior's sums and
all sums of gradients are in the sites' own precision; so is the mixture, where its sample asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gmvqzip.quantizers import ranks
from gmvqzip.quantizers.blocks import affine, first_zero, row_blocks

_NOISE = 1 << 22  # numbers in the table of noise
_NOISE_SEED = 0x6D76


@dataclass(frozen=True)
class Sample:
    """A relaxed sample y = softmax((l + g) / temperature) and what it mixes: y words.

    words: [K, L]; noise: places of g in a table, [N] from `noise_places`; g is zero without them; exact: y words is
    never made in bfloat16.
    """

    words: Tensor
    temperature: float
    noise: Tensor | None = None
    exact: bool = False


@dataclass(frozen=True)
class SoftCodes:
    """Of N sites: mixed words [N, L] (none without a sample), int64 codes [N], the argmax of l + g; and sums over
    sites: q [K], sum_c q ln q, and E_q ||point - word||^2 (zero without points)."""

    mixed: Tensor
    indices: Tensor
    posterior: Tensor
    negentropy: Tensor
    distance: Tensor


def soft_codes(
    sides: Tensor,
    codes: Tensor | None,
    bias: Tensor | None = None,
    *,
    points: Tensor | None = None,
    words: Tensor | None = None,
    sample: Sample | None = None,
    fast: bool = False,
) -> SoftCodes:
    """The posterior q = softmax(l), l = sides codes' + bias, and what comes of it; l counts up to a number a site.

    sides: [N, F]; codes: [K, F], or None where the sides are the logits [N, K] themselves; bias: [K]; points: [N, L]
    and words: [K, L] of the expected distance, both or neither; fast: products with q and y, and those for gradients,
    in bfloat16. Gradients reach all tensors but the noise's.
    """
    size = sides.shape[1] if codes is None else len(codes)
    mixing = sides.new_zeros(size, 0) if sample is None else sample.words
    temperature, noise, exact = (
        (1.0, None, False) if sample is None else (sample.temperature, sample.noise, sample.exact)
    )
    bias = sides.new_zeros(size) if bias is None else bias
    return SoftCodes(*_SoftCodes.apply(sides, codes, bias, points, words, mixing, noise, temperature, exact, fast))  # type: ignore[no-untyped-call]


def noise_places(sites: int, like: Tensor) -> Tensor:
    """Random places [N] in the table of noise, for this process's share of the batch.

    Every site takes the K numbers from its place on. To make new ones at each step takes longer than the posterior.
    """
    whole = torch.randint(_NOISE, (sites * ranks.world(),), device=like.device)
    return whole[ranks.share(len(whole))]


@lru_cache(maxsize=2)
def gumbel_table(codes: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Standard Gumbel noise, the same in every run: [places, K], each row one number further on in 4 million."""
    generator = torch.Generator().manual_seed(_NOISE_SEED)
    uniform = torch.rand(_NOISE + codes - 1, generator=generator, dtype=torch.float64)
    return (-(-uniform.log()).log()).to(dtype=dtype, device=device).unfold(0, codes, 1)


class _SoftCodes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        sides: Tensor,
        codes: Tensor | None,
        bias: Tensor,
        points: Tensor | None,
        words: Tensor | None,
        mixing: Tensor,
        noise: Tensor | None,
        temperature: float,
        exact: bool,
        fast: bool,
    ) -> tuple[Tensor, ...]:
        (count, size), sampled = (len(sides), len(bias)), mixing.shape[1] > 0
        product = torch.bfloat16 if fast else sides.dtype
        posteriors = sides.new_empty(count, size, dtype=product)
        samples = sides.new_empty(count if sampled else 0, size, dtype=product)
        mixed, small = sides.new_empty(count, mixing.shape[1]), mixing if exact else mixing.to(product)
        indices = torch.empty(count, dtype=torch.int64, device=sides.device)
        posterior, negentropy = torch.zeros_like(bias), torch.zeros_like(bias[0])
        pulled, near = None, None
        if points is not None and words is not None:  # seen from the words' mean, which changes no distance
            points, words = points - words.mean(0), words - words.mean(0)
            pulled, near = torch.zeros_like(words), points.to(product)  # sum over sites of q point
        table = None if noise is None else gumbel_table(size, sides.dtype, sides.device)
        for part in row_blocks(count, size, sides.device):
            logits = sides[part] + bias if codes is None else affine(sides[part], codes, bias)
            logits -= logits.amax(1, keepdim=True)
            q = logits.softmax(1)
            posterior += q.sum(0)
            negentropy += q.flatten().dot(logits.flatten()) + q.amax(1).log().sum()
            posteriors[part] = q
            if pulled is not None and near is not None:
                pulled += posteriors[part].t() @ near[part]
            if table is not None and noise is not None:
                logits += table.index_select(0, noise[part])
                logits -= logits.amax(1, keepdim=True)
            indices[part] = first_zero(logits)
            if sampled:
                y = logits.div_(temperature).softmax(1)
                samples[part] = y
                mixed[part] = (y if exact else samples[part]) @ small
        distance = torch.zeros_like(negentropy)
        if points is not None and words is not None and pulled is not None:
            distance = points.square().sum() - 2 * (words * pulled).sum() + words.square().sum(1) @ posterior
        ctx.save_for_backward(sides, codes, points, words, mixing, posteriors, samples, posterior, pulled)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(indices)
        ctx.set_materialize_grads(False)
        return mixed, indices, posterior, negentropy, distance

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        sides, codes, points, words, mixing, posteriors, samples, posterior, pulled = ctx.saved_tensors
        for_mixed, _, for_posterior, for_negentropy, for_distance = gradients
        product = posteriors.dtype
        out_sides, out_bias, out_mixing = torch.empty_like(sides), torch.zeros_like(posterior), torch.zeros_like(mixing)
        out_codes = None if codes is None else torch.zeros_like(codes)
        small_words: Any = None
        out_points, out_words = small_words, small_words
        level = torch.zeros_like(posterior) if for_posterior is None else for_posterior  # of each code
        if for_distance is not None and points is not None:
            small_words = words.to(product)
            out_points = torch.empty_like(points)
            out_words = 2 * for_distance * (posterior[:, None] * words - pulled)
            level = level + for_distance * words.square().sum(1)
        small_codes = None if codes is None else _centred(codes).to(product)
        small_mixing = _centred(mixing).to(product)
        for part in row_blocks(len(sides), len(posterior), sides.device):
            q = posteriors[part].to(sides.dtype)
            slope = level.expand_as(q)  # of the loss over q, then over l
            if out_points is not None:
                slope = affine(-2 * for_distance * points[part], words, level)
                mean = (posteriors[part] @ small_words) / q.sum(1, keepdim=True)
                out_points[part] = 2 * for_distance * (points[part] - mean)
            if for_negentropy is not None:
                slope = slope + for_negentropy * q.clamp_min(torch.finfo(q.dtype).tiny).log()
            slope = _through_softmax(slope, q)
            if for_mixed is not None and len(samples):
                wanted, y = for_mixed[part].to(product), samples[part].to(slope.dtype)
                out_mixing += samples[part].t() @ wanted
                slope += _through_softmax((wanted @ small_mixing.t()).to(y.dtype), y).div_(ctx.temperature)
            out_bias += slope.sum(0)
            if small_codes is None:
                out_sides[part] = slope
                continue
            small = slope.to(product)
            out_sides[part] = small @ small_codes
            out_codes += small.t() @ sides[part].to(product)
        return out_sides, out_codes, out_bias, out_points, out_words, out_mixing, None, None, None, None


def _centred(words: Tensor) -> Tensor:
    """Rows [K, L] less their mean, which falls out of sums over codes whose weights sum to zero: rounded, it would
    drown the rest."""
    return words - words.mean(0) if len(words) else words


def _through_softmax(slope: Tensor, p: Tensor) -> Tensor:
    """The slope [N, K] of a loss over p = softmax(l), over l. p may have been rounded: its sum counts as one."""
    mean = torch.linalg.vecdot(p, slope) / p.sum(1)
    out: Tensor = (slope - mean[:, None]).mul_(p)
    return out
