"""From a model file back to a model that trains: nothing that the file holds is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_hyperprior import CONFIG, made, smooth

from gmvqzip.engines.engine import Engine
from gmvqzip.errors import ModelError
from gmvqzip.models import registry
from gmvqzip.models.hyperconfig import GroupsConfig, HyperpriorConfig
from gmvqzip.models.hyperprior import HyperpriorModel
from gmvqzip.models.hyperstore import dump_hyperprior
from gmvqzip.models.kinds import read_config
from gmvqzip.models.quality import hat_weights
from gmvqzip.models.registry import ModelInfo, read_info
from gmvqzip.models.revive import _class_anchors, revive_hyperprior
from gmvqzip.models.store import dump_tensors, read_tensors
from gmvqzip.quantizers.groups import CLASSES
from gmvqzip.setting import Setting

SHIPPED = [info for info in registry.installed() if isinstance(read_config(info.config), HyperpriorConfig)]
LINEAR = replace(
    CONFIG, linear=True, quarter=(GroupsConfig(2, 16, 6),), hyper=(GroupsConfig(1, 8, 2), GroupsConfig(1, 8, 4))
)


def filed(folder: Path, model: HyperpriorModel, name: str = "tiny") -> ModelInfo:
    path = folder / f"{name}.safetensors"
    path.write_bytes(dump_hyperprior(name, model, {}))
    return read_info(path)


def again(folder: Path, info: ModelInfo) -> ModelInfo:
    """The file of the revived model."""
    config = read_config(info.config)
    assert isinstance(config, HyperpriorConfig)
    return filed(folder, revive_hyperprior(info, config), "again")


@pytest.mark.parametrize("config", [CONFIG, LINEAR])
@pytest.mark.parametrize("seed", [0, 1, 3])
def test_written_again_it_is_the_same_file(tmp_path: Path, config: HyperpriorConfig, seed: int) -> None:
    info = filed(tmp_path, made(config, seed))
    assert again(tmp_path, info).model_id == info.model_id


@pytest.mark.parametrize("info", SHIPPED, ids=[info.name for info in SHIPPED])
def test_shipped_models_come_back_whole(tmp_path: Path, info: ModelInfo) -> None:
    assert again(tmp_path, info).model_id == info.model_id


def test_the_revived_model_codes_as_the_file_does(tmp_path: Path) -> None:
    """Rate and distortion of its own forward pass are those of the integer codec, but for rounding."""
    model = made(spread=1.0)
    with torch.no_grad():
        for groups in model.all_groups():
            groups.log_precision.fill_(-3.0)  # no code so rare that the tables' least frequency shows
            groups.slope.zero_()
    info = filed(tmp_path, model)
    revived = revive_hyperprior(info, CONFIG).eval()
    engine = Engine(info, "cpu")
    bits, errors = [], []
    for seed in range(3):
        picture = smooth(64, 96, seed)
        (piece,) = engine.network.analyse(picture[None], Setting(60))
        image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            output = revived(image, torch.tensor([59 / 99]), scalar=False)
            decoded = torch.from_numpy(engine.network.synthesise(piece.latent, 60))
        bits.append([float(output.bits + output.hyper_bits), sum(piece.bits())])
        errors.append([float((x.clamp(0, 1) - image).square().mean()) for x in (output.reconstruction, decoded[None])])
    (own, filed_bits), (error, filed_error) = np.sum(bits, 0), np.sum(errors, 0)
    assert own == pytest.approx(filed_bits, rel=0.01)
    assert error == pytest.approx(filed_error, rel=0.01)


def test_anchors_lie_in_the_classes_of_the_file() -> None:
    hats = hat_weights(torch.linspace(0, 1, 100, dtype=torch.float64)).numpy()
    anchors = np.random.default_rng(0).uniform(-3, CLASSES + 3, (9, 40))  # beyond both ends, too
    classes = (hats @ anchors).round().clip(0, CLASSES - 1)
    found = (hats @ _class_anchors(classes, CLASSES - 1)).round().clip(0, CLASSES - 1)
    assert (found != classes).mean() < 0.002
    assert np.abs(found - classes).max() <= 1


def test_other_classes_cannot_be_trained(tmp_path: Path) -> None:
    info = filed(tmp_path, made())
    tensors = read_tensors(info, None)
    for name, value in tensors.items():
        if name.endswith((".precision", ".slope")):
            tensors[name] = np.concatenate([value, value[..., -1:]], 2)
    path = tmp_path / "more.safetensors"
    path.write_bytes(dump_tensors("more", CONFIG.to_dict(), tensors, {}))
    with pytest.raises(ModelError, match=f"has {CLASSES + 1} context classes, but training has {CLASSES}"):
        revive_hyperprior(read_info(path), CONFIG)
