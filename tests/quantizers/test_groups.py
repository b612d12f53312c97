"""GM-VQ of groups, against its equations written out code by code."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gmvqzip.quantizers.groups import CLASS_OFFSET, CLASSES, CLASSES_PER_OCTAVE, GroupGMVQ


def drawn(groups: int = 3, codes: int = 7, dimensions: int = 4, seed: int = 0) -> GroupGMVQ:
    """Groups in float64 whose every parameter matters, in evaluation mode."""
    torch.manual_seed(seed)
    quantizer = GroupGMVQ(groups, codes, dimensions).double().eval()
    with torch.no_grad():
        quantizer.code_bias.normal_()
        quantizer.log_precision.add_(torch.randn_like(quantizer.log_precision) / 3)
        quantizer.slope.normal_(0, 0.3)
        quantizer.weight.copy_(torch.tensor([5.0, 12.0, 30.0])[:groups])
    return quantizer


def naive_log_prior(quantizer: GroupGMVQ, group: int, classes: tuple[int, int]) -> list[float]:
    """log p(c | t) of all codes, as the module's docstring writes it."""
    logits = []
    for code in range(quantizer.codes):
        word = quantizer.codebook[group, code].tolist() if code else [0.0] * quantizer.dimensions
        value = quantizer.code_bias[group, code].item()
        for half in range(2):
            part = word[: len(word) // 2] if half == 0 else word[len(word) // 2 :]
            value -= math.exp(quantizer.log_precision[group, half, classes[half]].item()) * sum(v * v for v in part) / 2
            value -= quantizer.slope[group, half, classes[half]].item() * sum(abs(v) for v in part)
        logits.append(value)
    largest = max(logits)
    total = largest + math.log(sum(math.exp(v - largest) for v in logits))
    return [v - total for v in logits]


def scale_of(classes: Tensor) -> Tensor:
    """The log2 scales of classes."""
    return (classes - CLASS_OFFSET) / CLASSES_PER_OCTAVE


@pytest.fixture
def quantizer() -> GroupGMVQ:
    return drawn()


class TestPrior:
    def test_it_sums_to_one(self, quantizer: GroupGMVQ) -> None:
        classes = torch.rand(3, 50, 2, dtype=torch.float64) * (CLASSES - 1)
        prior = quantizer.log_prior(classes)
        assert prior.shape == (3, 50, 7)
        torch.testing.assert_close(prior.exp().sum(2), torch.ones(3, 50, dtype=torch.float64))

    def test_against_the_formula(self, quantizer: GroupGMVQ) -> None:
        pairs = torch.cartesian_prod(torch.arange(CLASSES), torch.arange(CLASSES))
        prior = quantizer.log_prior(pairs.double().expand(3, -1, -1))
        for group in range(3):
            for number in range(0, len(pairs), 11):
                expected = naive_log_prior(quantizer, group, tuple(pairs[number].tolist()))
                assert prior[group, number].tolist() == pytest.approx(expected)

    def test_between_classes_precision_and_slope_are_interpolated(self, quantizer: GroupGMVQ) -> None:
        def odds(first: float) -> Tensor:
            """Log odds of the codes against code 0, which are linear in precision and slope."""
            prior = quantizer.log_prior(torch.tensor([[[first, 5.0]]], dtype=torch.float64).expand(3, 1, 2))
            return prior - prior[..., :1]

        torch.testing.assert_close(odds(4.25), 0.75 * odds(4.0) + 0.25 * odds(5.0))

    def test_larger_scales_make_larger_codewords_likelier(self) -> None:
        torch.manual_seed(0)
        quantizer = GroupGMVQ(1, 16, 2).eval()
        classes = torch.arange(CLASSES)[:, None].expand(1, -1, 2).float()
        energy = quantizer.log_prior(classes).exp() @ quantizer.codewords()[0].square().sum(1)
        assert (energy[0, 1:] > energy[0, :-1]).all()


class TestChoice:
    def test_map_choice_equals_brute_force(self, quantizer: GroupGMVQ) -> None:
        residual = 1.5 * torch.randn(3, 40, 4, dtype=torch.float64)
        classes = torch.randint(1, CLASSES, (3, 40, 2)).double()
        words, bits, indices = quantizer(residual, scale_of(classes))
        for group in range(3):
            for site in range(40):
                pair = tuple(int(t) for t in classes[group, site])
                prior = naive_log_prior(quantizer, group, pair)
                scores = []
                for code in range(7):
                    word = quantizer.codewords()[group, code]
                    distance = (residual[group, site] - word).square().sum().item()
                    scores.append(-quantizer.weight[group].item() / 2 * distance + prior[code])
                best = max(range(7), key=scores.__getitem__)
                assert indices[group, site] == best
                assert bits[group, site].item() == pytest.approx(-prior[best] / math.log(2))
                assert torch.equal(words[group, site], quantizer.codewords()[group, best])

    def test_scales_are_rounded_and_limited_to_classes(self, quantizer: GroupGMVQ) -> None:
        residual = torch.randn(3, 30, 4, dtype=torch.float64)
        classes = torch.randint(1, CLASSES, (3, 30, 2)).double()
        near = classes + 0.9 * (torch.rand_like(classes) - 0.5)
        far = torch.where(classes == CLASSES - 1, 1e3, near)
        for other in (near, far):
            for a, b in zip(quantizer(residual, scale_of(other)), quantizer(residual, scale_of(classes)), strict=True):
                assert torch.equal(a, b)

    def test_code_0_is_the_zero_vector(self, quantizer: GroupGMVQ) -> None:
        assert quantizer.codebook[:, 0].all()
        assert not quantizer.codewords()[:, 0].any()
        assert torch.equal(quantizer.codewords()[:, 1:], quantizer.codebook[:, 1:])

    def test_the_lowest_classes_of_both_halves_imply_code_0(self, quantizer: GroupGMVQ) -> None:
        residual = torch.full((3, 3, 4), 2.0, dtype=torch.float64)
        classes = torch.tensor([[0.0, 0.0], [0.0, 1.0], [-9.0, 0.3]], dtype=torch.float64).expand(3, -1, -1)
        words, bits, indices = quantizer(residual, scale_of(classes))
        assert not indices[:, [0, 2]].any()
        assert not bits[:, [0, 2]].any()
        assert not words[:, [0, 2]].any()
        assert bits[:, 1].all()
        quantizer.train()
        assert quantizer(residual, scale_of(classes))[1].all()


class TestGradients:
    def test_where_they_go(self, quantizer: GroupGMVQ) -> None:
        quantizer.train()
        residual = torch.randn(3, 60, 4, dtype=torch.float64, requires_grad=True)
        scale = torch.zeros(3, 60, 2, dtype=torch.float64, requires_grad=True)
        words, bits, _ = quantizer(residual, scale)
        bits.sum().backward(retain_graph=True)
        for parameter in (scale, quantizer.codebook, quantizer.code_bias, quantizer.log_precision, quantizer.slope):
            assert parameter.grad is not None
            assert parameter.grad.any()
        assert residual.grad is None
        quantizer.zero_grad()
        words.sum().backward()
        assert quantizer.codebook.grad is not None
        assert quantizer.codebook.grad.any()
        assert not quantizer.codebook.grad[:, 0].any()
        assert quantizer.code_bias.grad is None
        assert residual.grad is None

    def test_training_adds_noise_of_one_class(self, quantizer: GroupGMVQ) -> None:
        residual, scale = torch.randn(3, 500, 4, dtype=torch.float64), torch.zeros(3, 500, 2, dtype=torch.float64)
        _, steady, _ = quantizer(residual, scale)
        quantizer.train()
        _, first, _ = quantizer(residual, scale)
        _, second, _ = quantizer(residual, scale)
        assert not torch.equal(first, second)
        assert (first - steady).abs().mean() < 0.5


class TestInitialise:
    def test_frequent_integer_points_come_first(self) -> None:
        """Zero, then three quarters of the codes by frequency, without bias."""
        torch.manual_seed(0)
        points = torch.tensor([[3.0, -1.0], [0.0, 0.0], [1.0, 2.0], [-2.0, 0.0], [7.0, 7.0], [-5.0, 4.0]])
        counts = torch.tensor([60, 50, 40, 30, 20, 10])
        residuals = points.repeat_interleave(counts, 0) + 0.8 * (torch.rand(210, 2) - 0.5)
        quantizer = GroupGMVQ(2, 8, 2)
        quantizer.initialise(torch.stack([residuals, residuals.flip(1)]))
        expected = [[0.0, 0.0], [3.0, -1.0], [1.0, 2.0], [-2.0, 0.0], [7.0, 7.0], [-5.0, 4.0]]
        assert quantizer.codewords()[0, :6].tolist() == expected
        assert quantizer.codewords()[1, :6].tolist() == [word[::-1] for word in expected]
        assert not quantizer.code_bias[:, :6].any()

    def test_the_outer_codes_are_the_clusters_of_what_lies_elsewhere(self) -> None:
        torch.manual_seed(1)
        inner = torch.cat([torch.zeros(400, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(200, 1)])
        quantizer = GroupGMVQ(1, 4, 2)
        outer = torch.tensor([20.0, -20.0]) + torch.randn(100, 2)
        quantizer.initialise(torch.cat([inner + 0.1 * torch.randn_like(inner), outer])[None])
        word = quantizer.codewords()[0, 3]
        torch.testing.assert_close(word, outer.mean(0), rtol=0, atol=0.3)

    def test_biases_of_outer_codes_are_logarithms_of_cells(self) -> None:
        torch.manual_seed(1)
        quantizer = GroupGMVQ(1, 12, 2)
        quantizer.initialise(3 * torch.randn(1, 900, 2))
        words = quantizer.codewords()[0].detach()
        for code in range(9, 12):
            gap = min(float((words[code] - words[other]).norm()) for other in range(12) if other != code)
            expected = 2 * math.log(min(max(gap, 0.05), 20))
            assert float(quantizer.code_bias[0, code].detach()) == pytest.approx(expected, abs=1e-3)

    @pytest.mark.parametrize("codes", [2, 3, 4, 5, 32])
    @pytest.mark.parametrize("count", [1, 5, 300])
    def test_codewords_differ_whatever_the_numbers(self, codes: int, count: int) -> None:
        """Few residuals or many, around zero or far from it."""
        for centre in (0.0, 9.0):
            torch.manual_seed(codes + count)
            quantizer = GroupGMVQ(1, codes, 4)
            quantizer.initialise(centre + torch.randn(1, count, 4))
            words = quantizer.codewords()[0]
            assert not words[0].any()
            assert torch.isfinite(words).all()
            assert torch.isfinite(quantizer.code_bias).all()
            assert len(words.unique(dim=0)) == codes


def test_odd_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="3 dimensions do not make two halves"):
        GroupGMVQ(1, 4, 3)
