"""The scales at which a hyperprior model begins, and that its hyper-latent lives on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_runs import CPU, HYPERPRIOR, pictures

from gmvqzip.models.hyperprior import HyperpriorModel
from gmvqzip.training import hyperprior
from gmvqzip.training.first_scales import HIDDEN_DEVIATION, HYPER_DEVIATION, start_scales
from gmvqzip.training.hyperprior import HyperpriorTrainer
from gmvqzip.training.imagesets import UniformSet

RAMP, STEPS = 10, 80


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(pictures(count, seed, 64)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture
def started() -> HyperpriorModel:
    torch.manual_seed(0)
    model = HyperpriorModel(HYPERPRIOR.network)
    start_scales(model, [images(4, 1), images(3, 2)])
    return model


def test_the_hyper_latent_begins_well_above_the_noise_of_rounding(started: HyperpriorModel) -> None:
    hidden: list[torch.Tensor] = []
    started.transform.analysis.hyper_down.register_forward_hook(lambda *call: hidden.append(call[2]))
    image = torch.cat([images(4, 1), images(3, 2)])
    with torch.no_grad():
        _, hyper = started.transform.analyse(image, torch.zeros(7))
        output = started.eval()(image, torch.zeros(7), scalar=True)
    for found, deviation in ((hidden[0], HIDDEN_DEVIATION), (hyper, HYPER_DEVIATION)):
        channels = found.transpose(0, 1).flatten(1)
        torch.testing.assert_close(channels.std(1), torch.full((len(channels),), deviation), rtol=1e-3, atol=0)
        torch.testing.assert_close(channels.mean(1), torch.zeros(len(channels)), rtol=0, atol=1e-2)
    numbers = hyper[0].numel()  # of which each takes log2(4 sqrt(2 pi e)) bits, were they normal
    assert output.hyper_bits.mean() / numbers == pytest.approx(4.05, abs=0.3)


def test_the_first_scales_are_those_of_the_latents(started: HyperpriorModel) -> None:
    latents = HYPERPRIOR.network.latents
    with torch.no_grad():
        latent, _ = started.transform.analyse(torch.cat([images(4, 1), images(3, 2)]), torch.zeros(7))
    for step in started.steps():
        assert step.head.conv.bias is not None
        expected = latent.transpose(0, 1).flatten(1).std(1).clamp_min(0.05)
        torch.testing.assert_close(step.head.conv.bias[latents:].exp2(), expected, rtol=1e-3, atol=0)


def test_pictures_without_detail_leave_finite_weights() -> None:
    model = HyperpriorModel(HYPERPRIOR.network)
    start_scales(model, [torch.full((4, 3, 64, 64), 0.5)])
    assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())


def test_the_hyper_latent_has_bits_once_they_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hyperprior, "_RATE_RAMP", RAMP)
    monkeypatch.setattr(hyperprior, "_HYPER_RAMP", RAMP)
    config = replace(HYPERPRIOR, steps=10 * STEPS, crop=64)
    trainer = HyperpriorTrainer(config, UniformSet("tiny", pictures(12, 3, 64)), tmp_path, CPU)
    rates: list[float] = []
    trainer.run(
        on_step=lambda record: rates.append(record.values["hyper_bpp"]),
        on_evaluation=lambda: None,
        stop=lambda: trainer.step >= STEPS,
    )
    with torch.no_grad():
        _, hyper = trainer.model.transform.analyse(images(12, 3), torch.zeros(12))
    per_number = rates[-1] * 64**2 / hyper[0].numel()
    assert per_number > 1
    assert hyper.round().transpose(0, 1).flatten(1).std(1).min() > 1


def test_nothing_but_gradients_moves_its_layers(tmp_path: Path) -> None:
    """A decay would bring the hyper-latent back below the noise."""
    trainer = HyperpriorTrainer(
        replace(HYPERPRIOR, weight_decay=0.1), UniformSet("", pictures(12, 3, 16)), tmp_path, CPU
    )
    analysis = trainer.model.transform.analysis
    own = {id(analysis.hyper_down.weight), id(analysis.hyper.weight)}
    decays = [
        group["weight_decay"]
        for optimizer in trainer.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
        if id(parameter) in own
    ]
    assert decays == [0.0, 0.0]


def test_its_rate_comes_in_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {}
    for ramp in (1000, 1e-9):
        monkeypatch.setattr(hyperprior, "_HYPER_RAMP", ramp)
        trainer = HyperpriorTrainer(HYPERPRIOR, UniformSet("tiny", pictures(12, 3, 16)), tmp_path, CPU)
        with torch.no_grad():
            trainer.model.hyper_mean.fill_(1e6)  # a rate beyond all others
        seen: list[dict[str, float]] = []
        trainer.run(
            on_step=lambda record, seen=seen: seen.append(record.values),
            on_evaluation=lambda: None,
            stop=lambda seen=seen: len(seen) >= 2,
        )
        losses[ramp] = seen
    left_out, counted = losses[1000], losses[1e-9]
    assert left_out[0] == counted[0]
    assert left_out[1]["bpp"] == counted[1]["bpp"]
    assert left_out[1]["loss"] < counted[1]["loss"]
