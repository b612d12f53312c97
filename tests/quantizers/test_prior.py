"""The running posterior, the learned prior and its rate, and the re-seeding of dead codes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from formulas import drawn, inverse_softplus, naive_logits

from gmvqzip.quantizers import GMVQ, GMVQSettings


class TestPosteriorAndPrior:
    def test_decay_keeps_a_running_mean(self) -> None:
        settings: dict[str, Any] = {"sampling": "straight-through", "noise": False, "beta": 0.0, "gamma": 1.0}
        plain, proxy, raw = drawn(**settings)
        running, _, _ = drawn(posterior_decay=0.75, **settings)
        weights = 1.7 * torch.nn.functional.softplus(raw)
        aggregated = (naive_logits(proxy, weights, plain.codebook) + plain.log_prior).softmax(1).mean(0).detach()
        mean = torch.full((5,), 0.2).double()
        for _ in range(3):
            result = running(proxy, raw)
            mean = 0.75 * mean + 0.25 * aggregated
            torch.testing.assert_close(running.average_posterior, mean)
            torch.testing.assert_close(result.terms["aggregated_entropy"].detach(), -(mean * mean.log()).sum())
        assert not running.average_posterior.requires_grad
        plain(proxy, raw)
        assert torch.equal(plain.average_posterior, torch.full((5,), 0.2))

    def test_decay_leaves_the_gradient_of_the_batch_whole(self) -> None:
        quantizer, proxy, raw = drawn(
            posterior_decay=0.9, sampling="straight-through", noise=False, gamma=1.0, beta=0.0
        )
        proxy.requires_grad_()
        gradient = torch.autograd.grad(quantizer(proxy, raw).loss, proxy)[0]
        weights = 1.7 * torch.nn.functional.softplus(raw)
        batch = (naive_logits(proxy, weights, quantizer.codebook) + quantizer.log_prior).softmax(1).mean(0)
        slope = quantizer.average_posterior.log() + 1  # of -H at the running mean
        torch.testing.assert_close(gradient, torch.autograd.grad((slope * batch).sum(), proxy)[0])

    def test_the_running_mean_is_no_part_of_a_model(self) -> None:
        assert set(GMVQ(4, 2).state_dict()) == {"codebook", "precision", "log_prior"}

    @pytest.mark.parametrize("decay", [0.0, 0.9])
    def test_a_learned_prior_follows_the_posterior(self, decay: float) -> None:
        quantizer, proxy, raw = drawn(learned_prior=True, posterior_decay=decay, sampling="straight-through")
        quantizer.log_prior.zero_()
        before = quantizer.eval()(proxy, raw)
        uniform = float(before.terms["bits"].detach())
        assert uniform == pytest.approx(math.log2(5))
        quantizer.train()
        for _ in range(60):
            quantizer(proxy, raw)
        after = quantizer.eval()(proxy, raw)
        assert float(after.terms["bits"].detach()) < uniform
        prior = quantizer.log_prior.softmax(0)
        assert prior.min() > 0
        # Where code choice and prior agree, the bits are the entropy of the aggregated posterior.
        expected = float(after.terms["aggregated_entropy"].detach()) / math.log(2)
        assert float(after.terms["bits"].detach()) == pytest.approx(expected, rel=0.02)

    def test_without_a_learned_prior_it_stays_uniform(self) -> None:
        quantizer = GMVQ(4, 2)
        quantizer(torch.randn(10, 2), torch.randn(10, 2))
        assert torch.equal(quantizer.log_prior, torch.zeros(4))

    def test_no_code_is_lost_for_ever(self) -> None:
        quantizer = GMVQ(4, 1, GMVQSettings(learned_prior=True))
        with torch.no_grad():
            quantizer.codebook.copy_(torch.tensor([[0.0], [1e3], [2e3], [3e3]]))
        for _ in range(3):
            quantizer(torch.zeros(10, 1), torch.zeros(10, 1))
        assert quantizer.log_prior.isfinite().all()
        assert quantizer.log_prior.softmax(0)[1:].min() > 1e-4
        assert quantizer.eval()(torch.tensor([[2e3]]), torch.zeros(1, 1)).indices.item() == 2

    def test_the_argmax_becomes_the_map_code(self) -> None:
        quantizer = GMVQ(2, 1).eval()
        with torch.no_grad():
            quantizer.codebook.copy_(torch.tensor([[0.0], [1.0]]))
        proxy = torch.tensor([[0.6], [0.95]])
        raw = inverse_softplus(torch.ones(2, 1))
        assert quantizer(proxy, raw).indices.tolist() == [1, 1]
        # Log-odds for code 1 are (z^2 - (z - 1)^2) / 2 = z - 1/2: 0.1 and 0.45; a prior of 9:1 adds -2.2, 1.3:1 -0.26.
        quantizer.log_prior = torch.tensor([0.9, 0.1]).log()
        assert quantizer(proxy, raw).indices.tolist() == [0, 0]
        quantizer.log_prior = torch.tensor([1.3 / 2.3, 1 / 2.3]).log()
        assert quantizer(proxy, raw).indices.tolist() == [0, 1]
        assert quantizer.assign(proxy, raw).tolist() == [0, 1]

    def test_the_rate_term_is_the_cross_entropy_in_bits(self) -> None:
        quantizer, proxy, raw = drawn(rate=2.0, beta=0.0, gamma=0.0)
        quantizer.eval()
        weights = 1.7 * torch.nn.functional.softplus(raw)
        posterior = (naive_logits(proxy, weights, quantizer.codebook) + quantizer.log_prior).softmax(1)
        expected = -(posterior * torch.log2(quantizer.log_prior.softmax(0))).sum(1).mean()
        result = quantizer(proxy, raw)
        torch.testing.assert_close(result.terms["bits"], expected)
        torch.testing.assert_close(result.loss, 2 * expected)

    def test_a_constant_in_the_prior_changes_no_bits(self) -> None:
        quantizer, proxy, raw = drawn()
        quantizer.eval()
        before = quantizer(proxy, raw)
        quantizer.log_prior = quantizer.log_prior + 3.0
        after = quantizer(proxy, raw)
        torch.testing.assert_close(before.terms["bits"], after.terms["bits"])
        assert torch.equal(before.indices, after.indices)


class TestReseed:
    def quantizer(self) -> GMVQ:
        """Codes 0 and 2 of four are in use, far apart."""
        torch.manual_seed(0)
        quantizer = GMVQ(4, 3)
        quantizer.precision.fill_(100.0)
        with torch.no_grad():
            quantizer.codebook.copy_(torch.tensor([[0.0] * 3, [50.0] * 3, [9.0] * 3, [-50.0] * 3]))
        quantizer.average_posterior = torch.tensor([0.6, 0.001, 0.398, 0.001])
        quantizer.log_prior = quantizer.average_posterior.log()
        return quantizer

    def test_dead_codes_move_beside_popular_ones(self) -> None:
        quantizer = self.quantizer()
        before = quantizer.codebook.detach().clone()
        assert quantizer.reseed() == 2
        after = quantizer.codebook.detach()
        assert torch.equal(after[[0, 2]], before[[0, 2]])
        distance, source = torch.cdist(after[[1, 3]], before[[0, 2]]).min(1)
        assert (distance < 0.3 / 10 * 6).all()
        assert (distance > 0).all()
        prior = torch.tensor([0.6, 0.398]).log()
        assert torch.equal(quantizer.log_prior[[1, 3]], prior[source])
        assert quantizer.codebook.requires_grad

    def test_the_use_of_a_moved_code_counts_as_uniform(self) -> None:
        quantizer = self.quantizer()
        quantizer.reseed()
        assert float(quantizer.average_posterior.sum()) == pytest.approx(1)
        assert quantizer.reseed() == 0

    def test_nothing_moves_where_all_are_in_use(self) -> None:
        quantizer = self.quantizer()
        quantizer.average_posterior.fill_(0.25)
        before = quantizer.codebook.detach().clone()
        assert quantizer.reseed() == 0
        assert torch.equal(quantizer.codebook.detach(), before)
