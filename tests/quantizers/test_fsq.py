"""FSQ: its grid, its round trip, its borders."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gmvqzip.quantizers import FSQ, FSQSettings
from gmvqzip.quantizers.fsq import RECOMMENDED

LEVELS = (8, 5, 4, 3)
CODES = 8 * 5 * 4 * 3


def made(levels: tuple[int, ...] = LEVELS) -> FSQ:
    return FSQ(int(torch.tensor(levels).prod()), len(levels), FSQSettings(levels))


def none(sites: int) -> Tensor:
    return torch.empty(sites, 0)


def test_codes_round_trip() -> None:
    """A proxy that is bounded to a grid point is given that point's code: every code is reached, each by its own."""
    quantizer = made()
    middles = []
    for channel, count in enumerate(LEVELS):
        borders = quantizer.thresholds(channel)
        inner = (borders[1:] + borders[:-1]) / 2
        middles.append(torch.cat([borders[:1] - 1, inner, borders[-1:] + 1]).float())
        assert len(middles[-1]) == count
    index = torch.arange(CODES)
    digits = [index % 8, index // 8 % 5, index // 40 % 4, index // 160]
    proxy = torch.stack([middle[digit] for middle, digit in zip(middles, digits, strict=True)], 1)
    assert torch.equal(quantizer.assign(proxy, none(CODES)), index)
    assert torch.equal(quantizer.eval()(proxy, none(CODES)).quantised, quantizer.codebook)


def test_the_grid() -> None:
    quantizer = made((4, 3))
    assert quantizer.codebook[:, 0].unique().tolist() == [-1, -0.5, 0, 0.5]
    assert quantizer.codebook[:, 1].unique().tolist() == [-1, 0, 1]
    assert len(quantizer.codebook.unique(dim=0)) == 12
    assert quantizer.lookup(torch.tensor([5])).tolist() == [[-0.5, 0]]  # 5 = 1 + 4 * 1


def test_bounds_and_zero() -> None:
    quantizer = made()
    wide = torch.linspace(-50, 50, 1001)[:, None].expand(-1, 4)
    bounded = quantizer.bound(wide)
    lowest, highest = -(torch.tensor(LEVELS) // 2), (torch.tensor(LEVELS) - 1) // 2
    assert torch.equal(bounded.round().amin(0).long(), lowest)
    assert torch.equal(bounded.round().amax(0).long(), highest)
    torch.testing.assert_close(quantizer.bound(torch.zeros(1, 4)), torch.zeros(1, 4))


def test_borders_are_where_the_code_changes() -> None:
    quantizer = made()
    for channel in range(4):
        for number, border in enumerate(quantizer.thresholds(channel).tolist()):
            proxy = torch.zeros(2, 4, dtype=torch.float64)
            proxy[:, channel] = torch.tensor([border - 1e-6, border + 1e-6])
            levels = quantizer.bound(proxy).round()[:, channel] + LEVELS[channel] // 2
            assert levels.tolist() == [number, number + 1]


def test_the_gradient_is_that_of_the_bound() -> None:
    quantizer = made().train()
    proxy = torch.randn(30, 4, requires_grad=True)
    slope = torch.randn(30, 4)
    (quantizer(proxy, none(30)).quantised * slope).sum().backward()
    other = proxy.detach().clone().requires_grad_()
    (quantizer.passing(other) * slope).sum().backward()
    torch.testing.assert_close(proxy.grad, other.grad)


def test_there_is_no_loss_and_nothing_to_learn() -> None:
    quantizer = made()
    assert not list(quantizer.parameters())
    assert float(quantizer.train()(torch.randn(9, 4), none(9)).loss) == 0


@pytest.mark.parametrize("codes", RECOMMENDED)
def test_recommended_levels_are_near_their_number_of_codes(codes: int) -> None:
    quantizer = made(RECOMMENDED[codes])
    assert 0.87 * codes <= quantizer.codes <= codes


@pytest.mark.parametrize("levels", [(8, 2), (8, 2.5), [8, 5]])
def test_levels_that_make_no_grid(levels: object) -> None:
    with pytest.raises(ValueError, match="levels must be whole numbers of 3 or more"):
        FSQ(16, 2, FSQSettings(levels))  # type: ignore[arg-type]
