"""One picture through all codecs: its curve points, and its place on the page of equal sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gmvqzip.bench.codecs import BenchCodec, settings
from gmvqzip.bench.measure import fit, measure
from gmvqzip.bench.metrics import Pixels
from gmvqzip.bench.page import Page
from gmvqzip.bench.results import PictureResult

MIDDLE_QUALITY = 50.0  # its size is the one compared at where none is named
_WARM_UP_SIDE = 64  # pixels


@dataclass(frozen=True)
class SizeLimit:
    """The size that files are compared at: bytes, or bits per pixel."""

    number: float
    per_pixel: bool

    def in_bytes(self, pixels: int) -> int:
        """The limit for a picture of so many pixels, rounded down to whole bytes."""
        return int(self.number * pixels / 8) if self.per_pixel else int(self.number)


def warm_up(codec: BenchCodec) -> None:
    """Let a codec load what it loads once, before anything is timed. Raises what its first use raises."""
    codec.decode(codec.encode(np.full((_WARM_UP_SIDE, _WARM_UP_SIDE, 3), 128, dtype=np.uint8), codec.ladder[0]))


def compare(
    name: str,
    pixels: Pixels,
    codecs: Sequence[BenchCodec],
    qualities: Sequence[float],
    *,
    page: Page | None = None,
    limit: SizeLimit | None = None,
    after_each: Callable[[], None] = lambda: None,
) -> PictureResult:
    """Measure a picture [H, W, 3] with every codec at these qualities, and add it to the page where one is given.

    limit: the size for the page; None: that of the first codec's file at quality 50, or at its single rate.
    after_each: called after each codec. Raises ImageError where a codec cannot code the picture.
    """
    height, width = pixels.shape[:2]
    points = []
    for codec in codecs:
        points += measure(codec, pixels, settings(codec, qualities))
        after_each()
    if page is None:
        return PictureResult(name, width, height, points)
    if limit is not None:
        size = limit.in_bytes(width * height)
    else:
        size = len(codecs[0].encode(pixels, settings(codecs[0], [MIDDLE_QUALITY])[0]))
    found = [(codec, fit(codec, pixels, size)) for codec in codecs]
    page.add(name, pixels, size, found)
    return PictureResult(name, width, height, points, size, [(one.point, one.fits) for _, one in found])
