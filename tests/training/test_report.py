"""The log, sheets and curves that a run leaves."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from gmvqzip.errors import OutputError
from gmvqzip.training import report
from gmvqzip.training.report import LOG_NAME, RunLog, plot_curves, read_log, save_sheet

REAL_TENSORBOARD = report._tensorboard  # before the tests' fixture hides it


def logged(folder: Path, steps: int) -> None:
    """A log of `steps` steps with an evaluation behind every second one."""
    log = RunLog(folder, 0)
    for step in range(1, steps + 1):
        log.write("step", step, {"loss": 1 / step, "psnr": 20.0 + step, "perplexity_hard.0": 3.0})
        if step % 2 == 0:
            log.write("evaluation", step, {"mse": 0.1})
    log.close()


def test_one_object_a_line(tmp_path: Path) -> None:
    logged(tmp_path, 4)
    lines = [json.loads(line) for line in (tmp_path / LOG_NAME).read_text().splitlines()]
    assert [(line["kind"], line["step"]) for line in lines] == [
        ("step", 1), ("step", 2), ("evaluation", 2), ("step", 3), ("step", 4), ("evaluation", 4),
    ]  # fmt: skip
    assert lines[1]["psnr"] == 22.0
    assert read_log(tmp_path / LOG_NAME) == lines


def test_lines_are_there_at_once(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    log.write("step", 1, {})
    assert len(read_log(tmp_path / LOG_NAME)) == 1
    log.close()


@pytest.mark.parametrize(("step", "kept"), [(4, 6), (3, 4), (2, 3), (0, 0)])
def test_what_lies_beyond_the_checkpoint_is_dropped(tmp_path: Path, step: int, kept: int) -> None:
    logged(tmp_path, 4)
    RunLog(tmp_path, step).close()
    lines = read_log(tmp_path / LOG_NAME)
    assert len(lines) == kept
    assert all(line["step"] <= step for line in lines)


def test_a_cut_last_line_is_left_out(tmp_path: Path) -> None:
    logged(tmp_path, 2)
    path = tmp_path / LOG_NAME
    path.write_text(path.read_text()[:-20])
    log = RunLog(tmp_path, 2)
    log.write("step", 3, {})
    log.close()
    assert [line["step"] for line in read_log(path)] == [1, 2, 3]


def test_a_log_that_cannot_be_rewritten_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written anew beside, so that nothing that ends the process in between loses it."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = RunLog(tmp_path, 0)
    log.write("step", 1, {})
    log.close()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OutputError, match="no space left"):
            RunLog(tmp_path, 1)
    assert [line["step"] for line in read_log(tmp_path / LOG_NAME)] == [1]


class _Writer:
    """Stands in for TensorBoard's SummaryWriter."""

    made: ClassVar[list[_Writer]] = []

    def __init__(self, folder: str) -> None:
        self.folder, self.closed = folder, False
        self.scalars: list[tuple[str, float, int]] = []
        self.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def close(self) -> None:
        self.closed = True


def test_numbers_go_to_tensorboard_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_tensorboard", REAL_TENSORBOARD)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=_Writer))
    log = RunLog(tmp_path, 0)
    log.write("step", 3, {"loss": 0.5})
    log.write("evaluation", 3, {"mse": 0.1, "perplexity_hard": [1.0, 2.0]})
    log.close()
    (writer,) = _Writer.made
    assert writer.folder == str(tmp_path)
    assert writer.scalars == [("step/loss", 0.5, 3), ("evaluation/mse", 0.1, 3)]
    assert writer.closed


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert REAL_TENSORBOARD(tmp_path) is None


def test_no_log(tmp_path: Path) -> None:
    assert read_log(tmp_path / LOG_NAME) == []


def test_sheet(tmp_path: Path) -> None:
    sheet = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    save_sheet(tmp_path, 42, sheet)
    with Image.open(tmp_path / "samples-00000042.png") as image:
        assert np.array_equal(np.asarray(image), sheet)


class TestCurves:
    def drawn(self, folder: Path) -> np.ndarray[Any, Any]:
        plot_curves(folder)
        with Image.open(folder / "curves.png") as image:
            return np.asarray(image)

    def test_one_panel_a_quantity(self, tmp_path: Path) -> None:
        logged(tmp_path, 30)
        pixels = self.drawn(tmp_path)
        assert pixels.shape == (3 * 320, 960, 3)
        for panel in np.split(pixels, 3):
            assert (panel == (0, 0, 128)).all(2).any()  # the line

    def test_quantities_that_never_came(self, tmp_path: Path) -> None:
        log = RunLog(tmp_path, 0)
        log.write("step", 1, {"loss": 1.0})
        log.close()
        assert self.drawn(tmp_path).shape == (320, 960, 3)

    def test_one_step_and_a_constant(self, tmp_path: Path) -> None:
        logged(tmp_path, 1)
        assert self.drawn(tmp_path).shape == (960, 960, 3)

    def test_no_steps_no_picture(self, tmp_path: Path) -> None:
        plot_curves(tmp_path)
        RunLog(tmp_path, 0).close()
        plot_curves(tmp_path)
        assert not (tmp_path / "curves.png").exists()


def test_a_board_gets_the_numbers_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Board:
        def __init__(self) -> None:
            self.told: list[Any] = []

        def add_scalar(self, name: str, value: float, step: int) -> None:
            self.told.append((name, value, step))

        def close(self) -> None:
            self.told.append("closed")

    board = Board()
    monkeypatch.setattr("gmvqzip.training.report._tensorboard", lambda folder: board)
    log = RunLog(tmp_path, 0)
    log.write("evaluation", 3, {"mse": 0.5, "perplexity_hard": [1.0]})
    log.close()
    assert board.told == [("evaluation/mse", 0.5, 3), "closed"]
