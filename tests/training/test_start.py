"""Runs that start from a trained model: what they take over, what they refuse, what they keep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import CPU, HYPERPRIOR, RATED, TINY, Recorder, pictures, splits, train

from gmvqzip.errors import TrainingError
from gmvqzip.models.hyperconfig import GroupsConfig
from gmvqzip.models.hyperstore import dump_hyperprior
from gmvqzip.models.quality import ANCHORS
from gmvqzip.models.registry import ModelInfo, read_info
from gmvqzip.models.store import load_tables, read_tensors
from gmvqzip.training import run
from gmvqzip.training.choice import choose
from gmvqzip.training.config import TrainConfig
from gmvqzip.training.hyperprior import HyperpriorTrainer
from gmvqzip.training.imagesets import UniformSet
from gmvqzip.training.loop import TrainingLoop
from gmvqzip.training.presets import preset
from gmvqzip.training.splits import DataSplits
from gmvqzip.training.start import described, differences, find_start
from gmvqzip.training.trainer import Trainer
from gmvqzip.training.verdict import Verdict

DATA = DataSplits(UniformSet("train", pictures(20)), UniformSet("held", pictures(4, 1)), None, "gradients")


@pytest.fixture(scope="module")
def hyperprior(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    folder = tmp_path_factory.mktemp("hyperprior")
    assert train(folder, HYPERPRIOR, DATA) is not None
    return read_info(folder / "tiny.safetensors")


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    folder = tmp_path_factory.mktemp("staged")
    assert train(folder, RATED) is not None
    return read_info(folder / "tiny.safetensors")


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trunk")
    trainer = loop(folder, replace(HYPERPRIOR, network=replace(HYPERPRIOR.network, distortions=2)))
    losses(trainer, until=4)
    trainer.save()
    return folder / "checkpoint-00000004.pt"


def from_(info: ModelInfo, config: TrainConfig = HYPERPRIOR) -> TrainConfig:
    return replace(config.started(str(info.path)), steps=config.steps)


def losses(trainer: TrainingLoop, until: int | None = None) -> list[float]:
    seen: list[float] = []
    trainer.run(
        on_step=lambda record: seen.append(record.values["loss"]),
        on_evaluation=lambda: None,
        stop=lambda: until is not None and trainer.step >= until,
    )
    return seen


def loop(folder: Path, config: TrainConfig) -> HyperpriorTrainer:
    folder.mkdir(exist_ok=True)
    return HyperpriorTrainer(config, DATA.train, folder, CPU, find_start(config))


def test_at_its_first_step_a_hyperprior_model_is_that_of_the_file(tmp_path: Path, hyperprior: ModelInfo) -> None:
    trainer = loop(tmp_path, from_(hyperprior))
    assert trainer.phase.name == "codes"
    assert trainer.ready
    path = tmp_path / "again.safetensors"
    path.write_bytes(dump_hyperprior("again", trainer.exported, {}))
    assert read_info(path).model_id == hyperprior.model_id


def test_at_its_first_step_a_staged_model_is_that_of_the_file(tmp_path: Path, staged: ModelInfo) -> None:
    trainer = Trainer(from_(staged, RATED), DATA.train, tmp_path, CPU, staged)
    stored = read_tensors(staged, None)
    for name, value in trainer.network.state_dict().items():
        levels, scale = stored["network." + name].astype(np.float32), stored.get("scale." + name)
        expected = levels if scale is None else levels * scale[:, None, None, None]
        assert np.array_equal(value.numpy(), expected), name
    for quantizer, table in zip(trainer.network.quantizers(), load_tables(staged), strict=True):
        torch.testing.assert_close(quantizer.average_posterior, torch.from_numpy(table / table.sum()).float())
    assert losses(trainer, until=1)
    assert trainer.ready


@pytest.mark.parametrize("kind", ["hyperprior", "staged"])
def test_a_whole_run_says_where_it_started(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    info: ModelInfo = request.getfixturevalue(kind)
    config = from_(info, HYPERPRIOR if kind == "hyperprior" else RATED)
    monkeypatch.setattr(Verdict, "worse", False)
    recorder = Recorder()
    card = train(tmp_path, config, DATA if kind == "hyperprior" else None, recorder=recorder)
    assert card is not None
    made = read_info(tmp_path / "tiny.safetensors")
    assert made.model_id != info.model_id
    assert made.card["started_from"] == {"name": "tiny", "model_id": info.model_id}
    before = f"started from tiny ({info.model_id[:8]}), trained on {info.card['trained_on']}"
    assert made.card["trained_on"] == f"{info.card['trained_on']}; {before}"
    assert made.card["note"] == "made up; of tiny: made up"
    assert "tiny" in made.card["verdict"]["curves"]
    assert recorder.lines[-1] == made.card["verdict"]["text"]


def test_a_start_that_is_better_is_kept(tmp_path: Path, hyperprior: ModelInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Verdict, "worse", True)
    recorder = Recorder()
    card = train(tmp_path, from_(hyperprior), DATA, recorder=recorder)
    assert card == hyperprior.card
    assert (tmp_path / "tiny.safetensors").read_bytes() == hyperprior.path.read_bytes()
    assert recorder.lines[-1].startswith("kept tiny: ")


def test_a_resumed_run_has_the_same_losses(tmp_path: Path, hyperprior: ModelInfo) -> None:
    config = from_(hyperprior)
    expected = losses(loop(tmp_path / "whole", config))
    first = losses(loop(tmp_path / "cut", config), until=5)
    again = loop(tmp_path / "cut", config)
    again.resume()
    assert first + losses(again) == expected


def test_resuming_from_another_start_is_refused(tmp_path: Path, hyperprior: ModelInfo) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(hyperprior.path.read_bytes())
    config = replace(from_(hyperprior), start=str(path))
    losses(loop(tmp_path / "run", config), until=1)
    trained = loop(tmp_path / "other", config)
    losses(trained, until=2)
    path.write_bytes(dump_hyperprior("mine", trained.model, {}))
    with pytest.raises(TrainingError, match="started from another model than the present"):
        loop(tmp_path / "run", config).resume()


class TestRefusals:
    def test_another_architecture(self, hyperprior: ModelInfo) -> None:
        network = replace(HYPERPRIOR.network, context_width=32, channels=(16, 24))
        with pytest.raises(TrainingError) as raised:
            find_start(replace(from_(hyperprior), network=network))
        line = str(raised.value)
        assert "\n" not in line
        assert "channels [16, 16], not [16, 24], context_width 16, not 32" in line
        assert "--start none" in line

    def test_another_kind(self, hyperprior: ModelInfo, staged: ModelInfo) -> None:
        with pytest.raises(TrainingError, match="it is staged, not a hyperprior"):
            find_start(from_(staged, HYPERPRIOR))
        with pytest.raises(TrainingError, match="it is a hyperprior, not staged"):
            find_start(from_(hyperprior, TINY))

    def test_a_model_that_is_not_there(self) -> None:
        with pytest.raises(TrainingError, match="cannot start from nosuch: no model named 'nosuch'"):
            find_start(replace(HYPERPRIOR, start="nosuch"))

    def test_a_damaged_one(self, tmp_path: Path, hyperprior: ModelInfo) -> None:
        path = tmp_path / "cut.safetensors"
        path.write_bytes(hyperprior.path.read_bytes()[:-100])
        with pytest.raises(TrainingError, match=r"cannot start from tiny: .*damaged or cut"):
            loop(tmp_path / "run", replace(from_(hyperprior), start=str(path)))

    def test_another_quantiser(self, tmp_path: Path, staged: ModelInfo) -> None:
        from gmvqzip.training.methods import with_quantizer

        config = with_quantizer(from_(staged, replace(TINY, network=RATED.network)), "vqvae")
        with pytest.raises(TrainingError, match="quantizer vqvae starts from nothing: --start none"):
            Trainer(config, DATA.train, tmp_path, CPU, staged)


def test_a_table_of_groups_is_told_in_numbers() -> None:
    photo = preset("photo").network
    other = replace(photo, quarter=(GroupsConfig(2, 512), GroupsConfig(16, 256)))
    assert differences(photo, other) == "quarter [2x512x2, 16x256x2], not [40x1024x2 shared]"


def test_notes_of_a_start_without_one() -> None:
    info = ModelInfo("old", Path("old.safetensors"), "ab" * 32, {}, {})
    card = described(info, "mine", "")
    assert card["note"] == ""
    assert card["trained_on"] == "mine; started from old (abababab), trained on ?"


class TestChoice:
    """Which settings a command line means."""

    def _chosen(self, *arguments: Any, default: str = "photo") -> tuple[TrainConfig, list[str]]:
        lines: list[str] = []
        return choose(*arguments, default, lines.append), lines

    @pytest.mark.parametrize(
        ("name", "start"),
        [
            (None, "photo"),
            ("photo", "photo"),
            ("photo-psnr", "photo-psnr"),
            ("faces", "photo-psnr"),
            ("small", "none"),
            ("staged", "none"),
        ],
    )
    def test_the_usual_starts(self, name: str | None, start: str) -> None:
        config, lines = self._chosen(name, None, None)
        assert config.start == start
        assert not lines
        scratch, _ = self._chosen(name, None, "none")
        assert scratch == preset(name or "photo")

    def test_a_start_brings_its_network(self, hyperprior: ModelInfo, staged: ModelInfo) -> None:
        config, _ = self._chosen(None, None, str(hyperprior.path))
        assert config.network == HYPERPRIOR.network
        assert config.scalar_until == 0
        assert config.crop == preset("photo").crop
        config, _ = self._chosen(None, None, str(staged.path))
        assert config.network == RATED.network
        assert (config.quantizer, config.rate_weight, config.rate_from) == (RATED.quantizer, RATED.rate_weight, 0)

    def test_a_preset_beside_a_start_keeps_its_network(self, hyperprior: ModelInfo) -> None:
        config, _ = self._chosen("photo", None, str(hyperprior.path))
        assert config.network == preset("photo").network
        with pytest.raises(TrainingError, match="whose network differs"):
            find_start(config)

    def test_a_file_has_the_last_word(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.toml"
        file.write_text('preset = "photo"\nmuon_rate = 0.001\nprior_until = 0.25\n')
        config, _ = self._chosen(None, file, None)
        assert (config.start, config.muon_rate, config.prior_until, config.scalar_until) == ("photo", 0.001, 0.25, 0)
        file.write_text('preset = "photo"\nstart = "none"\n')
        assert self._chosen(None, file, None)[0] == preset("photo")
        assert self._chosen(None, file, "photo")[0].start == "photo"

    def test_a_network_that_the_usual_start_has_not(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.toml"
        file.write_text('preset = "photo"\n[network]\ncontext_width = 64\n')
        config, lines = self._chosen(None, file, None)
        assert config.start == "none"
        assert config.scalar_until == preset("photo").scalar_until
        assert len(lines) == 1
        assert lines[0].startswith("training from scratch: ")
        assert "context_width 128, not 64" in lines[0]
        config, lines = self._chosen(None, file, "photo")  # asked for: refused where the run begins
        assert config.start == "photo"
        assert not lines

    def test_a_staged_model_without_its_settings(self, tmp_path: Path, staged: ModelInfo) -> None:
        from gmvqzip.models.network import StagedAutoencoder
        from gmvqzip.models.store import dump_model

        path = tmp_path / "bare.safetensors"
        path.write_bytes(dump_model("bare", StagedAutoencoder(RATED.network), load_tables(staged), {}))
        with pytest.raises(TrainingError, match="name its preset with --preset"):
            self._chosen(None, None, str(path))


def test_runs_know_their_start(hyperprior: ModelInfo) -> None:
    assert find_start(HYPERPRIOR) is None
    found = find_start(from_(hyperprior))
    assert found is not None
    assert found.model_id == hyperprior.model_id
    assert splits().test is not None
    assert run.Verdict is Verdict


def test_a_start_may_have_another_distortion(tmp_path: Path, hyperprior: ModelInfo) -> None:
    """The weights are the same at the first step; what they are moved for is not."""
    found = []
    for distortion in ("rgb", "eye"):
        network = replace(HYPERPRIOR.network, distortion=distortion)
        trainer = loop(tmp_path / distortion, from_(hyperprior, replace(HYPERPRIOR, network=network)))
        assert trainer.exported.config.distortion == distortion
        found.append((trainer, losses(trainer, until=1)))
    (rgb, first), (eye, second) = found
    assert first != second
    gains = [trainer.model.transform.gain.anchors for trainer in (rgb, eye)]
    assert not torch.equal(*gains)


class TestCheckpoints:
    """Runs that branch from another run's checkpoint."""

    @pytest.mark.parametrize("distortion", ["rgb", "eye"])
    def test_a_branch_begins_with_the_weights_of_its_distortion(
        self, tmp_path: Path, trunk: Path, distortion: str
    ) -> None:
        network = replace(HYPERPRIOR.network, distortion=distortion)
        config = replace(HYPERPRIOR, network=network).started(str(trunk))
        assert 0 < config.scalar_until < config.prior_until
        trainer = loop(tmp_path, config)
        trainer.branch()
        both = torch.load(trunk, weights_only=True)["model"]
        gain = both["transform.gain.anchors"]
        expected = gain[:ANCHORS] if distortion == "rgb" else gain[-ANCHORS:]
        assert torch.equal(trainer.model.transform.gain.anchors, expected)
        scales = both["context.0.head.conv.bias"].clone()
        losses(trainer, until=1)
        moved = (trainer.model.steps()[0].head.conv.bias - scales).abs().max()
        assert moved < 0.05  # and is not started again

    def test_a_whole_run_from_one(self, tmp_path: Path, trunk: Path) -> None:
        said = Recorder()
        config = replace(choose(None, None, str(trunk), "small", said.lines.append), steps=12)
        assert config.network == HYPERPRIOR.network
        assert train(tmp_path, config, DATA, recorder=said) is not None
        card = read_info(tmp_path / "tiny.safetensors").card
        assert card["started_from"] == {"name": trunk.name}
        assert card["trained_on"] == "gradients; started from a checkpoint of another run"

    def test_one_that_does_not_fit(self, tmp_path: Path, trunk: Path, staged: ModelInfo) -> None:
        other = replace(HYPERPRIOR, network=replace(HYPERPRIOR.network, context_width=24))
        with pytest.raises(TrainingError, match="whose network differs: context_width 16, not 24"):
            loop(tmp_path, other.started(str(trunk))).branch()
        with pytest.raises(TrainingError, match="from a model, not from a checkpoint"):
            Trainer(RATED.started(str(trunk)), DATA.train, tmp_path, CPU).branch()
        damaged = tmp_path / "damaged.pt"
        damaged.write_bytes(trunk.read_bytes()[:-100])
        for path in (damaged, tmp_path / "missing.pt"):
            with pytest.raises(TrainingError, match="no checkpoint that can be read"):
                loop(tmp_path, HYPERPRIOR.started(str(path))).branch()
