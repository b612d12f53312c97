"""The order of a network's layers, without saying what computes them: torch's modules and NumPy's layers both walk it.

A layer's name is its module's, and so its tensors'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gmvqzip.models.config import NetworkConfig
from gmvqzip.models.hyperconfig import HyperpriorConfig


class Layers(Protocol):
    """What computes. Feature maps are of any type that can be added."""

    def run(self, name: str, x: Any) -> Any:
        """The output of a layer, or of a sequence of residual blocks."""

    def gelu(self, x: Any) -> Any:
        """What stands between the two layers of the hyper-analysis; x is not used again."""

    def shuffle(self, x: Any, factor: int) -> Any:
        """Channels of each site to factor x factor sites."""

    def unshuffle(self, x: Any, factor: int) -> Any:
        """factor x factor sites to channels of one, in the order of `torch.nn.PixelUnshuffle`."""

    def concatenate(self, a: Any, b: Any) -> Any:
        """The channels of both."""


Visitor = Callable[[str, int, Any], Any]  # a stage by its name, its level, the state before it -> the state after it


def descend(layers: Layers, config: NetworkConfig, state: Any, visit: Visitor, *, stages_only: bool = False) -> Any:
    """Lead a staged decoder's state from the coarsest grid to the finest level, or no further than the last stage."""
    left = sum(config.stage_counts)
    for level in reversed(range(len(config.stage_counts))):
        for number in range(config.stage_counts[level]):
            state = visit(f"stages.{level}.{number}", level, state)
            left -= 1
            if stages_only and not left:
                return state
        state = layers.run(f"levels.{level}", state)
        if level:
            factor = config.strides[level] // config.strides[level - 1]
            state = layers.shuffle(layers.run(f"up.{level - 1}", state), factor)
    return state


def finish(layers: Layers, config: NetworkConfig, state: Any) -> Any:
    """The picture, around 0, of the last state."""
    return layers.shuffle(layers.run("final", state), config.strides[0])


def analyse(layers: Layers, config: HyperpriorConfig, picture: Any) -> tuple[Any, Any]:
    """A hyperprior model's latent without its gain, and its hyper-latent, of a picture around 0: g_a and h_a of the
    literature."""
    state = layers.run("encoder.stem", layers.unshuffle(picture, config.strides[0]))
    for index in range(len(config.strides)):
        if index:
            state = layers.run(f"encoder.down.{index - 1}", state)
        state = layers.run(f"encoder.levels.{index}", layers.run(f"films.{index}", state))
    latent = layers.run("latent", state)
    if config.linear:
        latent = latent + layers.run("linear", layers.unshuffle(picture, config.strides[-1]))
    return latent, layers.run("hyper", layers.gelu(layers.run("hyper_down", state)))


def synthesise(layers: Layers, config: HyperpriorConfig, latent: Any) -> Any:
    """The picture, around 0, of a hyperprior model's latent without its gain: g_s of the literature."""
    state = layers.run("project", latent)
    patches = layers.shuffle(layers.run("linear", latent), config.spread) if config.linear else None
    for index in reversed(range(len(config.strides))):
        if patches is not None and index == 0:
            state = state + layers.run("join", patches)
        state = layers.run(f"levels.{index}", layers.run(f"films.{index}", state))
        if index:
            state = layers.shuffle(layers.run(f"up.{index - 1}", state), 2)
    if patches is not None:
        state = layers.concatenate(state, patches)
    return layers.shuffle(layers.run("final", state), config.strides[0])
