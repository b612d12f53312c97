"""Equal sizes: of all files that a codec can make of a picture, the largest that is not above a limit."""

from __future__ import annotations

from dataclasses import dataclass

from gmvqzip.bench.codecs import BenchCodec
from gmvqzip.bench.measure import Point, code, look
from gmvqzip.bench.metrics import Pixels


@dataclass(frozen=True)
class Found:
    """What a codec makes of a picture within a size."""

    point: Point
    pixels: Pixels  # decoded, [H, W, 3]
    fits: bool  # False: even its smallest file, which this is, exceeds the limit


def fit(codec: BenchCodec, pixels: Pixels, limit: int) -> Found:
    """Bisect the codec's ladder of qualities for the largest file of at most `limit` bytes.

    Sizes are taken to rise with quality. Where an encoder breaks that by a step or two the answer is the largest
    fitting file of those tried: it never exceeds the limit. Where no file fits it is the one of the lowest quality.
    """
    coded = {0: code(codec, pixels, codec.ladder[0])}
    low, high = 0, len(codec.ladder)  # low fits, or nothing tried does; high does not, or is beyond the end
    while len(coded[0][0]) <= limit and high - low > 1:
        middle = (low + high) // 2
        coded[middle] = code(codec, pixels, codec.ladder[middle])
        if len(coded[middle][0]) <= limit:
            low = middle
        else:
            high = middle
    fitting = [step for step, (data, _) in coded.items() if len(data) <= limit]
    best = max(fitting, key=lambda step: len(coded[step][0]), default=0)
    point, decoded = look(codec, pixels, codec.ladder[best], coded[best])
    return Found(point, decoded, bool(fitting))
