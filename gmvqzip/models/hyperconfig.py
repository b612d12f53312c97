"""Configuration of a hyperprior model: a plain dataclass, stored in the model file, readable without torch or numpy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, ClassVar, TypeVar

from gmvqzip.errors import ModelError
from gmvqzip.format.limits import MAX_QUALITY
from gmvqzip.models import layers
from gmvqzip.models.config import (
    MAX_BLOCKS,
    MAX_CHANNELS,
    MAX_CODES,
    MAX_DIMENSIONS,
    GridConfig,
    grid_shapes,
    read_fields,
)
from gmvqzip.models.layers import Layer

KIND = "hyperprior"
VERSION = 1
QUARTERS = 4  # the latent's channels fall into four quarters, each coded at another phase of 2x2 sites in each step
MAX_GROUPS = 1024
HYPER_WIDTH = 96  # channels between the features and the hyper-latent
DISTORTIONS = ("rgb", "eye")  # the squared error, and that of eyes: see `gmvqzip.models.distortion`
# Fields that came later, and what they are where they are not used.
_LATER = {"edge_kernel": 3, "distortion": DISTORTIONS[0], "distortions": 1, "shared": False}
SHARED_CODES = (100, 4096)  # fewest and most codes of a shared codebook
MAX_POINT_BITS = 16  # extra bits of a shared code
Number = TypeVar("Number", float, Any)


@dataclass(frozen=True)
class GroupsConfig:
    """`count` groups of `dimensions` channels, each with its own codebook of `codes` entries, or all with the same."""

    count: int
    codes: int = 256  # K
    dimensions: int = 2  # L, even
    shared: bool = False  # one codebook for all groups of the part, those of all quarters


@dataclass(frozen=True)
class HyperpriorConfig:
    """The network, its codebooks, and the range of lambda that its qualities span."""

    strides: tuple[int, ...] = (4, 8, 16)  # feature levels; the first is the pixel-shuffle factor, each doubles
    channels: tuple[int, ...] = (64, 128, 192)  # feature channels at each level
    encoder_blocks: tuple[int, ...] = (2, 3, 3)  # residual blocks at each level of the encoder
    decoder_blocks: tuple[int, ...] = (2, 3, 2)  # residual blocks at each level of the decoder
    quarter: tuple[GroupsConfig, ...] = (GroupsConfig(12),)  # groups of each quarter of the latent's channels
    hyper: tuple[GroupsConfig, ...] = (GroupsConfig(6, 256, 4),)  # groups of the hyper-latent
    context_width: int = 128  # channels of the context networks
    lambda_first: float = 0.0008  # lambda of the lowest quality: loss = lambda * 255^2 * MSE + bits per pixel
    lambda_last: float = 0.045  # lambda of the highest quality; between them it grows geometrically
    linear: bool = False  # a linear way beside the network, in both directions
    edge_kernel: int = 3  # side of the kernels of the first and of the last layer: 1 or 3
    distortion: str = DISTORTIONS[0]  # what training and the encoder's search make small
    distortions: int = 1  # how many distortions the qualities exist for, as in training; a file has one
    kind: str = KIND
    version: int = VERSION
    searched: ClassVar[int] = 1  # products of a site with each number of a codebook
    qualities: ClassVar[range] = range(1, MAX_QUALITY + 1)  # that give different files

    def __post_init__(self) -> None:
        rows = (self.strides, self.channels, self.encoder_blocks, self.decoder_blocks, (self.context_width,))
        groups = [(g.count, g.codes, g.dimensions) for g in (*self.quarter, *self.hyper)]
        if self.kind != KIND or any(type(number) is not int for row in (*rows, *groups) for number in row):
            raise ModelError("model configuration: strides, channels, blocks and groups must be whole numbers")
        levels = len(self.strides)
        if not levels or any(len(row) != levels for row in rows[1:4]):
            raise ModelError("model configuration: strides, channels and blocks must have the same, non-zero length")
        if any(b != 2 * a for a, b in zip(self.strides, self.strides[1:], strict=False)) or self.strides[0] not in (
            1, 2, 4, 8,
        ) or self.strides[-1] > 64:  # fmt: skip
            raise ModelError("model configuration: strides must double from level to level, from at most 8 to 64")
        if any(not 1 <= width <= MAX_CHANNELS for width in (*self.channels, self.context_width)):
            raise ModelError(f"model configuration: channels must be from 1 to {MAX_CHANNELS}")
        if any(not 0 <= count <= MAX_BLOCKS for count in (*self.encoder_blocks, *self.decoder_blocks)):
            raise ModelError(f"model configuration: blocks must be from 0 to {MAX_BLOCKS}")
        for count, codes, dimensions in groups:
            if count < 1 or not 2 <= codes <= MAX_CODES or not 2 <= dimensions <= MAX_DIMENSIONS or dimensions % 2:
                raise ModelError("model configuration: groups need codes and an even number of dimensions")
        if any(not isinstance(g.shared, bool) for g in (*self.quarter, *self.hyper)):
            raise ModelError("model configuration: shared must be true or false")
        for g in (*self.quarter, *self.hyper):
            few, many = SHARED_CODES
            if g.shared and (g.dimensions != 2 or g.codes % 3 != 1 or not few <= g.codes <= many):
                raise ModelError(
                    f"model configuration: shared groups have 2 dimensions and 1 + 3n codes, {few} to {many}"
                )
        if not self.quarter or not self.hyper or sum(grid.stages for grid in self.grids) > MAX_GROUPS:
            raise ModelError(f"model configuration: latent and hyper-latent need 1 to {MAX_GROUPS} groups together")
        if max(self.latents, self.hyper_latents) > MAX_CHANNELS:
            raise ModelError(f"model configuration: more than {MAX_CHANNELS} channels in the latent or hyper-latent")
        if self.edge_kernel not in (1, 3) or self.distortions not in (1, 2):
            raise ModelError("model configuration: edge_kernel must be 1 or 3, and distortions 1 or 2")
        if self.distortion not in DISTORTIONS:
            raise ModelError(f"model configuration: distortion must be one of {', '.join(DISTORTIONS)}")
        if not isinstance(self.linear, bool):
            raise ModelError("model configuration: linear must be true or false")
        if not 0 < self.lambda_first < self.lambda_last < 1e6:
            raise ModelError("model configuration: lambda must be positive and grow with the quality")

    @property
    def latents(self) -> int:
        """Channels of the latent."""
        return QUARTERS * sum(g.count * g.dimensions for g in self.quarter)

    @property
    def hyper_latents(self) -> int:
        """Channels of the hyper-latent."""
        return sum(g.count * g.dimensions for g in self.hyper)

    @property
    def alignment(self) -> int:
        """Pixels to which an image is padded along each axis: the stride of the hyper-latent."""
        return 2 * self.strides[-1]

    @property
    def spread(self) -> int:
        """Patches of the first stride along the side of a latent's cell."""
        return self.strides[-1] // self.strides[0]

    def layers(self) -> Iterator[Layer]:
        """The convolutions of `transform.Transform`, and of the context model."""
        yield from self._analysis_layers()
        yield from self._synthesis_layers()
        yield from self._context_layers()

    def _analysis_layers(self) -> Iterator[Layer]:
        """g_a and h_a of the literature."""
        top, stride = self.channels[-1], self.strides[-1]
        blocks = self.encoder_blocks
        yield from layers.encoder("analysis.encoder", self.strides, self.channels, blocks, self.edge_kernel)
        yield Layer("analysis.latent", top, self.latents, 1, stride, encodes=True)
        if self.linear:
            yield Layer("analysis.linear", 3 * stride**2, self.latents, 1, stride, encodes=True)
        yield Layer("analysis.hyper_down", top, HYPER_WIDTH, 4, 2 * stride, encodes=True, source=stride)
        yield Layer("analysis.hyper", HYPER_WIDTH, self.hyper_latents, 1, 2 * stride, encodes=True)

    def _synthesis_layers(self) -> Iterator[Layer]:
        """g_s of the literature."""
        stride, patch, patch_channels = self.strides[-1], self.strides[0], 3 * self.strides[0] ** 2
        yield Layer("synthesis.project", self.latents, self.channels[-1], 1, stride, decodes=True)
        for level, (site, width, count) in enumerate(
            zip(self.strides, self.channels, self.decoder_blocks, strict=True)
        ):
            yield from layers.blocks(f"synthesis.levels.{level}", width, site, count, decodes=True)
            if level:
                outputs = 4 * self.channels[level - 1]
                yield Layer(f"synthesis.up.{level - 1}", width, outputs, 1, site, decodes=True, shuffle=2)
        if self.linear:
            outputs = patch_channels * self.spread**2
            yield Layer("synthesis.linear", self.latents, outputs, 1, stride, decodes=True, shuffle=self.spread)
            yield Layer("synthesis.join", patch_channels, self.channels[0], 1, patch, decodes=True)
        inputs = self.channels[0] + (patch_channels if self.linear else 0)
        yield Layer("synthesis.final", inputs, patch_channels, self.edge_kernel, patch, decodes=True, shuffle=patch)

    def _context_layers(self) -> Iterator[Layer]:
        """In its integer form: h_s of the literature, and those of each step."""
        stride, width = self.strides[-1], self.context_width
        both = partial(Layer, encodes=True, decodes=True)
        yield both("context.hyper.spread", self.hyper_latents, width, 3, 2 * stride)
        yield both("context.hyper.up", width, 4 * width, 1, 2 * stride, shuffle=2)
        yield both("context.hyper.smooth", width, width, 3, stride)
        classes = 2 * QUARTERS * sum(part.count for part in self.quarter)
        for step in range(QUARTERS):  # which looks only at what is coded, and predicts only what it codes
            inputs = width + (self.latents if step else 0)
            seen = (width + step * self.latents / QUARTERS) / inputs
            yield both(f"context.step.{step}.spatial", inputs, width, 3, stride, used=seen)
            yield both(f"context.step.{step}.mix", width, width, 1, stride)
            yield both(f"context.step.{step}.head", width, self.latents + classes, 1, stride, used=1 / QUARTERS)

    @property
    def analysis_reach(self) -> int:
        """Pixels around a block of latent or hyper-latent cells beyond which nothing changes them."""
        return sum(layer.reach for layer in self._analysis_layers())  # one behind the other, but `linear` has none

    @property
    def synthesis_reach(self) -> int:
        """Cells of the latent around a block of pixels beyond which nothing changes these."""
        return -(-sum(layer.reach for layer in self._synthesis_layers()) // self.strides[-1])

    def lambda_of(self, quality: Number) -> Number:
        """lambda of a quality in [0, 1], a number or an array of them; it grows geometrically."""
        ratio = self.lambda_last / self.lambda_first
        value: Number = self.lambda_first * ratio**quality
        return value

    @property
    def grids(self) -> tuple[GridConfig, ...]:
        """One entry per part, `stages` its groups: the hyper-latent's parts first, then the latent's."""
        stride = self.strides[-1]
        hyper = tuple(GridConfig(2 * stride, part.count, part.codes, part.dimensions) for part in self.hyper)
        return hyper + tuple(GridConfig(stride, QUARTERS * p.count, p.codes, p.dimensions) for p in self.quarter)

    def parts(self) -> list[tuple[str, int]]:
        """What each entry of `grids` is called, and how many stages belong to it."""
        titles = [f"hyper {number}" if number else "hyper" for number in range(len(self.hyper))]
        titles += [f"part {number}" for number in range(len(self.quarter))]
        return [(title, grid.stages) for title, grid in zip(titles, self.grids, strict=True)]

    def stages(self) -> list[GridConfig]:
        """One entry per group: the hyper-latent's first, then part by part the latent's, quarter by quarter."""
        return [one for grid in self.grids for one in [replace(grid, stages=1)] * grid.stages]

    def index_ends(self) -> list[int]:
        """The number of indices that each group may have; of shared codes, as far as a configuration can tell."""
        parts = [*self.hyper, *self.quarter]
        ends = [part.codes << MAX_POINT_BITS if part.shared else part.codes for part in parts]
        return [end for end, grid in zip(ends, self.grids, strict=True) for _ in range(grid.stages)]

    def stage_shapes(self, width: int, height: int) -> list[tuple[int, int]]:
        """Rows and columns of each group's index array for an image of `width` x `height` pixels."""
        return grid_shapes(self.stages(), self.alignment, width, height)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `from_dict` reads it back. Fields that came later are in it where they are used, so
        that an older model keeps its identity."""
        values = _used(asdict(self))
        return values | {part: tuple(map(_used, values[part])) for part in ("quarter", "hyper")}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HyperpriorConfig:
        """Read what `to_dict` wrote. Raises ModelError for a newer version or for unknown or missing fields."""
        values = read_fields(data, cls, VERSION)
        try:
            for key in {"quarter", "hyper"} & data.keys():
                values[key] = tuple(GroupsConfig(**group) for group in data[key])
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise ModelError(f"model configuration is incomplete or malformed: {error}") from None


def _used(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in _LATER or value != _LATER[key]}
