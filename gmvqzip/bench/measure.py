"""Coding one picture at one quality, or within one size, and measuring the result; means over pictures."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from gmvqzip.bench.codecs import BenchCodec
from gmvqzip.bench.metrics import Pixels, decibels, ms_ssim, no_ssimulacra2, psnr, scales_of, ssimulacra2
from gmvqzip.errors import GmvqError, ImageError, message_of
from gmvqzip.images.picture import read_picture
from gmvqzip.images.writing import over_white


@dataclass(frozen=True)
class Point:
    """One picture coded by one codec at one quality, or the mean of several pictures."""

    codec: str
    quality: float
    file_bytes: float
    bpp: float  # bits of the whole file per pixel
    psnr: float  # dB
    ms_ssim: float
    ms_ssim_db: float  # -10 log10(1 - MS-SSIM)
    ssimulacra2: float | None  # None: the picture, or this machine, has none
    encode_seconds: float
    decode_seconds: float


FIGURES = tuple(entry.name for entry in fields(Point) if entry.name not in ("codec", "quality"))


def read_pixels(source: Path | bytes, *, max_pixels: int) -> Pixels:
    """The pixels [H, W, 3] that every codec gets: sRGB of 8 bits.

    A gray picture has three equal channels, transparency is laid over white, a colour profile is converted. Raises
    ImageError, also for a picture too small to be measured.
    """
    picture = read_picture(source, strip=True, max_pixels=max_pixels)
    scales_of(picture.height, picture.width)
    return picture.pixels if picture.alpha is None else over_white(picture, picture.alpha).pixels


def code(codec: BenchCodec, pixels: Pixels, quality: float) -> tuple[bytes, float]:
    """A picture's file and the seconds it took. Raises ImageError where the codec cannot make one."""
    start = time.perf_counter()
    try:
        data = codec.encode(pixels, quality)
    except (GmvqError, MemoryError):
        raise
    except Exception as error:  # of any codec's library
        raise ImageError(f"{codec.title} cannot code this picture: {message_of(error)}") from error
    return data, time.perf_counter() - start


def look(codec: BenchCodec, pixels: Pixels, quality: float, coded: tuple[bytes, float]) -> tuple[Point, Pixels]:
    """The figures of a file made by `code`, and the decoded picture."""
    data, encode_seconds = coded
    start = time.perf_counter()
    try:
        decoded = codec.decode(data)
    except (GmvqError, MemoryError):
        raise
    except Exception as error:
        raise ImageError(f"{codec.title} cannot read its own file: {message_of(error)}") from error
    decode_seconds = time.perf_counter() - start
    similarity = ms_ssim(pixels, decoded)
    point = Point(
        codec=codec.name,
        quality=quality,
        file_bytes=len(data),
        bpp=8 * len(data) / (pixels.shape[0] * pixels.shape[1]),
        psnr=psnr(pixels, decoded),
        ms_ssim=similarity,
        ms_ssim_db=decibels(1 - similarity),
        ssimulacra2=ssimulacra2(pixels, decoded) if no_ssimulacra2(*pixels.shape[:2]) is None else None,
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
    )
    return point, decoded


def measure(codec: BenchCodec, pixels: Pixels, qualities: Iterable[float]) -> list[Point]:
    """One point for each quality. Times are of one run each, by the clock, array to bytes and back."""
    return [look(codec, pixels, quality, code(codec, pixels, quality))[0] for quality in qualities]


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


def mean_points(pictures: Sequence[Sequence[Point]]) -> list[Point]:
    """The means over pictures for each codec and quality, in the order of the first picture.

    Each figure is the plain mean of the pictures' figures: PSNR and MS-SSIM in dB are means of decibels. SSIMULACRA2 is
    the mean over the pictures that have it, None where no one has.
    """
    found: dict[tuple[str, float], list[Point]] = {}
    for points in pictures:
        for point in points:
            found.setdefault((point.codec, point.quality), []).append(point)
    return [Point(codec, quality, **_means(points)) for (codec, quality), points in found.items()]


def ssimulacra2_text(point: Point) -> str:
    """A point's SSIMULACRA2 for people."""
    return "-" if point.ssimulacra2 is None else f"{point.ssimulacra2:.2f}"


def _means(points: Sequence[Point]) -> dict[str, Any]:
    found = {name: [getattr(point, name) for point in points] for name in FIGURES}
    known = {name: [value for value in values if value is not None] for name, values in found.items()}
    return {name: float(np.mean(values)) if values else None for name, values in known.items()}
