"""The k-means start of a codebook."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gmvqzip.quantizers import GMVQ
from gmvqzip.quantizers.gmvq import kmeans

CORNERS = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def clustered(count: int, spread: float = 0.1) -> Tensor:
    """`count` points around each of the four corners, [4 * count, 2]."""
    return CORNERS.repeat_interleave(count, 0) + spread * torch.randn(4 * count, 2)


def worst(points: Tensor, centres: Tensor) -> float:
    """The largest distance of a point from its nearest centre."""
    return float(torch.cdist(points, centres).min(1).values.max())


def test_finds_separate_clusters() -> None:
    torch.manual_seed(0)
    points = clustered(500)
    centres = kmeans(points, 16, 20)
    assert centres.shape == (16, 2)
    assert worst(CORNERS, centres) < 0.3
    assert worst(centres, CORNERS) < 0.5


def test_more_iterations_are_no_worse() -> None:
    points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0))
    errors = []
    for iterations in (0, 1, 10):
        torch.manual_seed(1)
        errors.append(float(torch.cdist(points, kmeans(points, 20, iterations)).min(1).values.square().mean()))
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_fewer_points_than_clusters(count: int) -> None:
    torch.manual_seed(count)
    points = torch.randn(count, 3)
    centres = kmeans(points, 8)
    assert centres.shape == (8, 3)
    assert centres.isfinite().all()
    assert worst(points, centres) < 0.01


def test_clusters_that_lose_all_points_move_to_points() -> None:
    torch.manual_seed(0)
    points = torch.cat([torch.zeros(100, 2), torch.ones(1, 2)])
    centres = kmeans(points, 6)
    assert centres.isfinite().all()
    distances = torch.cdist(centres, points).min(1).values
    assert distances.max() < 0.01


def test_points_are_not_changed() -> None:
    points = clustered(10)
    before = points.clone()
    kmeans(points, 4)
    assert torch.equal(points, before)


def test_it_works_over_several_parts() -> None:
    torch.manual_seed(0)
    points = clustered(2500)  # beyond one part of 4096 points
    assert worst(CORNERS, kmeans(points, 16)) < 0.3


class TestInitialise:
    def test_codebook_and_precision(self) -> None:
        torch.manual_seed(0)
        points = clustered(100, spread=0.5)
        quantizer = GMVQ(4, 2)
        before = quantizer.codebook
        torch.manual_seed(3)
        quantizer.initialise(points, sharpness=2.0)
        assert quantizer.codebook is before
        error = torch.cdist(points, quantizer.codebook.detach()).min(1).values.square().mean() / 2
        assert float(quantizer.precision) == pytest.approx(2.0 / float(error), rel=1e-4)
        assert not quantizer.precision.requires_grad

    def test_every_code_is_used_at_first(self) -> None:
        torch.manual_seed(0)
        points = torch.randn(4000, 4)
        quantizer = GMVQ(32, 4).eval()
        quantizer.initialise(points)
        result = quantizer(points, torch.zeros_like(points))
        assert float(result.utilisation) == 1
        assert float(result.perplexity_hard) > 25

    def test_points_without_error_leave_a_precision_that_half_floats_hold(self) -> None:
        quantizer = GMVQ(8, 2)
        quantizer.initialise(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), sharpness=4.0)
        assert quantizer.precision.half().isfinite()
        assert quantizer.codebook.isfinite().all()
