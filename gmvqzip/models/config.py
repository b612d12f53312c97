"""Configuration of a model: plain dataclasses, stored in the model file, readable without torch or numpy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from gmvqzip.errors import ModelError
from gmvqzip.models import layers
from gmvqzip.models.layers import Layer

STAGED = "staged"  # the kind of model
CONFIG_VERSION = 1
MAX_CODES = 65536  # entries of a codebook
MAX_STAGES = 64
MAX_STRIDE = 256
MAX_CHANNELS = 4096
MAX_DIMENSIONS = 4096
MAX_BLOCKS = 256  # residual blocks at one place


@dataclass(frozen=True)
class GridConfig:
    """One grid of code indices: `stages` residual stages, each with its own codebook."""

    stride: int  # pixels per grid cell along each axis, a power of two
    stages: int = 1  # residual stages on this grid
    codes: int = 1024  # K, codebook entries per stage
    dimensions: int = 64  # L, latent dimensions per stage


@dataclass(frozen=True)
class NetworkConfig:
    """The convolutional autoencoder. Levels run from fine to coarse; the grids must be among the levels' strides."""

    strides: tuple[int, ...]  # feature levels, ascending powers of two; the first is the pixel-shuffle factor
    channels: tuple[int, ...]  # feature channels at each level
    encoder_blocks: tuple[int, ...]  # residual blocks at each level of the encoder
    decoder_blocks: tuple[int, ...]  # residual blocks at each level of the decoder
    grids: tuple[GridConfig, ...]  # code grids, coarse to fine
    stage_blocks: int = 1  # residual blocks that refine the decoder's state after each stage
    weight_per_dimension: bool = True  # w(x) of eq. (15): one weight per latent dimension, or one per site
    version: int = CONFIG_VERSION
    kind: ClassVar[str] = STAGED
    searched: ClassVar[int] = 2  # products of a site with each number of a codebook: of z_hat, and of its square
    qualities: ClassVar[range] = range(0)  # that give different files: there is a single rate
    hyper: ClassVar[tuple[()]] = ()  # groups, as a hyperprior model has them
    quarter: ClassVar[tuple[()]] = ()
    latents: ClassVar[int] = 0  # channels of a latent that offsets may go to
    analysis_reach: ClassVar[None] = None
    synthesis_reach: ClassVar[None] = None  # both unknown: pictures are coded as a whole, and not tiled

    def __post_init__(self) -> None:
        self._check_types()
        levels = len(self.strides)
        if not levels or any(len(part) != levels for part in (self.channels, self.encoder_blocks, self.decoder_blocks)):
            raise ModelError("model configuration: strides, channels and blocks must have the same, non-zero length")
        if list(self.strides) != sorted(set(self.strides)) or any(not _power_of_two(s) for s in self.strides):
            raise ModelError("model configuration: strides must be ascending powers of two")
        if self.strides[-1] > MAX_STRIDE:
            raise ModelError(f"model configuration: strides above {MAX_STRIDE} are not supported")
        if any(not 1 <= width <= MAX_CHANNELS for width in self.channels):
            raise ModelError(f"model configuration: channels must be from 1 to {MAX_CHANNELS}")
        if any(not 0 <= n <= MAX_BLOCKS for n in (*self.encoder_blocks, *self.decoder_blocks, self.stage_blocks)):
            raise ModelError(f"model configuration: blocks must be from 0 to {MAX_BLOCKS}")
        wanted = [grid.stride for grid in self.grids]
        if not wanted or wanted != sorted(set(wanted), reverse=True) or not set(wanted) <= set(self.strides):
            raise ModelError("model configuration: grids must run from coarse to fine over existing strides")
        if any(not 2 <= g.codes <= MAX_CODES or g.stages < 1 for g in self.grids):
            raise ModelError(f"model configuration: each grid needs 1 or more stages and 2 to {MAX_CODES} codes")
        if any(not 1 <= g.dimensions <= MAX_DIMENSIONS for g in self.grids):
            raise ModelError(f"model configuration: each grid needs 1 to {MAX_DIMENSIONS} dimensions")
        if sum(grid.stages for grid in self.grids) > MAX_STAGES:
            raise ModelError(f"model configuration: more than {MAX_STAGES} stages")

    def _check_types(self) -> None:
        rows = (self.strides, self.channels, self.encoder_blocks, self.decoder_blocks, (self.stage_blocks,))
        grids = [(g.stride, g.stages, g.codes, g.dimensions) for g in self.grids]
        if any(type(number) is not int for row in (*rows, *grids) for number in row):
            raise ModelError("model configuration: strides, channels, blocks and grids must be whole numbers")
        if not isinstance(self.weight_per_dimension, bool):
            raise ModelError("model configuration: weight_per_dimension must be true or false")

    @property
    def alignment(self) -> int:
        """Pixels to which an image is padded along each axis: the coarsest stride."""
        return self.strides[-1]

    def stages(self) -> list[GridConfig]:
        """One entry per stage, in coding order (coarse to fine)."""
        return [grid for grid in self.grids for _ in range(grid.stages)]

    @property
    def stage_counts(self) -> tuple[int, ...]:
        """Stages at each level of the decoder, fine to coarse; the last is that of the coarsest grid."""
        stages = {grid.stride: grid.stages for grid in self.grids}
        return tuple(stages.get(stride, 0) for stride in self.strides if stride <= self.grids[0].stride)

    def layers(self) -> Iterator[Layer]:
        """The convolutions of `network.StagedAutoencoder`, in the order in which they run."""
        yield from layers.encoder("encoder", self.strides, self.channels, self.encoder_blocks, 3)
        counts, left, encodes = self.stage_counts, len(self.stages()), True
        grids = {grid.stride: grid for grid in self.grids}
        for level in reversed(range(len(counts))):
            width, stride = self.channels[level], self.strides[level]
            for number in range(counts[level]):
                name, dimensions = f"stages.{level}.{number}", grids[stride].dimensions
                weights = dimensions if self.weight_per_dimension else 1
                yield Layer(f"{name}.mix", 2 * width, width, 1, stride, encodes=True)
                yield Layer(f"{name}.head", width, dimensions + weights, 1, stride, encodes=True)
                left -= 1
                encodes = left > 0  # the encoder follows the decoder's state as far as the last proposal
                yield Layer(f"{name}.project", dimensions, width, 1, stride, encodes, decodes=True)
                yield from layers.blocks(
                    f"{name}.refine", width, stride, self.stage_blocks, encodes=encodes, decodes=True
                )
            count = self.decoder_blocks[level]
            yield from layers.blocks(f"levels.{level}", width, stride, count, encodes=encodes, decodes=True)
            if level:
                factor = stride // self.strides[level - 1]
                outputs = self.channels[level - 1] * factor**2
                yield Layer(f"up.{level - 1}", width, outputs, 1, stride, encodes, decodes=True, shuffle=factor)
        patch = self.strides[0]
        yield Layer("final", self.channels[0], 3 * patch**2, 3, patch, decodes=True, shuffle=patch)

    def parts(self) -> list[tuple[str, int]]:
        """What codes are added up in for people: a title, and how many stages belong to it."""
        return [(f"stage {number}", 1) for number in range(len(self.stages()))]

    @property
    def scales(self) -> list[int]:
        """Sites of each grid along the side of a block of `alignment` pixels."""
        return [self.alignment // grid.stride for grid in self.grids]

    def index_ends(self) -> list[int]:
        """The number of indices that each stage may have."""
        return [grid.codes for grid in self.stages()]

    def stage_shapes(self, width: int, height: int) -> list[tuple[int, int]]:
        """Rows and columns of each stage's index array for an image of `width` x `height` pixels."""
        return grid_shapes(self.stages(), self.alignment, width, height)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NetworkConfig:
        """Read what `to_dict` wrote. Raises ModelError for a newer version or for unknown or missing fields."""
        values = read_fields(data, cls, CONFIG_VERSION)
        try:
            values["grids"] = tuple(GridConfig(**grid) for grid in data["grids"])
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise ModelError(f"model configuration is incomplete or malformed: {error}") from None


def grid_shapes(stages: Iterable[GridConfig], alignment: int, width: int, height: int) -> list[tuple[int, int]]:
    """Rows and columns of each stage's index array for an image of `width` x `height` pixels."""
    rows, columns = -(-height // alignment), -(-width // alignment)
    return [(rows * alignment // grid.stride, columns * alignment // grid.stride) for grid in stages]


def read_fields(data: Mapping[str, Any], cls: type[Any], newest: int) -> dict[str, Any]:
    """The fields of a stored dataclass, lists as tuples. Raises ModelError for a newer version or unknown fields."""
    if not isinstance(data, Mapping):
        raise ModelError("model configuration is not a table of fields")
    version = data.get("version", newest)
    if not isinstance(version, int) or version > newest:
        raise ModelError(f"model configuration is of version {version}; this gmvqzip reads up to {newest}")
    unknown = set(data) - {field.name for field in fields(cls)}
    if unknown:
        raise ModelError(f"model configuration has unknown fields: {', '.join(sorted(unknown))}")
    return {key: tuple(value) if isinstance(value, list | tuple) else value for key, value in data.items()}


def _power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0
