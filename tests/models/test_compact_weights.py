"""Weights in 8 bits: which, how exactly, and what a damaged scale says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from gmvqzip.entropy.tables import frequencies
from gmvqzip.errors import ModelError
from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.network import StagedAutoencoder
from gmvqzip.models.registry import read_info
from gmvqzip.models.store import dump_model, load_network, round_weights, verify

CONFIG = NetworkConfig(
    strides=(2, 4),
    channels=(8, 32),
    encoder_blocks=(1, 1),
    decoder_blocks=(0, 1),
    grids=(GridConfig(stride=4, codes=8, dimensions=4),),
)
LARGE = "encoder.levels.1.0.spatial.weight"  # 32 x 32 x 3 x 3
DECODER = "levels.1.0.spatial.weight"


@pytest.fixture
def network() -> StagedAutoencoder:
    torch.manual_seed(1)
    return StagedAutoencoder(CONFIG).eval()


def dumped(network: StagedAutoencoder) -> bytes:
    return dump_model("mine", network, [frequencies(np.arange(8))], {})


def test_only_large_convolutions_of_the_encoder_are_compact(network: StagedAutoencoder) -> None:
    tensors = load(dumped(network))
    compact = {name.removeprefix("scale.") for name in tensors if name.startswith("scale.")}
    assert compact == {name.removeprefix("network.") for name in tensors if tensors[name].dtype == np.int8}
    assert LARGE in compact
    assert DECODER not in compact
    state = network.state_dict()
    assert all(name.startswith("encoder.") and state[name].numel() >= 4096 for name in compact)


def test_a_residual_block_of_the_decoder_is_not_compact() -> None:
    """Its `mix` is another than a stage's, which only the encoder runs."""
    torch.manual_seed(2)
    wide = replace(CONFIG, channels=(8, 64), grids=(GridConfig(stride=4, codes=8, dimensions=64),))
    network = StagedAutoencoder(wide).eval()
    tensors = load(dumped(network))
    types = {name.removeprefix("network."): tensor.dtype for name, tensor in tensors.items()}
    for name in ("levels.1.0.mix.weight", "stages.1.0.refine.0.mix.weight", "stages.1.0.project.weight"):
        assert network.state_dict()[name].numel() >= 4096
        assert types[name] == np.float16, name
    for name in ("encoder.levels.1.0.mix.weight", "stages.1.0.mix.weight", "stages.1.0.head.weight"):
        assert types[name] == np.int8, name


def test_the_error_is_half_a_level(network: StagedAutoencoder) -> None:
    tensors = load(dumped(network))
    original = network.state_dict()[LARGE].numpy()
    scale = tensors["scale." + LARGE][:, None, None, None]
    assert (np.abs(tensors["network." + LARGE] * scale - original) <= 0.5001 * scale).all()


def test_a_channel_of_zeros_stays_zero(network: StagedAutoencoder) -> None:
    with torch.no_grad():
        network.state_dict()[LARGE][3].zero_()
    round_weights(network)
    assert not network.state_dict()[LARGE][3].any()


def test_rounding_gives_what_loading_gives(network: StagedAutoencoder, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(dumped(network))
    info = read_info(path)
    verify(info)
    loaded = load_network(info).state_dict()
    round_weights(network)
    assert all(torch.equal(value, loaded[name]) for name, value in network.state_dict().items())
    path.write_bytes(dumped(network))
    assert read_info(path).model_id == info.model_id


@pytest.mark.parametrize(
    "scale", [np.ones(31, np.float32), np.ones(32, np.float16), np.full(32, np.nan, np.float32), None]
)
def test_a_wrong_scale_is_refused(network: StagedAutoencoder, tmp_path: Path, scale: np.ndarray | None) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(dumped(network))
    info = read_info(path)
    tensors = load(path.read_bytes())
    del tensors["scale." + LARGE]
    if scale is not None:
        tensors["scale." + LARGE] = scale
    path.write_bytes(save(tensors))
    with pytest.raises(ModelError, match="spatial"):
        load_network(info)
