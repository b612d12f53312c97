"""Runs in each precision: what is said of it, and going on in another one, as on another kind of processor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_runs import HYPERPRIOR, TINY, Recorder, splits, train
from torch.utils._python_dispatch import TorchDispatchMode

from gmvqzip.training import hyperprior, loop
from gmvqzip.training.config import StagedTraining
from gmvqzip.training.optim import Muon
from gmvqzip.training.precision import Precision
from gmvqzip.training.presets import PRESETS

FAST, PLAIN, MIXED = Precision(True, True), Precision(False, False), Precision(True, False)
RUNS = {"staged": replace(TINY, precision="auto"), "hyperprior": replace(HYPERPRIOR, precision="auto")}


@pytest.fixture(autouse=True)
def few_residuals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codebooks start from a few batches: k-means is most of a tiny run, and none of what is looked at here."""
    monkeypatch.setattr(hyperprior, "_COLLECTED", 2)


def resolved(monkeypatch: pytest.MonkeyPatch, to: Precision) -> None:
    """As on a processor where measurement says this."""
    monkeypatch.setattr(loop, "training_precision", lambda wanted, device: to)


def test_it_is_measured_by_default() -> None:
    assert StagedTraining(TINY.network).precision == "auto"
    assert {config.precision for config in PRESETS.values()} == {"auto"}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize(("before", "after"), [(FAST, PLAIN), (PLAIN, FAST), (FAST, MIXED), (PLAIN, PLAIN)])
def test_a_run_goes_on_with_another_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, before: Precision, after: Precision
) -> None:
    config = RUNS[name]
    resolved(monkeypatch, before)
    assert train(tmp_path, config, splits(test=False), recorder=Recorder(stop_at=7)) is None
    resolved(monkeypatch, after)
    recorder = Recorder()
    kinds: set[torch.dtype] = set()

    def look(record: object, trainer: loop.TrainingLoop) -> None:
        for optimizer in trainer.optimizers:  # type: ignore[attr-defined]
            if isinstance(optimizer, Muon):
                kinds.add(optimizer.product_type)
            for state in optimizer.state.values():
                assert all(value.dtype == torch.float32 for value in state.values() if isinstance(value, torch.Tensor))

    card = train(tmp_path, config, splits(test=False), recorder=recorder, resume=True, on_step=look)
    assert [record.step for record in recorder.steps] == list(range(8, (config.steps or 0) + 1))
    assert card is not None
    assert card["training"]["precision"] == "auto"
    assert card["training"]["precision_used"] == str(after)
    assert kinds == {after.product_type}
    assert recorder.lines[0] == f"precision: {after} (the faster here)"


def test_a_fixed_precision_may_be_given_up(tmp_path: Path) -> None:
    """A run that was begun in bf16 goes on in float32, and says so."""
    assert train(tmp_path, replace(TINY, precision="bf16"), recorder=Recorder(stop_at=7)) is None
    recorder = Recorder()
    card = train(tmp_path, replace(TINY, precision="fp32"), recorder=recorder, resume=True)
    assert card is not None
    assert card["training"]["precision_used"] == "fp32"
    assert recorder.lines[:2] == ["precision: fp32", "resumed at step 7"]


class Watch(TorchDispatchMode):
    """Notes the operations that give bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype == torch.bfloat16:
            self.seen.add(str(func))
        return out


@pytest.mark.parametrize("name", RUNS)
def test_float32_means_no_bfloat16_anywhere(tmp_path: Path, name: str) -> None:
    """No operation of a training that goes through all its phases."""
    for precision, expected in (("fp32", False), ("bf16", True)):
        with Watch() as watch:
            config = replace(RUNS[name], precision=precision)
            train(tmp_path / precision, config, splits(test=False), recorder=Recorder(stop_at=11))
        assert bool(watch.seen) == expected
