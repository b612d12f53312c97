"""Training of a hyperprior model: phases, resumption, outliers, and the model at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import CPU, Recorder, pictures
from tiny_runs import HYPERPRIOR as TINY

from gmvqzip.codec import Codec
from gmvqzip.errors import ModelError, TrainingError
from gmvqzip.models.hyperstore import dump_hyperprior
from gmvqzip.models.quality import ANCHORS, SECOND
from gmvqzip.models.registry import read_info
from gmvqzip.models.store import verify
from gmvqzip.training.channels import order_channels
from gmvqzip.training.config import TrainConfig, config_from_dict
from gmvqzip.training.hyperprior import HyperpriorTrainer
from gmvqzip.training.imagesets import UniformSet
from gmvqzip.training.run import train_model
from gmvqzip.training.splits import DataSplits
from gmvqzip.training.stopping import CODEBOOKS, Stopping


def made(folder: Path, config: TrainConfig = TINY) -> HyperpriorTrainer:
    folder.mkdir(exist_ok=True)
    return HyperpriorTrainer(config, UniformSet("tiny", pictures(12, 3, 16)), folder, CPU)


def run(trainer: HyperpriorTrainer, until: int | None = None) -> list[tuple[float, str]]:
    seen: list[tuple[float, str]] = []
    trainer.run(
        on_step=lambda record: seen.append((record.values["loss"], trainer.phase.name)),
        on_evaluation=lambda: None,
        stop=lambda: until is not None and trainer.step >= until,
    )
    return seen


def test_the_phases_follow_one_another(tmp_path: Path) -> None:
    trainer = made(tmp_path)
    assert not trainer.ready
    phases = [phase for _, phase in run(trainer)]
    assert phases == ["scalar"] * 6 + ["prior"] * 3 + ["codes"] * 3
    assert trainer.ready


def test_the_prior_phase_moves_the_mixtures_alone(tmp_path: Path) -> None:
    trainer = made(tmp_path)
    run(trainer, until=7)  # the first step of the phase is done
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    run(trainer, until=9)
    moved = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert all("groups" in name or "hyper_scale" in name for name in moved)


@pytest.mark.parametrize("until", [3, 8, 11])
def test_a_resumed_run_has_the_same_losses(tmp_path: Path, until: int) -> None:
    expected = run(made(tmp_path / "whole"))
    first = run(made(tmp_path / "cut"), until=until)
    again = made(tmp_path / "cut")
    again.resume()
    assert first + run(again) == expected


def test_the_start_of_the_codebooks_may_be_left(tmp_path: Path) -> None:
    """It takes much longer than a step; the checkpoint from before it is as good as one of any other step."""
    expected = run(made(tmp_path / "whole"))

    class AtTheCodebooks(Stopping):
        @property
        def asked(self) -> bool:  # type: ignore[override]
            return self.doing == CODEBOOKS

    cut = made(tmp_path / "cut")
    cut.stopping = AtTheCodebooks()
    first = run(cut)
    assert len(first) == 6
    again = made(tmp_path / "cut")
    again.resume()
    assert again.step == 6
    assert first + run(again) == expected


def test_ordering_channels_changes_no_output(tmp_path: Path) -> None:
    trainer = made(tmp_path)
    run(trainer, until=5)
    image, quality = torch.from_numpy(pictures(2, 8, 16)).permute(0, 3, 1, 2) / 255, torch.tensor([0.2, 0.9])
    model = trainer.model.eval()
    with torch.no_grad():
        before = model(image, quality, scalar=True)
        residuals = [torch.rand(len(g.codebook), 5, g.dimensions) for g in model.all_groups()]
        weights = model.transform.analysis.latent.weight.clone()
        order_channels(model, residuals)
        after = model(image, quality, scalar=True)
    assert not torch.equal(weights, model.transform.analysis.latent.weight)
    torch.testing.assert_close(after.reconstruction, before.reconstruction, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after.bits, before.bits, rtol=1e-4, atol=1e-3)


def test_an_outlier_is_left_out_and_endless_ones_end_the_run(tmp_path: Path) -> None:
    trainer = made(tmp_path)
    trainer.step, trainer._typical = 400, 1.0
    assert not trainer._is_outlier(3.9)
    assert trainer._is_outlier(40.0)
    assert trainer._is_outlier(float("nan"))
    trainer._skipped = 1000
    with pytest.raises(TrainingError, match="not finite at step 400"):
        trainer._is_outlier(float("nan"))
    with pytest.raises(TrainingError, match="too far off too often, 40 at step 400"):
        trainer._is_outlier(40.0)


def test_a_loss_that_is_not_finite_where_a_phase_begins_is_not_what_others_are_measured_by(tmp_path: Path) -> None:
    trainer = made(tmp_path)
    trainer.step, trainer._typical = 400, 0.0
    assert trainer._is_outlier(float("nan"))
    assert not trainer._is_outlier(1.0)
    assert trainer._is_outlier(40.0)


def test_the_run_ends_with_a_model_that_codes(tmp_path: Path) -> None:
    held_out = UniformSet("held out", pictures(2, 4, 16))
    data = DataSplits(UniformSet("tiny", pictures(12, 3, 16)), held_out, None, "tiny pictures")
    recorder = Recorder()
    card = train_model(
        "tiny", TINY, data, output=tmp_path / "tiny.safetensors", folder=tmp_path / "run", device=CPU, resume=False,
        note="", callbacks=recorder.callbacks(),
    )  # fmt: skip
    assert card is not None
    info = read_info(tmp_path / "tiny.safetensors")
    verify(info)
    codec = Codec(info, "cpu")
    picture = held_out.image(0)
    results = card["results"]["validation"]
    sizes = [len(codec.compress(held_out.image(n), quality=results["quality"][3])) for n in range(2)]
    assert results["bpp"][3] == pytest.approx(8 * np.mean(sizes) / 256)
    assert np.asarray(codec.decompress(codec.compress(picture))).shape == picture.shape


def test_the_configuration_survives_its_dictionary() -> None:
    assert config_from_dict(TINY.to_dict()) == TINY
    with pytest.raises(TrainingError, match="must not be above prior_until"):
        replace(TINY, scalar_until=0.8)


class TestDistortions:
    def test_one_for_eyes_changes_what_is_learned(self, tmp_path: Path) -> None:
        first = {}
        for distortion in ("rgb", "eye"):
            trainer = made(tmp_path / distortion, replace(TINY, network=replace(TINY.network, distortion=distortion)))
            run(trainer, until=2)
            first[distortion] = trainer.model.transform.analysis.latent.weight.detach().clone()
        assert not torch.equal(first["rgb"], first["eye"])

    def test_two_have_qualities_of_their_own(self, tmp_path: Path) -> None:
        trainer = made(tmp_path, replace(TINY, network=replace(TINY.network, distortions=2)))
        anchors = trainer.model.transform.gain.anchors
        assert len(anchors) == 3 * ANCHORS - 2
        before = anchors.detach().clone()
        run(trainer, until=2)
        moved = (anchors != before).any(1)
        assert moved[:ANCHORS].any() and moved[-ANCHORS:].any()
        assert not moved[ANCHORS:-ANCHORS].any()  # qualities that no picture has

    @pytest.mark.parametrize(("distortion", "first"), [("rgb", 0.0), ("eye", SECOND)])
    def test_one_of_two_alone_gives_the_same(self, tmp_path: Path, distortion: str, first: float) -> None:
        network = replace(TINY.network, distortion=distortion, distortions=2)
        trainer = made(tmp_path, replace(TINY, network=network))
        run(trainer, until=2)
        both = trainer.model.eval()
        alone = both.of_one_distortion()
        assert alone.config == replace(network, distortions=1)
        image, quality = torch.rand(2, 3, 32, 32), torch.tensor([0.3, 1.0])
        with torch.no_grad():
            expected, found = both(image, quality + first, scalar=True), alone(image, quality, scalar=True)
        assert torch.allclose(found.reconstruction, expected.reconstruction, atol=1e-5)
        assert torch.allclose(found.bits, expected.bits, rtol=1e-4)
        assert alone.of_one_distortion() is alone
        with pytest.raises(ModelError, match="one distortion"):
            dump_hyperprior("both", both, {})

    def test_the_first_scales_are_those_of_the_latents(self, tmp_path: Path) -> None:
        trainer = made(tmp_path)
        run(trainer, until=1)
        latents = trainer.network_config.latents
        image = torch.from_numpy(pictures(12, 3, 16)).permute(0, 3, 1, 2).float() / 255
        latent, _ = trainer.model.transform.analyse(image, torch.zeros(12))
        for step in trainer.model.steps():
            assert step.head.conv.bias is not None
            guessed = step.head.conv.bias[latents:].exp2()
            assert torch.allclose(guessed, latent.std((0, 2, 3)).clamp_min(0.05), rtol=0.5)
