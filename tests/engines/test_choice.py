"""The encoder's choice against the rule written out, and of a shared codebook against a look at all codes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gmvqzip.engines.choice import Candidates, choose
from gmvqzip.entropy import runs
from gmvqzip.entropy.blocks import Block
from gmvqzip.entropy.mixture import LATENT_UNIT, GroupMixtures, load_mixtures
from gmvqzip.models.integer import group_tensors
from gmvqzip.quantizers.groups import CLASS_OFFSET, CLASSES, CLASSES_PER_OCTAVE, GroupGMVQ
from gmvqzip.quantizers.shared import SharedGMVQ

GROUPS = 3
WEIGHTS = np.array([5.0, 12.0, 30.0], np.float32)
EVERYWHERE = ((slice(None), slice(None)),)


def block_of(mixtures: GroupMixtures, pairs: NDArray[np.int64], means: NDArray[np.int64]) -> Block:
    return Block(0, EVERYWHERE, (slice(0, GROUPS * mixtures.dimensions),), pairs, means, mixtures)


def costs(target: NDArray[np.float32], block: Block, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """w/2 ||r - mu||^2 + bits in nats of indices [G, h, w]."""
    points = (block.means + block.mixtures.points(indices)) / LATENT_UNIT
    bits = runs.index_bits(block.mixtures, block.pairs, indices)
    weights = WEIGHTS.astype(np.float64).reshape(-1, 1, 1)
    found: NDArray[np.float64] = weights / 2 * np.square(target - points).sum(-1) + bits * math.log(2)
    return found


@pytest.mark.parametrize("dimensions", [2, 4])
def test_own_codebooks_against_every_code(dimensions: int) -> None:
    generator = np.random.default_rng(0)
    shape = (GROUPS, 9, dimensions)
    quantizer = GroupGMVQ(*shape)
    with torch.no_grad():
        quantizer.code_bias.copy_(torch.from_numpy(generator.normal(0, 1, shape[:2])))
    mixtures = load_mixtures(group_tensors(quantizer), shape)
    pairs = generator.integers(0, CLASSES**2, (GROUPS, 5, 7)) * generator.integers(0, 2, (GROUPS, 5, 7))
    means = generator.integers(-99, 100, (*pairs.shape, dimensions))
    target = generator.normal(0, 2, means.shape).astype(np.float32)
    block = block_of(mixtures, pairs, means)
    indices, bits = choose(target, block, WEIGHTS, None)
    assert bits == pytest.approx(runs.index_bits(mixtures, pairs, indices), abs=1e-4)
    assert not indices[pairs == 0].any()
    every = np.stack([costs(target, block, np.full(pairs.shape, code)) for code in range(9)])
    assert np.array_equal(indices[pairs > 0], every.argmin(0)[pairs > 0])


@pytest.fixture(scope="module")
def shared() -> GroupMixtures:
    """The integers of a shared codebook whose inner codewords have moved."""
    torch.manual_seed(0)
    quantizer = SharedGMVQ(GROUPS, 400)
    with torch.no_grad():
        quantizer.codebook.add_(0.15 * torch.randn_like(quantizer.codebook))
        quantizer.slope.normal_(0, 0.2).mul_((quantizer.log_precision / 2).exp())
    return load_mixtures(group_tensors(quantizer), (GROUPS, 400, 2), shared=True)


@pytest.mark.parametrize("candidates", [False, True])
def test_weights_of_sites(shared: GroupMixtures, candidates: bool) -> None:
    generator = np.random.default_rng(2)
    pairs = generator.integers(1, shared.classes**2, (GROUPS, 6, 9))
    target = generator.normal(0, 3, (*pairs.shape, 2)).astype(np.float32)
    block = block_of(shared, pairs, np.zeros(target.shape, int))
    near = Candidates(shared) if candidates else None
    factors = generator.choice(np.array([0.2, 1, 4], np.float32), pairs.shape)
    mixed, _ = choose(target, block, WEIGHTS[:, None, None] * factors, near)
    for factor in (0.2, 1, 4):
        alone, _ = choose(target, block, WEIGHTS * np.float32(factor), near)
        assert np.array_equal(mixed[factors == factor], alone[factors == factor])


def test_candidates_of_a_shared_codebook_against_every_code(shared: GroupMixtures) -> None:
    generator = np.random.default_rng(1)
    pairs = generator.integers(0, shared.classes, (GROUPS, 30, 40)) * (shared.classes + 1)  # equal classes
    scales = 2 ** ((pairs // (shared.classes + 1) - CLASS_OFFSET) / CLASSES_PER_OCTAVE)
    target = (scales[..., None] * generator.normal(0, 1, (*pairs.shape, 2))).astype(np.float32)
    target[:, :3] *= 10  # outliers
    block = block_of(shared, pairs, generator.integers(-9, 10, (*pairs.shape, 2)))
    indices, bits = choose(target, block, WEIGHTS, Candidates(shared))
    assert bits == pytest.approx(runs.index_bits(shared, pairs, indices), abs=1e-3)
    shared.check(indices)
    assert not indices[pairs == 0].any()
    assert (indices >= shared.codes).any()
    everything = Candidates(shared)
    everything.table = np.broadcast_to(np.arange(shared.codes, dtype=np.int32), (len(everything.table), shared.codes))
    best, _ = choose(target, block, WEIGHTS, everything)
    found, least = costs(target, block, indices), costs(target, block, best)
    assert (found >= least - 1e-2).all()
    assert found.mean() < 1.001 * least.mean()


def test_a_residual_beyond_all_codes(shared: GroupMixtures) -> None:
    pairs = np.full((GROUPS, 1, 1), shared.classes**2 - 1)
    block = block_of(shared, pairs, np.zeros((*pairs.shape, 2), int))
    for sign in (-1, 1):
        target = np.full((GROUPS, 1, 1, 2), sign * 1e5, np.float32)
        indices, _ = choose(target, block, WEIGHTS, Candidates(shared))
        assert (sign * shared.points(indices) > 900 * LATENT_UNIT).all()
