"""The order of a decoder's layers, without saying what computes them: torch's modules and NumPy's layers both walk it.

A layer's name is its module's, and so its tensors'.
"""

from __future__ import annotations

from typing import Any, Protocol

from gmvqzip.models.hyperconfig import HyperpriorConfig


class Layers(Protocol):
    """What computes. Feature maps are of any type that can be added."""

    def run(self, name: str, x: Any) -> Any:
        """The output of a layer, or of a sequence of residual blocks."""

    def shuffle(self, x: Any, factor: int) -> Any:
        """Channels of each site to factor x factor sites."""

    def concatenate(self, a: Any, b: Any) -> Any:
        """The channels of both."""


def spread_of(config: HyperpriorConfig) -> int:
    """Patches along the side of a latent's cell."""
    return config.strides[-1] // config.strides[0]


def synthesise(layers: Layers, config: HyperpriorConfig, latent: Any) -> Any:
    """The picture, around 0, of a hyperprior model's latent without its gain: g_s of the literature."""
    state = layers.run("project", latent)
    patches = layers.shuffle(layers.run("linear", latent), spread_of(config)) if config.linear else None
    for index in reversed(range(len(config.strides))):
        if patches is not None and index == 0:
            state = state + layers.run("join", patches)
        state = layers.run(f"levels.{index}", layers.run(f"films.{index}", state))
        if index:
            state = layers.shuffle(layers.run(f"up.{index - 1}", state), 2)
    if patches is not None:
        state = layers.concatenate(state, patches)
    return layers.shuffle(layers.run("final", state), config.strides[0])
