"""The paper's table at full length, on a tiny network and tiny pictures: what is skipped, resumed and chosen."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from test_reproduction import ONE, loaded
from tiny_runs import pictures

from gmvqzip.errors import DivergedError
from gmvqzip.training.config import StagedTraining
from gmvqzip.training.imagesets import UniformSet
from gmvqzip.training.presets import preset
from gmvqzip.training.splits import DataSplits

TIMES = {"finished", "seconds_trained", "seconds_in_all"}
ROW = ["--rows", "vqvae", "--best", "0"]
PLACE = Path("out/cifar10-3epochs")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """The script with a tiny preset and data set; signal handlers are put back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    module = loaded("full_length")
    parts = [
        UniformSet(name, pictures(count, seed)) for seed, (name, count) in enumerate([("a", 20), ("b", 4), ("c", 6)])
    ]
    data = DataSplits(parts[0], parts[1], parts[2], "gradients")
    monkeypatch.setattr("experiments.preset", lambda name: replace(ONE, batch_size=4, cosine=True))
    monkeypatch.setattr(module, "load_data", lambda kind, place: data)
    monkeypatch.setattr("gmvqzip.training.report._tensorboard", lambda folder: None)
    monkeypatch.setattr(module, "WAIT", 0.01)
    monkeypatch.chdir(tmp_path)
    yield module
    for number, handler in before.items():
        signal.signal(number, handler)


def command(*more: str) -> list[str]:
    return ["--data", "x", "--out", "out", "--epochs", "3", "--share", "0.8", "--rates", "0.01", "0.002", *more]


def record(name: str, place: Path = PLACE) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / f"{name}.json").read_text())
    return {key: value for key, value in found.items() if key not in TIMES}


def stopping_after(module: ModuleType, looks: int) -> type:
    """As the script's own, but asks to stop when it has been looked at so many times."""

    class Soon(module.Timed):  # type: ignore[name-defined, misc]
        left = looks

        @property
        def asked(self) -> bool:
            Soon.left -= 1
            return bool(Soon.left < 0)

        @asked.setter
        def asked(self, value: bool) -> None:
            pass

    return Soon


class TestRows:
    def test_a_row_is_chosen_then_trained_then_skipped(
        self, script: ModuleType, capsys: pytest.CaptureFixture[str]
    ) -> None:
        script.main(command(*ROW))
        short = {rate: record(f"vqvae-rate{rate}", PLACE / "rates") for rate in ("0.01", "0.002")}
        assert all("mse" not in one and one["length"] == {"epochs": 3 * 0.8} for one in short.values())  # no test part
        best = min(short.values(), key=lambda one: one["validation"]["mse"])
        whole = record("vqvae-seed0")
        assert whole["rate"] == best["rate"] == whole["settings"]["adam_rate"]
        assert whole["settings"]["codebook_rate"] is None and whole["settings"]["epochs"] == 3
        assert (whole["steps_done"], whole["length"], whole["epochs_done"]) == (15, {"epochs": 3}, 3)
        assert 1 <= whole["perplexity_soft"] <= 16 and whole["pictures"] == 6
        assert not [path for path in (PLACE / "work").iterdir() if path.is_dir()]
        assert (PLACE / "vqvae-seed0.safetensors").stat().st_size == whole["model_bytes"]
        files = {path: path.read_bytes() for path in PLACE.rglob("*.json")}
        capsys.readouterr()
        script.main(command(*ROW))
        assert capsys.readouterr().out == "all rows are finished\n"
        assert {path: path.read_bytes() for path in PLACE.rglob("*.json")} == files

    def test_a_fresh_folder_goes_on_from_kept_records(
        self, script: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What page.py keeps in docs/data stands for the runs, but for those of another length or data set."""
        script.main(command(*ROW))
        files = {path: path.read_bytes() for path in PLACE.rglob("*.json")}
        records = [json.loads(text) for text in files.values()]
        others = [one | {"length": {"epochs": 1.5}, "seed": 1} for one in records]
        others += [one | {"set": "celeba128", "seed": 1} for one in records]
        Path("kept.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records + others))
        PLACE.rename("before")
        monkeypatch.setattr(script, "make", lambda *arguments: pytest.fail("made again"))
        script.main(command(*ROW, "--records", "kept.jsonl"))
        assert {path: path.read_bytes() for path in PLACE.rglob("*.json")} == files
        with pytest.raises(SystemExit):
            script.main(command(*ROW, "--records", "missing.jsonl"))

    @pytest.mark.parametrize("row", ["gmvq", "vqvae+replace"])
    def test_interruptions_change_no_record(
        self, script: ModuleType, row: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stopped again and again, in short and in long runs, the same command ends in the same records."""
        words = command("--rows", row, "--best", "0")
        script.main(words)
        whole = {path.relative_to(PLACE): record(path.stem, path.parent) for path in PLACE.rglob("*.json")}
        PLACE.rename("before")
        name = row.replace("+", "+")
        stops = 0
        while not (PLACE / f"{name}-seed0.json").exists():
            with monkeypatch.context() as patch:
                patch.setattr(script, "Timed", stopping_after(script, 9 + stops))
                script.main(words)
            stops += 1
            assert stops < 40
        assert stops > 4
        parts = {path.relative_to(PLACE): record(path.stem, path.parent) for path in PLACE.rglob("*.json")}
        assert parts == whole

    def test_a_killed_run_goes_on_from_its_last_checkpoint(
        self, script: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As by kill -9: nothing is saved at the end, and the steps since the checkpoint are made again."""
        script.main(command(*ROW))
        whole = record("vqvae-seed0")
        for path in PLACE.glob("vqvae-seed0*"):
            path.unlink()

        class Killed(BaseException):
            pass

        def killed(self: Any, *more: Any, **options: Any) -> Any:
            record = step(self, *more, **options)
            if self.step == 9:
                self.save()
            if self.step == 12:
                raise Killed
            return record

        trainer = "gmvqzip.training.trainer.Trainer._train_step"
        from gmvqzip.training.trainer import Trainer

        step = Trainer._train_step
        with monkeypatch.context() as patch:
            patch.setattr(trainer, killed)
            with pytest.raises(Killed):
                script.main(command(*ROW))
        assert [path.name for path in PLACE.rglob("checkpoint-*.pt")] == ["checkpoint-00000009.pt"]
        script.main(command(*ROW))
        assert record("vqvae-seed0") == whole

    def test_another_process_makes_what_it_has_begun(
        self, script: ModuleType, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A claimed run is left alone; what needs it waits, and the rest is made meanwhile."""
        options = script.arguments(command("--rows", "vqvae", "mvq", "--best", "0"))
        plans, sets = script.plans_of(options), script.Sets(options.data)
        first = next(plans[0].tasks())
        stop = script.Timed(None)
        with script.claimed(first) as mine:
            assert mine
            made = []
            while script.step(plans, sets, options, stop):
                made.append(capsys.readouterr().out)
            assert not script.step(plans, sets, options, stop) and script.step(plans, sets, options, stop) is not None
        assert first.record() is None and not (PLACE / "vqvae-seed0.json").exists()
        assert (PLACE / "mvq-seed0.json").exists() and len(made) == 4
        script.work(plans, options, stop)
        assert (PLACE / "vqvae-seed0.json").exists()


class TestChoice:
    def write(self, task: Any, **values: Any) -> None:
        task.path.parent.mkdir(parents=True, exist_ok=True)
        task.path.write_text(json.dumps(values))

    def plan(self, script: ModuleType, *more: str) -> Any:
        return script.plans_of(script.arguments(command("--rates", "0.01", "0.003", "0.001", *more)))[0]

    def test_the_lowest_error_of_what_did_not_diverge(self, script: ModuleType) -> None:
        plan = self.plan(script)
        high, middle, low = plan.choices("vqvae")
        run = script.Task(plan, "vqvae", 0)
        assert run.chosen() is None
        self.write(high, failed="the loss is not finite at step 9")
        self.write(middle, validation={"mse": 0.004})
        assert run.chosen() is None
        self.write(low, validation={"mse": 0.003})
        assert run.chosen() == 0.001
        self.write(middle, validation={"mse": 0.002})
        assert run.chosen() == 0.003
        self.write(middle, validation={"mse": 0.003})
        self.write(low, validation={"mse": 0.003})
        assert run.chosen() == 0.003  # the first of equals
        for task in (middle, low):
            self.write(task, failed="the loss is not finite at step 9")
        with pytest.raises(DivergedError, match="vqvae diverged at all rates"):
            run.chosen()

    def test_changes_of_gmvq_take_over_its_rate(self, script: ModuleType) -> None:
        plan = self.plan(script)
        assert plan.choices("gmvq, gamma 0.2") == plan.choices("gmvq")
        names = [task.name for task in self.plan(script, "--rows", "gmvq, gamma 0.2").tasks()]
        assert names == ["gmvq-rate0.01", "gmvq-rate0.003", "gmvq-rate0.001", "gmvq-gamma-0.2-seed0"]

    def test_the_order_and_further_seeds_of_the_best(self, script: ModuleType) -> None:
        plan = self.plan(script)
        names = [task.name for task in plan.tasks() if task.rate is None]
        assert names[:4] == ["vqvae-seed0", "gmvq-seed0", "gmvq+entropy-seed0", "vqvae+replace-seed0"]
        assert not any(name.endswith("seed1") for name in names)
        for number, row in enumerate(script.TABLE):
            error = {"gmvq": 0.001, "mvq": 0.0005}.get(row, 0.01 + number)
            self.write(script.Task(plan, row, 0), validation={"mse": error})
        self.write(script.Task(plan, "sqvae", 0), failed="the loss is not finite at step 9")
        names = [task.name for task in plan.tasks() if task.rate is None]
        assert names[10:14] == ["mvq-seed1", "mvq-seed2", "gmvq-seed1", "gmvq-seed2"]
        assert names[14].startswith("gmvq-gamma-0-")

    def test_a_run_that_diverges_is_recorded(self, script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        def diverged(*more: Any, **options: Any) -> None:
            more[3].mkdir(parents=True)
            raise DivergedError("the loss is not finite at step 3")

        monkeypatch.setattr(script, "trained", diverged)
        script.main(command(*ROW))
        assert record("vqvae-rate0.01", PLACE / "rates")["failed"] == "the loss is not finite at step 3"
        assert record("vqvae-seed0")["failed"] == "vqvae diverged at all rates"


@pytest.mark.parametrize("kind", ["cifar10", "celeba128"])
def test_every_row_is_the_papers_setting(kind: str) -> None:
    """On one network, but for what a method needs; at most 6 kMAC a pixel, which docs/experiments/paper.md states."""
    script, experiments = loaded("full_length"), loaded("experiments")
    base = preset(experiments.COMPACT[kind])
    for name, row in experiments.EXPERIMENTS["paper"].items():
        config = script.configured(
            kind, row, {"adam_rate": 0.01, "codebook_rate": None}, 0, {"epochs": 100.0}, script.COMPACT
        )
        assert isinstance(config, StagedTraining), name
        assert (config.optimizer, config.batch_size, config.epochs, config.steps) == ("adamw", 256, 100.0, None)
        assert (config.warmup, config.hold, config.floor, config.cosine) == (0.1, 0.1, 0.0, True)
        assert replace(config.network, grids=base.network.grids) == base.network  # type: ignore[type-var]
        if name.startswith("gmvq"):
            assert (config.temperature_start, config.temperature_end, config.temperature_until) == (2.0, 0.1, 1.0)
