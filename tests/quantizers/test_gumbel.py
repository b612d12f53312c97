"""Gumbel-VQVAE against its equations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gmvqzip.quantizers import GumbelSettings, GumbelVQ

NONE = torch.empty(40, 0)


def made(kl: float = 0.5) -> tuple[GumbelVQ, Tensor]:
    torch.manual_seed(4)
    return GumbelVQ(6, 3, GumbelSettings(kl=kl)), 2 * torch.randn(40, 6)


def test_the_loss_is_the_divergence_from_uniform() -> None:
    quantizer, logits = made()
    result = quantizer.train()(logits, NONE)
    q = logits.softmax(1)
    divergence = torch.nn.functional.kl_div(torch.full_like(q, 1 / 6).log(), q, reduction="batchmean")
    assert float(result.terms["divergence"].detach()) == pytest.approx(float(divergence), rel=1e-5)
    assert float(result.loss.detach()) == pytest.approx(0.5 * float(divergence), rel=1e-5)
    assert float(result.terms["conditional_entropy"].detach()) == pytest.approx(
        math.log(6) - float(divergence), rel=1e-4
    )


def test_uniform_logits_have_no_divergence() -> None:
    quantizer, logits = made()
    assert float(quantizer(torch.zeros_like(logits), NONE).loss.detach()) == pytest.approx(0, abs=1e-6)


def test_evaluation_is_the_argmax_without_noise() -> None:
    quantizer, logits = made()
    results = [quantizer.eval()(logits, NONE, temperature=5.0) for _ in range(2)]
    assert all(torch.equal(result.indices, logits.argmax(1)) for result in results)
    assert torch.equal(results[0].quantised, quantizer.codebook[logits.argmax(1)])
    assert len({tuple(quantizer.train()(logits, NONE).indices.tolist()) for _ in range(3)}) == 3


def test_the_sample_is_a_mixture_of_codes() -> None:
    quantizer, logits = made()
    quantised = quantizer.train()(logits, NONE, temperature=2.0).quantised
    low, high = quantizer.codebook.amin(0), quantizer.codebook.amax(0)
    assert ((quantised >= low - 1e-5) & (quantised <= high + 1e-5)).all()
    assert (torch.cdist(quantised, quantizer.codebook).amin(1) > 1e-3).any()


def test_codes_and_logits_learn() -> None:
    quantizer, logits = made(kl=0.0)
    logits.requires_grad_()
    quantizer.train()(logits, NONE).quantised.square().sum().backward()
    assert quantizer.codebook.grad is not None and quantizer.codebook.grad.abs().max() > 0
    assert logits.grad is not None and logits.grad.abs().max() > 0


def test_an_open_stage_passes_the_mean_codeword() -> None:
    quantizer, logits = made()
    torch.testing.assert_close(quantizer.passing(logits), logits.softmax(1) @ quantizer.codebook)
