"""A large picture in tiles, each coded like a picture of its own, so that memory is bounded and a part can be read.

No seam: what the encoder analyses of a tile, and what the decoder synthesises, has a margin of its neighbours as wide
as the networks look. Only contexts and range coder start anew in each tile. A picture in one piece is a single tile.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gmvqzip.engines.engine import Engine
from gmvqzip.entropy.prior import Piece
from gmvqzip.errors import ModelError, whole_number
from gmvqzip.format.limits import MAX_TILE_SIDE, MIN_TILE_SIDE
from gmvqzip.format.tiles import TileGrid
from gmvqzip.models.kinds import Config
from gmvqzip.setting import Setting

TILED_PIXELS = 1 << 22  # an encoder makes tiles of larger pictures
TILE_SIDE = 512  # pixels


def tile_side(config: Config, width: int, height: int, wanted: int | None) -> int:
    """The side of the tiles that an encoder makes of a picture, in pixels; 0 where it stays in one piece.

    wanted: a side or 0; None: TILE_SIDE for pictures beyond TILED_PIXELS, if the model can. Raises ModelError for a
    side that no picture may have.
    """
    if wanted is None:
        wanted = TILE_SIDE if config.synthesis_reach is not None and width * height > TILED_PIXELS else 0
    wanted = whole_number(wanted, "tile", ModelError)
    if wanted:
        _check_side(config, wanted)
    return wanted if wanted < max(width, height) else 0


def tile_grid(config: Config, width: int, height: int, side: int) -> TileGrid:
    """The tiles of a picture of width x height pixels; a single one where `side` is 0.

    Raises ModelError where the model makes no tiles, or none of this side, or where the picture is a single one.
    """
    alignment = config.alignment
    across, down = (-(-pixels // alignment) * alignment for pixels in (width, height))
    if not side:
        return TileGrid(across, down, max(across, down))
    if config.synthesis_reach is None:
        raise ModelError("the model is staged: its pictures are not tiled")
    _check_side(config, side)
    grid = TileGrid(across, down, side)
    if len(grid) < 2:
        raise ModelError(f"{width}x{height} pixels are a single tile of {side}")
    return grid


def _check_side(config: Config, side: int) -> None:
    least = max(config.alignment, MIN_TILE_SIDE)
    if side.bit_count() != 1 or not least <= side <= MAX_TILE_SIDE:
        raise ModelError(f"tiles of {side} pixels: a power of two from {least} to {MAX_TILE_SIDE} is wanted")


def analyse_tile(engine: Engine, pixels: NDArray[np.uint8], setting: Setting, grid: TileGrid, number: int) -> Piece:
    """The codes of a tile of pixels [H, W, 3], which their edge continues up to the alignment."""
    config, tile = engine.config, grid.box(number)
    margin = -(-(config.analysis_reach or 0) // config.alignment) * config.alignment
    seen = tile.grown(margin, grid.whole)
    window = pixels[seen.cells()]
    down, right = seen.height - window.shape[0], seen.width - window.shape[1]
    window = np.pad(window, ((0, down), (0, right), (0, 0)), mode="edge")
    return engine.network.analyse(window[None], setting, tile.seen_from(seen))[0]
