"""The staged model at work: order-0 tables, one rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gmvqzip.engines.base import MAP, Once, Search, Stages, full_precision, image_tensor, torch_device
from gmvqzip.entropy import coder
from gmvqzip.entropy.tables import code_bits, ideal_bits
from gmvqzip.errors import ModelError, whole_number
from gmvqzip.format.tiles import Box
from gmvqzip.models.config import NetworkConfig
from gmvqzip.models.registry import ModelInfo

if TYPE_CHECKING:
    import torch

    from gmvqzip.engines.refinement import Refinement
    from gmvqzip.models.network import StagedAutoencoder

SINGLE_RATE = 0  # the quality field of a file whose model has one rate
_QUALITIES = range(1, 101)
_WEIGHTS = ("rate_weight", "reconstruction_weight")  # of a training's loss, in a model's card


class StagedEngine:
    """See `Engine`."""

    def __init__(self, info: ModelInfo, config: NetworkConfig, device: str) -> None:
        self.info, self.config, self.device = info, config, device
        self._once = Once()

    def resolve_quality(self, quality: int | None) -> int:
        """The quality field: this model has a single rate, so any of 1 to 100 gives it."""
        if quality is not None and whole_number(quality, "quality", ModelError) not in _QUALITIES:
            raise ModelError(f"quality {quality} is out of range: give 1 to 100")
        return SINGLE_RATE

    def check_quality(self, quality: int) -> None:
        """Raise ModelError unless the quality is that of a single rate."""
        if quality != SINGLE_RATE:
            raise ModelError(f"quality {quality}, but model {self.info.name} has a single rate: 0 is wanted")

    def analyse(self, pixels: NDArray[np.uint8], quality: int, search: Search = MAP) -> tuple[NDArray[np.int32], ...]:
        """Index arrays of pixels [H, W, 3]: the quantiser's own choice, refined (`engines.refinement`)."""
        return self.analyse_batch(pixels[None], quality, search)[0]

    def analyse_batch(
        self, pixels: NDArray[np.uint8], quality: int, search: Search = MAP
    ) -> list[tuple[NDArray[np.int32], ...]]:
        """Index arrays of each of several pictures [B, H, W, 3], as `analyse` gives them."""
        import torch

        network, device = self._network()
        images = image_tensor(pixels, device)
        with torch.no_grad(), full_precision(device):
            stages = network.encode(images)
            if search.rounds:
                stages = self._refinement().run(images, stages, search.rounds, search.trade)
            arrays = [stage.to("cpu", torch.int32).numpy() for stage in stages]
        return [tuple(array[number] for array in arrays) for number in range(len(pixels))]

    def synthesise(self, stages: Stages, quality: int) -> torch.Tensor:
        """Picture [3, H, W] of index arrays."""
        import torch

        network, device = self._network()
        with full_precision(device):
            return network.decode([torch.from_numpy(s.astype(np.int64)).to(device)[None] for s in stages])[0]

    def paint(self, stages: Stages, quality: int, region: Box) -> Iterator[tuple[Box, torch.Tensor]]:
        """The pixels [3, h, w] of a region, in one piece."""
        yield region, self.synthesise(stages, quality)[(..., *region.cells())]

    def pack(self, stages: Stages, quality: int) -> bytes:
        """Payload: stage after stage under its table."""
        return coder.encode([(stage.ravel(), table) for stage, table in zip(stages, self.tables(), strict=True)])

    def unpack(self, payload: bytes, size: tuple[int, int], quality: int) -> tuple[NDArray[np.int32], ...]:
        """Index arrays in a payload."""
        shapes = self.config.stage_shapes(*size)
        parts = [(rows * columns, table) for (rows, columns), table in zip(shapes, self.tables(), strict=True)]
        flat = coder.decode(payload, parts)
        return tuple(part.reshape(shape) for part, shape in zip(flat, shapes, strict=True))

    def site_bits(self, stages: Stages, quality: int) -> tuple[NDArray[np.float64], ...]:
        """Ideal code length of each code, in bits, in arrays as the index arrays."""
        return tuple(code_bits(table, stage) for table, stage in zip(self.tables(), stages, strict=True))

    def stage_bits(self, stages: Stages, quality: int) -> tuple[float, ...]:
        """Ideal code length of each stage, in bits: the sums of `site_bits`."""
        return tuple(ideal_bits(table, stage) for table, stage in zip(self.tables(), stages, strict=True))

    def tables(self) -> list[NDArray[np.int64]]:
        """The integer frequency tables, one per stage, each summing to 2^24. Raises ModelError."""
        from gmvqzip.models.store import load_tables

        tables: list[NDArray[np.int64]] = self._once.get("tables", lambda: load_tables(self.info))
        return tables

    def _network(self) -> tuple[StagedAutoencoder, torch.device]:
        import torch

        from gmvqzip.models.store import load_network

        device = torch_device(self.device)

        def make() -> StagedAutoencoder:
            with torch.inference_mode(False):  # a search needs gradients
                return load_network(self.info, str(device)).requires_grad_(False)

        network: StagedAutoencoder = self._once.get("network", make)
        return network, device

    def _refinement(self) -> Refinement:
        import torch

        from gmvqzip.engines.refinement import Refinement

        network, device = self._network()
        tables = self.tables()

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
