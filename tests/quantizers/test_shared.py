"""GM-VQ with a shared codebook: the quadtree, the choice against a full search, bits, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gmvqzip.quantizers.groups import CLASS_OFFSET, CLASSES_PER_OCTAVE
from gmvqzip.quantizers.shared import CLASSES, LEAST_CODES, SharedGMVQ, quadtree

SIZES = (100, 256, 400, 1024)


def drawn(codes: int = 256, groups: int = 3, seed: int = 0) -> SharedGMVQ:
    """A quantiser whose every parameter matters, in evaluation mode."""
    torch.manual_seed(seed)
    quantizer = SharedGMVQ(groups, codes).eval()
    with torch.no_grad():
        quantizer.codebook.add_(0.1 * torch.randn_like(quantizer.codebook))
        quantizer.code_bias.add_(0.3 * torch.randn_like(quantizer.code_bias))
        quantizer.log_precision.add_(0.3 * torch.randn_like(quantizer.log_precision))
        quantizer.slope.normal_(0, 0.2).mul_((quantizer.log_precision / 2).exp())
        quantizer.weight.copy_(torch.tensor([5.0, 12.0, 30.0])[:groups])
    return quantizer


def scale_of(classes: Tensor) -> Tensor:
    """The log2 scales of classes."""
    return (classes - CLASS_OFFSET) / CLASSES_PER_OCTAVE


def residuals(classes: Tensor, seed: int = 1) -> Tensor:
    """Residuals [..., 2] of the scales that classes [..., 2] stand for."""
    generator = torch.Generator().manual_seed(seed)
    return scale_of(classes).exp2() * torch.randn(classes.shape, generator=generator)


def log_prior(quantizer: SharedGMVQ, first: int, second: int) -> list[float]:
    """log p(c | t) of all codes, code by code as the docstring of `groups` writes it."""
    logits = []
    for code in range(quantizer.codes):
        value = quantizer.code_bias[0, code].item()
        for half, t in enumerate((first, second)):
            x = abs(quantizer.codebook[0, code, half].item()) if code else 0.0
            x = max(0.0, x - ((1 << int(quantizer.extra[code])) - 1) / 2)
            value -= math.exp(quantizer.log_precision[0, half, t].item()) * x * x / 2
            value -= quantizer.slope[0, half, t].item() * x
        logits.append(value)
    largest = max(logits)
    total = largest + math.log(sum(math.exp(v - largest) for v in logits))
    return [v - total for v in logits]


class TestQuadtree:
    @pytest.mark.parametrize("codes", SIZES)
    def test_each_point_of_the_plane_has_one_code(self, codes: int) -> None:
        words, extra = quadtree(codes)
        assert len(words) == len(extra) == codes
        seen = torch.zeros(2048, 2048, dtype=torch.int32)
        for (x, y), size in zip(words.tolist(), extra.tolist(), strict=True):
            side = 1 << size
            row, column = (int(v - (side - 1) / 2) + 1024 for v in (x, y))
            seen[row : row + side, column : column + side] += 1
        assert (seen == 1).all()

    @pytest.mark.parametrize("codes", SIZES)
    def test_zero_is_the_first_and_squares_grow_with_the_distance(self, codes: int) -> None:
        words, extra = quadtree(codes)
        assert words[0].tolist() == [0, 0]
        assert extra[0] == 0
        assert (words.norm(dim=1).diff() >= 0).all()
        assert extra.max() == 8
        of_single_points = words[extra == 0].norm(dim=1)
        assert of_single_points.max() < words[extra == 3].norm(dim=1).min()

    @pytest.mark.parametrize("codes", [1, LEAST_CODES - 3, 255, 257])
    def test_numbers_of_codes_that_there_are_not(self, codes: int) -> None:
        with pytest.raises(ValueError, match=f"not {codes}"):
            quadtree(codes)


class TestChoice:
    def test_bits_against_the_formula(self) -> None:
        quantizer = drawn(100)
        classes = torch.randint(1, CLASSES, (3, 8, 2)).float()
        _, bits, indices = quantizer(residuals(classes), scale_of(classes))
        for place in [(group, site) for group in range(3) for site in range(8)]:
            prior = log_prior(quantizer, *(int(t) for t in classes[place]))
            code = int(indices[place]) % 100
            expected = -prior[code] / math.log(2) + 2 * int(quantizer.extra[code])
            assert bits[place].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)

    def test_few_candidates_cost_no_more_than_all_codes(self) -> None:
        quantizer = drawn(400)
        classes = torch.randint(0, CLASSES, (3, 1500, 2)).float()
        classes[..., 0] = classes[..., 0].clamp_min(1)
        residual, scale = residuals(classes), scale_of(classes)
        points, bits, _ = quantizer(residual, scale)
        half = quantizer.weight[:, None] / 2
        cost = half * (points - residual).square().sum(2) + bits * math.log(2)
        prepared = quantizer.prepared()
        everything = torch.arange(400).expand(len(prepared.candidates), -1)
        prepared.candidates = everything
        points, bits, _ = quantizer(residual, scale, prepared)
        best = half * (points - residual).square().sum(2) + bits * math.log(2)
        assert (best <= cost + 1e-3).all()
        assert cost.mean() < 1.001 * best.mean()

    def test_indices_tell_the_points(self) -> None:
        quantizer = SharedGMVQ(1, 256).eval()
        classes = torch.randint(8, CLASSES, (1, 900, 1)).float().expand(-1, -1, 2)
        residual = residuals(classes)
        points, _, indices = quantizer(residual, scale_of(classes))
        code, number = indices % 256, indices // 256
        extra = quantizer.extra[code]
        side = 1 << extra
        assert (number < side**2).all()
        assert (extra > 3).any()
        at = torch.stack([number >> extra, number & (side - 1)], 2)
        assert torch.equal(quantizer.codewords()[0][code] + at - (side[..., None] - 1) / 2, points)
        assert (points - residual).abs().max() < 0.9

    def test_the_lowest_classes_of_both_halves_imply_code_0(self) -> None:
        quantizer = drawn()
        residual = torch.full((3, 3, 2), 2.0)
        classes = torch.tensor([[0.0, 0.0], [0.0, 1.0], [-9.0, 0.3]]).expand(3, -1, -1)
        points, bits, indices = quantizer(residual, scale_of(classes))
        for found in (points, bits, indices):
            assert not found[:, [0, 2]].any()
        assert bits[:, 1].all()

    def test_a_dearer_distance_is_smaller(self) -> None:
        quantizer = drawn()
        classes = torch.full((3, 2000, 2), 6.0)
        points, bits, _ = quantizer(residuals(classes)[:1].expand(3, -1, -1), scale_of(classes))
        error = (points - residuals(classes)[:1]).square().sum(2).mean(1)
        assert error[0] > error[1] > error[2]
        assert bits.mean(1)[0] < bits.mean(1)[1] < bits.mean(1)[2]


class TestTraining:
    def test_where_gradients_go(self) -> None:
        quantizer = drawn().train()
        residual = torch.randn(3, 60, 2, requires_grad=True)
        scale = (0.3 * torch.randn(3, 60, 2)).requires_grad_()
        points, bits, _ = quantizer(residual, scale)
        bits.sum().backward(retain_graph=True)
        for parameter in (scale, quantizer.codebook, quantizer.code_bias, quantizer.log_precision, quantizer.slope):
            assert parameter.grad is not None
            assert parameter.grad.any()
        assert residual.grad is None
        quantizer.zero_grad()
        points.sum().backward()
        assert quantizer.codebook.grad is not None
        assert quantizer.codebook.grad.any()
        assert not quantizer.codebook.grad[:, 0].any()
        assert residual.grad is None

    def test_bits_are_the_mean_over_a_class_of_noise(self) -> None:
        """Of codes that do not depend on the noise, as those of zero residuals do not."""
        quantizer = drawn().train()
        classes = 2 + 6 * torch.rand(3, 4, 2)
        mean = quantizer(torch.zeros(3, 4, 2), scale_of(classes))[1]
        quantizer.eval()
        noisy = classes[:, :, None] + torch.rand(3, 4, 4000, 2) - 0.5
        _, bits, indices = quantizer(torch.zeros(3, 4 * 4000, 2), scale_of(noisy.flatten(1, 2)))
        assert not indices.any()
        torch.testing.assert_close(bits.reshape(3, 4, -1).mean(2), mean, rtol=0.03, atol=0.01)

    def test_it_learns_a_distribution(self) -> None:
        quantizer = SharedGMVQ(2, 100)
        optimizer = torch.optim.AdamW(quantizer.parameters(), lr=0.02, weight_decay=0.0)
        residual = torch.where(torch.rand(2, 800, 2) < 0.7, 0.0, 2.0)
        scale = torch.zeros(2, 800, 2)
        rates = []
        for _ in range(60):
            points, bits, _ = quantizer(residual, scale)
            rates.append(bits.mean().item())
            (bits.mean() + 6 * (points - residual).square().sum(2).mean()).backward()
            optimizer.step()
            optimizer.zero_grad()
        assert rates[-1] < 0.8 * rates[0]


def test_four_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="2 dimensions, not 4"):
        SharedGMVQ(3, 100, 4)
