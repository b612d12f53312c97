"""SQ-VAE against its equations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gmvqzip.quantizers import SQVAE, SQVAESettings


def made(**settings: object) -> tuple[SQVAE, Tensor]:
    torch.manual_seed(2)
    quantizer = SQVAE(7, 3, SQVAESettings(**settings)).double()  # type: ignore[arg-type]
    return quantizer, torch.randn(30, 3, dtype=torch.float64, requires_grad=True)


def naive_posterior(proxy: Tensor, codebook: Tensor, variance: Tensor | float) -> Tensor:
    """exp(-||z - e_k||^2 / (2 s^2)), normalised, as it is written."""
    mass = (-((proxy[:, None] - codebook[None]) ** 2).sum(2) / (2 * variance)).exp()
    return mass / mass.sum(1, keepdim=True)


NONE = torch.empty(30, 0, dtype=torch.float64)


@pytest.mark.parametrize("variance", ["shared", "site"])
def test_the_posterior(variance: str) -> None:
    """s^2 = exp(phi) + 1, or exp(phi) + exp(r(x)); phi starts at ln 20."""
    quantizer, proxy = made(variance=variance)
    raw = torch.randn(30, 1, dtype=torch.float64) if variance == "site" else NONE
    own = raw.exp() if variance == "site" else 1.0
    assert float(quantizer.log_variance.detach().exp()) == pytest.approx(20)
    wanted = naive_posterior(proxy, quantizer.codebook, 20 + own)
    torch.testing.assert_close(quantizer.logits(proxy, quantizer.precision(raw)).softmax(1), wanted)
    result = quantizer.eval()(proxy, raw)
    torch.testing.assert_close(result.posterior, wanted.mean(0).detach())
    entropy = -(wanted * wanted.log()).sum(1).mean()
    assert float(result.terms["conditional_entropy"].detach()) == pytest.approx(float(entropy.detach()))
    assert torch.equal(result.indices, wanted.argmax(1))


def test_the_loss() -> None:
    """weight * mean over sites of sum q ln q + ||z - z_q||^2 / (2 s^2), z_q the relaxed sample."""
    quantizer, proxy = made(weight=0.25)
    result = quantizer.train()(proxy, NONE, temperature=0.7)
    posterior = naive_posterior(proxy, quantizer.codebook, 21.0)
    discrete = (posterior * posterior.log()).sum(1)
    continuous = ((proxy - result.quantised) ** 2).sum(1) / (2 * 21.0)
    assert float(result.loss.detach()) == pytest.approx(0.25 * float((discrete + continuous).mean().detach()))


def test_the_sample_is_soft_in_training_and_hardens_with_the_temperature() -> None:
    quantizer, proxy = made()

    def gap(temperature: float) -> float:
        result = quantizer.train()(proxy, NONE, temperature=temperature)
        return float((result.quantised - quantizer.lookup(result.indices)).detach().abs().max())

    assert gap(1.0) > 0.1
    assert gap(1e-3) < 1e-3
    assert torch.equal(quantizer.eval()(proxy, NONE).quantised, quantizer.codebook[quantizer.assign(proxy, NONE)])


def test_the_variance_learns_to_sharpen() -> None:
    """Where codes reproduce the proxies exactly, the reconstruction makes the posterior sharper than it started."""
    quantizer, _ = made()
    proxy = quantizer.codebook.detach().repeat(5, 1)
    optimizer = torch.optim.Adam([quantizer.log_variance], lr=0.1)
    before = float(quantizer.log_variance.detach())
    quantizer.train()
    for _ in range(30):
        optimizer.zero_grad()
        result = quantizer(proxy, torch.empty(35, 0))
        (result.loss + 100 * ((result.quantised - proxy) ** 2).sum(1).mean()).backward()
        optimizer.step()
    assert float(quantizer.log_variance.detach()) < before - 0.5


def test_k_means_is_a_choice() -> None:
    assert not made()[0].wants_proxies
    quantizer, _ = made(kmeans=True)
    assert quantizer.wants_proxies
    centres = 100 * torch.arange(7.0, dtype=torch.float64)[:, None].expand(7, 3)
    quantizer.initialise(centres.repeat(20, 1))
    assert len(quantizer.assign(centres, torch.empty(7, 0)).unique()) >= 5


@pytest.mark.parametrize(("variance", "factor"), [("shared", 1.0), ("site", 1 + math.exp(0.5))])
def test_k_means_gives_the_unit_of_the_variance(variance: str, factor: float) -> None:
    """s^2 at the start is `start_variance` times the mean squared error of the start in a dimension, without the 1."""
    quantizer, proxy = made(kmeans=True, start_variance=4.0, variance=variance)
    proxy = proxy.detach().bfloat16()  # as autocast may give them
    quantizer.initialise(proxy)
    proxy = proxy.double()
    nearest = torch.cdist(proxy, quantizer.codebook).argmin(1)
    error = ((proxy - quantizer.codebook[nearest]) ** 2).mean().detach()
    raw = torch.full((30, 1), 0.5, dtype=torch.float64) if variance == "site" else NONE
    wanted = naive_posterior(proxy, quantizer.codebook, 4 * error * factor)
    torch.testing.assert_close(quantizer.logits(proxy, quantizer.precision(raw)).softmax(1), wanted)


def test_unknown_variance() -> None:
    with pytest.raises(ValueError, match="variance must be one of shared, site"):
        made(variance="element")


def test_log_variance_starts_at_ln_20() -> None:
    assert float(made()[0].log_variance.detach()) == pytest.approx(math.log(20))
