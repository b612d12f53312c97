"""The Bures distance of Gaussian fits against scipy, and what the matching term moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from gmvqzip.quantizers import WassersteinSettings, WassersteinVQ
from gmvqzip.quantizers.wasserstein import bures_squared, criterion_triple, gaussian_fit


def gaussian(seed: int, dimensions: int = 5) -> tuple[Tensor, Tensor]:
    """Mean and covariance, of condition about 100, in float64."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(dimensions, dimensions, generator=generator, dtype=torch.float64)
    return torch.randn(dimensions, generator=generator, dtype=torch.float64), root @ root.t() + 0.05 * torch.eye(
        dimensions
    )


def matched(matching: float = 1.0, **settings: object) -> WassersteinVQ:
    torch.manual_seed(0)
    values = {"queue": 500, "spread": 0.01, "codebook": 0.0, "commitment": 0.0, "matching": matching} | settings
    return WassersteinVQ(16, 4, WassersteinSettings(**values)).train()  # type: ignore[arg-type]


class TestDistance:
    @pytest.mark.parametrize("seed", range(5))
    def test_it_is_the_formula_with_scipys_roots(self, seed: int) -> None:
        (m1, s1), (m2, s2) = gaussian(seed), gaussian(seed + 100)
        root = sqrtm(s1.numpy())
        cross = sqrtm(root @ s2.numpy() @ root)
        wanted = float(((m1 - m2) ** 2).sum() + s1.trace() + s2.trace()) - 2 * float(np.trace(cross).real)
        assert float(bures_squared(m1, s1, m2, s2)) == pytest.approx(wanted, rel=1e-6)
        assert float(bures_squared(m2, s2, m1, s1)) == pytest.approx(wanted, rel=1e-6)  # symmetric

    @pytest.mark.parametrize("seed", range(3))
    def test_it_is_zero_for_equal_gaussians_alone(self, seed: int) -> None:
        mean, covariance = gaussian(seed)
        assert float(bures_squared(mean, covariance, mean, covariance)) == pytest.approx(0, abs=1e-7)
        assert float(bures_squared(mean, covariance, mean + 0.1, covariance)) == pytest.approx(5 * 0.01, rel=1e-5)
        assert float(bures_squared(mean, covariance, mean, 4 * covariance)) == pytest.approx(
            float(covariance.trace()), rel=1e-5
        )  # (2 - 1)^2 tr S

    def test_in_one_dimension_it_is_the_difference_of_deviations(self) -> None:
        one = torch.ones(1, dtype=torch.float64)
        squared = bures_squared(0 * one, 9 * one[None], 2 * one, 4 * one[None])
        assert float(squared) == pytest.approx(2**2 + (3 - 2) ** 2)

    def test_the_gradient_is_right(self) -> None:
        (m1, s1), (m2, _) = gaussian(1), gaussian(2)
        points = torch.randn(30, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
        assert torch.autograd.gradcheck(lambda p: bures_squared(m1, s1, m2, gaussian_fit(p)[1]), [points])

    def test_fits(self) -> None:
        points = torch.randn(50, 4, dtype=torch.float64)
        mean, covariance = gaussian_fit(points)
        np.testing.assert_allclose(covariance, np.cov(points.T.numpy(), bias=True))
        np.testing.assert_allclose(mean, points.mean(0))


class TestMatching:
    def test_only_the_codebook_moves(self) -> None:
        quantizer = matched()
        proxy = torch.randn(100, 4, requires_grad=True)
        quantizer(proxy, torch.empty(100, 0)).loss.backward()
        assert proxy.grad is None or proxy.grad.abs().max() == 0
        assert quantizer.codebook.grad is not None and quantizer.codebook.grad.abs().max() > 0

    def test_codes_end_with_the_moments_of_the_proxies(self) -> None:
        """From a cloud of deviation 0.01 at the origin, by the matching term alone."""
        quantizer = matched()
        optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.05)
        shift, scale = torch.tensor([3.0, 0.0, -1.0, 0.0]), torch.tensor([1.0, 2.0, 0.5, 1.0])
        for _ in range(400):
            optimizer.zero_grad()
            quantizer(shift + scale * torch.randn(200, 4), torch.empty(200, 0)).loss.backward()
            optimizer.step()
        mean, covariance = gaussian_fit(quantizer.codebook.detach())
        torch.testing.assert_close(mean, shift, atol=0.3, rtol=0)
        torch.testing.assert_close(covariance.diagonal().sqrt(), scale, atol=0.3, rtol=0)

    def test_the_distance_is_in_units_of_the_largest_deviation(self) -> None:
        quantizer = matched()
        points = torch.randn(300, 4)
        value = float(quantizer.distance(points).detach())
        with torch.no_grad():
            quantizer.codebook.mul_(7)
        assert float(quantizer.distance(7 * points).detach()) == pytest.approx(value, rel=1e-3)

    def test_a_distance_of_zero_has_a_finite_gradient(self) -> None:
        quantizer = matched()
        quantizer.distance(quantizer.codebook.detach().clone()).backward()
        assert torch.isfinite(quantizer.codebook.grad).all()  # type: ignore[arg-type]


class TestQueue:
    def test_it_holds_the_last_proxies(self) -> None:
        quantizer = matched(queue=10)
        fed = [torch.full((4, 4), float(number)) for number in range(4)]
        held = [quantizer._remember(part) for part in fed]
        assert [len(part) for part in held] == [4, 8, 10, 10]
        assert sorted(held[-1][:, 0].tolist()) == [1.0] * 2 + [2.0] * 4 + [3.0] * 4

    def test_more_than_it_holds(self) -> None:
        quantizer = matched(queue=10)
        held = quantizer._remember(torch.arange(25.0)[:, None].expand(25, 4))
        assert sorted(held[:, 0].tolist()) == list(range(15, 25))

    def test_evaluation_adds_nothing(self) -> None:
        quantizer = matched().eval()
        quantizer(torch.randn(30, 4), torch.empty(30, 0))
        assert int(quantizer.filled) == 0


def test_criterion_triple() -> None:
    """Four latents on three of four codes, at distances 0, 0, 1 and 2."""
    codebook = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [50.0, 50.0]])
    latents = torch.tensor([[0.0, 0.0], [0.0, 0.0], [11.0, 0.0], [0.0, 12.0]])
    error, utilisation, perplexity = criterion_triple(latents, codebook)
    assert (error, utilisation) == (pytest.approx((1 + 4) / 4), pytest.approx(0.75))
    assert perplexity == pytest.approx(2**1.5)  # exp(H(1/2, 1/4, 1/4))
