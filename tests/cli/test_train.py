"""`gmvqzip train`: from a folder of pictures to a model file; options, signals, refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmvqzip.cli.progress import (
    TrainingDisplay,
)
from gmvqzip.models.registry import read_info
from gmvqzip.training import folder
from gmvqzip.training.trainer import StepRecord, Trainer

Cli = Callable[..., Any]

CONFIG = """
crop = 16
batch_size = 4
steps = 15
precision = "fp32"
open_steps = 4
evaluate_every = 10
[network]
strides = [4]
channels = [16]
encoder_blocks = [0]
decoder_blocks = [1]
grids = [{ stride = 4, codes = 8, dimensions = 4 }]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with 20 pictures and a broken one in pics/ and a tiny configuration in tiny.toml."""
    folder = tmp_path / "pics" / "deep"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(20):
        coarse = generator.integers(0, 256, (3, 3, 3), dtype=np.uint8)
        size = (24, 20) if number % 2 else (40, 32)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")
    (folder / "05-broken.png").write_bytes((folder / "05.png").read_bytes()[:60])
    (tmp_path / "tiny.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GMVQZIP_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("gmvqzip.training.report._tensorboard", lambda folder: None)
    return tmp_path


ARGUMENTS = ("train", "--dataset", "folder", "--data", "pics", "--config", "tiny.toml", "--device", "cpu")


def steps_logged(place: Path, run: str = "runs/folder") -> list[int]:
    lines = (place / run / "log.jsonl").read_text().splitlines()
    return [record["step"] for record in map(json.loads, lines) if record["kind"] == "step"]


class TestWholeRun:
    def test_another_quantiser(self, place: Path, cli: Cli) -> None:
        """Its model is used like any other, and its file comes back pixel for pixel as the library decodes it."""
        assert cli(*ARGUMENTS, "--quantizer", "fsq", "--out", "fsq.safetensors").code == 0
        info = read_info(place / "fsq.safetensors")
        assert info.card["training"]["quantizer"] == {"method": "fsq", "levels": [8]}
        picture = next((place / "pics" / "deep").glob("07*.png"))
        assert cli("compress", "-m", "fsq.safetensors", picture, "-o", "a.gmvq").code == 0
        assert cli("decompress", "-m", "fsq.safetensors", "a.gmvq", "-o", "a.png").code == 0
        with Image.open("a.png") as decoded, Image.open(picture) as original:
            assert decoded.size == original.size

    def test_an_unknown_quantiser(self, place: Path, cli: Cli) -> None:
        outcome = cli(*ARGUMENTS, "--quantizer", "magic")
        assert outcome.code == 1
        assert "no quantizer 'magic'; there are gmvq, gmvq+entropy, gmvq+identity, vqvae" in outcome.err

    def test_from_pictures_to_a_model_that_works(self, place: Path, cli: Cli) -> None:
        outcome = cli(*ARGUMENTS, "--out", "models/mine.safetensors", "--note", "made up, any use")
        assert (outcome.code, outcome.out) == (0, b"")
        lines = outcome.err.splitlines()
        assert sum("skipped deep/05-broken.png" in line for line in lines) == 1
        assert any("18 pictures to train on, 2 held out" in line for line in lines)
        assert any(line.startswith("step 10: validation MSE") for line in lines)
        assert lines[-1].startswith("wrote models/mine.safetensors (0.0")
        info = read_info(place / "models" / "mine.safetensors")
        assert info.card["note"] == "made up, any use"
        assert info.card["training"]["steps_done"] == 15
        assert steps_logged(place, "runs/mine") == list(range(1, 16))
        assert {path.suffix for path in (place / "runs" / "mine").iterdir()} == {".pt", ".jsonl", ".png"}

        assert cli("models", "verify", "models/mine.safetensors").code == 0
        packed = cli("compress", "-m", "models/mine.safetensors", "pics/deep/03.png", "-o", "x.gmvq")
        assert packed.code == 0, packed.err
        unpacked = cli("decompress", "-m", "models/mine.safetensors", "x.gmvq", "-o", "x.png")
        assert unpacked.code == 0, unpacked.err
        with Image.open("x.png") as image:
            assert image.size == (24, 20)

    def test_options_replace_the_file_s_fields(self, place: Path, cli: Cli) -> None:
        options = ("--steps", 7, "--batch-size", 2, "--seed", 5, "--run-dir", "here", "--quiet", "-T", 1)
        outcome = cli(*ARGUMENTS, *options)
        assert (outcome.code, outcome.out, outcome.err) == (0, b"", "")
        training = read_info(place / "folder.safetensors").card["training"]
        assert (training["steps"], training["batch_size"], training["seed"]) == (7, 2, 5)
        assert steps_logged(place, "here") == list(range(1, 8))

    def test_a_bar_on_a_terminal(self, place: Path, cli: Cli) -> None:
        outcome = cli(*ARGUMENTS, "--steps", 6, tty_err=True)
        assert outcome.code == 0
        assert "100%" in outcome.err
        quiet = cli(*ARGUMENTS, "--steps", 6, "-f", "--run-dir", "other", "--quiet", tty_err=True)
        assert (quiet.code, quiet.err) == (0, "")

    def test_epochs(self, place: Path, cli: Cli) -> None:
        assert cli(*ARGUMENTS, "--epochs", 1.5, "--quiet").code == 0
        assert len(steps_logged(place)) == round(1.5 * 19 / 4)


@pytest.mark.usefixtures("default_signals")
class TestSignals:
    @pytest.fixture(autouse=True)
    def _heeded(self) -> Iterator[None]:
        """Also where the tests were started as a job in the background, which ignores SIGINT."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_signal_saves_a_checkpoint_and_resume_goes_on(
        self, place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
    ) -> None:
        real, before = TrainingDisplay.on_step, signal.getsignal(number)

        def on_step(self: TrainingDisplay, record: StepRecord, trainer: Trainer) -> None:
            real(self, record, trainer)
            if record.step == 6:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(TrainingDisplay, "on_step", on_step)
        outcome = cli(*ARGUMENTS)
        assert outcome.code == code
        assert outcome.err.splitlines()[-2:] == [
            "stopping: finishes step 7 and saves a checkpoint; a second Ctrl-C ends at once and loses the 6 steps",
            "stopped; a checkpoint is saved at step 6, and --resume goes on from it",
        ]
        assert signal.getsignal(number) == before
        assert not (place / "folder.safetensors").exists()
        assert [path.name for path in (place / "runs/folder").glob("*.pt")] == ["checkpoint-00000006.pt"]

        monkeypatch.setattr(TrainingDisplay, "on_step", real)
        refused = cli(*ARGUMENTS)
        assert refused.code == 1
        assert "holds a run already: continue it with --resume" in refused.err
        resumed = cli(*ARGUMENTS, "--resume")
        assert resumed.code == 0
        assert "resumed at step 6" in resumed.err
        assert steps_logged(place) == list(range(1, 16))

    def test_a_signal_behind_the_loop_ends_the_export(
        self, place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def evaluated(self: TrainingDisplay, step: int, summary: dict[str, Any]) -> None:
            if step == 15:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(TrainingDisplay, "on_evaluation", evaluated)
        outcome = cli(*ARGUMENTS)
        assert outcome.code == 143
        assert outcome.err.splitlines()[-2:] == [
            "stopping while measuring and writing the model; "
            "a checkpoint is saved at step 15, and --resume goes on from it",
            "stopped; a checkpoint is saved at step 15, and --resume goes on from it",
        ]
        assert not (place / "folder.safetensors").exists()
        monkeypatch.undo()
        monkeypatch.chdir(place)
        assert cli(*ARGUMENTS, "--resume").code == 0
        assert (place / "folder.safetensors").exists()

    def test_a_signal_while_pictures_are_read(self, place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        real = folder.read_for_training

        def read(path: Path) -> Any:
            if path.name == "07.png":
                os.kill(os.getpid(), signal.SIGINT)
            return real(path)

        monkeypatch.setattr(folder, "read_for_training", read)
        outcome = cli(*ARGUMENTS)
        assert outcome.code == 130
        assert outcome.err.splitlines()[-2:] == [
            "stopping while reading the pictures; nothing is saved yet",
            "stopped; nothing was trained yet",
        ]

    def test_a_signal_during_an_evaluation_leaves_it_and_saves(
        self, place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def evaluate(self: Trainer, batches: Any) -> dict[str, Any]:
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the evaluation went on")

        monkeypatch.setattr(Trainer, "evaluate", evaluate)
        outcome = cli(*ARGUMENTS)
        assert outcome.code == 130
        assert outcome.err.splitlines()[-2:] == [
            "stopping: leaves the evaluation and saves a checkpoint; "
            "a second Ctrl-C ends at once and loses the 10 steps",
            "stopped; a checkpoint is saved at step 10, and --resume goes on from it",
        ]
        assert [path.name for path in (place / "runs/folder").glob("*.pt")] == ["checkpoint-00000010.pt"]
        monkeypatch.undo()
        monkeypatch.chdir(place)
        assert cli(*ARGUMENTS, "--resume", "--quiet").code == 0
        assert steps_logged(place) == list(range(1, 16))

    @pytest.mark.slow
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_process(self, place: Path, number: signal.Signals, code: int) -> None:
        command = [sys.executable, "-m", "gmvqzip", *ARGUMENTS, "--steps", "1000000", "-T", "1"]
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as process:
            try:
                log = place / "runs/folder/log.jsonl"
                while process.poll() is None and not (log.is_file() and log.read_text().count("\n") > 8):
                    time.sleep(0.05)
                process.send_signal(number)
                _, err = process.communicate()
            finally:
                process.kill()
        assert process.returncode == code, err
        assert "a checkpoint is saved" in err
        assert "Traceback" not in err
        (saved,) = (place / "runs/folder").glob("*.pt")
        assert int(saved.stem[-8:]) == steps_logged(place)[-1]


class TestRefusals:
    @pytest.mark.parametrize(
        ("dataset", "message"),
        [
            ("cifar10", r"gmvqzip: CIFAR-10 not found: looked for cifar-10-batches-py"),
            ("celeba", r"gmvqzip: CelebA not found: looked for img_align_celeba"),
            ("folder", r"gmvqzip: the folder of pictures not found: looked for"),
        ],
    )
    def test_no_data(self, place: Path, cli: Cli, dataset: str, message: str) -> None:
        outcome = cli("train", "--dataset", dataset)
        assert outcome.code == 1
        line = outcome.err.splitlines()[-1]
        assert line.startswith(message)
        assert f"data/{dataset}" in line
        assert f"{place}/cache/gmvqzip/{dataset}" in line
        assert "--data" in line
        assert not (place / "runs").exists()

    def test_no_data_at_the_path(self, place: Path, cli: Cli) -> None:
        outcome = cli("train", "--dataset", "cifar10", "--data", "nowhere")
        assert outcome.code == 1
        assert "in nowhere;" in outcome.err

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--preset", "small"), "--preset and --config exclude each other"),
            (("--steps", 3, "--time", "1m"), "--steps, --epochs and --time exclude each other"),
            (("--epochs", 0), "--epochs must be positive"),
            (("--time", "soon"), "--time soon: give a duration such as 90s, 10m or 1.5h"),
            (("--out", "model.pt"), "--out model.pt: a model file must end in .safetensors"),
            (("--dataset", "imagenet"), "--dataset imagenet: choose cifar10, celeba, folder"),
        ],
    )
    def test_usage(self, place: Path, cli: Cli, options: tuple[object, ...], message: str) -> None:
        outcome = cli(*ARGUMENTS, *options)
        assert outcome.code == 2
        assert message in outcome.err
        assert len(outcome.err.splitlines()) == 1

    def test_an_existing_model(self, place: Path, cli: Cli) -> None:
        (place / "folder.safetensors").write_bytes(b"precious")
        outcome = cli(*ARGUMENTS)
        assert (outcome.code, outcome.err) == (2, "gmvqzip: folder.safetensors exists; -f overwrites it\n")
        assert (place / "folder.safetensors").read_bytes() == b"precious"
        assert cli(*ARGUMENTS, "-f", "--quiet").code == 0
        assert read_info(place / "folder.safetensors").name == "folder"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("batch_size = 0\n", "batch_size must be above 0"),
            ("colour = 1\n", "unknown fields in the training configuration: colour"),
            ("x", "not valid TOML"),
            ("crop = 18\n", "of 18x18 do not fit the network: sides must be multiples of 4 pixels; set crop"),
            ("steps = 4\n", "4 steps are too few for the phases of this training, which need 5 at the very least"),
        ],
    )
    def test_a_configuration(self, place: Path, cli: Cli, change: str, message: str) -> None:
        key = change.split(" ")[0]
        rest = "".join(line for line in CONFIG.splitlines(True) if not line.startswith(f"{key} "))
        (place / "tiny.toml").write_text(change + rest)
        outcome = cli(*ARGUMENTS, "--quiet")
        assert outcome.code == 1
        (line,) = outcome.err.splitlines()
        assert line.startswith("gmvqzip: ")
        assert message in line

    def test_no_configuration(self, place: Path, cli: Cli) -> None:
        (place / "tiny.toml").unlink()
        outcome = cli(*ARGUMENTS)
        assert (outcome.code, outcome.err) == (1, "gmvqzip: cannot read tiny.toml: No such file or directory\n")

    def test_no_gpu(self, place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        outcome = cli(*ARGUMENTS[:-1], "cuda")
        assert outcome.code == 1
        assert outcome.err == "gmvqzip: no CUDA device was found: use --device cpu or auto\n"

    def test_no_picture_can_be_read(self, place: Path, cli: Cli) -> None:
        (place / "bad").mkdir()
        (place / "bad" / "a.png").write_bytes(b"nothing")
        outcome = cli(*ARGUMENTS, "--data", "bad")
        assert outcome.code == 1
        assert outcome.err.splitlines()[-1].startswith("gmvqzip: bad: no picture that can be read")
