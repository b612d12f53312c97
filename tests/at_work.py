"""A model at work, in short words: pictures and payloads of one piece to codes and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gmvqzip.engines.engine import Engine
from gmvqzip.entropy.prior import Piece
from gmvqzip.setting import Setting


def analysed(
    engine: Engine, pixels: np.ndarray, quality: int = 0, *, rounds: int = 0, trade: float = 1.0
) -> tuple[np.ndarray, ...]:
    """The index arrays of pixels [H, W, 3]."""
    return engine.network.analyse(pixels[None], Setting(quality, trade, rounds))[0].stages


def followed(engine: Engine, stages: Sequence[np.ndarray], quality: int = 0) -> Piece:
    """Known codes."""
    return engine.prior.follow([stage[None] for stage in stages], quality)[0]


def read(engine: Engine, payload: bytes, size: tuple[int, int], quality: int = 0) -> Piece:
    """The codes in a payload; size: width and height in pixels."""
    return engine.prior.read(payload, *engine.grid(*size), quality)
