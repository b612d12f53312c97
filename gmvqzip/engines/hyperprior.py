"""The network of a hyperprior model at work: latents, codes chosen under the contexts, and their refinement."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gmvqzip.engines.base import (
    Once,
    fast_bfloat16,
    full_precision,
    image_tensor,
    plain_torch,
    threads_for,
    torch_device,
    without_torch,
)
from gmvqzip.engines.choice import Candidates, choose
from gmvqzip.engines.offsets import missed, worthwhile
from gmvqzip.engines.search import Search
from gmvqzip.entropy.blocks import Block
from gmvqzip.entropy.context import ContextModel
from gmvqzip.entropy.layers import QUALITIES
from gmvqzip.entropy.mixture import LATENT_UNIT
from gmvqzip.entropy.prior import Memo, Piece
from gmvqzip.format.tiles import Box
from gmvqzip.models.hyperconfig import QUARTERS, HyperpriorConfig
from gmvqzip.models.registry import ModelInfo
from gmvqzip.setting import Setting

if TYPE_CHECKING:
    import torch

    from gmvqzip.models.analysis import HyperpriorAnalysis
    from gmvqzip.models.distortion import Distortion
    from gmvqzip.models.transform import Transform

_NAT = np.float32(math.log(2))  # of a bit
_MOVES = 2 / 3  # of a round
_FEW_PIXELS = 1 << 14
_OFFSET_BITS = 64  # what an offset must be worth; it takes 5 to 40
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """What refinement looks at: latents [B, M, h, w] with those of the pixels around, the rows and columns of them that
    are coded, the rows and columns of their pixels whose error counts, the distortion of these [B, 3, H, W], and what
    makes pictures of latents.
    """

    distortion: Distortion
    synthesise: Callable[[torch.Tensor], torch.Tensor]
    around: torch.Tensor
    inner: tuple[slice, slice]
    counted: tuple[slice, slice]


class HyperpriorNetwork:
    """See `Network`. A latent is [H, W, M] integers, in 1/32 of a step."""

    def __init__(
        self, info: ModelInfo, config: HyperpriorConfig, device: str, prior: Callable[[], ContextModel]
    ) -> None:
        self.info, self.config, self.device, self._prior = info, config, device, prior
        self._once = Once()

    def analyse(self, pixels: NDArray[np.uint8], setting: Setting, inner: Box | None = None) -> list[Piece]:
        """At each site the code of the mixture's MAP rule (eq. 16 with the prior).

        With `setting.rounds`, a search for codes of less lambda * distortion + bits per pixel follows, the distortion
        that of the configuration: the targets of the choice move (`Search`), and MAP codes are taken again, twice in
        three rounds. Nobody looks at the picture of the last codes, where the move before was a gain: that would take
        half as long as a move, and moves are bounded; in two rounds, and of few pixels, one move is looked at.

        Latents of pixels around `inner` are taken as the analysis gives them.
        """
        inner = inner or Box(0, 0, pixels.shape[2], pixels.shape[1])
        if not self.needs_torch(setting.rounds):
            latent, hyper = self._analysed(pixels, setting.quality)
            found = self._choose(*self._cut(latent, hyper, inner), setting, Memo())[0]
        else:
            with threads_for(pixels.size // 3), plain_torch(self.device):
                found = self._analyse(pixels, setting, inner)
        synthesise = partial(self.synthesise, quality=setting.quality)
        own = pixels[(slice(None), *inner.cells())]
        return [worthwhile(*pair, synthesise, self._weight(setting)) for pair in zip(found, own, strict=True)]

    def needs_torch(self, rounds: int) -> bool:
        """See `Network`."""
        return rounds > 0 or not without_torch(self.device)

    def _analyse(self, pixels: NDArray[np.uint8], setting: Setting, inner: Box) -> list[Piece]:
        import torch

        transform, device = self.loaded()
        position = _position(setting.quality, device)
        images = image_tensor(pixels, device)
        with torch.inference_mode(), full_precision(device):
            around, hyper_around = transform.analyse(images, position)
        latent, hyper = self._cut(_array(around), _array(hyper_around), inner)
        memo = Memo()
        chosen, bits = self._choose(latent, hyper, setting, memo)
        if not setting.rounds:
            return chosen
        scene = self._scene(images, around, inner, setting.quality)
        weight = self._weight(setting)
        search = Search(latent, self._channel_precisions() / np.float32(weight * setting.trade * math.log(2)))
        moves = round(setting.rounds * _MOVES)
        for _ in range(moves):
            errors, gradient = self._descent(chosen, scene)
            search.look(chosen, weight * errors + bits, gradient)
            chosen, bits = self._choose(search.move(), hyper, setting, memo, search.ratios)
        few = pixels[0].size // 3 < _FEW_PIXELS
        if moves > 1 or (setting.rounds == 1 and not few):
            return search.last(chosen)
        errors = self._errors(chosen, scene)
        return search.better(chosen, weight * errors + bits)

    def _weight(self, setting: Setting) -> float:
        """Bits of one unit of squared error of the whole picture, which the MAP rule's w stands for."""
        lambda_ = self.config.lambda_of((setting.quality - 1) / (QUALITIES - 1))
        weight: float = lambda_ * 255**2 / (3 * setting.trade)
        return weight

    def _analysed(self, pixels: NDArray[np.uint8], quality: int) -> tuple[Floats, Floats]:
        """Latents and hyper-latents of pictures [B, H, W, 3], by NumPy."""
        from gmvqzip.models.analysis import load_analysis

        analysis: HyperpriorAnalysis = self._once.get("analysis", lambda: load_analysis(self.info, self.config))
        return analysis(pixels, (quality - 1) / (QUALITIES - 1))

    def _cut(self, latent: Floats, hyper: Floats, inner: Box) -> tuple[Floats, Floats]:
        """What is coded of latents and hyper-latents [B, H, W, C] of the pixels around `inner`."""
        strides = self.config.strides[-1], self.config.alignment
        latent, hyper = (x[(slice(None), *inner.cells(n))] for x, n in zip((latent, hyper), strides, strict=True))
        return latent, hyper

    def _scene(self, images: torch.Tensor, around: torch.Tensor, inner: Box, quality: int) -> Scene:
        """What refinement of the codes of `inner` has to look at, of pictures and their latents [B, M, H, W]."""
        stride, reach = self.config.strides[-1], self.config.synthesis_reach
        seen = inner.grown(reach * stride, Box(0, 0, images.shape[3], images.shape[2]))
        counted = inner.grown(reach // 2 * stride, seen)
        import torch

        from gmvqzip.models.distortion import Distortion

        transform, device = self.loaded()
        few = len(images) * seen.width * seen.height < _FEW_PIXELS  # which take less time than their weights' rounding
        fast = not few and fast_bfloat16(device)

        def make() -> Callable[[torch.Tensor], torch.Tensor]:
            with torch.no_grad():
                return transform.synthesiser(_position(quality, device), fast=fast)

        synthesise = self._once.get(f"synthesiser {quality} {fast}", make)
        return Scene(
            Distortion(images[(..., *counted.cells())], self.config.distortion),
            synthesise,
            around[(..., *seen.cells(stride))],
            inner.seen_from(seen).cells(stride),
            counted.seen_from(seen).cells(),
        )

    def _choose(
        self, latents: Floats, hypers: Floats, setting: Setting, memo: Memo, ratios: Floats | None = None
    ) -> tuple[list[Piece], NDArray[np.float64]]:
        """MAP codes of latents [B, H, W, M] and hyper-latents [B, h, w, Z], and the bits of each picture [B].

        Where no code comes near to a latent, an offset does: a colour may lie beyond the reach of the codebook.

        memo: of earlier choices for the same hyper-latents; ratios: of the distortion's curvature to what w stands for
        [B, H, W, M].
        """
        count, rows, columns, _ = hypers.shape
        precisions = [own / np.float32(setting.trade) for own in self._precisions()]
        bits = np.zeros(count)

        def visit(block: Block) -> NDArray[np.int32]:
            hyper = block.part < len(self.config.hyper)
            found = memo.choices.get(block.part)
            if found is None:
                target = block.cut_channels(hypers if hyper else latents)
                weights = precisions[block.part]
                if ratios is not None and not hyper:
                    own = block.cut_channels(ratios).mean(-1)
                    weights = own * weights.reshape(-1, *(1,) * (own.ndim - 1))
                found = choose(target, block, weights, self._candidates(block.part))
                if hyper:
                    memo.choices[block.part] = found
            chosen, cost = found
            bits[:] += cost.sum((0, 2, 3), dtype=np.float64)
            return chosen

        pieces = self._prior().pieces(count, rows, columns, setting.quality, visit, memo)
        least = np.sqrt(2 * _NAT * _OFFSET_BITS * np.float32(setting.trade) / self._channel_precisions()).clip(1)
        found = [piece.with_offsets(missed(own, piece, least)) for own, piece in zip(latents, pieces, strict=True)]
        return found, bits

    def _descent(self, chosen: list[Piece], scene: Scene) -> tuple[NDArray[np.float64], Floats]:
        """Distortion [B] of the pictures of codes, as a squared error, and its gradient at their decoded latents
        [B, H, W, M]."""
        import torch

        _, device = self.loaded()
        with torch.enable_grad(), full_precision(device):
            latent = _latent_tensor(np.stack([piece.latent for piece in chosen]), device).requires_grad_()
            errors = self._seen(latent, scene)
            (gradient,) = torch.autograd.grad(errors.sum(), latent)
        return errors.detach().cpu().double().numpy(), gradient.permute(0, 2, 3, 1).cpu().numpy()

    def _errors(self, chosen: list[Piece], scene: Scene) -> NDArray[np.float64]:
        """The distortion alone."""
        import torch

        _, device = self.loaded()
        with torch.no_grad(), full_precision(device):
            latent = _latent_tensor(np.stack([piece.latent for piece in chosen]), device)
            errors: NDArray[np.float64] = self._seen(latent, scene).cpu().double().numpy()
            return errors

    def _seen(self, latent: torch.Tensor, scene: Scene) -> torch.Tensor:
        """The distortion [B] of decoded latents [B, M, h, w] amid those around."""
        whole = latent
        if latent.shape != scene.around.shape:
            whole = scene.around.clone()
            whole[(..., *scene.inner)] = latent
        return scene.distortion(scene.synthesise(whole)[(..., *scene.counted)])

    def _channel_precisions(self) -> Floats:
        """w of the group of each channel [M] of the latent."""
        own = [
            np.repeat(precisions, part.dimensions).reshape(QUARTERS, -1)
            for precisions, part in zip(self._precisions()[len(self.config.hyper) :], self.config.quarter, strict=True)
        ]
        return np.concatenate(own, 1).reshape(-1)

    def synthesise(self, latent: NDArray[np.int32], quality: int) -> Floats:
        """Picture [3, H, W] of a decoded latent [h, w, M]."""
        if without_torch(self.device):
            return self._decoded(latent, quality)
        import torch

        transform, device = self.loaded()
        with plain_torch(self.device), torch.inference_mode(), full_precision(device):
            steps = _latent_tensor(latent[None], device).contiguous(memory_format=torch.channels_last)
            pictures = transform.synthesise(steps, _position(quality, device), fast=fast_bfloat16(device))
            picture: Floats = pictures[0].clamp(0, 1).cpu().numpy()
            return picture

    def _decoded(self, latent: NDArray[np.int32], quality: int) -> Floats:
        """The same by NumPy."""
        from gmvqzip.models.synthesis import load_hyperprior

        synthesis = self._once.get("synthesis", lambda: load_hyperprior(self.info, self.config))
        steps = latent.astype(np.float32) / np.float32(LATENT_UNIT)
        return np.moveaxis(synthesis(steps, (quality - 1) / (QUALITIES - 1)), 2, 0)

    def _precisions(self) -> list[Floats]:
        """w of the groups of each part."""
        from gmvqzip.models.hyperstore import load_precisions

        whole: Floats = self._once.get("precisions", lambda: load_precisions(self.info, self.config))
        return np.split(whole, np.cumsum([grid.stages for grid in self.config.grids])[:-1])

    def _candidates(self, part: int) -> Candidates | None:
        """The candidates of a part's codebook, if its groups share one that has them."""
        mixtures = self._prior().mixtures[part]
        if not mixtures.shared or mixtures.dimensions != 2:
            return None
        candidates: Candidates = self._once.get(f"candidates {part}", lambda: Candidates(mixtures))
        return candidates

    def loaded(self) -> tuple[Transform, torch.device]:
        """The transform, and where it is. Raises ModelError."""
        from gmvqzip.models.hyperstore import load_transform

        device = torch_device(self.device)

        def make() -> Transform:
            with plain_torch(self.device):  # the first use may be a decoder's; a search needs gradients later
                return load_transform(self.info, self.config, str(device))

        transform: Transform = self._once.get("transform", make)
        return transform, device


def _array(tensor: torch.Tensor) -> Floats:
    """[B, C, H, W] -> [B, H, W, C]."""
    array: Floats = tensor.permute(0, 2, 3, 1).float().cpu().numpy()
    return array


def _latent_tensor(coded: NDArray[np.int32], device: torch.device) -> torch.Tensor:
    """Decoded latents [B, H, W, M] as [B, M, H, W], in steps."""
    import torch

    return torch.from_numpy(coded).to(device).permute(0, 3, 1, 2).float().div_(LATENT_UNIT)


def _position(quality: int, device: torch.device) -> torch.Tensor:
    """The quality [1] in [0, 1] that the networks take."""
    import torch

    return torch.tensor([(quality - 1) / (QUALITIES - 1)], dtype=torch.float32, device=device)
