"""GM-VQ against its equations: logits, objective, gradients, sampling, noise, evaluation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from formulas import drawn, inverse_softplus, naive_logits
from torch import Tensor
from torch.func import functional_call

from gmvqzip.quantizers import GMVQ, GMVQSettings, QuantizerResult, blocks
from gmvqzip.quantizers.gmvq import expected_distance, gmvq_logits

TERMS = ("distance", "bits", "aggregated_entropy")


class TestLogits:
    @pytest.mark.parametrize("columns", [1, 7])
    def test_two_products_equal_the_formula(self, columns: int) -> None:
        torch.manual_seed(0)
        proxy, codebook = torch.randn(40, 7).double(), torch.randn(30, 7).double()
        weights = torch.rand(40, columns).double() * 5
        expected = naive_logits(proxy, weights.expand(40, 7), codebook)
        torch.testing.assert_close(gmvq_logits(proxy, weights, codebook), expected, rtol=1e-12, atol=1e-12)
        single = gmvq_logits(proxy.float(), weights.float(), codebook.float())
        torch.testing.assert_close(single, expected.float(), rtol=1e-4, atol=1e-4)

    def test_expected_distance_equals_the_formula(self) -> None:
        torch.manual_seed(1)
        proxy, codebook = torch.randn(20, 4).double(), torch.randn(9, 4).double()
        probabilities = torch.randn(20, 9).double().softmax(1)
        expected = (probabilities * ((proxy[:, None] - codebook) ** 2).sum(2)).sum(1)
        torch.testing.assert_close(expected_distance(proxy, probabilities, codebook), expected)

    def test_weights_are_the_softplus_times_the_precision(self) -> None:
        quantizer, proxy, raw = drawn()
        quantizer.eval()
        weights = 1.7 * (1 + raw.exp()).log()
        logits = naive_logits(proxy, weights, quantizer.codebook) + quantizer.log_prior
        posterior = logits.softmax(1)
        result = quantizer(proxy, raw)
        assert torch.equal(result.indices, logits.argmax(1))
        torch.testing.assert_close(
            result.terms["conditional_entropy"], -(posterior * posterior.log()).sum(1).mean().detach()
        )
        torch.testing.assert_close(
            result.terms["distance"], expected_distance(proxy, posterior, quantizer.codebook).mean() / 3
        )

    def test_float32_under_autocast(self) -> None:
        quantizer = GMVQ(8, 4).eval()
        proxy, raw = torch.randn(10, 4), torch.randn(10, 4)
        with torch.autocast("cpu", torch.bfloat16):
            result = quantizer(proxy.bfloat16(), raw.bfloat16())
        assert result.quantised.dtype == result.loss.dtype == torch.float32
        exact = quantizer(proxy.bfloat16().float(), raw.bfloat16().float())
        assert torch.equal(result.indices, exact.indices)
        torch.testing.assert_close(result.loss, exact.loss)


class TestObjective:
    """Two codes (0, 0) and (2, 0), two sites (0.5, 0) and (2, 0), weights of one: worked out by hand.

    Logits -0.125, -1.125 and -2, 0; so q = (0.7310586, 0.2689414) and (0.1192029, 0.8807971), q_bar = (0.4251308,
    0.5748692). Expected squared distances 0.25 * 0.7310586 + 2.25 * 0.2689414 = 0.7878828 and 4 * 0.1192029 =
    0.4768117, their mean over sites and both dimensions 0.3161736. H(q_bar) = 0.6818941 nats.
    H(q) = 0.5822031 and 0.3653339, mean 0.4737685.
    """

    def result(self, **settings: Any) -> QuantizerResult:
        quantizer = GMVQ(2, 2, GMVQSettings(**settings)).double().eval()
        with torch.no_grad():
            quantizer.codebook.copy_(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
        raw = inverse_softplus(torch.ones(2, 2, dtype=torch.float64))
        proxy = torch.tensor([[0.5, 0.0], [2.0, 0.0]], dtype=torch.float64)
        result: QuantizerResult = quantizer(proxy, raw)
        return result

    def test_terms(self) -> None:
        result = self.result()
        values = {name: float(term.detach()) for name, term in result.terms.items()}
        assert values == pytest.approx(
            {
                "distance": 0.3161736,
                "aggregated_entropy": 0.6818941,
                "conditional_entropy": 0.4737685,
                "bits": 1.0,
            },
            abs=1e-6,
        )
        assert result.indices.tolist() == [0, 1]
        assert float(result.perplexity_soft) == pytest.approx(math.exp(0.6818941), abs=1e-6)
        assert float(result.perplexity_hard) == pytest.approx(2)
        assert float(result.utilisation) == 1

    def test_the_plain_elbo_rewards_the_single_posteriors_too(self) -> None:
        plain = self.result(beta=2.0, gamma=0.5, conditional=0.3).loss.detach()
        assert float(self.result(beta=2.0, gamma=0.5).loss.detach() - plain) == pytest.approx(0.3 * 0.4737685, abs=1e-6)

    def test_only_the_plain_elbo_gives_the_single_posteriors_a_gradient(self) -> None:
        """With both other terms off, what is left is the gradient of the conditional entropy, or none."""

        def gradient(conditional: float) -> Tensor:
            quantizer, proxy, raw = drawn(beta=0.0, gamma=0.0, conditional=conditional)
            proxy.requires_grad_()
            (slope,) = torch.autograd.grad(quantizer.eval()(proxy, raw).loss, [proxy])
            return slope

        assert gradient(0.0).abs().max() == 0
        assert gradient(1.0).abs().max() > 1e-3

    def test_weights_can_be_switched_off(self) -> None:
        quantizer, proxy, raw = drawn(learned_weights=False)
        quantizer.eval()
        constant = quantizer(proxy, torch.zeros_like(raw))
        assert torch.equal(quantizer(proxy, raw).loss, constant.loss)
        learned, _, _ = drawn()
        assert not torch.equal(learned.eval()(proxy, raw).loss, constant.loss)

    def test_loss_is_the_weighted_sum(self) -> None:
        loss = self.result(beta=0.3, gamma=0.7, rate=0.05).loss
        assert float(loss.detach()) == pytest.approx(0.3 * 0.3161736 - 0.7 * 0.6818941 + 0.05, abs=1e-6)

    def test_the_entropy_of_a_site_is_not_rewarded(self) -> None:
        assert float(self.result(beta=0, gamma=0, rate=0).loss.detach()) == 0

    def test_hard_statistics(self) -> None:
        quantizer = GMVQ(4, 1).eval()
        with torch.no_grad():
            quantizer.codebook.copy_(torch.tensor([[0.0], [1.0], [2.0], [3.0]]))
        result = quantizer(torch.tensor([[0.1], [0.0], [3.2], [2.9]]), torch.ones(4, 1))
        assert result.indices.tolist() == [0, 0, 3, 3]
        assert float(result.perplexity_hard) == pytest.approx(2)
        assert float(result.utilisation) == 0.5


@pytest.mark.parametrize("weights", [1, 3])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("term", [*TERMS, "loss"])
def test_gradients_equal_finite_differences(term: str, training: bool, weights: int) -> None:
    settings: dict[str, Any] = {"beta": 0.3, "gamma": 0.7, "rate": 0.2, "sampling": "straight-through", "noise": False}
    quantizer, proxy, raw = drawn(sites=6, weights=weights, **settings)
    quantizer.train(training)

    def value(proxy: Tensor, raw: Tensor, codebook: Tensor) -> Tensor:
        result: QuantizerResult = functional_call(quantizer, {"codebook": codebook}, (proxy, raw))
        return result.loss if term == "loss" else result.terms[term]

    inputs = [part.detach().clone().requires_grad_() for part in (proxy, raw, quantizer.codebook)]
    assert torch.autograd.gradcheck(value, inputs, rtol=1e-5, atol=1e-8)


class TestSampling:
    def test_straight_through_passes_the_codeword_and_the_posterior_s_gradient(self) -> None:
        quantizer, proxy, raw = drawn(sampling="straight-through", noise=False)
        proxy.requires_grad_()
        raw.requires_grad_()
        result = quantizer(proxy, raw)
        assert torch.equal(result.quantised, quantizer.lookup(result.indices))
        direction = torch.randn_like(result.quantised)
        gradients = torch.autograd.grad((result.quantised * direction).sum(), [proxy, raw])
        weights = 1.7 * torch.nn.functional.softplus(raw)
        posterior = (naive_logits(proxy, weights, quantizer.codebook) + quantizer.log_prior).softmax(1)
        mean = posterior @ quantizer.codebook.detach()
        expected = torch.autograd.grad((mean * direction).sum(), [proxy, raw])
        torch.testing.assert_close(gradients, expected)

    def test_identity_passes_the_codeword_and_the_whole_gradient_to_proxy_and_code(self) -> None:
        quantizer, proxy, raw = drawn(sampling="identity", noise=False, beta=0.0, gamma=0.0)
        proxy.requires_grad_()
        result = quantizer(proxy, raw)
        torch.testing.assert_close(result.quantised, quantizer.lookup(result.indices))
        direction = torch.randn_like(result.quantised)
        slope, book = torch.autograd.grad((result.quantised * direction).sum(), [proxy, quantizer.codebook])
        assert torch.equal(slope, direction)
        expected = torch.zeros_like(book).index_add_(0, result.indices, direction)
        torch.testing.assert_close(book, expected)

    def test_straight_through_moves_the_chosen_codes(self) -> None:
        quantizer, proxy, raw = drawn(sampling="straight-through", noise=False)
        quantizer.precision.fill_(1e6)  # the posterior is one-hot: nothing flows through it
        result = quantizer(proxy, raw)
        result.quantised.sum().backward()
        assert quantizer.codebook.grad is not None
        counts = torch.bincount(result.indices, minlength=5).double()
        torch.testing.assert_close(quantizer.codebook.grad, counts[:, None].expand(5, 3))

    def test_straight_through_softens_its_gradient_with_the_temperature(self) -> None:
        quantizer, proxy, raw = drawn(sampling="straight-through", noise=False)
        proxy.requires_grad_()
        norms = [
            float(torch.autograd.grad(quantizer(proxy, raw, temperature=tau).quantised.sum(), proxy)[0].norm())
            for tau in (0.01, 1.0, 1000.0)
        ]
        assert norms[0] < norms[1]
        assert norms[2] < norms[1]

    def test_relaxed_samples_follow_the_posterior(self) -> None:
        torch.manual_seed(3)
        quantizer = GMVQ(4, 2, GMVQSettings(noise=False))
        sites = 20_000
        proxy = torch.tensor([[0.2, -0.1]]).expand(sites, 2)
        raw = torch.zeros(sites, 2)
        result = quantizer(proxy, raw, temperature=0.3)
        posterior = naive_logits(proxy[:1], math.log(2) * torch.ones(1, 2), quantizer.codebook).softmax(1)[0]
        counts = torch.bincount(result.indices, minlength=4)
        deviation = (sites * posterior * (1 - posterior)).sqrt()
        assert ((counts - sites * posterior).abs() < 4 * deviation).all()

    def test_temperature_hardens_the_sample(self) -> None:
        quantizer, proxy, raw = drawn(sites=200, noise=False)
        distances = []
        for tau in (2.0, 0.5, 0.01):
            torch.manual_seed(5)
            result = quantizer(proxy, raw, temperature=tau)
            distances.append(float((result.quantised - quantizer.lookup(result.indices)).detach().norm()))
        assert distances[0] > distances[1] > distances[2]
        assert distances[2] < 0.25 * distances[0]

    def test_the_relaxed_sample_carries_gradient_to_all(self) -> None:
        quantizer, proxy, raw = drawn()
        proxy.requires_grad_()
        raw.requires_grad_()
        quantizer(proxy, raw, temperature=0.7).quantised.square().sum().backward()
        for gradient in (proxy.grad, raw.grad, quantizer.codebook.grad):
            assert gradient is not None
            assert gradient.isfinite().all()
            assert (gradient != 0).any()

    def test_a_far_proxy_stays_finite(self) -> None:
        quantizer = GMVQ(16, 4)
        proxy = (1e4 * torch.randn(50, 4)).requires_grad_()
        result = quantizer(proxy, torch.randn(50, 4), temperature=0.1)
        (result.loss + result.quantised.mean()).backward()
        assert result.loss.isfinite()
        assert proxy.grad is not None
        assert proxy.grad.isfinite().all()


class TestNoise:
    """Eq. (18): variance ||z_hat - mu_c||^2 / (2 s^2 L) in each dimension, around the codeword."""

    @pytest.mark.parametrize("scale", [0.5, 2.0])
    def test_moments(self, scale: float) -> None:
        torch.manual_seed(0)
        quantizer = GMVQ(4, 3, GMVQSettings(noise_scale=scale))
        count = 40_000
        nine = torch.full((count,), 9.0)
        sample = torch.cat([quantizer.noise(square, torch.randn(count, 3)) for square in (nine, 0 * nine)], 1)
        variance = 9.0 / (2 * scale * 3)
        error = 5 * variance / count**0.5
        assert (sample[:, :3].mean(0).abs() < 5 * (variance / count) ** 0.5).all()
        covariance = torch.cov(sample[:, :3].T)
        assert (covariance - variance * torch.eye(3)).abs().max() < 2 * error
        assert ((sample[:, :3] ** 4).mean(0) / variance**2 - 3).abs().max() < 0.2  # a Gaussian's kurtosis
        assert sample[:, 3:].abs().max() < 1e-5

    @pytest.mark.parametrize("sampling", ["straight-through", "gumbel", "identity"])
    def test_forward_adds_it_around_the_codeword(self, sampling: str) -> None:
        torch.manual_seed(1)
        quantizer = GMVQ(2, 3, GMVQSettings(sampling=sampling))
        with torch.no_grad():
            quantizer.codebook.copy_(torch.tensor([[0.0, 0, 0], [50, 50, 50]]))
        count = 40_000
        proxy = torch.tensor([[1.0, 2.0, -2.0]]).expand(count, 3)  # 9 from the first code, the second out of reach
        result = quantizer(proxy, torch.zeros(count, 3), temperature=0.1)
        noise = result.quantised - quantizer.lookup(result.indices)
        assert result.indices.max() == 0
        assert noise.mean(0).abs().max() < 5 * (3 / count) ** 0.5
        assert (noise.var(0) - 3).abs().max() < 0.15

    def test_a_relaxed_sample_takes_the_expected_distance(self) -> None:
        torch.manual_seed(2)
        quantizer = GMVQ(2, 2)
        with torch.no_grad():
            quantizer.codebook.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
        count = 40_000
        # Both codes lie at distance 1, so the noise has variance 1/2 whatever y is, while y M spreads on its own.
        result = quantizer(torch.zeros(count, 2), torch.zeros(count, 2), temperature=1.0)
        variance = result.quantised.detach().var(0)
        assert float(variance[1]) == pytest.approx(0.5, rel=0.05)
        assert float(variance[0]) > 0.6

    def test_without_noise_the_codeword_remains(self) -> None:
        quantizer, proxy, raw = drawn(noise=False, sampling="straight-through")
        first, second = (quantizer(proxy, raw).quantised for _ in range(2))
        assert torch.equal(first, second)

    def test_it_pulls_the_proxy_to_the_code(self) -> None:
        quantizer, proxy, raw = drawn(sampling="straight-through")
        proxy.requires_grad_()
        noisy = quantizer(proxy, raw).quantised
        gradient = torch.autograd.grad(noisy.square().sum(), proxy)[0]
        assert gradient.isfinite().all()
        assert (gradient != 0).any()


class TestEvaluation:
    @pytest.mark.parametrize("codes", [2, 16, 1000])
    def test_lookup_equals_quantised(self, codes: int) -> None:
        torch.manual_seed(codes)
        quantizer = GMVQ(codes, 8).eval()
        proxy, raw = torch.randn(300, 8), torch.randn(300, 8)
        result = quantizer(proxy, raw)
        assert torch.equal(quantizer.lookup(result.indices), result.quantised)
        assert torch.equal(quantizer.assign(proxy, raw), result.indices)
        assert result.indices.dtype == torch.int64

    def test_assign_equals_forward_in_training_too(self) -> None:
        quantizer, proxy, raw = drawn(sampling="straight-through")
        assert torch.equal(quantizer.assign(proxy, raw), quantizer(proxy, raw).indices)

    def test_blocks_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        quantizer, proxy, raw = drawn(sites=50)
        quantizer.eval()
        whole, assigned = quantizer(proxy, raw), quantizer.assign(proxy, raw)
        monkeypatch.setattr(blocks, "_BLOCK", 7 * 5)  # seven rows at once, the last block of one
        parts = quantizer(proxy, raw)
        assert torch.equal(parts.indices, whole.indices)
        assert torch.equal(parts.quantised, whole.quantised)
        assert torch.equal(quantizer.assign(proxy, raw), assigned)
        torch.testing.assert_close(parts.loss, whole.loss)
        torch.testing.assert_close(parts.terms, whole.terms)

    def test_no_state_changes(self) -> None:
        quantizer, proxy, raw = drawn(posterior_decay=0.5, learned_prior=True, rate=1.0)
        quantizer.eval()
        before = {name: value.clone() for name, value in [*quantizer.named_parameters(), *quantizer.named_buffers()]}
        generator = torch.get_rng_state()
        first = quantizer(proxy, raw)
        second = quantizer(proxy, raw, temperature=0.01)
        assert torch.equal(first.quantised, second.quantised)
        assert torch.equal(first.loss, second.loss)
        assert torch.equal(torch.get_rng_state(), generator)
        after = dict([*quantizer.named_parameters(), *quantizer.named_buffers()])
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
