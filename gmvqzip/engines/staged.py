"""The network of a staged model at work: features, then codes stage after stage, at one rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gmvqzip.engines.base import Once, full_precision, image_tensor, plain_torch, torch_device, without_torch
from gmvqzip.entropy.prior import Piece, Stages
from gmvqzip.entropy.static import StaticPrior
from gmvqzip.format.tiles import Box
from gmvqzip.models.config import NetworkConfig
from gmvqzip.models.registry import ModelInfo
from gmvqzip.setting import Setting

if TYPE_CHECKING:
    import torch

    from gmvqzip.engines.refinement import Refinement
    from gmvqzip.models.network import StagedAutoencoder

_WEIGHTS = ("rate_weight", "reconstruction_weight")  # of a training's loss, in a model's card


class StagedNetwork:
    """See `Network`. The latent of a picture is its index arrays."""

    def __init__(self, info: ModelInfo, config: NetworkConfig, device: str, prior: Callable[[], StaticPrior]) -> None:
        self.info, self.config, self.device, self._prior = info, config, device, prior
        self._once = Once()

    def analyse(self, pixels: NDArray[np.uint8], setting: Setting, inner: Box | None = None) -> list[Piece]:
        """The quantiser's own choice, refined (`engines.refinement`)."""
        import torch

        network, device = self.loaded()
        with plain_torch(self.device), torch.no_grad(), full_precision(device):
            images = image_tensor(pixels, device)
            stages = network.encode(images)
            if setting.rounds:
                stages = self._refinement().run(images, stages, setting.rounds, setting.trade)
            arrays = [stage.to("cpu", torch.int32).numpy() for stage in stages]
        return self._prior().follow(arrays, setting.quality)

    def needs_torch(self, rounds: int) -> bool:
        """See `Network`."""
        return True

    def synthesise(self, latent: Stages, quality: int) -> NDArray[np.float32]:
        """Picture [3, H, W] of index arrays."""
        if without_torch(self.device):
            from gmvqzip.models.synthesis import load_staged

            synthesis = self._once.get("synthesis", lambda: load_staged(self.info, self.config))
            return np.moveaxis(synthesis(latent), 2, 0)
        import torch

        network, device = self.loaded()
        with plain_torch(self.device), full_precision(device):
            images = network.decode([torch.from_numpy(s.astype(np.int64)).to(device)[None] for s in latent])
        picture: NDArray[np.float32] = images[0].cpu().numpy()
        return picture

    def loaded(self) -> tuple[StagedAutoencoder, torch.device]:
        """The network, and where it is. Raises ModelError."""
        from gmvqzip.models.store import load_network

        device = torch_device(self.device)

        def make() -> StagedAutoencoder:
            with plain_torch(self.device):  # a search needs gradients
                return load_network(self.info, self.config, str(device)).requires_grad_(False)

        network: StagedAutoencoder = self._once.get("network", make)
        return network, device

    def _refinement(self) -> Refinement:
        import torch

        from gmvqzip.engines.refinement import Refinement

        network, device = self.loaded()
        tables = self._prior().tables

        def make() -> Refinement:
            bits = [torch.from_numpy(24 - np.log2(table)).float().to(device) for table in tables]
            return Refinement(network, bits, self._trade())

        refinement: Refinement = self._once.get("refinement", make)
        return refinement

    def _trade(self) -> float:
        """The squared error of a picture, pixels in [0, 1], that the training paid for a bit; 0 without a rate term.

        Its loss was reconstruction_weight * MSE + rate_weight * bits per pixel, and there are 3 values in a pixel.
        """
        training = self.info.card.get("training")
        weights = [training.get(name) for name in _WEIGHTS] if isinstance(training, dict) else [0, 0]
        rate, reconstruction = (float(w) if isinstance(w, int | float) and 0 < w < math.inf else 0.0 for w in weights)
        return 3 * rate / reconstruction if reconstruction else 0.0
