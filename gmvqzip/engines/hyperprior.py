"""The hyperprior model at work: four coding steps under integer contexts, qualities 1 to 100."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.engines.base import MAP, Once, Search, Stages, fast_bfloat16, full_precision, image_tensor, torch_device
from gmvqzip.engines.choice import Candidates, choose
from gmvqzip.entropy import runs
from gmvqzip.entropy.coder import StreamDecoder, StreamEncoder
from gmvqzip.entropy.codes import frozen
from gmvqzip.entropy.context import Block, ContextModel, Visitor
from gmvqzip.entropy.layers import QUALITIES
from gmvqzip.entropy.mixture import LATENT_UNIT
from gmvqzip.errors import FormatError, ModelError, whole_number
from gmvqzip.format.limits import MAX_CODES
from gmvqzip.format.tiles import Box
from gmvqzip.models.hyperconfig import QUARTERS, HyperpriorConfig
from gmvqzip.models.registry import ModelInfo

if TYPE_CHECKING:
    import torch

    from gmvqzip.models.transform import Transform

DEFAULT_QUALITY = 50
_KEPT_LATENT = 1 << 24  # numbers of a latent that a thread keeps: pictures of up to 22 megapixels at 192 channels
_PULL, _DESCENT = 0.1, 0.12  # of a round of refinement: towards the decoded latent, and down the gradient
_WINDOW_PIXELS, _WINDOW_SIDE = 1 << 20, 768  # larger pictures are synthesised in windows of this side
_NONE: NDArray[np.int32] = np.empty((0, 0, 0), dtype=np.int32)
Floats = NDArray[np.float32]


LatentSource = Callable[[slice, slice], NDArray[np.int32]]  # rows and columns to the decoded latent there [h, w, M]


@dataclass(frozen=True)
class Scene:
    """What refinement looks at: latents [B, M, h, w] with those of the pixels around, the rows and columns of them that
    are coded, the rows and columns of their pixels whose error counts, and these pixels of the pictures [B, 3, H, W].
    """

    images: torch.Tensor
    around: torch.Tensor
    inner: tuple[slice, slice]
    counted: tuple[slice, slice]


@dataclass(frozen=True)
class Coded:
    """Codes of B pictures and what they are coded under.

    arrays: read-only, of each part the indices of its groups [G, B, rows, columns]; blocks: those visited, in coding
    order, without their means; latent: what they decode to, in 1/32 of a step [B, H, W, M]; bits: of each picture [B],
    where known.
    """

    arrays: list[NDArray[np.int32]]
    blocks: list[Block]
    latent: NDArray[np.int32]
    bits: NDArray[np.float64]

    def picture(self, number: int) -> tuple[NDArray[np.int32], ...]:
        """Read-only index arrays [rows, columns] of a picture, group by group."""
        return tuple(group for array in self.arrays for group in frozen(array[:, number]))

    def coded(self, number: int) -> Iterator[tuple[Block, NDArray[Any], NDArray[np.int32]]]:
        """Block by block of a picture: the block, its pairs and its indices [G, h, w]."""
        for block in self.blocks:
            yield block, block.pairs[:, number], block.cut(self.arrays[block.part][:, number])


class HyperpriorEngine:
    """See `Engine`."""

    def __init__(self, info: ModelInfo, config: HyperpriorConfig, device: str) -> None:
        self.info, self.config, self.device = info, config, device
        self._once = Once()
        self._last = threading.local()  # the last codes that were chosen or unpacked, and their contexts

    def resolve_quality(self, quality: int | None) -> int:
        """The quality field, 1 to 100; DEFAULT_QUALITY where none is wanted."""
        quality = DEFAULT_QUALITY if quality is None else whole_number(quality, "quality", ModelError)
        if not 1 <= quality <= QUALITIES:
            raise ModelError(f"quality {quality} is out of range: give 1 to {QUALITIES}")
        return quality

    def check_quality(self, quality: int) -> None:
        """Raise ModelError unless the quality is one of 1 to 100."""
        if not 1 <= quality <= QUALITIES:
            raise ModelError(f"quality {quality}, but model {self.info.name} has qualities 1 to {QUALITIES}")

    def analyse(
        self, pixels: NDArray[np.uint8], quality: int, search: Search = MAP, inner: Box | None = None
    ) -> tuple[NDArray[np.int32], ...]:
        """Index arrays of pixels [H, W, 3]: at each site the code of the mixture's MAP rule (eq. 16 with the prior).

        With `search.rounds`, gradient descent on lambda * 255^2 * MSE + bits per pixel follows: each round moves the
        target of the choice against the gradient of the distortion at the decoded latent, and a little towards that
        latent, and takes the MAP codes again. The best codes of all rounds are kept.

        inner: the pixels to make codes of, where the others only stand around them; a multiple of the alignment on each
        side. Those others' latents are taken as the analysis gives them.
        """
        return self.analyse_batch(pixels[None], quality, search, inner)[0]

    def analyse_batch(
        self, pixels: NDArray[np.uint8], quality: int, search: Search = MAP, inner: Box | None = None
    ) -> list[tuple[NDArray[np.int32], ...]]:
        """Index arrays of each of several pictures [B, H, W, 3], as `analyse` gives them."""
        import torch

        transform, device = self._transform()
        position = _position(quality, device)
        images = image_tensor(pixels, device)
        with torch.inference_mode(), full_precision(device):
            around, hyper_around = transform.analyse(images, position)
        inner = inner or Box(0, 0, pixels.shape[2], pixels.shape[1])
        latent = _array(around[(..., *inner.cells(self.config.strides[-1]))])
        hyper = _array(hyper_around[(..., *inner.cells(self.config.alignment))])
        choice = self._choose(latent, hyper, quality, search.trade)
        if not search.rounds:
            return self._remembered([choice] * len(pixels), quality)
        scene = self._scene(images, around, inner)
        # Bits of one unit of squared error of the whole picture, which the MAP rule's w stands for.
        weight = self.config.lambda_of((quality - 1) / (QUALITIES - 1)) * 255**2 / (3 * search.trade)
        steps = self._steps(weight * search.trade) * np.float32(_DESCENT)
        best, costs = [choice] * len(pixels), np.full(len(pixels), np.inf)
        for turn in range(search.rounds + 1):
            errors, gradient = self._descent(choice.latent, scene, position)
            cost = weight * errors + choice.bits
            best = [choice if better else known for better, known in zip(cost < costs, best, strict=True)]
            costs = np.minimum(costs, cost)
            if turn < search.rounds:
                decoded = choice.latent.astype(np.float32) / LATENT_UNIT
                latent = latent + _PULL * (decoded - latent) - steps * gradient
                choice = self._choose(latent, hyper, quality, search.trade)
        return self._remembered(best, quality)

    def _scene(self, images: torch.Tensor, around: torch.Tensor, inner: Box) -> Scene:
        """What refinement of the codes of `inner` has to look at, of pictures and their latents [B, M, H, W]."""
        stride, reach = self.config.strides[-1], self.config.synthesis_reach
        seen = inner.grown(reach * stride, Box(0, 0, images.shape[3], images.shape[2]))
        counted = inner.grown(reach // 2 * stride, seen)
        return Scene(
            images[(..., *counted.cells())],
            around[(..., *seen.cells(stride))],
            inner.seen_from(seen).cells(stride),
            counted.seen_from(seen).cells(),
        )

    def _choose(self, latents: Floats, hypers: Floats, quality: int, trade: float) -> Coded:
        """MAP codes of latents [B, H, W, M] and hyper-latents [B, h, w, Z]."""
        count, rows, columns, _ = hypers.shape
        precisions = [own / np.float32(trade) for own in self._precisions()]
        bits = np.zeros(count)

        def visit(block: Block) -> NDArray[np.int32]:
            target = block.cut_channels(hypers if block.part < len(self.config.hyper) else latents)
            chosen, cost = choose(target, block, precisions[block.part], self._candidates(block.part))
            bits[:] += cost.sum((0, 2, 3), dtype=np.float64)
            return chosen

        return self._visited((count, rows, columns), quality, visit, bits)

    def _descent(
        self, coded: NDArray[np.int32], scene: Scene, position: torch.Tensor
    ) -> tuple[NDArray[np.float64], Floats]:
        """Squared error [B] of the pictures of decoded latents [B, H, W, M], and its gradient there."""
        import torch

        transform, device = self._transform()
        with torch.enable_grad(), full_precision(device):
            latent = _latent_tensor(coded, device).requires_grad_()
            whole = scene.around.clone()
            whole[(..., *scene.inner)] = latent
            pictures = transform.synthesise(whole, position, fast=fast_bfloat16(device))
            errors = (pictures[(..., *scene.counted)] - scene.images).square().sum((1, 2, 3))
            (gradient,) = torch.autograd.grad(errors.sum(), latent)
        return errors.detach().cpu().double().numpy(), gradient.permute(0, 2, 3, 1).cpu().numpy()

    def _steps(self, weight: float) -> Floats:
        """Step of each latent channel [M] for a gradient of the squared error: weight in nats over w of its group."""
        return np.float32(weight * math.log(2)) / self._channel_precisions()

    def _channel_precisions(self) -> Floats:
        """w of the group of each channel [M] of the latent."""
        own = [
            np.repeat(precisions, part.dimensions).reshape(QUARTERS, -1)
            for precisions, part in zip(self._precisions()[len(self.config.hyper) :], self.config.quarter, strict=True)
        ]
        return np.concatenate(own, 1).reshape(-1)

    def synthesise(self, stages: Stages, quality: int) -> torch.Tensor:
        """Picture [3, H, W] of index arrays."""
        return self._picture(self.latent(stages, quality), quality)

    def latent(self, stages: Stages, quality: int) -> NDArray[np.int32]:
        """The latent [H, W, M] that index arrays decode to, in 1/32 of a step."""
        coded, number = self._coded(stages, quality)
        latent: NDArray[np.int32] = coded.latent[number]
        return latent

    def paint(self, stages: Stages, quality: int, region: Box) -> Iterator[tuple[Box, torch.Tensor]]:
        """The pixels [3, h, w] of a region, window by window, each with its place."""
        latent = self.latent(stages, quality)
        return self.paint_latent(lambda rows, columns: latent[rows, columns], latent.shape[:2], quality, region)

    def paint_latent(
        self, cut: LatentSource, grid: tuple[int, ...], quality: int, region: Box
    ) -> Iterator[tuple[Box, torch.Tensor]]:
        """The same of windows of a decoded latent, whose rows and columns are `grid`.

        cut: the latent in rows and columns, of which the first never comes above those of the window before.
        """
        stride, reach = self.config.strides[-1], self.config.synthesis_reach
        whole = Box(0, 0, grid[1] * stride, grid[0] * stride)
        for window in windows(region):
            rows, columns = window.grown(reach * stride, whole).cells(stride)
            seen = Box(columns.start * stride, rows.start * stride, columns.stop * stride, rows.stop * stride)
            yield window, self._picture(cut(rows, columns), quality)[(..., *window.seen_from(seen).cells())]

    def _picture(self, coded: NDArray[np.int32], quality: int) -> torch.Tensor:
        """Picture [3, H, W] of a decoded latent [h, w, M]."""
        import torch

        transform, device = self._transform()
        with torch.inference_mode(), full_precision(device):
            latent = _latent_tensor(coded[None], device).contiguous(memory_format=torch.channels_last)
            picture = transform.synthesise(latent, _position(quality, device), fast=fast_bfloat16(device))
            return picture[0].clamp(0, 1)

    def pack(self, stages: Stages, quality: int) -> bytes:
        """Payload: block after block, in coding order, under the tables of its contexts."""
        stream = StreamEncoder()
        coded, number = self._coded(stages, quality)
        for block, pairs, indices in coded.coded(number):
            runs.put(stream, block.mixtures, pairs, indices)
        return stream.finish()

    def unpack(self, payload: bytes, size: tuple[int, int], quality: int) -> tuple[NDArray[np.int32], ...]:
        """Index arrays in a payload."""
        shapes = self.config.stage_shapes(*size)
        total = sum(rows * columns for rows, columns in shapes)
        if total > MAX_CODES:
            raise FormatError(f"{total} codes are more than the limit of {MAX_CODES}")
        stream = StreamDecoder(payload)
        coded = self._visited(
            (1, *shapes[0]), quality, lambda block: runs.take(stream, block.mixtures, block.pairs), np.zeros(1)
        )
        stream.finish()
        return self._remembered([coded], quality)[0]

    def site_bits(self, stages: Stages, quality: int) -> tuple[NDArray[np.float32], ...]:
        """Ideal code length of each code, in bits, in arrays as the index arrays."""
        coded, number = self._coded(stages, quality)
        bits = [np.zeros(array[:, number].shape, dtype=np.float32) for array in coded.arrays]
        for block, pairs, indices in coded.coded(number):
            block.put(bits[block.part], runs.index_bits(block.mixtures, pairs, indices))
        return tuple(group for part in bits for group in part)

    def stage_bits(self, stages: Stages, quality: int) -> tuple[float, ...]:
        """Ideal code length of each group, in bits: the sums of `site_bits`, but for rounding."""
        coded, number = self._coded(stages, quality)
        bits = [np.zeros(len(array)) for array in coded.arrays]
        for block, pairs, indices in coded.coded(number):
            bits[block.part] += runs.index_bits(block.mixtures, pairs, indices).sum((1, 2), dtype=np.float64)
        return tuple(np.concatenate(bits).tolist())

    def _coded(self, stages: Stages, quality: int) -> tuple[Coded, int]:
        """Known codes under their contexts, and the picture's number there; the thread's last ones where they fit."""
        for coded, number, known_quality, known in getattr(self._last, "kept", ()):
            if known_quality == quality and len(known) == len(stages) and all(map(np.array_equal, known, stages)):
                return coded, number
        rest = iter(stages)
        arrays = [np.stack([next(rest) for _ in range(grid.stages)])[:, None] for grid in self.config.grids]
        for mixtures, array in zip(self.context().mixtures, arrays, strict=True):
            mixtures.check(array)
        size = arrays[0].shape[1:]
        return self._visited(size, quality, lambda block: block.cut(arrays[block.part]), np.zeros(1)), 0

    def _visited(self, size: tuple[int, ...], quality: int, visit: Visitor, bits: NDArray[np.float64]) -> Coded:
        """What a visitor gives. size: pictures, rows and columns of the hyper-latent."""
        count, rows, columns = size
        blocks: list[Block] = []
        arrays = []
        for grid in self.config.grids:
            factor = self.config.alignment // grid.stride
            arrays.append(np.zeros((grid.stages, count, rows * factor, columns * factor), dtype=np.int32))

        def note(block: Block) -> NDArray[Any]:
            blocks.append(replace(block, means=_NONE))
            indices = visit(block)
            block.put(arrays[block.part], indices)
            return indices

        latent = self.context().walk(rows, columns, quality, note, lead=(count,))
        for array in arrays:
            array.flags.writeable = False
        return Coded(arrays, blocks, latent, bits)

    def _remembered(self, coded: Sequence[Coded], quality: int) -> list[tuple[NDArray[np.int32], ...]]:
        """Read-only index arrays of each picture of a batch, given by what holds its codes.

        This thread keeps their contexts until the next ones, unless they are large.
        """
        found = [own.picture(number) for number, own in enumerate(coded)]
        small = sum(own.latent.size for own in {id(own): own for own in coded}.values()) <= _KEPT_LATENT
        kept = [(own, number, quality, stages) for number, (own, stages) in enumerate(zip(coded, found, strict=True))]
        self._last.kept = kept if small else []
        return found

    def context(self) -> ContextModel:
        """The integer context model. Raises ModelError."""
        from gmvqzip.models.hyperstore import load_context

        context: ContextModel = self._once.get("context", lambda: load_context(self.info, self.config))
        return context

    def _precisions(self) -> list[Floats]:
        """w of the groups of each part."""
        from gmvqzip.models.hyperstore import load_precisions

        whole: Floats = self._once.get("precisions", lambda: load_precisions(self.info, self.config))
        return np.split(whole, np.cumsum([grid.stages for grid in self.config.grids])[:-1])

    def _candidates(self, part: int) -> Candidates | None:
        """The candidates of a part's codebook, if its groups share one that has them."""
        mixtures = self.context().mixtures[part]
        if not mixtures.shared or mixtures.dimensions != 2:
            return None
        candidates: Candidates = self._once.get(f"candidates {part}", lambda: Candidates(mixtures))
        return candidates

    def _transform(self) -> tuple[Transform, torch.device]:
        import torch

        from gmvqzip.models.hyperstore import load_transform

        device = torch_device(self.device)

        def make() -> Transform:
            with torch.inference_mode(False):  # the first use may be a decoder's; a search needs gradients later
                return load_transform(self.info, self.config, str(device))

        transform: Transform = self._once.get("transform", make)
        return transform, device


def windows(region: Box) -> Iterator[Box]:
    """Boxes that cover a region in raster order: itself, or squares of _WINDOW_SIDE where it is large."""
    if region.width * region.height <= _WINDOW_PIXELS:
        yield region
        return
    for top in range(region.top, region.bottom, _WINDOW_SIDE):
        for left in range(region.left, region.right, _WINDOW_SIDE):
            yield Box(left, top, min(left + _WINDOW_SIDE, region.right), min(top + _WINDOW_SIDE, region.bottom))


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

    return torch.tensor([(quality - 1) / (QUALITIES - 1)], device=device)
