"""The hyperprior model at work: four coding steps under integer contexts, qualities 1 to 100."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.engines.base import Once, Stages, full_precision, image_tensor, torch_device
from gmvqzip.entropy import runs
from gmvqzip.entropy.coder import StreamDecoder, StreamEncoder
from gmvqzip.entropy.context import LATENT_UNIT, QUALITIES, ContextModel, Site, Visitor
from gmvqzip.errors import ModelError
from gmvqzip.models.hyperconfig import HyperpriorConfig
from gmvqzip.models.registry import ModelInfo

if TYPE_CHECKING:
    import torch

    from gmvqzip.models.transform import Transform

DEFAULT_QUALITY = 50
Floats = NDArray[np.float32]


class HyperpriorEngine:
    """See `Engine`."""

    def __init__(self, info: ModelInfo, config: HyperpriorConfig, device: str) -> None:
        self.info, self.config, self.device = info, config, device
        self._once = Once()

    def resolve_quality(self, quality: int | None) -> int:
        """The quality field, 1 to 100; DEFAULT_QUALITY where none is wanted."""
        quality = DEFAULT_QUALITY if quality is None else quality
        if not 1 <= quality <= QUALITIES:
            raise ModelError(f"quality {quality} is out of range: give 1 to {QUALITIES}")
        return quality

    def check_quality(self, quality: int) -> None:
        """Raise ModelError unless the quality is one of 1 to 100."""
        if not 1 <= quality <= QUALITIES:
            raise ModelError(f"quality {quality}, but model {self.info.name} has qualities 1 to {QUALITIES}")

    def analyse(self, pixels: NDArray[np.uint8], quality: int) -> tuple[NDArray[np.int32], ...]:
        """Index arrays of pixels [H, W, 3]: at each site the code of the mixture's MAP rule (eq. 16 with the prior)."""
        import torch

        transform, device = self._transform()
        with torch.inference_mode(), full_precision(device):
            pair = transform.analyse(image_tensor(pixels, device), _position(quality, device))
            latent, hyper = (part[0].permute(1, 2, 0).float().cpu().numpy() for part in pair)
        stages = self._empty(pixels.shape[1], pixels.shape[0])
        weights = self._weights()

        def visit(site: Site) -> NDArray[Any]:
            target = hyper[:, :, site.channels] if site.hyper else latent[(*site.window, site.channels)]
            chosen = choose(target, site, weights[site.stage])
            stages[site.stage][site.window] = chosen
            return chosen

        self.context().walk(hyper.shape[0], hyper.shape[1], quality, visit)
        return tuple(stages)

    def synthesise(self, stages: Stages, quality: int) -> torch.Tensor:
        """Picture [3, H, W] of index arrays."""
        import torch

        transform, device = self._transform()
        coded = self._walk(stages, quality, lambda site: stages[site.stage][site.window])
        with torch.inference_mode(), full_precision(device):
            latent = torch.from_numpy(coded).to(device).permute(2, 0, 1)[None].float().div_(LATENT_UNIT)
            latent = latent.contiguous(memory_format=torch.channels_last)
            return transform.synthesise(latent, _position(quality, device))[0].clamp(0, 1)

    def pack(self, stages: Stages, quality: int) -> bytes:
        """Payload: group after group, in coding order, under the tables of its contexts."""
        stream = StreamEncoder()

        def visit(site: Site) -> NDArray[Any]:
            codes = stages[site.stage][site.window]
            runs.put(stream, site, codes)
            return codes

        self._walk(stages, quality, visit)
        return stream.finish()

    def unpack(self, payload: bytes, size: tuple[int, int], quality: int) -> tuple[NDArray[np.int32], ...]:
        """Index arrays in a payload."""
        stages = self._empty(*size)
        stream = StreamDecoder(payload)

        def visit(site: Site) -> NDArray[Any]:
            codes = runs.take(stream, site)
            stages[site.stage][site.window] = codes
            return codes

        self._walk(stages, quality, visit)
        stream.finish()
        return tuple(stages)

    def stage_bits(self, stages: Stages, quality: int) -> tuple[float, ...]:
        """Ideal code length of each group, in bits."""
        total = [0.0] * len(stages)

        def visit(site: Site) -> NDArray[Any]:
            codes = stages[site.stage][site.window]
            total[site.stage] += float(np.take_along_axis(runs.bits(site), codes.reshape(-1, 1), 1).sum())
            return codes

        self._walk(stages, quality, visit)
        return tuple(total)

    def _walk(self, stages: Stages, quality: int, visit: Visitor) -> NDArray[np.int32]:
        rows, columns = stages[0].shape
        return self.context().walk(rows, columns, quality, visit)

    def context(self) -> ContextModel:
        """The integer context model. Raises ModelError."""
        from gmvqzip.models.hyperstore import load_context

        context: ContextModel = self._once.get("context", lambda: load_context(self.info, self.config))
        return context

    def _empty(self, width: int, height: int) -> list[NDArray[np.int32]]:
        return [np.zeros(shape, dtype=np.int32) for shape in self.config.stage_shapes(width, height)]

    def _weights(self) -> Floats:
        from gmvqzip.models.hyperstore import load_precisions

        weights: Floats = self._once.get("weights", lambda: load_precisions(self.info, self.config))
        return weights

    def _transform(self) -> tuple[Transform, torch.device]:
        from gmvqzip.models.hyperstore import load_transform

        device = torch_device(self.device)
        make = lambda: load_transform(self.info, self.config, str(device))  # noqa: E731
        transform: Transform = self._once.get("transform", make)
        return transform, device


def choose(target: Floats, site: Site, weight: float) -> NDArray[np.int64]:
    """The MAP codes [h, w] of a site: argmin of w/2 ||r - mu_c||^2 - ln p(c | context), r what the mean leaves.

    target: [h, w, L] in units of the quantiser's step; weight: w.
    """
    residual = (target - site.mean.astype(np.float32) / LATENT_UNIT).reshape(-1, target.shape[2])
    words = site.mixtures.codebook[site.group].astype(np.float32) / LATENT_UNIT
    score = runs.bits(site) * np.float32(math.log(2))
    score += (np.float32(weight) / 2) * (words * words).sum(1)
    score -= residual @ (np.float32(weight) * words).T
    chosen: NDArray[np.int64] = score.argmin(1).reshape(site.pairs.shape)
    return chosen


def _position(quality: int, device: torch.device) -> torch.Tensor:
    """The quality [1] in [0, 1] that the networks take."""
    import torch

    return torch.tensor([(quality - 1) / (QUALITIES - 1)], device=device)
