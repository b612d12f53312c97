"""GM-VQ's codebook of running means: the M-step of the mixture."""

from __future__ import annotations

import pytest
import torch

from gmvqzip.quantizers import GMVQ, GMVQSettings, base
from tests.quantizers.formulas import drawn, naive_logits


def stepped(decay: float, *, steps: int = 1, **settings: object) -> tuple[GMVQ, torch.Tensor, torch.Tensor]:
    quantizer, proxy, raw = drawn(ema=decay, noise=False, **settings)
    for _ in range(steps):
        quantizer(proxy, raw)
        quantizer.after_step([])
    return quantizer, proxy, raw


@pytest.mark.parametrize("sampling", ["gumbel", "straight-through", "identity"])
@pytest.mark.parametrize("rows", [0, 2])
def test_without_memory_codes_are_means_under_the_posterior(
    sampling: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rows:
        monkeypatch.setattr(base, "BLOCK_ELEMENTS", rows * 5)
    before, proxy, raw = drawn()
    weights = 1.7 * torch.nn.functional.softplus(raw)
    posterior = (naive_logits(proxy, weights, before.codebook) + before.log_prior).softmax(1).detach()
    expected = (posterior.t() @ proxy) / posterior.sum(0)[:, None]
    quantizer, _, _ = stepped(1e-9, sampling=sampling)
    torch.testing.assert_close(quantizer.codebook.detach(), expected, rtol=1e-6, atol=1e-6)


def test_memory_fades_by_the_decay() -> None:
    quantizer, proxy, raw = drawn(ema=0.75, noise=False)
    quantizer(proxy, raw)
    start, (count, moment) = quantizer.ema_sum.clone(), quantizer._moments or ()
    quantizer.after_step([])
    torch.testing.assert_close(quantizer.ema_sum, 0.75 * start + 0.25 * moment)
    torch.testing.assert_close(quantizer.ema_count, 0.75 + 0.25 * count.to(quantizer.ema_count))


def test_only_the_encoder_has_gradients() -> None:
    quantizer, proxy, raw = drawn(ema=0.9, sampling="identity", noise=False)
    proxy.requires_grad_(True)
    result = quantizer(proxy, raw)
    (result.loss + result.quantised.square().sum()).backward()
    assert quantizer.codebook.grad is None
    assert proxy.grad is not None
    assert proxy.grad.abs().sum() > 0


def test_evaluation_moves_nothing() -> None:
    quantizer, proxy, raw = drawn(ema=0.5)
    before = quantizer.codebook.detach().clone()
    quantizer.eval()(proxy, raw)
    quantizer.after_step([])
    assert torch.equal(quantizer.codebook, before)


def test_steps_lower_the_expected_distance() -> None:
    few, *_ = stepped(0.5, steps=1, beta=1.0, gamma=0.0)
    many, proxy, raw = stepped(0.5, steps=40, beta=1.0, gamma=0.0)
    distances = [quantizer.eval()(proxy, raw).terms["distance"] for quantizer in (few, many)]
    assert distances[1] < distances[0]


def test_the_start_and_a_new_place_are_remembered() -> None:
    quantizer = GMVQ(4, 2, GMVQSettings(ema=0.5, posterior_decay=0.5))
    quantizer.initialise(torch.randn(64, 2, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(quantizer.ema_sum / quantizer.ema_count[:, None], quantizer.codebook)
    quantizer.average_posterior = torch.tensor([0.5, 0.5, 0.0, 0.0])
    assert quantizer.reseed() == 2
    assert torch.equal(quantizer.ema_sum / quantizer.ema_count[:, None], quantizer.codebook)


def test_a_checkpoint_keeps_the_means_and_a_model_does_not() -> None:
    quantizer, _, _ = stepped(0.5)
    assert {"ema_sum", "ema_count"} <= set(quantizer.running_state())
    assert "ema_sum" not in quantizer.state_dict()
    assert "ema_sum" not in GMVQ(4, 2).running_state()


def test_codes_that_never_move_are_an_error() -> None:
    with pytest.raises(ValueError, match="ema must be below 1"):
        GMVQSettings(ema=1.0).check(4, 2)
