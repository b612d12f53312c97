"""A large picture in tiles, each coded like a picture of its own, so that memory is bounded and a part can be read.

No seam: what the encoder analyses of a tile, and what the decoder synthesises, has a margin of its neighbours as wide
as the networks look. Only contexts and range coder start anew in each tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.engines.base import MAP, Engine, Search, Stages
from gmvqzip.engines.hyperprior import HyperpriorEngine
from gmvqzip.entropy.codes import codes_crc32
from gmvqzip.errors import FormatError, ModelError, whole_number
from gmvqzip.format.limits import MAX_CODES, MAX_TILE_SIDE, MIN_TILE_SIDE
from gmvqzip.format.tiles import Box, TileGrid, TileIndex, make_index

if TYPE_CHECKING:
    import torch

TILED_PIXELS = 1 << 22  # an encoder makes tiles of larger pictures
TILE_SIDE = 512  # pixels

Fetch = Callable[[int, int], bytes]  # start and end of a part of the payload to its bytes


def tile_side(engine: Engine, width: int, height: int, wanted: int | None) -> int:
    """The side of the tiles that an encoder makes of a picture, in pixels; 0 where it stays in one piece.

    wanted: a side or 0; None: TILE_SIDE for pictures beyond TILED_PIXELS, if the model can.
    """
    if wanted is None:
        wanted = TILE_SIDE if isinstance(engine, HyperpriorEngine) and width * height > TILED_PIXELS else 0
    wanted = whole_number(wanted, "tile", ModelError)
    return wanted if wanted < max(width, height) else 0


class Tiling:
    """Codes of a picture of width x height pixels in tiles of `side`.

    Index arrays are those of the whole picture; each tile's are windows of them. Raises ModelError where the model
    makes no tiles, or none of this side, or where the picture is a single one.
    """

    def __init__(self, engine: Engine, width: int, height: int, side: int) -> None:
        if not isinstance(engine, HyperpriorEngine):
            raise ModelError("the model is staged: its pictures are not tiled")
        alignment = engine.config.alignment
        least = max(alignment, MIN_TILE_SIDE)
        if side.bit_count() != 1 or not least <= side <= MAX_TILE_SIDE:
            raise ModelError(f"tiles of {side} pixels: a power of two from {least} to {MAX_TILE_SIDE} is wanted")
        across, down = (-(-pixels // alignment) * alignment for pixels in (width, height))
        self.engine, self.grid = engine, TileGrid(across, down, side)
        if len(self.grid) < 2:
            raise ModelError(f"{width}x{height} pixels are a single tile of {side}")
        self._strides = [stage.stride for stage in engine.config.stages()]

    def analyse(self, pixels: NDArray[np.uint8], quality: int, search: Search = MAP) -> tuple[NDArray[np.int32], ...]:
        """Index arrays of pixels [H, W, 3], which their edge continues up to the alignment."""
        config = self.engine.config
        margin = -(-config.analysis_reach // config.alignment) * config.alignment
        whole = Box(0, 0, self.grid.width, self.grid.height)
        stages = self._empty(np.int32)
        for tile in self._tiles():
            seen = tile.grown(margin, whole)
            window = pixels[seen.cells()]
            down, right = seen.height - window.shape[0], seen.width - window.shape[1]
            window = np.pad(window, ((0, down), (0, right), (0, 0)), mode="edge")
            self._put(stages, tile, self.engine.analyse(window, quality, search, tile.seen_from(seen)))
        return _read_only(stages)

    def pack(self, stages: Stages, quality: int) -> tuple[bytes, TileIndex]:
        """The payload of index arrays and its index. Raises ModelError as `Engine.pack`."""
        windows = [self._of(stages, tile) for tile in self._tiles()]
        payloads = [self.engine.pack(own, quality) for own in windows]
        return b"".join(payloads), make_index(self.grid.side, payloads, [codes_crc32(own) for own in windows])

    def unpack(self, payload: bytes, index: TileIndex, quality: int) -> tuple[NDArray[np.int32], ...]:
        """Index arrays in a payload. Raises FormatError where it is damaged."""
        total = sum(rows * columns for rows, columns in self._shapes())
        if total > MAX_CODES:
            raise FormatError(f"{total} codes are more than the limit of {MAX_CODES}")
        if sum(index.lengths) != len(payload):
            raise FormatError(f"the tiles take {sum(index.lengths)} bytes of {len(payload)}: the file is damaged")
        stages = self._empty(np.int32)
        view = memoryview(payload)
        for number, tile in enumerate(self._tiles()):
            own = self._unpack_tile(number, index, quality, lambda start, end: bytes(view[start:end]))
            self._put(stages, tile, own)
        return _read_only(stages)

    def site_bits(self, stages: Stages, quality: int) -> tuple[NDArray[np.float32], ...]:
        """As `Engine.site_bits`."""
        bits = self._empty(np.float32)
        for tile in self._tiles():
            self._put(bits, tile, self.engine.site_bits(self._of(stages, tile), quality))
        return tuple(bits)

    def stage_bits(self, stages: Stages, quality: int) -> tuple[float, ...]:
        """As `Engine.stage_bits`."""
        of_tiles = [self.engine.stage_bits(self._of(stages, tile), quality) for tile in self._tiles()]
        return tuple(map(sum, zip(*of_tiles, strict=True)))

    def paint(self, stages: Stages, quality: int, region: Box) -> Iterator[tuple[Box, torch.Tensor]]:
        """The pixels of a region of index arrays, as `Engine.paint`."""
        return self._paint(
            lambda number: self.engine.latent(self._of(stages, self.grid.box(number)), quality), quality, region
        )

    def paint_part(
        self, fetch: Fetch, index: TileIndex, quality: int, region: Box
    ) -> Iterator[tuple[Box, torch.Tensor]]:
        """The same of a payload, of which only the tiles around the region are fetched.

        Raises FormatError where one of them is damaged.
        """

        def decode(number: int) -> NDArray[np.int32]:
            return self.engine.latent(self._unpack_tile(number, index, quality, fetch), quality)

        return self._paint(decode, quality, region)

    def _paint(
        self, decode: Callable[[int], NDArray[np.int32]], quality: int, region: Box
    ) -> Iterator[tuple[Box, torch.Tensor]]:
        """decode: a tile's number to its latent."""
        stride = self.engine.config.strides[-1]
        latents: dict[int, NDArray[np.int32]] = {}

        def cut(rows: slice, columns: slice) -> NDArray[np.int32]:
            wanted = Box(columns.start * stride, rows.start * stride, columns.stop * stride, rows.stop * stride)
            for number in [number for number in latents if self.grid.box(number).bottom <= wanted.top]:
                del latents[number]
            out = np.empty(
                (rows.stop - rows.start, columns.stop - columns.start, self.engine.config.latents), dtype=np.int32
            )
            for number in self.grid.touched(wanted):
                if number not in latents:
                    latents[number] = decode(number)
                tile = self.grid.box(number)
                both = tile.common(wanted)
                own = both.seen_from(tile).cells(stride)
                out[both.seen_from(wanted).cells(stride)] = latents[number][own]
            return out

        return self.engine.paint_latent(cut, (self.grid.height // stride, self.grid.width // stride), quality, region)

    def _unpack_tile(self, number: int, index: TileIndex, quality: int, fetch: Fetch) -> tuple[NDArray[np.int32], ...]:
        """The index arrays of a tile, compared with its check."""
        tile = self.grid.box(number)
        try:
            stages = self.engine.unpack(fetch(*index.spans[number]), (tile.width, tile.height), quality)
        except FormatError as error:
            raise FormatError(f"tile {number}: {error}") from None
        if not index.accepts(number, codes_crc32(stages)):
            raise FormatError(f"tile {number}: its codes differ from their check: the file is damaged; get it again")
        return stages

    def _tiles(self) -> Iterator[Box]:
        return map(self.grid.box, range(len(self.grid)))

    def _of(self, arrays: Stages, tile: Box) -> list[NDArray[Any]]:
        """The windows of a tile in arrays of the whole picture, one a stage."""
        return [array[tile.cells(stride)] for array, stride in zip(arrays, self._strides, strict=True)]

    def _put(self, arrays: Stages, tile: Box, values: Stages) -> None:
        for window, own in zip(self._of(arrays, tile), values, strict=True):
            window[:] = own

    def _shapes(self) -> list[tuple[int, int]]:
        return self.engine.config.stage_shapes(self.grid.width, self.grid.height)

    def _empty(self, dtype: type[np.generic]) -> list[NDArray[Any]]:
        return [np.empty(shape, dtype=dtype) for shape in self._shapes()]


def _read_only(stages: Stages) -> tuple[NDArray[np.int32], ...]:
    for stage in stages:
        stage.flags.writeable = False
    return tuple(stages)
