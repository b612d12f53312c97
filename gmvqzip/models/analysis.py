"""A hyperprior model's encoder in NumPy: from pixels to latents, with no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gmvqzip.blas import workers
from gmvqzip.models import walks
from gmvqzip.models.arrays import Floats, Layers, at, fitting, read_part
from gmvqzip.models.hyperconfig import HyperpriorConfig
from gmvqzip.models.registry import ModelInfo


def load_analysis(info: ModelInfo, config: HyperpriorConfig) -> HyperpriorAnalysis:
    """The analysis of a hyperprior model's file. Raises ModelError where its tensors do not fit."""
    with fitting(info):
        analysis = HyperpriorAnalysis(info, config)
        analysis(np.zeros((1, config.alignment, config.alignment, 3), np.uint8), 0.0)
    return analysis


class HyperpriorAnalysis:
    """See `load_analysis`."""

    def __init__(self, info: ModelInfo, config: HyperpriorConfig) -> None:
        self.config = config
        self._weights, self._gain = read_part(info, config, "analysis.")

    def __call__(self, pixels: NDArray[np.uint8], quality: float) -> tuple[Floats, Floats]:
        """Latents [B, h, w, M] in steps, and hyper-latents [B, h / 2, w / 2, Z], of pictures [B, H, W, 3], whose sides
        are multiples of the alignment; quality in [0, 1]."""
        gain = np.exp(at(self._gain, quality))
        with workers() as share:
            layers = Layers(self._weights, share, quality, len(pixels))
            centred = _centred(pixels.reshape(-1, *pixels.shape[2:]))
            latent, hyper = walks.analyse(layers, self.config, centred)
        latent *= gain
        return latent.reshape(len(pixels), -1, *latent.shape[1:]), hyper.reshape(len(pixels), -1, *hyper.shape[1:])


def _centred(pixels: NDArray[np.uint8]) -> Floats:
    """Pixels from -0.5 to 0.5."""
    centred = pixels.astype(np.float32)
    centred /= 255
    centred -= np.float32(0.5)
    return centred
