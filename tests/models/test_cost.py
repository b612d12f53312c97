"""The cost of a model, against what its network does and holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_hyperprior
import torch
from torch import nn

from gmvqzip import ModelError
from gmvqzip.entropy.tables import frequencies
from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.cost import cost
from gmvqzip.models.hyperconfig import GroupsConfig, HyperpriorConfig
from gmvqzip.models.hyperstore import dump_hyperprior, load_context
from gmvqzip.models.integer import integer_tensors
from gmvqzip.models.network import StagedAutoencoder
from gmvqzip.models.registry import read_info
from gmvqzip.models.store import dump_model
from gmvqzip.training.presets import preset

SIDE = 64  # pixels

CONFIGS = [
    NetworkConfig((4,), (6,), (1,), (2,), (GridConfig(4, 1, 32, 5),)),
    NetworkConfig((2, 4, 8), (4, 6, 8), (1, 0, 2), (1, 2, 1), (GridConfig(8, 2, 16, 4), GridConfig(4, 1, 32, 3))),
    NetworkConfig((4, 16), (6, 10), (1, 1), (1, 1), (GridConfig(16, 3, 8, 2),), weight_per_dimension=False),
    NetworkConfig((2, 4, 8), (4, 6, 8), (1, 1, 1), (1, 1, 1), (GridConfig(4, 1, 32, 3),)),
]


class Counter:
    """Counts the products of all convolutions that run."""

    def __init__(self, network: nn.Module) -> None:
        self.products = 0
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(self.count)

    def count(self, module: nn.Conv2d, _: Any, output: torch.Tensor) -> None:
        self.products += output[0, 0].numel() * module.weight.numel()

    def per_pixel(self) -> float:
        """Thousands per pixel since the last call."""
        products, self.products = self.products, 0
        return products / SIDE**2 / 1000


@pytest.mark.parametrize("config", CONFIGS)
def test_against_the_network(config: NetworkConfig, tmp_path: Path) -> None:
    network = StagedAutoencoder(config).eval()
    tables = [frequencies(np.ones(grid.codes)) for grid in config.stages()]
    path = tmp_path / "a.safetensors"
    path.write_bytes(dump_model("a", network, tables, {}))
    found = cost(read_info(path))
    assert found.file_bytes == path.stat().st_size
    assert found.parameters == sum(value.numel() for value in network.state_dict().values())
    counter = Counter(network)
    with torch.inference_mode():
        indices = network.encode(torch.rand(1, 3, SIDE, SIDE))
        encode = counter.per_pixel()
        network.decode(indices)
    logits = sum(2 * grid.codes * grid.dimensions / grid.stride**2 for grid in config.stages()) / 1000
    assert found.encode_kmac == pytest.approx(encode + logits)
    assert found.decode_kmac == pytest.approx(counter.per_pixel())


class Counted(np.ndarray[Any, Any]):
    """Weights that count the products they are in."""

    products = 0

    def __array_ufunc__(self, ufunc: np.ufunc, method: Any, *inputs: Any, **options: Any) -> Any:
        plain = [np.asarray(value) for value in inputs]
        if ufunc is np.matmul:
            Counted.products += plain[0].size * plain[1].shape[1]
        return getattr(ufunc, method)(*plain, **options)


HYPERPRIORS = [
    tiny_hyperprior.CONFIG,
    HyperpriorConfig(
        (2, 4),
        (8, 12),
        (0, 2),
        (1, 0),
        (GroupsConfig(2, 8, 2),),
        (GroupsConfig(1, 4, 2), GroupsConfig(1, 6, 4)),
        8,
        linear=True,
    ),
]


@pytest.mark.parametrize("config", HYPERPRIORS)
def test_a_hyperprior_model(config: HyperpriorConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_hyperprior.made(config)
    path = tmp_path / "a.safetensors"
    path.write_bytes(dump_hyperprior("a", model, {}))
    info = read_info(path)
    found = cost(info)
    integers = integer_tensors(model)
    assert found.file_bytes == path.stat().st_size
    weights = sum(value.numel() for value in model.transform.state_dict().values())
    assert found.parameters == weights + sum(value.size for value in integers.values())

    context = load_context(info, config)
    layers = [context._spread, context._up, context._smooth]
    layers += [layer for step in context._steps for layer in (step.mix, *step.heads)]
    for layer in layers:
        layer.weight = layer.weight.view(Counted)
    context._of_features = context._of_features.view(Counted)
    for step in context._steps:
        step._matrices = [matrix.view(Counted) for matrix in step._matrices]
    monkeypatch.setattr(Counted, "products", 0)
    rows = SIDE // config.alignment
    context.walk(rows, rows, 50, lambda block: np.zeros(block.pairs.shape, int))
    contexts = Counted.products / SIDE**2 / 1000
    counter = Counter(model.transform)
    with torch.inference_mode():
        latent, _ = model.transform.analyse(torch.rand(1, 3, SIDE, SIDE), torch.tensor([0.5]))
        encode = counter.per_pixel()
        model.transform.synthesise(latent, torch.tensor([0.5]))
    search = sum(grid.codes * grid.dimensions / grid.stride**2 for grid in config.stages()) / 1000
    assert found.encode_kmac == pytest.approx(encode + contexts + search)
    assert found.decode_kmac == pytest.approx(counter.per_pixel() + contexts)


def test_a_file_that_is_gone(tiny_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(tiny_path.read_bytes())
    info = read_info(path)
    path.unlink()
    with pytest.raises(ModelError, match="cannot read"):
        cost(info)


def test_the_network_of_the_papers_table(tmp_path: Path) -> None:
    """5.4 kMAC a pixel in both directions, as docs/experiments/paper.md states it, and the search of 1024 codes."""
    config = preset("compact-cifar10").network
    assert isinstance(config, NetworkConfig)
    path = tmp_path / "a.safetensors"
    path.write_bytes(dump_model("a", StagedAutoencoder(config), [frequencies(np.ones(1024))], {}))
    found, search = cost(read_info(path)), 2 * 1024 * 64 / 16 / 1000
    assert (found.encode_kmac, found.decode_kmac) == pytest.approx((2.512 + search, 2.896))
    assert config.stage_shapes(32, 32) == [(8, 8)]
    assert config == preset("compact-celeba").network
