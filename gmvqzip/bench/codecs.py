"""The codecs that are measured, one small class each: pixels -> the bytes of a whole file -> pixels.

All of them count quality up to 100, from 0 or 1, as their own tools do; what a number means differs from codec to
codec. None stores metadata or a colour profile. libwebp and libjxl are tuned for the eye and are taken as they are.
libaom can be tuned for PSNR or for the eye, with rates more than a tenth apart at equal PSNR, and people use it as
Pillow's options stand, with chroma halved: so AVIF is there three times.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
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

    @property
    def options(self) -> Mapping[str, Any]:
        """What its encoder is told beside the quality, and what its files depend on."""

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

    def compress(self, image: Any, *, quality: int | None = None, effort: int = ...) -> bytes: ...

    def decompress(self, data: bytes) -> Image.Image: ...


class Gmvq:
    """gmvqzip with one model, at the default effort where none is given."""

    name = "gmvqzip"

    def __init__(self, codec: ModelCodec, effort: int | None = None) -> None:
        self._codec = codec
        self.options: Mapping[str, Any] = {} if effort is None else {"effort": effort}
        qualities = sorted(float(quality) for quality in codec.qualities)
        self.ladder: Sequence[float] = qualities if len(qualities) > 1 else (SINGLE_RATE,)
        self.title = f"gmvqzip {codec.name}"

    def label(self, quality: float) -> str:
        return "single rate" if quality == SINGLE_RATE else f"q {quality:g}"

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        return self._codec.compress(pixels, quality=None if quality == SINGLE_RATE else round(quality), **self.options)

    def decode(self, data: bytes) -> Pixels:
        return np.asarray(self._codec.decompress(data).convert("RGB"))


class _PillowCodec:
    """What Pillow's own encoders share."""

    name: str
    title: str
    file_format: str
    ladder: Sequence[float]
    options: Mapping[str, Any]

    def label(self, quality: float) -> str:
        return f"q {quality:g}"

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, self.file_format, quality=round(quality), **self.options)
        return file.getvalue()

    def decode(self, data: bytes) -> Pixels:
        return _opened(data)


class Jpeg(_PillowCodec):
    """JPEG as Pillow writes it: progressive, optimised Huffman tables, chroma halved in both directions."""

    name, title, file_format = "jpeg", "JPEG 4:2:0", "JPEG"
    ladder = STEPS[1:]  # libjpeg takes 0 for 1
    options: Mapping[str, Any] = {"optimize": True, "progressive": True, "subsampling": "4:2:0"}


class WebP(_PillowCodec):
    """Lossy WebP by libwebp at its slowest method; the format halves chroma in both directions."""

    name, title, file_format = "webp", "WebP", "WEBP"
    ladder = STEPS
    options: Mapping[str, Any] = {"method": 6}


class Avif(_PillowCodec):
    """AVIF through Pillow, without tiles: the number of threads then changes sizes by less than one part in a hundred.

    options: Pillow's, beside the quality.
    """

    file_format = "AVIF"
    ladder = STEPS[:-1]  # 100 is lossless, which some tunings refuse

    def __init__(self, name: str, title: str, threads: int, **options: Any) -> None:
        self.name, self.title = name, title
        self.options = {**options, "autotiling": False, "max_threads": threads}


class Jpegli:
    """JPEG by jpegli, chroma halved; baseline, the one mode that pyjpegli makes. Read by Pillow, as any JPEG file."""

    name, title, ladder = "jpegli", "JPEG by jpegli", STEPS[1:]
    options: Mapping[str, Any] = {}

    def label(self, quality: float) -> str:
        return f"q {quality:g}"

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        import pyjpegli

        height, width = pixels.shape[:2]
        return bytes(pyjpegli.encode(np.ascontiguousarray(pixels), width, height, quality=round(quality)))

    def decode(self, data: bytes) -> Pixels:
        return _opened(data)


class JpegXl:
    """JPEG XL by libjxl through imagecodecs: lossy at effort 7 of 1 to 9, a bare codestream."""

    name, title = "jxl", "JPEG XL"
    options: Mapping[str, Any] = {"effort": 7, "lossless": False, "usecontainer": False}
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

        distance = self.distance(quality)
        return bytes(imagecodecs.jpegxl_encode(pixels, distance=distance, numthreads=self._threads, **self.options))

    def decode(self, data: bytes) -> Pixels:
        import imagecodecs

        return np.asarray(imagecodecs.jpegxl_decode(data, numthreads=self._threads), dtype=np.uint8)


DEFAULT_RIVALS = ("jpeg", "jpegli", "webp", "avif", "avif-420", "jxl")


def rivals(threads: int) -> dict[str, BenchCodec]:
    """All other codecs by name. threads: for one picture, where an encoder can use several."""
    full = {"subsampling": "4:4:4", "speed": 4, "codec": "aom"}
    codecs: list[BenchCodec] = [
        Jpeg(),
        Jpegli(),
        WebP(),
        Avif("avif", "AVIF 4:4:4 tune psnr", threads, **full, advanced={"tune": "psnr"}),
        Avif("avif-iq", "AVIF 4:4:4 tune iq", threads, **full, advanced={"tune": "iq"}),
        Avif("avif-420", "AVIF 4:2:0", threads, subsampling="4:2:0", speed=6),  # as Pillow does without options
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


def _opened(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))
