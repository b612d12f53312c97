"""VQ-VAE and its options against their equations."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gmvqzip.quantizers import VQ, VQSettings

CODES, DIMENSIONS = 6, 3


def made(**settings: Any) -> tuple[VQ, Tensor]:
    """A quantiser in training mode with 6 codes of 3 dimensions, and proxies of 40 sites."""
    torch.manual_seed(1)
    quantizer = VQ(CODES, DIMENSIONS, VQSettings(**settings)).train()
    return quantizer, torch.randn(40, DIMENSIONS, requires_grad=True)


def forward(quantizer: VQ, proxy: Tensor) -> Any:
    return quantizer(proxy, torch.empty(len(proxy), 0))


class TestStraightThrough:
    def test_the_gradient_goes_through_unchanged(self) -> None:
        quantizer, proxy = made(codebook=0.0, commitment=0.0)
        result = forward(quantizer, proxy)
        torch.testing.assert_close(result.quantised, quantizer.lookup(result.indices))
        slope = torch.randn_like(proxy)
        (result.quantised * slope).sum().backward()
        assert torch.equal(proxy.grad, slope)  # type: ignore[arg-type]
        assert quantizer.codebook.grad is None

    def test_each_term_moves_its_side_alone(self) -> None:
        """a ||sg z - mu||^2 + b ||z - sg mu||^2, means over sites and dimensions."""
        quantizer, proxy = made(codebook=3.0, commitment=0.5)
        result = forward(quantizer, proxy)
        difference = (quantizer.codebook[result.indices] - proxy).detach()
        assert float(result.loss.detach()) == pytest.approx(3.5 * float((difference**2).mean()))
        result.loss.backward()
        torch.testing.assert_close(proxy.grad, -0.5 * 2 * difference / difference.numel())
        wanted = torch.zeros(CODES, DIMENSIONS).index_add_(0, result.indices, 3.0 * 2 * difference / difference.numel())
        torch.testing.assert_close(quantizer.codebook.grad, wanted)

    def test_synchronised_shows_codes_the_task(self) -> None:
        quantizer, proxy = made(codebook=0.0, commitment=0.0, synchronised=0.7)
        result = forward(quantizer, proxy)
        torch.testing.assert_close(result.quantised, quantizer.lookup(result.indices))
        result.quantised.sum().backward()
        counts = torch.bincount(result.indices, minlength=CODES)[:, None].expand(-1, DIMENSIONS)
        torch.testing.assert_close(quantizer.codebook.grad, 0.7 * counts.float())
        torch.testing.assert_close(proxy.grad, torch.ones_like(proxy))


class TestUnitSphere:
    def test_distances_are_cosines(self) -> None:
        quantizer, proxy = made(l2=True)
        result = forward(quantizer, proxy)
        cosine = F.cosine_similarity(proxy[:, None], quantizer.codebook[None], dim=2)
        assert torch.equal(result.indices, cosine.argmax(1))
        best = cosine.amax(1)
        assert float(result.terms["distance"].detach()) == pytest.approx(
            float((2 - 2 * best).mean().detach()) / DIMENSIONS, abs=1e-6
        )
        torch.testing.assert_close(quantizer.lookup(result.indices).norm(dim=1), torch.ones(40))


class TestAffine:
    def test_it_starts_as_the_identity(self) -> None:
        quantizer, _ = made(affine=4.0)
        assert torch.equal(quantizer.codewords(), quantizer.codebook)

    def test_it_is_shared_by_all_codes(self) -> None:
        quantizer, proxy = made(affine=4.0)
        with torch.no_grad():
            quantizer.affine_scale.fill_(0.25)
            quantizer.affine_shift.copy_(torch.tensor([0.5, 0.0, -1.0]))
        torch.testing.assert_close(quantizer.codewords(), 2 * quantizer.codebook + torch.tensor([2.0, 0.0, -4.0]))
        forward(quantizer, proxy).loss.backward()
        assert quantizer.affine_scale.grad is not None and quantizer.affine_scale.grad.abs().max() > 0


class TestInnerStep:
    """OPT: the codebook takes one step towards the proxies before it is read."""

    def test_it_is_gradient_descent_on_the_distance(self) -> None:
        quantizer, proxy = made(inner_rate=2.0, inner_momentum=0.5)
        before = quantizer.codebook.detach().clone()
        result = forward(quantizer, proxy)
        difference = (before[result.indices] - proxy).detach()
        slope = torch.zeros(CODES, DIMENSIONS).index_add_(0, result.indices, 2 * difference / difference.numel())
        torch.testing.assert_close(quantizer.codebook.detach(), before - 2.0 * slope)
        torch.testing.assert_close(result.quantised, quantizer.codebook[result.indices].detach())
        middle = quantizer.codebook.detach().clone()
        again = forward(quantizer, proxy)
        difference = (middle[again.indices] - proxy).detach()
        second = torch.zeros(CODES, DIMENSIONS).index_add_(0, again.indices, 2 * difference / difference.numel())
        torch.testing.assert_close(quantizer.codebook.detach(), middle - 2.0 * (0.5 * slope + second))

    def test_it_looks_up_the_same_indices(self) -> None:
        """A rate so large that other codes are nearest afterwards."""
        quantizer, proxy = made(inner_rate=500.0)
        before = copy.deepcopy(quantizer)
        result = forward(quantizer, proxy)
        assert torch.equal(result.indices, before.assign(proxy, torch.empty(40, 0)))
        assert not torch.equal(result.indices, quantizer.assign(proxy, torch.empty(40, 0)))

    def test_the_encoder_is_left_alone(self) -> None:
        """Neither the inner step nor the loss gives it, or the codebook, a gradient; only the task does."""
        quantizer, proxy = made(inner_rate=2.0, commitment=0.0)
        result = forward(quantizer, proxy)
        assert proxy.grad is None and quantizer.codebook.grad is None
        (left,) = torch.autograd.grad(result.loss, [proxy], retain_graph=True)
        assert left.abs().max() == 0
        slope = torch.randn_like(proxy)
        (result.quantised * slope).sum().backward()
        assert torch.equal(proxy.grad, slope)  # type: ignore[arg-type]
        assert quantizer.codebook.grad is None

    def test_an_affine_map_still_follows_the_loss(self) -> None:
        quantizer, proxy = made(inner_rate=2.0, commitment=0.0, affine=1.0)
        forward(quantizer, proxy).loss.backward()
        assert quantizer.codebook.grad is None
        assert proxy.grad is not None and proxy.grad.abs().max() == 0
        assert quantizer.affine_shift.grad is not None and quantizer.affine_shift.grad.abs().max() > 0

    def test_evaluation_takes_no_step(self) -> None:
        quantizer, proxy = made(inner_rate=2.0)
        before = quantizer.codebook.detach().clone()
        forward(quantizer.eval(), proxy)
        assert torch.equal(quantizer.codebook, before)


class TestReplacement:
    def far(self, **settings: Any) -> tuple[VQ, Tensor]:
        """A quantiser of which codes 0 and 1 lie far from all proxies."""
        quantizer, proxy = made(replace_after=3, **settings)
        with torch.no_grad():
            quantizer.codebook[:2] = 1000.0
        return quantizer, proxy

    def step(self, quantizer: VQ, proxy: Tensor, optimizer: torch.optim.Optimizer) -> None:
        forward(quantizer, proxy).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        quantizer.after_step([optimizer])

    def test_idle_codes_move_to_proxies_after_their_time(self) -> None:
        quantizer, proxy = self.far()
        optimizer = torch.optim.AdamW(quantizer.parameters(), lr=1e-3, weight_decay=0.0)
        for _ in range(2):
            self.step(quantizer, proxy, optimizer)
            assert (quantizer.codebook[:2] > 999).all()
        living = quantizer.codebook[2:].detach().clone()
        self.step(quantizer, proxy, optimizer)
        gaps = torch.cdist(quantizer.codebook[:2].detach(), proxy.detach()).amin(1)
        assert (gaps > 0).all() and (gaps < 0.1).all()  # 1 % noise
        torch.testing.assert_close(quantizer.codebook[2:].detach(), living, atol=2e-3, rtol=0)

    def test_the_optimiser_forgets_them(self) -> None:
        quantizer, proxy = self.far()
        optimizer = torch.optim.AdamW(quantizer.parameters(), lr=1e-3)
        self.step(quantizer, proxy, optimizer)
        state = optimizer.state[quantizer.codebook]
        state["exp_avg"][:2], state["exp_avg_sq"][:2] = 5.0, 7.0  # as from a time when they were used
        for _ in range(2):
            self.step(quantizer, proxy, optimizer)
        assert (state["exp_avg"][:2] == 0).all() and (state["exp_avg_sq"][:2] == 0).all()
        assert (state["exp_avg"][2:] != 0).any(1).sum() >= 2
        assert float(state["step"]) == 3

    def test_momentum_of_the_inner_step_is_forgotten(self) -> None:
        quantizer, proxy = self.far(inner_rate=0.1)
        quantizer.momentum[:2] = 1e-9
        for _ in range(3):
            forward(quantizer, proxy)
            quantizer.after_step([])
        assert (quantizer.momentum[:2] == 0).all()
        assert (quantizer.momentum[2:] != 0).any()

    def test_through_the_affine_map(self) -> None:
        quantizer, proxy = self.far(affine=2.0)
        with torch.no_grad():
            quantizer.affine_scale.fill_(1.5)
            quantizer.affine_shift.fill_(-0.3)
        for _ in range(3):
            forward(quantizer, proxy)
            quantizer.after_step([])
        assert (torch.cdist(quantizer.codewords()[:2].detach(), proxy.detach()).amin(1) < 0.1).all()

    def test_without_it_nothing_is_replaced(self) -> None:
        quantizer, proxy = self.far()
        quantizer.settings = VQSettings()
        for _ in range(9):
            forward(quantizer, proxy)
            quantizer.after_step([])
        assert (quantizer.codebook[:2] == 1000).all()


class TestMovingAverage:
    def test_it_is_the_authors_recursion(self) -> None:
        quantizer, proxy = made(ema=0.8)
        count, total = torch.ones(CODES), quantizer.codebook.detach().clone()
        for _ in range(3):
            result = forward(quantizer, proxy)
            assert quantizer.codebook.grad is None
            quantizer.after_step([])
            count = 0.8 * count + 0.2 * torch.bincount(result.indices, minlength=CODES)
            sums = torch.zeros(CODES, DIMENSIONS).index_add_(0, result.indices, proxy.detach())
            total = 0.8 * total + 0.2 * sums
            torch.testing.assert_close(quantizer.codebook.detach(), total / count[:, None], rtol=1e-3, atol=1e-4)

    def test_it_settles_at_the_means(self) -> None:
        """Proxies at rest: every code that is used ends at the mean of its cell."""
        quantizer, proxy = made(ema=0.5)
        for _ in range(200):
            indices = forward(quantizer, proxy).indices
            quantizer.after_step([])
        for code in indices.unique():
            torch.testing.assert_close(
                quantizer.codebook[code].detach(), proxy[indices == code].mean(0).detach(), rtol=1e-3, atol=1e-3
            )

    def test_the_loss_keeps_the_commitment_alone(self) -> None:
        quantizer, proxy = made(ema=0.8, commitment=0.5)
        result = forward(quantizer, proxy)
        assert float(result.loss.detach()) == pytest.approx(0.5 * float(result.terms["distance"].detach()))

    @pytest.mark.parametrize("other", [{"affine": 1.0}, {"inner_rate": 1.0}, {"synchronised": 1.0}])
    def test_gradients_have_no_place_beside_it(self, other: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="ema excludes"):
            made(ema=0.9, **other)


def test_k_means_start() -> None:
    quantizer, _ = made(l2=True, ema=0.9)
    points = torch.randn(300, DIMENSIONS) + 4
    quantizer.initialise(points)
    error = (
        (F.normalize(points, dim=1) - quantizer.lookup(quantizer.assign(points, torch.empty(300, 0)))).square().sum(1)
    )
    assert float(error.mean().detach()) < 0.02
    assert torch.equal(quantizer.ema_sum, quantizer.codebook)
    assert quantizer.wants_proxies and not made(kmeans=False)[0].wants_proxies
