"""The configuration of a run: presets, TOML, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import HYPERPRIOR, RATED, TINY

from gmvqzip.errors import TrainingError
from gmvqzip.quantizers import GMVQSettings
from gmvqzip.training.config import config_from_dict
from gmvqzip.training.presets import PRESETS, load_config, preset

NETWORK = """
[network]
strides = [4, 8]
channels = [16, 24]
encoder_blocks = [1, 0]
decoder_blocks = [0, 1]
grids = [{ stride = 8, stages = 2, codes = 32, dimensions = 4 }, { stride = 4 }]
"""


@pytest.fixture
def toml(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "run.toml"
        path.write_text(text)
        return path

    return write


class TestRoundTrip:
    @pytest.mark.parametrize("config", [TINY, RATED, *PRESETS.values()])
    def test_through_json(self, config: Any) -> None:
        assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config

    def test_fields_of_all_kinds_in_a_checkpoint(self) -> None:
        both = TINY.to_dict() | HYPERPRIOR.to_dict()
        assert config_from_dict(both, stored=True) == HYPERPRIOR
        assert config_from_dict(both | TINY.to_dict(), stored=True) == TINY
        with pytest.raises(TrainingError, match="the training of a hyperprior model has no codebook_rate, no entropy"):
            config_from_dict(both)

    def test_presets(self) -> None:
        for name, config in PRESETS.items():
            assert preset(name) is config
            assert config.crop is None or config.crop % config.network.alignment == 0
        assert PRESETS["paper-cifar10"].network.grids[0].codes == 1024
        assert PRESETS["paper-celeba"].network.grids[0].dimensions == 64

    def test_unknown_preset_names_those_that_exist(self) -> None:
        with pytest.raises(
            TrainingError,
            match="no preset 'huge'; there are paper-cifar10, paper-celeba, compact-cifar10, compact-celeba, photo, "
            "photo-psnr, trunk, faces, staged, small, cifar10, celeba",
        ):
            preset("huge")


class TestToml:
    def test_a_whole_configuration(self, toml: Any) -> None:
        config = load_config(toml("batch_size = 3\nepochs = 2\n[quantizer]\nbeta = 1\nnoise = false\n" + NETWORK))
        assert (config.batch_size, config.steps, config.epochs, config.seconds) == (3, None, 2, None)
        assert config.quantizer == GMVQSettings(beta=1, noise=False)
        assert config.network.strides == (4, 8)
        assert [grid.codes for grid in config.network.stages()] == [32, 32, 1024]

    def test_on_top_of_a_preset(self, toml: Any) -> None:
        config = load_config(toml('preset = "small"\nmuon_rate = 0.001\n[quantizer]\ngamma = 0.5\n'))
        base = preset("small")
        assert config == replace(base, muon_rate=0.001, quantizer=replace(base.quantizer, gamma=0.5))

    def test_a_preset_s_network_changed_in_part(self, toml: Any) -> None:
        config = load_config(toml('preset = "small"\n[network]\nchannels = [8, 8]\n'))
        assert config.network == replace(preset("small").network, channels=(8, 8))

    @pytest.mark.parametrize(("line", "field"), [("epochs = 1.5", "epochs"), ("seconds = 60", "seconds")])
    def test_a_length_replaces_the_preset_s(self, toml: Any, line: str, field: str) -> None:
        config = load_config(toml(f'preset = "small"\n{line}\n'))
        assert config.steps is None
        assert getattr(config, field) is not None

    def test_with_length(self) -> None:
        config = TINY.with_length(steps=None, epochs=None, seconds=5)
        assert (config.steps, config.epochs, config.seconds) == (None, None, 5)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("batch_size = ", "not valid TOML"),
            ("colour = 1", "unknown fields in the training configuration: colour"),
            ("batch_size = 4", "incomplete or malformed: 'network'"),
            ('preset = "huge"', "no preset 'huge'"),
            ('preset = "small"\nnetwork = 3', "not a table"),
            ('preset = "small"\nquantizer = 3', "malformed"),
            ('preset = "small"\n[quantizer]\ncolour = 1', "colour"),
            ('preset = "small"\n[network]\nstrides = [3, 5]', "powers of two"),
            (
                'preset = "photo"\nhard_after = 0.5\nreseed_every = 3',
                "hyperprior model has no hard_after, no reseed_every",
            ),
            ('preset = "photo"\n[quantizer]\nbeta = 1', "a hyperprior model has no quantizer"),
            ('preset = "small"\nprior_until = 0.5', "a staged model has no prior_until"),
            ('preset = "small"\nsteps = 10\nepochs = 1', "exactly one of"),
        ],
    )
    def test_refusals(self, toml: Any, text: str, message: str) -> None:
        with pytest.raises(TrainingError, match=message) as caught:
            load_config(toml(text))
        assert "\n" not in str(caught.value)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match=r"cannot read .*none\.toml: No such file"):
            load_config(tmp_path / "none.toml")

    def test_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "binary.toml"
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(TrainingError, match="not valid TOML"):
            load_config(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 1.0}, "exactly one of steps, epochs and seconds"),
        ({"steps": None}, "exactly one of"),
        ({"steps": 0}, "steps must be above 0"),
        ({"steps": 1.5}, "steps must be a whole number, not 1.5"),
        ({"steps": None, "epochs": 0.0}, "epochs must be above 0"),
        ({"steps": None, "seconds": float("nan")}, "seconds must be above 0"),
        ({"steps": None, "seconds": "10m"}, "seconds must be a number, not '10m'"),
        ({"batch_size": 0}, "batch_size must be above 0"),
        ({"batch_size": "8"}, "batch_size must be a whole number"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"open_steps": 0}, "open_steps must be above 0"),
        ({"crop": -8}, "crop must be above 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 2**63}, "seed must be below 9223372036854775808"),
        ({"evaluate_every": 0}, "evaluate_every must be above 0"),
        ({"temperature_end": 0.0}, "temperature_end must be above 0"),
        ({"entropy_until": 0.0}, "entropy_until must be above 0"),
        ({"hold": 1.5}, "hold must be at most 1"),
        ({"muon_rate": float("inf")}, "muon_rate must be at least 0"),
        ({"cosine": 1}, "cosine must be true or false"),
        ({"precision": "fp16"}, "precision must be one of auto, bf16, fp32, not 'fp16'"),
        ({"precision": 16}, "precision must be a text"),
        ({"optimizer": "sgd"}, "optimizer must be one of muon, adamw"),
        ({"dataset": "imagenet"}, "dataset must be one of cifar10, celeba, folder"),
        ({"quantizer": GMVQSettings(sampling="hard")}, "quantizer.sampling must be one of gumbel, straight-through"),
        ({"quantizer": GMVQSettings(noise_scale=0)}, "quantizer.noise_scale must be above 0"),
        ({"quantizer": GMVQSettings(posterior_decay=1.0)}, "quantizer.posterior_decay must be below 1"),
        ({"quantizer": GMVQSettings(posterior_decay=1.5)}, "quantizer.posterior_decay must be at most 1"),
        ({"quantizer": GMVQSettings(beta="x")}, "quantizer.beta must be a number"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(TINY, **change)
