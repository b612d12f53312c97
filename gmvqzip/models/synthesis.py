"""Decoders in NumPy: from a decoded latent, or from codewords, to pixels, with no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.blas import workers
from gmvqzip.models import walks
from gmvqzip.models.arrays import Floats, Layers, Weights, at, fitting, read_part
from gmvqzip.models.config import NetworkConfig
from gmvqzip.models.hyperconfig import HyperpriorConfig
from gmvqzip.models.registry import ModelInfo
from gmvqzip.models.store import read_weights

_START, _CODEBOOK = "start", ".quantizer.codebook"  # of a staged model


def load_hyperprior(info: ModelInfo, config: HyperpriorConfig) -> HyperpriorSynthesis:
    """The synthesis of a hyperprior model's file. Raises ModelError where its tensors do not fit."""
    with fitting(info):
        synthesis = HyperpriorSynthesis(info, config)
        synthesis(np.zeros((1, 1, config.latents), np.float32), 0.0)
    return synthesis


def load_staged(info: ModelInfo, config: NetworkConfig) -> StagedSynthesis:
    """The decoder of a staged model's file. Raises ModelError where its tensors do not fit."""
    with fitting(info):
        synthesis = StagedSynthesis(info, config)
        shapes = config.stage_shapes(config.alignment, config.alignment)
        synthesis([np.full(shape, grid.codes - 1) for shape, grid in zip(shapes, config.stages(), strict=True)])
    return synthesis


class HyperpriorSynthesis:
    """See `load_hyperprior`."""

    def __init__(self, info: ModelInfo, config: HyperpriorConfig) -> None:
        self.config = config
        self._weights, self._gain = read_part(info, config, "synthesis.")

    def __call__(self, latent: Floats, quality: float) -> Floats:
        """The picture [H, W, 3] in [0, 1] of a latent [h, w, M] in steps; quality in [0, 1]."""
        scaled = latent * np.exp(-at(self._gain, quality))
        with workers() as share:
            return _finished(walks.synthesise(Layers(self._weights, share, quality), self.config, scaled))


class StagedSynthesis:
    """See `load_staged`."""

    def __init__(self, info: ModelInfo, config: NetworkConfig) -> None:
        layers = [layer for layer in config.layers() if layer.decodes]
        names = {layer.name for layer in layers}
        weights = read_weights(
            info, lambda name: name == _START or name.endswith(_CODEBOOK) or name.rpartition(".")[0] in names
        )
        self._config, self._start = config, weights[_START].reshape(-1)
        self._weights = Weights(weights, layers)

    def __call__(self, stages: Sequence[NDArray[Any]]) -> Floats:
        """The picture [H, W, 3] in [0, 1] of index arrays [h, w] in coding order."""
        queue = iter(stages)
        state = np.broadcast_to(self._start, (*stages[0].shape, len(self._start)))
        with workers() as share:
            layers = Layers(self._weights, share, 0.0)

            def visit(stage: str, level: int, state: Floats) -> Floats:
                words = self._weights.tensors[stage + _CODEBOOK][next(queue)]
                refined: Floats = layers.run(f"{stage}.refine", state + layers.run(f"{stage}.project", words))
                return refined

            return _finished(walks.finish(layers, self._config, walks.descend(layers, self._config, state, visit)))


def _finished(picture: Floats) -> Floats:
    picture += np.float32(0.5)
    return np.clip(picture, 0, 1, out=picture)
