"""The settings that the options of `gmvqzip train` ask for, and what a run says."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gmvqzip.cli.progress import (
    Pace,
    TrainingDisplay,
    describe_results,
    describe_step,
    describe_time,
    describe_trend,
)
from gmvqzip.cli.run import UsageError
from gmvqzip.cli.train import RunOptions, seconds_of
from gmvqzip.training.stopping import CODEBOOKS, EVALUATING, EXPORTING, READING, STEPS
from gmvqzip.training.trainer import StepRecord


class TestSettings:
    def settings(self, dataset: str = "folder", **options: Any) -> Any:
        return RunOptions(**options).settings(dataset)

    @pytest.mark.parametrize(("dataset", "preset"), [("cifar10", "cifar10"), ("celeba", "celeba"), ("folder", "photo")])
    def test_each_data_set_has_its_preset(self, dataset: str, preset: str) -> None:
        from gmvqzip.training.presets import DEFAULT_STARTS, PRESETS

        expected = PRESETS[preset].started(DEFAULT_STARTS.get(preset, "none"))
        assert self.settings(dataset=dataset) == expected

    def test_a_preset_on_other_data(self) -> None:
        assert self.settings(dataset="cifar10", preset="small").dataset == "cifar10"

    def test_a_quantiser_by_name(self) -> None:
        from gmvqzip.training.methods import with_quantizer
        from gmvqzip.training.presets import PRESETS

        assert self.settings(dataset="cifar10", quantizer="gmvq") == PRESETS["paper-cifar10"]
        chosen = self.settings(dataset="cifar10", quantizer="vqvae+l2", steps=7)
        assert chosen == replace(with_quantizer(PRESETS["paper-cifar10"], "vqvae+l2"), steps=7)
        # The preset of folders has no other quantisers, so a small network takes its place.
        assert self.settings(quantizer="sqvae") == with_quantizer(PRESETS["small"], "sqvae")

    def test_lengths(self) -> None:
        assert self.settings(steps=5).steps == 5
        timed = self.settings(time="1.5h")
        assert (timed.steps, timed.epochs, timed.seconds) == (None, None, 5400)
        epochs = self.settings(epochs=0.5)
        assert (epochs.steps, epochs.epochs, epochs.seconds) == (None, 0.5, None)

    def test_batch_size_and_seed(self) -> None:
        settings = self.settings(batch_size=3, seed=0)
        assert (settings.batch_size, settings.seed) == (3, 0)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), (" 2 m ", 120), ("0.5s", 0.5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5s", "0", "10d", "1e3", "1h30m", "nan"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UsageError, match="give a duration"):
        seconds_of(text)


class TestWords:
    def test_a_step(self) -> None:
        values = {"loss": 1.5, "psnr": 20.0, "perplexity_hard.0": 12.0, "perplexity_hard.1": 3.4, "utilisation.0": 0.5}
        record, pace = StepRecord(7, 0.1, values), Pace()
        pace.step(1.5, 10.0)
        assert describe_step(record, pace, "", None) == "step 7, loss 1.5000, perplexity 12/3, used 50%"
        pace.step(0.5, 10.4)
        text = describe_step(record, pace, "q50 0.400 bpp 30.00 dB", 3725)
        assert text == (
            "step 7, 2.5 steps/s, loss 1.0000, perplexity 12/3, used 50%, q50 0.400 bpp 30.00 dB, 1 h 02 min left"
        )

    def test_the_loss_is_smoothed_and_the_speed_is_that_of_late(self) -> None:
        pace = Pace()
        for step in range(100):
            pace.step(1.0 + (-1) ** step, float(step))
        assert pace.loss == pytest.approx(1.0, abs=0.05)
        assert pace.rate == 1.0
        for step in range(100):
            pace.step(1.0, 100 + step / 20)
        assert pace.rate == pytest.approx(20)

    @pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.4, "1:01"), (3599, "59:59"), (7260, "2 h 01 min")])
    def test_time(self, seconds: float, text: str) -> None:
        assert describe_time(seconds) == text

    def test_a_staged_model_s_results(self) -> None:
        summary = {
            "mse": 0.001,
            "psnr_mean": 30.0,
            "pictures": 4,
            "bpp_order0": 0.5,
            "perplexity_hard": [9.6],
            "utilisation": [1.0],
        }
        text = describe_results(summary)
        assert text == "MSE 1.000e-03, PSNR 30.00 dB (mean of 4 pictures), 0.5000 bpp, perplexity 10, used 100.0%"
        assert "0.2500 bpp" in describe_results(summary | {"bpp": 0.25})
        assert "PSNR 30.00 dB (+0.50) (mean" in describe_results(summary, summary | {"psnr_mean": 29.5})
        assert describe_trend(summary, None) == "0.500 bpp 30.00 dB"

    def test_a_hyperprior_model_s_results_with_their_trend(self) -> None:
        before = {"pictures": 9, "quality": [0.0, 0.5, 1.0], "bpp": [0.1, 0.4, 2.0], "psnr_mean": [25.0, 30.0, 40.0]}
        after = before | {"bpp": [0.11, 0.38, 2.0], "psnr_mean": [25.25, 29.9, 40.0]}
        assert describe_results(before) == (
            "q1 0.100 bpp 25.00 dB, q50 0.400 bpp 30.00 dB, q100 2.000 bpp 40.00 dB (mean of 9 pictures)"
        )
        assert describe_results(after, before) == (
            "q1 0.110 bpp 25.25 dB (+10.0 %, +0.25 dB), q50 0.380 bpp 29.90 dB (-5.0 %, -0.10 dB), "
            "q100 2.000 bpp 40.00 dB (+0.0 %, +0.00 dB) (mean of 9 pictures)"
        )
        assert describe_trend(after, before) == "q50 0.380 bpp 29.90 dB (-5.0 %, -0.10 dB)"


class TestDisplay:
    def test_a_line_for_the_first_step_and_from_time_to_time(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = [0.0]
        monkeypatch.setattr("gmvqzip.cli.progress.time", SimpleNamespace(monotonic=lambda: clock[0]))
        trainer: Any = SimpleNamespace(progress=0.61, seconds_left=75.0)
        with TrainingDisplay(enabled=False, quiet=False) as display:
            for step in range(1, 101):
                clock[0] = 0.5 * step
                display.on_step(StepRecord(step, step / 100, {"loss": 1.0, "psnr": 20.0}), trainer)
        assert capsys.readouterr().err.splitlines() == [
            " 61.0% step 1, loss 1.0000, 1:15 left",
            " 61.0% step 21, 2 steps/s, loss 1.0000, 1:15 left",
            " 61.0% step 81, 2 steps/s, loss 1.0000, 1:15 left",
        ]

    def test_phases_that_take_long_are_said(self, capsys: pytest.CaptureFixture[str]) -> None:
        with TrainingDisplay(enabled=False, quiet=False) as display:
            for doing in (READING, STEPS, EVALUATING, CODEBOOKS, EXPORTING):
                display.on_phase(doing)
        assert capsys.readouterr().err.splitlines() == [CODEBOOKS, EXPORTING]
