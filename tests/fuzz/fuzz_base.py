"""What the fuzz targets share: numbers and pieces taken from an input, and models to decode with."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch

from gmvqzip.codec import Codec
from gmvqzip.entropy.tables import frequencies
from gmvqzip.models import registry, store
from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.network import StagedAutoencoder

GOLDEN = Path(__file__).parent.parent / "golden"
SHIPPED = ("photo", "photo-psnr", "faces", "cifar10", "celeba")
CODE_PIXELS, PICTURE_PIXELS = 1 << 20, 1 << 14  # limits of pixels for codes, and for pictures; the cost grows with them
_TINY = NetworkConfig(
    strides=(2, 4), channels=(2, 2), encoder_blocks=(0, 1), decoder_blocks=(1, 0),
    grids=(GridConfig(stride=4, stages=2, codes=5, dimensions=2), GridConfig(stride=2, codes=300, dimensions=2)),
)  # fmt: skip


class Reader:
    """An input from which numbers and pieces are taken; beyond its end all is zero."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def rest(self) -> bytes:
        return self.take(len(self._data))

    @property
    def more(self) -> bool:
        return self._at < len(self._data)


# Models to decode with.


@cache
def tiny_models() -> list[Codec]:
    """A staged model with random weights, and the golden hyperprior model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = StagedAutoencoder(_TINY).eval()
    tables = [frequencies(1 / np.arange(1, stage.codes + 1)) for stage in _TINY.stages()]
    path = Path(tempfile.mkdtemp(prefix="gmvqzip-fuzz-")) / "staged.safetensors"
    path.write_bytes(store.dump_model("staged", network, tables, {}))
    return [Codec(registry.read_info(p), "cpu") for p in (path, GOLDEN / "hyperprior" / "hyperprior-1.safetensors")]


@cache
def shipped_models() -> list[Codec]:
    """The models that the package brings."""
    return [Codec(registry.find(name), "cpu") for name in SHIPPED]
