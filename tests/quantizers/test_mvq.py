"""Masked VQ: its table, its winners, what competes, and where the gradient goes."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gmvqzip.quantizers import MVQ, MVQSettings
from gmvqzip.quantizers.mvq import winners

NONE = torch.empty(50, 0)


def made(**settings: object) -> tuple[MVQ, Tensor]:
    """5 codes x 7 masks of 3 units, in training mode, and proxies of 50 sites."""
    torch.manual_seed(5)
    quantizer = MVQ(35, 4, MVQSettings(units=3, width=2, **settings)).train()  # type: ignore[arg-type]
    with torch.no_grad():
        quantizer.outer.weight.mul_(5)
    return quantizer, torch.randn(50, 4, requires_grad=True)


def test_the_table_is_every_code_under_every_mask() -> None:
    quantizer, _ = made()
    rows = []
    for code in quantizer.codebook.detach():
        patterns = [bits for bits in product((0, 1), repeat=3) if any(bits)]
        for bits in patterns:  # as binary numbers 1 .. 7, the first unit being the lowest bit
            mask = torch.tensor(bits[::-1]).repeat_interleave(2)
            rows.append(code + quantizer.outer.weight @ (mask * F.gelu(quantizer.inner(code))))
    torch.testing.assert_close(quantizer.codewords(), torch.stack(rows))


def test_winners_take_the_minimum() -> None:
    torch.manual_seed(0)
    points, hypotheses, masks = torch.randn(60, 4), torch.randn(60, 5, 4), torch.tensor([6, 0, 3, 2, 9])
    for site, mask in enumerate(winners(points, hypotheses, masks)):
        distances = [(points[site] - hypothesis).norm() for hypothesis in hypotheses[site]]
        assert mask == masks[int(torch.tensor(distances).argmin())]


def test_a_random_part_of_the_masks_competes() -> None:
    """Of 7 masks 0.6 are 4; each step draws others; of these the winner is the nearest under the nearest code."""
    quantizer, proxy = made(share=0.6)
    seen = set()
    for _ in range(20):
        indices = quantizer(proxy, NONE).indices
        used = set((indices % 7).tolist())
        assert len(used) <= 4
        seen |= used
        assert torch.equal(indices // 7, torch.cdist(proxy, quantizer.codebook).argmin(1))
    assert len(seen) > 4


def test_with_all_masks_the_winner_is_the_nearest_of_them() -> None:
    quantizer, proxy = made(share=1.0)
    result = quantizer(proxy, NONE)
    table = quantizer.codewords().reshape(5, 7, 4)[torch.cdist(proxy, quantizer.codebook).argmin(1)]  # [50, 7, 4]
    distances = ((proxy[:, None] - table) ** 2).sum(2)
    assert torch.equal(result.indices % 7, distances.argmin(1))
    assert float(result.terms["winner_distance"].detach()) == pytest.approx(
        float(distances.amin(1).mean().detach()) / 4, rel=1e-5
    )


def test_only_winners_get_a_gradient() -> None:
    """A unit that no winner lets through is left alone, though other hypotheses use it."""
    quantizer, proxy = made(share=1.0, commitment=0.0)
    with torch.no_grad():
        quantizer.outer.weight[:, 2:] = 100.0  # units 1 and 2 lead far away, so mask 1, unit 0 alone, wins everywhere
        quantizer.inner.bias.fill_(1.0)
    result = quantizer(proxy, NONE)
    assert (result.indices % 7 == 0).all()
    result.loss.backward()
    slope = quantizer.outer.weight.grad
    assert slope is not None
    assert slope[:, :2].abs().max() > 0 and slope[:, 2:].abs().max() == 0


def test_the_loss() -> None:
    quantizer, proxy = made(codebook=2.0, commitment=0.3)
    result = quantizer(proxy, NONE)
    words = quantizer.codewords()[result.indices]
    codes = quantizer.codebook[result.indices // 7]
    wanted = 2.0 * (((proxy - codes) ** 2).mean() + ((proxy - words) ** 2).mean()) + 0.3 * ((proxy - words) ** 2).mean()
    assert float(result.loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    result.loss.backward()
    torch.testing.assert_close(proxy.grad, (0.3 * 2 * (proxy - words) / proxy.numel()).detach())


def test_evaluation_takes_the_nearest_token_of_all() -> None:
    quantizer, proxy = made()
    result = quantizer.eval()(proxy, NONE)
    assert torch.equal(result.indices, torch.cdist(proxy, quantizer.codewords()).argmin(1))
    two_steps = made(share=1.0)[0](proxy, NONE)
    assert float(result.terms["distance"].detach()) <= float(two_steps.terms["winner_distance"].detach()) + 1e-6


def test_masks_lower_the_error_that_codes_leave() -> None:
    """After training on points at rest, tokens are much nearer to them than the codes alone."""
    quantizer, _ = made()
    points = torch.randn(400, 4)
    quantizer.initialise(points)
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        quantizer(points, torch.empty(400, 0)).loss.backward()
        optimizer.step()
    left = torch.cdist(points, quantizer.codebook.detach()).amin(1).square().mean()
    tokens = torch.cdist(points, quantizer.codewords().detach()).amin(1).square().mean()
    assert tokens < 0.7 * left


def test_tokens_must_divide() -> None:
    with pytest.raises(ValueError, match="units 3 make 7 masks, and 36 codes are no multiple"):
        MVQ(36, 4, MVQSettings(units=3))
