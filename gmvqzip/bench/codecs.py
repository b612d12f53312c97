"""The codecs that are measured, one small class each: pixels -> the bytes of a whole file -> pixels.

All of them count quality up to 100, from 0 or 1, as their own tools do; what a number means differs from codec to
codec. None stores metadata or a colour profile. libwebp and libjxl are tuned for the eye and are taken as they are.
libaom can be tuned for PSNR or for the eye, with rates more than a tenth apart at equal PSNR, so AVIF is there twice.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from gmvqzip.bench.metrics import Pixels

SINGLE_RATE = 0.0  # the one entry in the ladder of a codec without qualities
STEPS = tuple(float(quality) for quality in range(101))


class BenchCodec(Protocol):
    """What the measurements know of a codec."""

    @property
    def name(self) -> str:
        """Short name, as on the command line."""

    @property
    def title(self) -> str:
        """Name for people, with what matters of its settings."""

    @property
    def ladder(self) -> Sequence[float]:
        """Every quality that a search may try, rising; one entry where there is a single rate."""

    def label(self, quality: float) -> str:
        """The setting as its own tool counts it."""

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """A whole file of a picture [H, W, 3], uint8, sRGB. May raise whatever its library raises."""

    def decode(self, data: bytes) -> Pixels:
        """The picture [H, W, 3], uint8, in a file made by `encode`."""


class ModelCodec(Protocol):
    """What is needed of `gmvqzip.codec.Codec`, which this room does not import."""

    @property
    def name(self) -> str: ...

    @property
    def qualities(self) -> Sequence[int]: ...

    def compress(self, image: Any, *, quality: int | None = None) -> bytes: ...

    def decompress(self, data: bytes) -> Image.Image: ...


class Gmvq:
    """gmvqzip with one model."""

    name = "gmvqzip"

    def __init__(self, codec: ModelCodec) -> None:
        self._codec = codec
        qualities = sorted(float(quality) for quality in codec.qualities)
        self.ladder: Sequence[float] = qualities if len(qualities) > 1 else (SINGLE_RATE,)
        self.title = f"gmvqzip {codec.name}"

    def label(self, quality: float) -> str:
        return "single rate" if quality == SINGLE_RATE else f"q {quality:g}"

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        return self._codec.compress(pixels, quality=None if quality == SINGLE_RATE else round(quality))

    def decode(self, data: bytes) -> Pixels:
        return np.asarray(self._codec.decompress(data).convert("RGB"))


class Jpeg:
    """JPEG as Pillow writes it: progressive, optimised Huffman tables, chroma halved in both directions."""

    name, title, ladder = "jpeg", "JPEG 4:2:0", STEPS[1:]  # libjpeg takes 0 for 1

    def label(self, quality: float) -> str:
        return f"q {quality:g}"

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        return _saved(pixels, "JPEG", quality=round(quality), optimize=True, progressive=True, subsampling="4:2:0")

    def decode(self, data: bytes) -> Pixels:
        return _opened(data)


class WebP:
    """Lossy WebP by libwebp at its slowest method; the format halves chroma in both directions."""

    name, title, ladder = "webp", "WebP", STEPS

    def label(self, quality: float) -> str:
        return f"q {quality:g}"

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        return _saved(pixels, "WEBP", quality=round(quality), method=6)

    def decode(self, data: bytes) -> Pixels:
        return _opened(data)


class Avif:
    """AVIF by libaom, full chroma, speed 4 of 0 to 10; no tiles, so that a file is the same for any `threads`."""

    ladder = STEPS[:-1]  # 100 is lossless, which some tunings refuse

    def __init__(self, name: str, tune: str, title: str, threads: int) -> None:
        self.name, self.title = name, title
        self._tune, self._threads = tune, threads

    def label(self, quality: float) -> str:
        return f"q {quality:g}"

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        return _saved(
            pixels,
            "AVIF",
            quality=round(quality),
            subsampling="4:4:4",
            speed=4,
            codec="aom",
            autotiling=False,
            max_threads=self._threads,
            advanced={"tune": self._tune},
        )

    def decode(self, data: bytes) -> Pixels:
        return _opened(data)


class JpegXl:
    """JPEG XL by libjxl through imagecodecs: lossy at effort 7 of 1 to 9, a bare codestream."""

    name, title = "jxl", "JPEG XL"
    ladder = tuple(step / 5 for step in range(500))  # 0 to 99.8 in steps of 0.2; at 100 some tools go lossless

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def label(self, quality: float) -> str:
        return f"distance {self.distance(quality):.2f}"

    @staticmethod
    def distance(quality: float) -> float:
        """Butteraugli distance of a quality, by libjxl's own `JxlEncoderDistanceFromQuality`."""
        if quality >= 30:
            return 0.1 + (100 - quality) * 0.09
        return 53 / 3000 * quality**2 - 23 / 20 * quality + 25

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        import imagecodecs

        return bytes(
            imagecodecs.jpegxl_encode(
                pixels,
                distance=self.distance(quality),
                effort=7,
                lossless=False,
                usecontainer=False,
                numthreads=self._threads,
            )
        )

    def decode(self, data: bytes) -> Pixels:
        import imagecodecs

        return np.asarray(imagecodecs.jpegxl_decode(data, numthreads=self._threads), dtype=np.uint8)


DEFAULT_RIVALS = ("jpeg", "webp", "avif", "jxl")


def rivals(threads: int) -> dict[str, BenchCodec]:
    """All other codecs by name. threads: for one picture, where an encoder can use several."""
    codecs: list[BenchCodec] = [
        Jpeg(),
        WebP(),
        Avif("avif", "psnr", "AVIF 4:4:4 tune psnr", threads),
        Avif("avif-iq", "iq", "AVIF 4:4:4 tune iq", threads),
        JpegXl(threads),
    ]
    return {codec.name: codec for codec in codecs}


def why_missing(codec: BenchCodec) -> str | None:
    """One line that says why a codec does not work here, found by coding a small picture; None where it works."""
    pixels = np.full((16, 16, 3), 128, dtype=np.uint8)
    try:
        decoded = codec.decode(codec.encode(pixels, codec.ladder[len(codec.ladder) // 2]))
    except ImportError as error:
        return f"{error.name} is not installed: pip install {error.name}"
    except Exception as error:  # encoders that are missing or cut down raise almost anything
        return f"its encoder does not work here: {' '.join(str(error).split()) or type(error).__name__}"
    return None if decoded.shape == pixels.shape else f"it returns a picture of shape {decoded.shape}"


def settings(codec: BenchCodec, wanted: Sequence[float]) -> list[float]:
    """The qualities to measure: of the codec's ladder, the nearest to each wanted one; rising, each once."""
    return sorted({min(codec.ladder, key=lambda entry: abs(entry - quality)) for quality in wanted})


def _saved(pixels: Pixels, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format, **options)
    return file.getvalue()


def _opened(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))
