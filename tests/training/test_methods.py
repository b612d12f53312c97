"""Quantisers by name: what a name changes of a run; each of them trained, exported, and compressing a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import CPU, TINY, Recorder, pictures, train

from gmvqzip.codec import Codec
from gmvqzip.errors import TrainingError
from gmvqzip.models import registry
from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.network import StagedAutoencoder
from gmvqzip.models.plain import plain_network
from gmvqzip.models.store import load_network
from gmvqzip.quantizers import FSQSettings, GMVQSettings, GumbelSettings, MVQSettings, SQVAESettings, VQSettings
from gmvqzip.training.config import TrainConfig, config_from_dict
from gmvqzip.training.evaluation import to_tensor
from gmvqzip.training.imagesets import UniformSet
from gmvqzip.training.methods import CODEBOOK_RATE, NAMES, with_quantizer
from gmvqzip.training.presets import load_config, preset
from gmvqzip.training.schedule import quantizer_settings, temperature
from gmvqzip.training.trainer import Trainer

COMBINED = [
    "vqvae+l2",
    "vqvae+replace",
    "vqvae+l2+replace",
    "vqvae+affine",
    "vqvae+opt",
    "vqvae+affine+opt",
    "vqvae+ema",
    "vqvae+rotation",
]
ALL = [*NAMES, *COMBINED]

# One stage of 16 codes, which is a square number, a multiple of 4 levels, and near to a multiple of 3 masks.
ONE = replace(
    TINY,
    network=NetworkConfig(
        strides=(4,),
        channels=(12,),
        encoder_blocks=(0,),
        decoder_blocks=(1,),
        grids=(GridConfig(stride=4, codes=16, dimensions=6),),
    ),
    steps=14,
)


def short(name: str) -> TrainConfig:
    """A run of 14 steps with that quantiser, in which idle codes are replaced after 3."""
    config = with_quantizer(ONE, name)
    if isinstance(config.quantizer, VQSettings) and config.quantizer.replace_after:
        config = replace(config, quantizer=replace(config.quantizer, replace_after=3))
    return config


@pytest.mark.parametrize("name", ALL)
class TestEveryQuantiser:
    def test_it_compresses(self, name: str, tmp_path: Path) -> None:
        """Trained, exported and loaded again, it codes a picture of any size exactly, in the usual container."""
        recorder = Recorder()
        card = train(tmp_path, short(name), recorder=recorder)
        assert card is not None
        assert all(np.isfinite(record.values["loss"]) for record in recorder.steps)
        codec = Codec(registry.read_info(tmp_path / "tiny.safetensors"), "cpu")
        picture = pictures(1, seed=9, side=22)[0]
        wanted = codec.encode(picture)
        data = codec.compress(picture)
        decoded = codec.decode_codes(data)
        (index,) = decoded.stages
        np.testing.assert_array_equal(index, wanted.stages[0])
        assert index.shape == (6, 6)
        np.testing.assert_array_equal(np.asarray(codec.decompress(data)), np.asarray(codec.decode(wanted)))
        assert np.asarray(codec.decompress(data)).shape == (22, 22, 3)

    def test_the_plain_form_picks_the_same_codes(self, name: str, tmp_path: Path) -> None:
        trainer = Trainer(short(name), UniformSet("tiny", pictures(20)), tmp_path, CPU)
        trainer.run(on_step=lambda record: None, on_evaluation=lambda: None, stop=lambda: False)
        trained = trainer.exported.eval()
        plain = plain_network(trained)
        image = to_tensor(pictures(24, seed=3), CPU)
        (mine,), (theirs,) = trained.encode(image), plain.encode(image)
        assert (mine != theirs).float().mean() < 0.005  # sites that lie on a border, by rounding
        torch.testing.assert_close(trained.decode([mine]), plain.decode([mine]), atol=1e-5, rtol=0)

    def test_a_resumed_run_is_the_same(self, name: str, tmp_path: Path) -> None:
        whole, first, second = Recorder(), Recorder(stop_at=9), Recorder()
        train(tmp_path / "whole", short(name), recorder=whole)
        train(tmp_path / "parts", short(name), recorder=first)
        train(tmp_path / "parts", short(name), recorder=second, resume=True)
        losses = [record.values["loss"] for record in whole.steps]
        assert [record.values["loss"] for record in [*first.steps, *second.steps]] == losses
        identities = [registry.read_info(tmp_path / part / "tiny.safetensors").model_id for part in ("whole", "parts")]
        assert identities[0] == identities[1]

    def test_its_configuration_reads_back(self, name: str) -> None:
        config = short(name)
        assert config_from_dict(config.to_dict()) == config


def test_several_stages_have_a_plain_form(tmp_path: Path) -> None:
    trained = StagedAutoencoder(TINY.network, GumbelSettings()).eval()  # type: ignore[arg-type]
    plain = plain_network(trained)
    assert [stage.dimensions for stage in plain.ordered_stages()] == [16 + 4] * 2
    assert plain.config.grids[0].dimensions == 16 + 4
    image = to_tensor(pictures(6), CPU)
    for mine, theirs in zip(trained.encode(image), plain.encode(image), strict=True):
        assert (mine != theirs).float().mean() < 0.02


def test_gm_vq_is_plain_already() -> None:
    network = StagedAutoencoder(ONE.network)  # type: ignore[arg-type]
    assert plain_network(network) is network


def test_weights_that_are_not_learned_are_equal_in_the_file(tmp_path: Path) -> None:
    train(tmp_path, replace(ONE, quantizer=GMVQSettings(learned_weights=False)))
    network = load_network(registry.read_info(tmp_path / "tiny.safetensors"))
    stage = network.ordered_stages()[0]
    _, raw = stage.propose(torch.randn(1, 12, 2, 2), torch.randn(1, 12, 2, 2))
    assert (raw == 0).all()


class TestNames:
    def test_they_keep_network_and_budget(self) -> None:
        for name in ALL:
            config = with_quantizer(preset("paper-cifar10"), name)
            base = preset("paper-cifar10")
            assert replace(config.network, grids=base.network.grids) == base.network
            kept = ("steps", "batch_size", "optimizer", "muon_rate", "adam_rate", "seed", "clip", "warmup", "ema_decay")
            assert all(getattr(config, field) == getattr(base, field) for field in kept)

    @pytest.mark.parametrize(
        ("name", "codes", "dimensions"),
        [
            ("vqvae", 1024, 64),
            ("vqvae+l2", 1024, 32),
            ("mvq", 68 * 15, 64),
            ("fsq", 1000, 4),
            ("lfq", 1024, 10),
            ("simvq", 1024, 64),
            ("gumbel", 1024, 64),
        ],
    )
    def test_codes_and_dimensions(self, name: str, codes: int, dimensions: int) -> None:
        (grid,) = with_quantizer(preset("paper-cifar10"), name).network.grids  # type: ignore[union-attr]
        assert (grid.codes, grid.dimensions) == (codes, dimensions)

    def test_options_combine(self) -> None:
        settings = with_quantizer(ONE, "vqvae+replace+affine+opt+l2").quantizer
        assert isinstance(settings, VQSettings)
        assert (settings.l2, settings.replace_after, settings.affine, settings.inner_rate) == (True, 20, 10.0, 50.0)
        assert not with_quantizer(ONE, "vqvae").quantizer.l2  # type: ignore[attr-defined]

    def test_entropy_raises_gamma_alone(self) -> None:
        base = preset("paper-cifar10")
        assert with_quantizer(base, "gmvq") == base
        more = with_quantizer(base, "gmvq+entropy")
        assert more.quantizer.gamma == 5 * base.quantizer.gamma  # type: ignore[attr-defined]
        assert replace(more, quantizer=base.quantizer) == base

    def test_identity_weighs_distance_and_error_alike(self) -> None:
        base = preset("paper-cifar10")
        settings = with_quantizer(base, "gmvq+identity").quantizer
        assert isinstance(settings, GMVQSettings)
        assert (settings.sampling, settings.beta) == ("identity", base.reconstruction_weight)
        assert with_quantizer(base, "gmvq+identity") == replace(preset("cifar10"), codebook_rate=CODEBOOK_RATE)
        rival = with_quantizer(base, "vqvae")
        assert rival.codebook_rate == CODEBOOK_RATE
        assert (rival.quantizer.codebook, rival.quantizer.commitment) == (settings.beta,) * 2  # type: ignore[attr-defined]

    @pytest.mark.parametrize("name", ["", "vq", "vqvae+", "vqvae+l3", "sqvae+l2", "gmvq+replace", "l2"])
    def test_unknown_names(self, name: str) -> None:
        with pytest.raises(TrainingError, match="no quantizer"):
            with_quantizer(ONE, name)

    def test_what_excludes_each_other(self) -> None:
        with pytest.raises(TrainingError, match=r"quantizer\.ema excludes affine"):
            with_quantizer(ONE, "vqvae+ema+affine")

    def test_a_hyperprior_has_none(self) -> None:
        with pytest.raises(TrainingError, match="needs a staged network"):
            with_quantizer(preset("photo"), "sqvae")

    def test_the_rate_term_is_left_out(self) -> None:
        config = with_quantizer(preset("staged"), "vqvae")
        assert (config.rate_weight, config.reseed_every) == (0, 0)
        assert with_quantizer(preset("staged"), "gmvq").rate_weight == 1


class TestSchedule:
    def test_the_divergence_comes_in(self) -> None:
        config = replace(ONE, quantizer=GumbelSettings(kl=2.0, kl_ramp=0.5))
        weights = [quantizer_settings(config, progress, 4).kl for progress in (0, 0.25, 0.5, 1)]  # type: ignore[attr-defined]
        assert weights == [0, 1, 2, 2]

    def test_sq_vae_counts_pixel_values(self) -> None:
        config = with_quantizer(ONE, "sqvae")
        settings = quantizer_settings(config, 0.3, 4)
        assert isinstance(settings, SQVAESettings)
        assert settings.weight == pytest.approx(1 / 48)
        assert quantizer_settings(replace(config, reconstruction="mse"), 0.3, 4) == config.quantizer

    def test_temperatures_fall(self) -> None:
        cosine = replace(
            ONE, temperature_start=1.0, temperature_end=0.5, temperature_until=0.5, temperature_fall="cosine"
        )
        assert [temperature(cosine, p) for p in (0, 0.25, 0.5, 1)] == pytest.approx([1, 0.75, 0.5, 0.5])
        exponential = replace(cosine, temperature_fall="exponential")
        assert [temperature(exponential, p) for p in (0, 0.25, 0.5)] == pytest.approx([1, 0.5**0.5, 0.5])


class TestConfiguration:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"quantizer": FSQSettings((4, 5))}, "quantizer.levels 4, 5 make 20 codes of 2 dimensions, not 16 of 6"),
            ({"quantizer": FSQSettings((2, 8))}, "quantizer.levels must be whole numbers of 3 or more"),
            ({"quantizer": MVQSettings(units=2)}, "quantizer.units 2 make 3 masks, and 16 codes are no multiple"),
            ({"quantizer": MVQSettings(share=1.5)}, "quantizer.share must be at most 1"),
            ({"quantizer": SQVAESettings(variance="image")}, "quantizer.variance must be one of shared, site"),
            ({"quantizer": VQSettings(ema=1.0)}, "quantizer.ema must be below 1"),
            ({"quantizer": VQSettings(l2=3)}, "quantizer.l2 must be true or false"),  # type: ignore[arg-type]
            ({"quantizer": VQSettings(), "rate_weight": 1.0}, "quantizer vqvae has no rate_weight"),
            ({"quantizer": VQSettings(), "reseed_every": 3}, "quantizer vqvae has no rate_weight and no reseed_every"),
            ({"reconstruction": "l1"}, "reconstruction must be one of mse, log"),
            ({"temperature_fall": "step"}, "temperature_fall must be one of exponential, cosine"),
            ({"codebook_rate": -1.0}, "codebook_rate must be at least 0"),
        ],
    )
    def test_refusals(self, changes: dict[str, object], message: str) -> None:
        with pytest.raises(TrainingError, match=message):
            replace(ONE, **changes)  # type: ignore[arg-type]

    def test_a_file_names_the_method(self, tmp_path: Path) -> None:
        path = tmp_path / "run.toml"
        path.write_text('preset = "small"\n[quantizer]\nmethod = "sqvae"\nvariance = "site"\n')
        assert load_config(path).quantizer == SQVAESettings(variance="site")
        path.write_text('preset = "small"\n[quantizer]\nmethod = "magic"\n')
        with pytest.raises(TrainingError, match=r"quantizer\.method must be one of gmvq, vqvae"):
            load_config(path)

    def test_codebooks_may_have_a_rate_of_their_own(self, tmp_path: Path) -> None:
        config = with_quantizer(ONE, "wasserstein")
        trainer = Trainer(config, UniformSet("tiny", pictures(20)), tmp_path, CPU)
        (group,) = (g for o in trainer.optimizers for g in o.param_groups if g["peak"] == config.codebook_rate)
        assert [p.shape for p in group["params"]] == [(16, 6)]
