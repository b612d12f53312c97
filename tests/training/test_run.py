"""A whole run: from pictures to a model file, stopped, resumed, refused."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import HYPERPRIOR, RATED, TINY, Recorder, pictures, splits, train

import gmvqzip
from gmvqzip.entropy.tables import TOTAL
from gmvqzip.errors import OutputError, TrainingError
from gmvqzip.models.registry import read_info
from gmvqzip.models.store import load_tables, verify
from gmvqzip.training import checkpoint, loop
from gmvqzip.training.config import TrainConfig
from gmvqzip.training.loop import StepRecord
from gmvqzip.training.report import RunLog, read_log
from gmvqzip.training.run import _sample, _validation
from gmvqzip.training.trainer import Trainer


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """The log's lines of kind step."""
    return [line for line in read_log(folder / "run" / "log.jsonl") if line["kind"] == "step"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Recorder]:
    """The folder, the card and the reports of one whole run."""
    folder, recorder = tmp_path_factory.mktemp("finished"), Recorder()
    card = train(folder, replace(RATED, evaluate_every=10), recorder=recorder)
    assert card is not None
    return folder, card, recorder


class TestWholeRun:
    def test_the_model(self, finished: tuple[Path, dict[str, Any], Recorder]) -> None:
        folder, card, _ = finished
        info = read_info(folder / "tiny.safetensors")
        verify(info)
        assert [int(table.sum()) for table in load_tables(info)] == [TOTAL, TOTAL]
        assert info.card["results"] == card["results"]
        assert card["training"]["steps_done"] == 16
        assert card["training"]["seconds_trained"] >= 0
        for summary in card["results"].values():
            assert 0 < summary["mse"] < 0.5
            assert len(summary["perplexity_hard"]) == 2

    def test_it_compresses(self, finished: tuple[Path, dict[str, Any], Recorder]) -> None:
        codec = gmvqzip.load(finished[0] / "tiny.safetensors", device="cpu")
        codes = codec.encode(pictures(1, 7, 30)[0])
        data = codec.compress(pictures(1, 7, 30)[0])
        assert codec.decode_codes(data) == codes
        assert np.array_equal(np.asarray(codec.decompress(data)), np.asarray(codec.decode(codes)))

    def test_the_run_s_folder(self, finished: tuple[Path, dict[str, Any], Recorder]) -> None:
        folder = finished[0] / "run"
        assert {path.name for path in folder.iterdir()} == {
            "checkpoint-00000016.pt", "curves.png", "log.jsonl", "samples-00000010.png", "samples-00000016.png",
        }  # fmt: skip
        for path in folder.glob("*.png"):
            with Image.open(path) as image:
                image.load()
        with Image.open(folder / "samples-00000016.png") as image:
            assert image.size == (4 * 16, 2 * 16)

    def test_the_log(self, finished: tuple[Path, dict[str, Any], Recorder]) -> None:
        folder, card, _ = finished
        lines = read_log(folder / "run" / "log.jsonl")
        assert [line["step"] for line in lines if line["kind"] == "step"] == list(range(1, 17))
        assert [line["step"] for line in lines if line["kind"] == "evaluation"] == [10, 16]
        assert lines[-1]["kind"] == "end"
        assert lines[-1]["results"] == card["results"]
        assert {"loss", "psnr", "progress", "learning_rate", "temperature"} <= set(lines[0])

    def test_the_callbacks(self, finished: tuple[Path, dict[str, Any], Recorder]) -> None:
        recorder = finished[2]
        assert len(recorder.steps) == 16
        assert [step for step, _ in recorder.evaluations] == [10, 16]
        said = [
            "precision: fp32",
            "aggregated prior over 20 training pictures",
            "measuring files of 4 held-back pictures",
        ]
        assert recorder.lines[:3] == said
        assert recorder.lines[-1] == finished[1]["verdict"]["text"]


class TestStopAndResume:
    def test_a_resumed_run_makes_the_same_model(
        self, finished: tuple[Path, dict[str, Any], Recorder], tmp_path: Path
    ) -> None:
        config = replace(RATED, evaluate_every=10)
        recorder = Recorder(stop_at=9)
        assert train(tmp_path, config, recorder=recorder) is None
        assert not (tmp_path / "tiny.safetensors").exists()
        assert len(steps_of(tmp_path)) == 9
        again = Recorder()
        card = train(tmp_path, config, recorder=again, resume=True)
        assert again.lines[1] == "resumed at step 9"
        assert card is not None
        assert card["results"] == finished[1]["results"]
        assert steps_of(tmp_path) == steps_of(finished[0])
        mine, theirs = (read_info(folder / "tiny.safetensors") for folder in (tmp_path, finished[0]))
        assert mine.model_id == theirs.model_id

    def test_steps_beyond_the_checkpoint_are_logged_once(
        self, finished: tuple[Path, dict[str, Any], Recorder], tmp_path: Path
    ) -> None:
        config = replace(RATED, evaluate_every=10)
        train(tmp_path, config, recorder=Recorder(stop_at=5))

        def crash(record: StepRecord, trainer: Trainer) -> None:
            if record.step == 12:
                raise RuntimeError

        with pytest.raises(RuntimeError):
            train(tmp_path, config, resume=True, on_step=crash)
        assert len(steps_of(tmp_path)) == 12
        train(tmp_path, config, resume=True)
        assert steps_of(tmp_path) == steps_of(finished[0])

    def test_a_finished_run_exports_again(
        self, finished: tuple[Path, dict[str, Any], Recorder], tmp_path: Path
    ) -> None:
        folder, card, _ = finished
        other = tmp_path / "new folder" / "other.safetensors"
        again = train(folder, replace(RATED, evaluate_every=10), resume=True, output=other)
        assert again is not None
        assert again["results"] == card["results"]
        assert read_info(other).model_id == read_info(folder / "tiny.safetensors").model_id

    def test_a_run_is_not_overwritten(self, tmp_path: Path) -> None:
        train(tmp_path, recorder=Recorder(stop_at=2))
        with pytest.raises(TrainingError, match=r"run holds a run already: continue it with --resume"):
            train(tmp_path)
        assert len(steps_of(tmp_path)) == 2

    def test_nothing_to_resume(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match="nothing to resume"):
            train(tmp_path, resume=True)

    def test_another_configuration(self, tmp_path: Path) -> None:
        train(tmp_path, recorder=Recorder(stop_at=2))
        with pytest.raises(TrainingError, match="other settings: batch_size"):
            train(tmp_path, replace(TINY, batch_size=5), resume=True)
        assert len(steps_of(tmp_path)) == 2

    @pytest.mark.parametrize(("first", "then"), [(TINY, HYPERPRIOR), (HYPERPRIOR, TINY)])
    def test_another_kind_of_model(self, tmp_path: Path, first: TrainConfig, then: TrainConfig) -> None:
        train(tmp_path, first, recorder=Recorder(stop_at=2))
        with pytest.raises(TrainingError, match=r"was made with other settings: .*network"):
            train(tmp_path, then, resume=True)


class TestRefusals:
    def test_too_short_a_run(self, tmp_path: Path) -> None:
        recorder = Recorder()
        with pytest.raises(TrainingError, match="6 steps are too few for the phases of this training, which need 7 at"):
            train(tmp_path, replace(TINY, steps=6), recorder=recorder)
        assert recorder.steps == []  # said before any work is done
        assert train(tmp_path, replace(TINY, steps=7)) is not None

    def test_the_run_s_folder_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("a file")
        with pytest.raises(TrainingError, match=r"cannot make the folder .*run: File exists"):
            train(tmp_path)

    def test_the_model_s_folder_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        recorder = Recorder()
        with pytest.raises(TrainingError, match=r"cannot make the folder .*file/models: Not a directory"):
            train(tmp_path, recorder=recorder, output=tmp_path / "file" / "models" / "x.safetensors")
        assert recorder.steps == []  # said before any work is done

    def test_the_model_is_a_directory(self, tmp_path: Path) -> None:
        (tmp_path / "tiny.safetensors").mkdir()
        recorder = Recorder()
        with pytest.raises(OutputError, match="is a directory: name a file in it"):
            train(tmp_path, recorder=recorder)
        assert recorder.steps == []

    def test_the_model_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As in a folder without permission, of which no test by root can be made."""
        real = os.open

        def refuse(path: Path, *arguments: int) -> int:
            if path.parent == tmp_path:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path, *arguments)

        monkeypatch.setattr("gmvqzip.images.files.os.open", refuse)
        recorder = Recorder()
        with pytest.raises(OutputError, match=r"cannot write .*tiny.safetensors: no permission to write there"):
            train(tmp_path, recorder=recorder)
        assert recorder.steps == []

    def test_the_loss_is_not_finite(self, tmp_path: Path) -> None:
        def spoil(record: StepRecord, trainer: Trainer) -> None:
            if record.step == 10:
                trainer.save()
                with torch.no_grad():
                    trainer.network.state_dict()["final.bias"].fill_(torch.nan)

        with pytest.raises(TrainingError, match="not finite at step 10"):
            train(tmp_path, on_step=spoil)
        assert not (tmp_path / "tiny.safetensors").exists()
        assert [path.name for path in checkpoint.checkpoints(tmp_path / "run")][-1] == "checkpoint-00000010.pt"
        assert train(tmp_path, resume=True) is not None


class TestCheckpoints:
    def test_the_first_comes_early_and_the_others_at_leisure(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With steps of 50 seconds: after the second step, and every seventh from then on."""
        clock, saved = [0.0], list[int]()
        monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        real = Trainer._train_step

        def step(self: Trainer) -> StepRecord:
            clock[0] += 50
            return real(self)

        monkeypatch.setattr(Trainer, "_train_step", step)
        monkeypatch.setattr(Trainer, "save", lambda self: saved.append(self.step))
        train(tmp_path)
        assert saved == [2, 9, 16, 16]


class TestFullDisk:
    def test_at_a_checkpoint(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
        real = torch.save

        def save(state: dict[str, Any], file: Any) -> None:
            if state["step"] == 11:
                file.write(b"the beginning")
                raise OSError(errno.ENOSPC, "No space left on device")
            real(state, file)

        monkeypatch.setattr(torch, "save", save)
        with pytest.raises(TrainingError, match=r"cannot write checkpoint .*00011\.pt: No space left.*last good one"):
            train(tmp_path)
        assert [path.name for path in checkpoint.checkpoints(tmp_path / "run")] == [
            "checkpoint-00000009.pt",
            "checkpoint-00000010.pt",
        ]
        assert not list((tmp_path / "run").glob("*.tmp"))
        monkeypatch.setattr(torch, "save", real)
        recorder = Recorder()
        assert train(tmp_path, resume=True, recorder=recorder) is not None
        assert recorder.lines[1] == "resumed at step 10"

    def test_at_the_log(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def write(self: RunLog, *arguments: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(RunLog, "write", write)
        with pytest.raises(
            TrainingError, match=r"cannot write into .*run: No space left on device; the last checkpoint"
        ):
            train(tmp_path)


def test_validation_is_limited(tmp_path: Path) -> None:
    data = splits()
    for limit, sizes in ((3, [3]), (4, [4]), (100, [4])):
        assert [len(batch) for batch in _validation(data, TINY, limit)] == sizes
    assert _sample(data, TINY).shape == (4, 16, 16, 3)
    assert _sample(data, replace(TINY, crop=8)).shape == (4, 8, 8, 3)
