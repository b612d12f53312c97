"""Sums over all codes, against the same by torch's own operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gmvqzip.quantizers import GMVQ, SQVAE, GMVQSettings, GumbelVQ, Quantizer, QuantizerResult, SQVAESettings, blocks
from gmvqzip.quantizers.soft import Sample, gumbel_table, noise_places, soft_codes

SITES, CODES, INNER, WIDTH = 70, 12, 5, 3


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", 16 * CODES)  # five blocks, the last one not full


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return {name: torch.randn(shape, dtype=torch.float64, requires_grad=True) for name, shape in shapes.items()}


SHAPES = {
    "sides": (SITES, INNER),
    "codes": (CODES, INNER),
    "bias": (CODES,),
    "points": (SITES, WIDTH),
    "words": (CODES, WIDTH),
    "mixing": (CODES, 4),
}


def expected(logits: Tensor, given: dict[str, Tensor], noise: Tensor, tau: float) -> tuple[Tensor, ...]:
    """mixed, posterior, negentropy, distance as the docstrings have them."""
    q = logits.softmax(1)
    distance = (q * torch.cdist(given["points"], given["words"]).square()).sum()
    sample = ((logits + noise) / tau).softmax(1)
    return sample @ given["mixing"], q.sum(0), (q * q.log()).sum(), distance


@pytest.mark.parametrize("own_logits", [False, True])
def test_values_and_gradients(own_logits: bool) -> None:
    given = drawn(SHAPES | ({"sides": (SITES, CODES)} if own_logits else {}))
    places = noise_places(SITES, given["sides"])
    noise = gumbel_table(CODES, torch.float64, torch.device("cpu"))[places]
    codes = None if own_logits else given["codes"]
    logits = given["bias"] + (given["sides"] if codes is None else given["sides"] @ codes.t())
    sample = Sample(given["mixing"], 0.7, places)
    found = soft_codes(
        given["sides"], codes, given["bias"], points=given["points"], words=given["words"], sample=sample
    )
    parts = (found.mixed, found.posterior, found.negentropy, found.distance)
    naive = expected(logits, given, noise, 0.7)
    for mine, theirs in zip(parts, naive, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert torch.equal(found.indices, (logits + noise).argmax(1))
    wanted = [torch.randn_like(part) for part in naive]
    inputs = [tensor for name, tensor in given.items() if name != "codes" or codes is not None]

    def gradients(values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        total = sum((value * want).sum() for value, want in zip(values, wanted, strict=True))
        return torch.autograd.grad(total, inputs)  # type: ignore[arg-type]

    for mine, theirs in zip(gradients(parts), gradients(naive), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("part", ["mixed", "posterior", "negentropy", "distance"])
def test_each_part_alone_has_its_gradient(part: str) -> None:
    given = drawn(SHAPES)
    sample = Sample(given["mixing"], 0.7)

    def value(how: Callable[[], tuple[Tensor, ...]]) -> Tensor:
        values = dict(zip(("mixed", "posterior", "negentropy", "distance"), how(), strict=True))
        (slope,) = torch.autograd.grad(values[part].square().sum(), [given["sides"]])
        return slope

    def mine() -> tuple[Tensor, ...]:
        words = given["words"]
        found = soft_codes(given["sides"], given["codes"], points=given["points"], words=words, sample=sample)
        return found.mixed, found.posterior, found.negentropy, found.distance

    logits = given["sides"] @ given["codes"].t()
    torch.testing.assert_close(value(mine), value(lambda: expected(logits, given, torch.zeros(()), 0.7)))


def test_noise_is_gumbels() -> None:
    """Mean 0.5772, variance pi^2 / 6, independent along a site's codes, and the argmax follows the softmax."""
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, 2.5]).expand(40_000, 3)
    places = noise_places(40_000, logits)
    noise = gumbel_table(3, torch.float32, torch.device("cpu"))[places]
    assert noise.isfinite().all() and float(noise.T.corrcoef()[0, 1:].abs().max()) < 0.02
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.015)
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, rel=0.02)
    found = soft_codes(logits, None, sample=Sample(torch.eye(3), 0.3, places))
    torch.testing.assert_close(found.mixed.sum(1), torch.ones(40_000))
    shares = torch.bincount(found.indices, minlength=3) / 40_000
    torch.testing.assert_close(shares, logits[0].softmax(0), atol=0.01, rtol=0)


MAKERS: dict[str, Callable[[], Quantizer]] = {
    "gmvq": lambda: GMVQ(64, 8, GMVQSettings(noise=False, beta=1.0, gamma=0.1)),
    "identity": lambda: GMVQ(64, 8, GMVQSettings(noise=False, beta=1.0, sampling="identity")),
    "sqvae": lambda: SQVAE(64, 8, SQVAESettings(variance="site")),
    "gumbel": lambda: GumbelVQ(64, 8),
}


@pytest.mark.parametrize("name", MAKERS)
def test_under_autocast_the_same_codes_and_nearly_the_same_gradients(name: str) -> None:
    torch.manual_seed(1)
    quantizer = MAKERS[name]().train()
    proxy, weights = quantizer.settings.widths(64, 8, 8)
    inputs: list[Any] = [torch.randn(200, proxy, requires_grad=True), torch.randn(200, weights, requires_grad=True)]
    toward = torch.randn(200, 8)

    def step(fast: bool) -> tuple[QuantizerResult, Tensor]:
        torch.manual_seed(2)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            result = quantizer(*inputs, temperature=0.7)
        assert result.quantised.dtype == result.loss.dtype == torch.float32
        loss = (result.quantised * toward).mean() + result.loss
        found = torch.autograd.grad(loss, [*inputs, quantizer.codebook], allow_unused=True)
        return result, torch.cat([part.flatten() for part in found if part is not None])

    (exact, slopes), (fast, others) = step(False), step(True)
    assert torch.equal(exact.indices, fast.indices)
    torch.testing.assert_close(exact.posterior, fast.posterior)
    torch.testing.assert_close(exact.quantised, fast.quantised, atol=0.02, rtol=0.02)
    assert not torch.equal(slopes, others)
    assert float((slopes - others).norm()) < 0.01 * float(slopes.norm())


@pytest.mark.parametrize("part", ["mixed", "distance"])
def test_small_gradients_are_right_in_bfloat16(part: str) -> None:
    """Far from zero, and where one code has nearly all the posterior: what the gradient is made of nearly cancels."""
    torch.manual_seed(4)
    words = torch.randn(64, 8) + 4
    points = words[torch.randint(64, (300,))] + 0.3 * torch.randn(300, 8)
    logits = -4 * torch.cdist(points, words).square()
    inputs = [tensor.requires_grad_() for tensor in (logits, points, words)]
    toward = torch.randn(300, 8)

    def gradients(fast: bool) -> tuple[Tensor, ...]:
        found = soft_codes(logits, None, points=points, words=words, sample=Sample(words, 0.7), fast=fast)
        value = found.distance if part == "distance" else (found.mixed * toward).sum()
        return torch.autograd.grad(value, inputs, materialize_grads=True)

    for exact, fast in zip(gradients(False), gradients(True), strict=True):
        assert float((exact - fast).norm()) <= 0.05 * float(exact.norm())
