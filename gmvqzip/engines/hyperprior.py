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
from gmvqzip.entropy import runs
from gmvqzip.entropy.coder import StreamDecoder, StreamEncoder
from gmvqzip.entropy.context import LATENT_UNIT, ContextModel, Site, Visitor
from gmvqzip.entropy.layers import QUALITIES
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
class Walk:
    """What codes of B pictures are coded under, in coding order, and the latents [B, H, W, M] that they decode to, in
    1/32 of a step."""

    sites: list[Site]
    latent: NDArray[np.int32]


@dataclass(frozen=True)
class Choice:
    """Codes of B pictures: index arrays [B, rows, columns], their walk, and the bits of each picture [B]."""

    stages: list[NDArray[np.int32]]
    walk: Walk
    bits: NDArray[np.float64]


class HyperpriorEngine:
    """See `Engine`."""

    def __init__(self, info: ModelInfo, config: HyperpriorConfig, device: str) -> None:
        self.info, self.config, self.device = info, config, device
        self._once = Once()
        self._last = threading.local()  # the last codes that were chosen or unpacked, and their walk

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
            errors, gradient = self._descent(choice.walk.latent, scene, position)
            cost = weight * errors + choice.bits
            best = [choice if better else known for better, known in zip(cost < costs, best, strict=True)]
            costs = np.minimum(costs, cost)
            if turn < search.rounds:
                decoded = choice.walk.latent.astype(np.float32) / LATENT_UNIT
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

    def _choose(self, latents: Floats, hypers: Floats, quality: int, trade: float) -> Choice:
        """MAP codes of latents [B, H, W, M] and hyper-latents [B, h, w, Z]."""
        count, rows, columns, _ = hypers.shape
        stages = self._empty(columns * self.config.alignment, rows * self.config.alignment, count)
        precisions = self._precisions() / np.float32(trade)
        bits = np.zeros(count)

        def visit(site: Site) -> NDArray[Any]:
            target = hypers[..., site.channels] if site.hyper else latents[(..., *site.window, site.channels)]
            chosen, cost = choose(target, site, precisions[site.stage])
            bits[:] += cost.reshape(count, -1).sum(1)
            stages[site.stage][(..., *site.window)] = chosen
            return chosen

        return Choice(stages, self._visited(stages, quality, visit), bits)

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
        precisions = self._precisions()
        out = np.empty(self.config.latents, dtype=np.float32)
        stage = sum(part.count for part in self.config.hyper)
        first = 0
        for part in self.config.quarter:
            for quarter in range(QUARTERS):
                own = np.repeat(precisions[stage : stage + part.count], part.dimensions)
                start = quarter * self.config.latents // QUARTERS + first
                out[start : start + len(own)] = own
                stage += part.count
            first += part.count * part.dimensions
        return out

    def synthesise(self, stages: Stages, quality: int) -> torch.Tensor:
        """Picture [3, H, W] of index arrays."""
        return self._picture(self.latent(stages, quality), quality)

    def latent(self, stages: Stages, quality: int) -> NDArray[np.int32]:
        """The latent [H, W, M] that index arrays decode to, in 1/32 of a step."""
        walk, number = self._walk(stages, quality)
        latent: NDArray[np.int32] = walk.latent[number]
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
        """Payload: group after group, in coding order, under the tables of its contexts."""
        stream = StreamEncoder()
        runs.put(stream, *self._row(stages, quality)[1:])
        return stream.finish()

    def unpack(self, payload: bytes, size: tuple[int, int], quality: int) -> tuple[NDArray[np.int32], ...]:
        """Index arrays in a payload."""
        total = sum(rows * columns for rows, columns in self.config.stage_shapes(*size))
        if total > MAX_CODES:
            raise FormatError(f"{total} codes are more than the limit of {MAX_CODES}")
        stages = self._empty(*size, 1)
        stream = StreamDecoder(payload)

        def visit(site: Site) -> NDArray[Any]:
            codes = runs.take(stream, site)
            stages[site.stage][(..., *site.window)] = codes
            return codes

        walk = self._visited(stages, quality, visit)
        stream.finish()
        return self._remembered([Choice(stages, walk, np.zeros(1))], quality)[0]

    def site_bits(self, stages: Stages, quality: int) -> tuple[NDArray[np.float32], ...]:
        """Ideal code length of each code, in bits, in arrays as the index arrays."""
        bits = tuple(np.zeros(stage.shape, dtype=np.float32) for stage in stages)
        sites, order, codes = self._row(stages, quality)
        row, start = runs.code_bits(order, codes), 0
        for site in sites:
            own = bits[site.stage][site.window]
            own[:] = row[start : start + own.size].reshape(own.shape)
            start += own.size
        return bits

    def stage_bits(self, stages: Stages, quality: int) -> tuple[float, ...]:
        """Ideal code length of each group, in bits: the sums of `site_bits`, but for rounding."""
        sites, order, codes = self._row(stages, quality)
        owners = np.repeat([site.stage for site in sites], [stages[site.stage][site.window].size for site in sites])
        return tuple(np.bincount(owners, runs.code_bits(order, codes), len(stages)).tolist())

    def _row(self, stages: Stages, quality: int) -> tuple[list[Site], runs.Order, NDArray[np.int32]]:
        """The sites of known codes, the codes in a row, site after site, and the order in which they are sent."""
        walk, number = self._walk(stages, quality)
        codes = np.concatenate([stages[site.stage][site.window].reshape(-1) for site in walk.sites])
        return walk.sites, runs.order(walk.sites, [site.pairs[number] for site in walk.sites]), codes

    def _walk(self, stages: Stages, quality: int) -> tuple[Walk, int]:
        """A walk over codes that are known, and the picture's number in it; the thread's last one where it fits."""
        for walk, number, known_quality, known in getattr(self._last, "kept", ()):
            if known_quality == quality and len(known) == len(stages) and all(map(np.array_equal, known, stages)):
                return walk, number
        batch = [stage[None] for stage in stages]
        return self._visited(batch, quality, lambda site: batch[site.stage][(..., *site.window)]), 0

    def _visited(self, stages: Stages, quality: int, visit: Visitor) -> Walk:
        """A walk over grids such as those of `stages` [B, ...]. What it visited is kept without the means."""
        sites: list[Site] = []

        def note(site: Site) -> NDArray[Any]:
            sites.append(replace(site, mean=_NONE))
            return visit(site)

        count, rows, columns = stages[0].shape
        return Walk(sites, self.context().walk(rows, columns, quality, note, lead=(count,)))

    def _remembered(self, choices: Sequence[Choice], quality: int) -> list[tuple[NDArray[np.int32], ...]]:
        """Read-only index arrays of each picture of a batch, of its choice of them.

        This thread keeps their walks until the next ones, unless they are large.
        """
        found, kept = [], []
        for number, choice in enumerate(choices):
            stages = tuple(np.ascontiguousarray(stage[number]) for stage in choice.stages)
            for stage in stages:
                stage.flags.writeable = False
            found.append(stages)
            kept.append((choice.walk, number, quality, stages))
        small = sum(walk.latent.size for walk in {id(c.walk): c.walk for c in choices}.values()) <= _KEPT_LATENT
        self._last.kept = kept if small else []
        return found

    def context(self) -> ContextModel:
        """The integer context model. Raises ModelError."""
        from gmvqzip.models.hyperstore import load_context

        context: ContextModel = self._once.get("context", lambda: load_context(self.info, self.config))
        return context

    def _empty(self, width: int, height: int, count: int) -> list[NDArray[np.int32]]:
        return [np.zeros((count, *shape), dtype=np.int32) for shape in self.config.stage_shapes(width, height)]

    def _precisions(self) -> Floats:
        from gmvqzip.models.hyperstore import load_precisions

        precisions: Floats = self._once.get("precisions", lambda: load_precisions(self.info, self.config))
        return precisions

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


def choose(target: Floats, site: Site, weight: float) -> tuple[NDArray[np.int64], Floats]:
    """The MAP codes [..., h, w] of a site, and the bits of each: argmin of w/2 ||r - mu_c||^2 - ln p(c | context).

    r is what the mean leaves of the target.

    target: [..., h, w, L] in units of the quantiser's step; weight: w.
    """
    residual = (target - site.mean.astype(np.float32) / LATENT_UNIT).reshape(-1, target.shape[-1])
    words = site.mixtures.codebook[site.group].astype(np.float32) / LATENT_UNIT
    bits = runs.bits(site)
    score = bits * np.float32(math.log(2))
    score += (np.float32(weight) / 2) * (words * words).sum(1)
    score -= residual @ (np.float32(weight) * words).T
    chosen = score.argmin(1)
    cost: Floats = np.take_along_axis(bits, chosen[:, None], 1)
    return chosen.reshape(site.pairs.shape), cost.reshape(site.pairs.shape)


def _position(quality: int, device: torch.device) -> torch.Tensor:
    """The quality [1] in [0, 1] that the networks take."""
    import torch

    return torch.tensor([(quality - 1) / (QUALITIES - 1)], device=device)
