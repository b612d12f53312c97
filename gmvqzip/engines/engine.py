"""A model at work: its configuration, and its prior and its network, which are loaded when they are first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gmvqzip.engines.base import Once, check_device_name
from gmvqzip.entropy.codes import Codes
from gmvqzip.errors import ModelError, one_line, whole_number
from gmvqzip.models.kinds import KINDS, Config, named, read_config
from gmvqzip.setting import DEFAULT_QUALITY, QUALITIES, SINGLE_RATE

if TYPE_CHECKING:
    from gmvqzip.entropy.prior import Piece, Prior
    from gmvqzip.format.tiles import Box
    from gmvqzip.models.registry import ModelInfo
    from gmvqzip.setting import Setting


class Network(Protocol):
    """A model's network at work: x -> y, z -> codes, and y_hat -> x_hat. Weights are loaded when first needed."""

    def analyse(self, pixels: NDArray[np.uint8], setting: Setting, inner: Box | None = None) -> list[Piece]:
        """The codes of each of several pictures [B, H, W, 3], sides multiples of the model's alignment.

        inner: the pixels to make codes of, where the others only stand around them; a multiple of the alignment on each
        side. The last bits of a sum may depend on B, mostly where refinement works in bfloat16: now and then a picture
        gets other codes than alone, as good as those.
        """

    def needs_torch(self, rounds: int) -> bool:
        """Whether `analyse` needs torch for so many rounds of refinement, on this device."""

    def synthesise(self, latent: Any, quality: int) -> NDArray[np.float32]:
        """The picture [3, H, W], in [0, 1], of a decoded latent, or of a window of one; see `Piece`."""


class Engine:
    """A model at work. It may be shared by threads. Raises ModelError for another device, or a bad configuration.

    device: where the network runs: auto, cpu or cuda.
    """

    def __init__(self, info: ModelInfo, device: str) -> None:
        check_device_name(device)
        self.info, self.device = info, device
        self.config: Config = read_config(info.config)
        self._kind = KINDS[self.config.kind]
        self._once = Once()
        self.network: Network = named(self._kind.network)(info, self.config, device, lambda: self.prior)

    @property
    def prior(self) -> Prior:
        """What its codes are coded under. Raises ModelError."""
        prior: Prior = self._once.get("prior", lambda: named(self._kind.prior)(self.info, self.config))
        return prior

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of the prior's grid for so many pixels."""
        alignment = self.config.alignment
        return -(-height // alignment), -(-width // alignment)

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """Channels, rows and columns of the latent that offsets go to, for so many pixels; 0 where it takes none."""
        if not self.config.latents:
            return 0, 0, 0
        scale = self.config.alignment // self.config.strides[-1]
        rows, columns = self.grid(width, height)
        return self.config.latents, rows * scale, columns * scale

    def quality_field(self, quality: int | None) -> int:
        """The quality field of a file for a wanted quality, 1 to 100, or for none. Raises ModelError."""
        if quality is not None and (quality := whole_number(quality, "quality", ModelError)) not in QUALITIES:
            raise ModelError(f"quality {quality} is out of range: give {QUALITIES[0]} to {QUALITIES[-1]}")
        if not self.config.qualities:
            return SINGLE_RATE
        return DEFAULT_QUALITY if quality is None else quality

    def check_quality(self, quality: int) -> None:
        """Raise ModelError unless a file of this model may have this quality field."""
        known = self.config.qualities
        if known and quality not in known:
            raise ModelError(f"quality {quality}, but model {self.info.name} has qualities {known[0]} to {known[-1]}")
        if not known and quality != SINGLE_RATE:
            raise ModelError(f"quality {quality}, but model {self.info.name} has a single rate: 0 is wanted")

    def check_codes(self, codes: Codes) -> None:
        """Raise ModelError unless these codes are of this model, with its grids and codebook sizes."""
        if not isinstance(codes, Codes):
            raise ModelError(f"{one_line(codes)} are no codes: give what `encode` returns")
        if codes.model_id != self.info.model_id:
            own = self.info.model_id[:8]
            raise ModelError(f"codes of model {codes.model_id[:8]}, but model {self.info.name} is {own}")
        self.check_quality(codes.quality)
        width, height = codes.coded_size
        shapes = self.config.stage_shapes(width, height)
        if [stage.shape for stage in codes.stages] != shapes:
            raise ModelError(f"codes do not fit: {width}x{height} pixels take grids {shapes}")
        for number, (stage, end) in enumerate(zip(codes.stages, self.config.index_ends(), strict=True)):
            if stage.min() < 0 or stage.max() >= end:
                raise ModelError(f"codes do not fit: stage {number} has indices outside 0 to {end - 1}")
        shape = self.latent_shape(width, height)
        if len(codes.offsets) and (codes.offsets[:, :3] >= shape).any():
            raise ModelError("codes do not fit: an offset lies outside of the latent")
