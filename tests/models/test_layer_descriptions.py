"""What configurations say of their networks' layers, against the networks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny_hyperprior
import torch
from torch import nn

from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.hyperconfig import GroupsConfig, HyperpriorConfig
from gmvqzip.models.hyperprior import HyperpriorModel
from gmvqzip.models.integer import integer_tensors
from gmvqzip.models.network import StagedAutoencoder
from gmvqzip.models.transform import Transform
from gmvqzip.training.optim import parameter_groups
from gmvqzip.training.presets import PRESETS

Shapes = dict[str, tuple[int, ...]]
STAGED = [
    NetworkConfig((2, 4, 8), (4, 6, 8), (1, 0, 2), (1, 2, 1), (GridConfig(8, 2, 16, 4), GridConfig(4, 1, 32, 3))),
    NetworkConfig((4, 16), (6, 10), (1, 1), (1, 1), (GridConfig(4, 3, 8, 2),), 2, weight_per_dimension=False),
    *(config.network for config in PRESETS.values() if isinstance(config.network, NetworkConfig)),
]
HYPERPRIORS = [
    tiny_hyperprior.CONFIG,
    replace(tiny_hyperprior.CONFIG, linear=True, edge_kernel=1, hyper=(GroupsConfig(1, 8, 2), GroupsConfig(2, 8, 4))),
    PRESETS["photo"].network,
    PRESETS["trunk"].network,
]


def described(config: NetworkConfig | HyperpriorConfig) -> Shapes:
    return {f"{x.name}.weight": (x.outputs, x.inputs, x.kernel, x.kernel) for x in config.layers()}


def held(network: nn.Module) -> Shapes:
    """The weights of a network's convolutions; the others have fewer axes."""
    return {
        name: tuple(value.shape)
        for name, value in network.state_dict().items()
        if value.ndim == 4 and name.endswith("weight")
    }


@pytest.mark.parametrize("config", STAGED)
def test_staged(config: NetworkConfig) -> None:
    with torch.device("meta"):
        assert held(StagedAutoencoder(config)) == described(config)


@pytest.mark.parametrize("config", HYPERPRIORS)
def test_transforms(config: HyperpriorConfig) -> None:
    with torch.device("meta"):
        found = held(Transform(config))
    assert found == {name: shape for name, shape in described(config).items() if not name.startswith("context.")}


@pytest.mark.parametrize("config", HYPERPRIORS[:2])
def test_contexts(config: HyperpriorConfig) -> None:
    tensors = integer_tensors(tiny_hyperprior.made(config))
    found = {f"context.{name}": value.shape for name, value in tensors.items() if name.endswith("weight")}
    assert found == {name: shape for name, shape in described(config).items() if name.startswith("context.")}


@pytest.mark.parametrize("name", ["photo", "trunk"])
def test_parameters_of_a_hyperprior_model_go_to_the_optimiser_that_their_module_declares(name: str) -> None:
    config = PRESETS[name].network
    assert isinstance(config, HyperpriorConfig)
    model = HyperpriorModel(replace(config, quarter=(GroupsConfig(10, 100, shared=True),)))
    names = {id(value): name for name, value in model.named_parameters()}
    found = {group: {names[id(p)] for p in values} for group, values in parameter_groups(model).items()}
    assert sum(map(len, found.values())) == len(names)
    synthesis, analysis = "transform.synthesis", "transform.analysis"
    assert found["linear"] == {f"{synthesis}.linear.weight", f"{analysis}.linear.weight"}
    assert found["codebook"] == {"groups.0.codebook", "hyper_groups.0.codebook"}
    assert {"groups.0.code_bias", "hyper_groups.0.slope", "hyper_scale.0.anchors"} <= found["mixture"]
    assert all(name.startswith(("groups.", "hyper_groups.", "hyper_scale.")) for name in found["mixture"])
    ends = ("encoder.stem", "hyper")
    edges = [f"{analysis}.{end}" for end in ends] + [f"{synthesis}.{end}" for end in ("join", "final")]
    edges += [f"context.{step}.head.conv" for step in range(4)]
    assert {f"{edge}.weight" for edge in edges} <= found["rest"]
    assert {f"{analysis}.latent.weight", f"{synthesis}.project.weight", "context.0.mix.conv.weight"} <= found["wide"]
