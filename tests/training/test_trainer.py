"""The training loop: stage starts, schedules, exact resumption, a loss that is not finite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import CPU, RATED, TINY, pictures

from gmvqzip.errors import TrainingError
from gmvqzip.models.network import OPEN, QUANTISE, SKIP
from gmvqzip.training import course, loop
from gmvqzip.training import trainer as module
from gmvqzip.training.checkpoint import checkpoints
from gmvqzip.training.config import TrainConfig
from gmvqzip.training.imagesets import UniformSet
from gmvqzip.training.loop import StepRecord
from gmvqzip.training.trainer import Trainer

CONFIGS = {
    "paper": TINY,
    "rated": RATED,
    "adamw": replace(TINY, optimizer="adamw", weight_decay=0.1, cosine=True),
    "bf16": replace(TINY, precision="bf16"),
}


def made(folder: Path, config: TrainConfig = TINY) -> Trainer:
    return Trainer(config, UniformSet("tiny", pictures(20)), folder, CPU)


def run(
    trainer: Trainer,
    *,
    until: int | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
    on_evaluation: Callable[[Any], None] | None = None,
) -> list[StepRecord]:
    """Run to the end, or until `until` steps are done; the records of the steps."""
    records: list[StepRecord] = []

    def step(record: StepRecord) -> None:
        records.append(record)
        if on_step:
            on_step(record)

    finished = trainer.run(
        on_step=step,
        on_evaluation=on_evaluation or (lambda: None),
        stop=lambda: until is not None and trainer.step >= until,
    )
    assert finished == (until is None or until >= (trainer.steps or 0))
    return records


def state_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Every tensor of the network and of its running average."""
    assert trainer.average is not None
    found = {f"network.{name}": value for name, value in trainer.network.state_dict().items()}
    return found | {f"average.{name}": value for name, value in trainer.average.state_dict().items()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[list[StepRecord], Trainer]]:
    """Whole runs of the configurations, each made once."""
    known: dict[str, tuple[list[StepRecord], Trainer]] = {}

    def whole(name: str) -> tuple[list[StepRecord], Trainer]:
        if name not in known:
            trainer = made(tmp_path_factory.mktemp(name), CONFIGS[name])
            known[name] = run(trainer), trainer
        return known[name]

    return whole


class TestRun:
    def test_the_loss_falls(self, tmp_path: Path) -> None:
        records = run(made(tmp_path, replace(TINY, steps=60, open_steps=20)))
        errors = [record.values["mse"] for record in records]
        assert np.mean(errors[-5:]) < 0.5 * np.mean(errors[:3])

    def test_records(self, uninterrupted: Any) -> None:
        records, trainer = uninterrupted("paper")
        assert [record.step for record in records] == list(range(1, 17))
        assert [record.progress for record in records] == [step / 16 for step in range(16)]
        assert "perplexity_hard.0" not in records[2].values
        assert "perplexity_hard.0" in records[3].values
        assert "perplexity_hard.1" not in records[5].values
        last = records[-1].values
        for name in ("distance", "bits", "aggregated_entropy", "conditional_entropy", "utilisation", "perplexity_soft"):
            assert np.isfinite(last[f"{name}.1"])
        assert last["psnr"] == pytest.approx(-10 * np.log10(last["mse"]))
        assert trainer.course.elapsed >= trainer.course.trained > 0

    def test_a_run_is_reproducible(self, uninterrupted: Any, tmp_path: Path) -> None:
        records, trainer = uninterrupted("paper")
        torch.rand(100)  # whatever happened before
        again = made(tmp_path)
        assert [r.values for r in run(again)] == [r.values for r in records]
        mine, theirs = state_of(again), state_of(trainer)
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)

    def test_another_seed_is_another_run(self, uninterrupted: Any, tmp_path: Path) -> None:
        records, _ = uninterrupted("paper")
        other = run(made(tmp_path, replace(TINY, seed=1)), until=1)
        assert other[0].values["loss"] != records[0].values["loss"]

    def test_lengths(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert made(tmp_path, TINY.with_length(steps=7, epochs=None, seconds=None)).steps == 7
        assert made(tmp_path, TINY.with_length(steps=None, epochs=2, seconds=None)).steps == 10
        assert made(tmp_path, TINY.with_length(steps=None, epochs=0.01, seconds=None)).steps == 1
        ticks = count(0.0, 0.01)  # seconds: so much passes from one look at the clock to the next
        for timed_module in (loop, course):
            monkeypatch.setattr(timed_module, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
        timed = made(tmp_path, TINY.with_length(steps=None, epochs=None, seconds=2.0))
        assert timed.steps is None
        records = run(timed)
        assert records[-1].progress < 1 <= timed.progress

    def test_evaluations_come_between_steps(self, tmp_path: Path) -> None:
        trainer = made(tmp_path, replace(TINY, evaluate_every=4))
        seen: list[tuple[int, bool]] = []
        run(trainer, on_evaluation=lambda: seen.append((trainer.step, trainer.exported is trainer.average)))
        assert seen == [(4, False), (8, False), (12, True)]  # the end is the caller's

    def test_pictures_that_do_not_fit_the_grid_are_padded(self, tmp_path: Path) -> None:
        trainer = Trainer(TINY, UniformSet("odd", pictures(3, side=18)), tmp_path, CPU)
        assert len(run(trainer, until=1)) == 1
        cropped = Trainer(replace(TINY, crop=8), UniformSet("odd", pictures(3, side=18)), tmp_path, CPU)
        assert len(run(cropped, until=1)) == 1


class TestStages:
    def test_they_open_one_after_another(self, tmp_path: Path) -> None:
        trainer = made(tmp_path)
        modes = []
        for trainer.step in range(8):
            modes.append(trainer._modes())
        assert modes == 3 * [[OPEN, SKIP]] + 3 * [[QUANTISE, OPEN]] + 2 * [[QUANTISE, QUANTISE]]

    def test_codebooks_start_from_the_proxies(self, tmp_path: Path) -> None:
        trainer = made(tmp_path)
        first, second = trainer.network.quantizers()
        before = first.codebook.detach().clone()
        run(trainer, until=3)
        assert torch.equal(first.codebook, before)  # an open stage has no use for its codes
        proxies = torch.cat(trainer._collected[0])
        assert proxies.shape == (3 * 4 * 16, 4)
        run(trainer, until=4)
        assert torch.cdist(first.codebook.detach(), proxies).min(1).values.max() < proxies.std()
        assert float(first.precision) != 1
        assert float(second.precision) == 1
        run(trainer, until=7)
        assert float(second.precision) != 1
        assert trainer._collected == {}

    def test_few_proxies_are_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_KMEANS_SITES", 8)  # times 8 codes: one batch of 4 * 16 sites
        trainer = made(tmp_path)
        run(trainer, until=3)
        assert len(trainer._collected[0]) == 1

    def test_ready_means_started(self, tmp_path: Path) -> None:
        trainer = made(tmp_path)
        run(trainer, until=6)
        assert not trainer.ready
        run(trainer, until=7)
        assert trainer.ready


class TestSchedules:
    def prepared(self, config: TrainConfig, folder: Path, progress: float) -> tuple[Trainer, float]:
        trainer = made(folder, config)
        return trainer, trainer._prepare(progress)

    def test_temperature_falls_exponentially(self, tmp_path: Path) -> None:
        config = replace(TINY, temperature_start=2.0, temperature_end=0.02, temperature_until=0.5)
        values = [self.prepared(config, tmp_path, progress)[1] for progress in (0, 0.25, 0.5, 0.9)]
        assert values == pytest.approx([2.0, 0.2, 0.02, 0.02])

    def test_hard_codes_at_the_end(self, tmp_path: Path) -> None:
        for progress, sampling, noise in ((0.79, "gumbel", True), (0.8, "straight-through", False)):
            trainer, _ = self.prepared(TINY, tmp_path, progress)
            for quantizer in trainer.network.quantizers():
                assert (quantizer.settings.sampling, quantizer.settings.noise) == (sampling, noise)
        identity = replace(TINY, quantizer=replace(TINY.quantizer, sampling="identity"))  # type: ignore[type-var]
        trainer, _ = self.prepared(identity, tmp_path, 0.8)
        assert all(quantizer.settings.sampling == "identity" for quantizer in trainer.network.quantizers())

    def test_the_entropy_reward_fades(self, tmp_path: Path) -> None:
        for progress, share in ((0.0, 1.0), (0.35, 0.5), (0.7, 0.0), (0.9, 0.0)):
            trainer, _ = self.prepared(RATED, tmp_path, progress)
            assert trainer.network.quantizers()[0].settings.gamma == pytest.approx(0.02 * share)
        constant, _ = self.prepared(TINY, tmp_path, 0.9)
        assert constant.network.quantizers()[0].settings.gamma == TINY.quantizer.gamma

    def test_the_rate_comes_in_per_pixel(self, tmp_path: Path) -> None:
        for progress, share in ((0.0, 0.0), (0.3, 0.0), (0.55, 0.5), (0.8, 1.0), (0.95, 1.0)):
            settings = self.prepared(RATED, tmp_path, progress)[0].network.quantizers()[1].settings
            assert settings.rate == pytest.approx(share / 16)  # one site is 4x4 pixels
            assert settings.learned_prior == (share > 0)
        settings = self.prepared(TINY, tmp_path, 0.9)[0].network.quantizers()[0].settings
        assert (settings.rate, settings.learned_prior) == (0, False)

    def test_learning_rates_follow_their_peaks(self, tmp_path: Path) -> None:
        trainer, _ = self.prepared(TINY, tmp_path, 0.0)
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        assert rates == pytest.approx([0.2 * TINY.adam_rate, 0.2 * TINY.muon_rate])

    def test_priors_are_learned_and_reach_the_average(self, uninterrupted: Any) -> None:
        _, trainer = uninterrupted("rated")
        for quantizer, averaged in zip(trainer.network.quantizers(), trainer.average.quantizers(), strict=True):
            assert quantizer.log_prior.softmax(0).max() > 1.1 / 8
            assert torch.equal(quantizer.log_prior, averaged.log_prior)

    def test_dead_codes_are_reseeded_until_the_rate_is_full(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trainer = made(tmp_path, RATED)
        seen: list[int] = []
        for quantizer in trainer.network.quantizers():
            monkeypatch.setattr(quantizer, "reseed", lambda: seen.append(trainer.step))
        run(trainer)
        assert seen == [8, 8, 10, 10, 12, 12]


class TestAverage:
    def test_it_begins_in_the_second_half(self, tmp_path: Path) -> None:
        trainer = made(tmp_path)
        run(trainer, until=8)
        assert trainer.average is None
        assert trainer.exported is trainer.network
        run(trainer, until=9)
        assert trainer.average is not None
        assert trainer.exported is trainer.average
        assert not any(value.requires_grad for value in trainer.average.parameters())

    def test_it_is_a_running_mean(self, tmp_path: Path) -> None:
        trainer = made(tmp_path, replace(TINY, ema_decay=0.15))
        kept: list[torch.Tensor] = []
        run(trainer, on_step=lambda record: kept.append(trainer.network.state_dict()["final.bias"].clone()))
        mean = kept[8]
        for number, value in enumerate(kept[8:], 1):
            mean = torch.lerp(mean, value, 1 - min(0.15, number / (10 + number)))
        assert trainer.average is not None
        torch.testing.assert_close(trainer.average.state_dict()["final.bias"], mean)
        assert not torch.equal(mean, kept[-1])


class TestResume:
    # Within the first open steps, at either k-means start, before and after the average begins, in the last steps.
    @pytest.mark.parametrize("cut", [0, 2, 3, 5, 6, 8, 9, 13, 15, 16])
    @pytest.mark.parametrize("name", ["paper", "rated"])
    def test_same_losses_as_an_uninterrupted_run(self, uninterrupted: Any, tmp_path: Path, name: str, cut: int) -> None:
        expected, whole = uninterrupted(name)
        first = run(made(tmp_path, CONFIGS[name]), until=cut)
        torch.rand(7)
        second = made(tmp_path, CONFIGS[name])
        second.resume()
        assert second.step == cut
        records = first + run(second)
        assert [r.values for r in records] == [r.values for r in expected]
        mine, theirs = state_of(second), state_of(whole)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)

    @pytest.mark.parametrize("name", ["adamw", "bf16"])
    def test_other_settings_resume_as_exactly(self, uninterrupted: Any, tmp_path: Path, name: str) -> None:
        expected, _ = uninterrupted(name)
        run(made(tmp_path, CONFIGS[name]), until=10)
        second = made(tmp_path, CONFIGS[name])
        second.resume()
        assert [r.values for r in run(second)] == [r.values for r in expected[10:]]

    def test_the_time_goes_on(self, tmp_path: Path) -> None:
        first = made(tmp_path)
        run(first, until=2)
        second = made(tmp_path)
        second.resume()
        assert second.course.trained == first.course.trained > 0
        assert second.course.elapsed >= first.course.trained

    def test_a_longer_run_goes_on_from_a_shorter_one(self, tmp_path: Path) -> None:
        run(made(tmp_path))
        longer = made(tmp_path, TINY.with_length(steps=20, epochs=None, seconds=None))
        longer.resume()
        assert [record.step for record in run(longer)] == [17, 18, 19, 20]

    def test_rates_may_change(self, tmp_path: Path) -> None:
        run(made(tmp_path), until=8)
        second = made(tmp_path, replace(TINY, muon_rate=1e-4, adam_rate=1e-5, clip=0.1))
        second.resume()
        run(second, until=9)
        rates = [group["peak"] for optimizer in second.optimizers for group in optimizer.param_groups]
        assert rates == [1e-5, 1e-4]
        assert all(group["lr"] <= group["peak"] for o in second.optimizers for group in o.param_groups)

    @pytest.mark.parametrize(
        ("change", "names"),
        [
            ({"batch_size": 5}, "batch_size"),
            ({"seed": 3, "sharpness": 2.0}, "seed, sharpness"),
            ({"network": replace(TINY.network, stage_blocks=2)}, "network"),
            ({"quantizer": replace(TINY.quantizer, beta=0.2)}, "quantizer"),
        ],
    )
    def test_another_configuration_is_refused(self, tmp_path: Path, change: dict[str, Any], names: str) -> None:
        made(tmp_path).save()
        other = made(tmp_path, replace(TINY, **change))
        with pytest.raises(TrainingError, match=f"was made with other settings: {names}$"):
            other.resume()
        assert other.step == 0

    def test_nothing_to_resume(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match="nothing to resume: no checkpoint in"):
            made(tmp_path).resume()


class TestCheckpoints:
    def test_the_last_two_are_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
        run(made(tmp_path))
        assert [path.name for path in sorted(tmp_path.iterdir())] == [
            "checkpoint-00000015.pt",
            "checkpoint-00000016.pt",
        ]

    def test_one_is_written_when_stopped_and_at_the_end(self, tmp_path: Path) -> None:
        trainer = made(tmp_path)
        run(trainer, until=5)
        assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-00000005.pt"]
        run(trainer)
        assert [path.name for path in checkpoints(tmp_path)][-1] == "checkpoint-00000016.pt"


class TestNotFinite:
    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_it_stops_and_keeps_the_last_good_checkpoint(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
    ) -> None:
        monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
        trainer = made(tmp_path)
        run(trainer, until=9)
        with torch.no_grad():
            trainer.network.final.weight.fill_(value)
        with pytest.raises(TrainingError, match=r"loss is not finite at step 9; .*resume with lower rates") as caught:
            run(trainer)
        assert "\n" not in str(caught.value)
        assert checkpoints(tmp_path)[-1].name == "checkpoint-00000009.pt"
        again = made(tmp_path, replace(TINY, muon_rate=1e-3))
        again.resume()
        assert all(value.isfinite().all() for value in again.network.parameters())
        assert len(run(again)) == 7

    def test_the_step_changes_no_weight(self, tmp_path: Path) -> None:
        trainer = made(tmp_path)
        run(trainer, until=2)
        before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
        trainer.config = replace(TINY, reconstruction_weight=1e308)
        with pytest.raises(TrainingError, match="not finite"):
            run(trainer)
        assert all(torch.equal(before[name], value) for name, value in trainer.network.state_dict().items())


def test_evaluate_measures_what_would_be_shipped(uninterrupted: Any) -> None:
    _, trainer = uninterrupted("paper")
    evaluation = trainer.evaluate([pictures(6, 5)])
    assert evaluation["pictures"] == 6
    with torch.no_grad():
        backup = trainer.average.final.bias.clone()
        trainer.average.final.bias.add_(1)
        assert trainer.evaluate([pictures(6, 5)])["mse"] > evaluation["mse"]
        trainer.average.final.bias.copy_(backup)
