"""Decoding in NumPy: torch's pixels within a level, for every kind and layout, and torch never imported for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_hyperprior import CONFIG, made, smooth
from without_torch import run_without_torch

from gmvqzip.codec import Codec, load
from gmvqzip.errors import ModelError
from gmvqzip.models import registry
from gmvqzip.models.config import NetworkConfig
from gmvqzip.models.hyperconfig import GroupsConfig, HyperpriorConfig
from gmvqzip.models.hyperstore import dump_hyperprior, load_transform
from gmvqzip.models.store import load_network
from gmvqzip.models.synthesis import load_hyperprior, load_staged

SHARED = HyperpriorConfig(
    strides=(8, 16),
    channels=(24, 32),
    encoder_blocks=(1, 1),
    decoder_blocks=(2, 1),
    quarter=(GroupsConfig(2, 100, 2, shared=True),),
    hyper=(GroupsConfig(2, 16, 4),),
    context_width=16,
    linear=True,
    edge_kernel=1,
)
LINEAR = HyperpriorConfig(**{**CONFIG.__dict__, "linear": True})


def compare(info: registry.ModelInfo, config: HyperpriorConfig, quality: float) -> float:
    latent = np.random.default_rng(0).normal(0, 3, (5, 7, config.latents)).astype(np.float32)
    with torch.no_grad():
        wanted = load_transform(info, config).synthesise(
            torch.from_numpy(latent).permute(2, 0, 1)[None], torch.tensor([quality])
        )[0]
    found = load_hyperprior(info, config)(latent, quality)
    return float(np.abs(found - wanted.clamp(0, 1).permute(1, 2, 0).numpy()).max())


@pytest.mark.parametrize("config", [CONFIG, LINEAR, SHARED], ids=["network", "linear", "shared"])
@pytest.mark.parametrize("quality", [0.0, 0.37, 1.0])
def test_layouts(config: HyperpriorConfig, quality: float, tmp_path: Path) -> None:
    path = tmp_path / "made.safetensors"
    path.write_bytes(dump_hyperprior("made", made(config), {}))
    assert compare(registry.find(path), config, quality) < 1e-4


@pytest.mark.parametrize("name", ["photo", "faces"])
def test_shipped_hyperpriors(name: str) -> None:
    info = registry.find(name)
    assert compare(info, HyperpriorConfig.from_dict(info.config), 0.5) < 0.5 / 255


@pytest.mark.parametrize("name", ["cifar10", "celeba"])
def test_shipped_staged_models(name: str) -> None:
    info = registry.find(name)
    config = NetworkConfig.from_dict(info.config)
    generator = np.random.default_rng(0)
    shapes = config.stage_shapes(44, 28)
    stages = [generator.integers(0, g.codes, shape) for g, shape in zip(config.stages(), shapes, strict=True)]
    wanted = load_network(info, config).decode([torch.from_numpy(s)[None] for s in stages])[0]
    found = load_staged(info, config)(stages)
    assert np.abs(found - wanted.permute(1, 2, 0).numpy()).max() < 0.5 / 255


def test_tensors_that_do_not_fit(hyper_path: Path) -> None:
    info = registry.find(hyper_path)
    for change in ({"linear": True}, {"channels": (16, 32, 48)}, {"decoder_blocks": (1, 2, 1)}):
        with pytest.raises(ModelError, match="do not fit"):
            load_hyperprior(info, HyperpriorConfig(**{**CONFIG.__dict__, **change}))
    assert load_hyperprior(info, CONFIG)(np.zeros((1, 1, CONFIG.latents), np.float32), 0).shape == (16, 16, 3)


LINES = """
gmvqzip.decompress(path, device="cpu")
Image.open(path).load()
"""


@pytest.mark.parametrize("kind", ["staged", "hyperprior"])
def test_decoding_does_not_import_torch(kind: str, tiny: Codec, hyper: Codec, tmp_path: Path) -> None:
    codec = tiny if kind == "staged" else hyper
    path = tmp_path / "a.gmvq"
    rgba = np.dstack([smooth(40, 56), smooth(40, 56, 1)[:, :, :1]])
    path.write_bytes(codec.compress(rgba))
    out = tmp_path / "out"
    out.mkdir()
    device = ["--device", "cpu", "--model", str(codec.info.path)]
    commands = [
        ["decompress", str(path), "-o", str(out / "a.png"), *device],
        ["decompress", "--scale", "1/2", "--region", "8,8,24,24", str(path), "-o", str(out / "b.png"), *device],
        ["test", str(path)],
        ["info", "-v", str(path)],
        ["codes", str(path), "-o", str(out / "a.npz"), "--model", str(codec.info.path)],
        ["view", str(path), "-o", str(out / "a.html"), *device],
    ]
    run_without_torch(commands, LINES, path, codec.info)
    assert len(list(out.iterdir())) == 4


def test_torch_decodes_the_same(hyper: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    data = hyper.compress(smooth(50, 70))
    found = np.asarray(hyper.decompress(data)).astype(int)
    monkeypatch.setattr("gmvqzip.engines.hyperprior.without_torch", lambda device: False)
    monkeypatch.setattr("gmvqzip.engines.hyperprior.fast_bfloat16", lambda device: False)
    wanted = np.asarray(load(hyper.info.path, device="cpu").decompress(data)).astype(int)
    assert np.abs(found - wanted).max() <= 1
