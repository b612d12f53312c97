"""What a run was worth: bytes and PSNR of whole files of held-back pictures, beside other codecs and the run's start.

Codecs are compared by the mean difference in bytes at equal PSNR (BD-rate) over what a model reaches from quality 20
to 95; rates are interpolated linearly in their logarithm between the points of the mean curves, for which no package is
needed. The cost is bounded by the number of pixels, which are coded by the model and by its start at all QUALITIES.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, features

from gmvqzip.bench.metrics import psnr
from gmvqzip.bench.rates import rising
from gmvqzip.engines.batching import analyse_all
from gmvqzip.engines.coded import Coded
from gmvqzip.engines.engine import Engine
from gmvqzip.engines.files import file_of
from gmvqzip.entropy.codes import Codes
from gmvqzip.errors import ImageError
from gmvqzip.models.registry import ModelInfo
from gmvqzip.setting import DEFAULT_EFFORT, Setting, rounds_of
from gmvqzip.training.imagesets import ImageSet, centre_window

QUALITIES = (20, 40, 60, 80, 95)
PIXELS = 1 << 18  # of all pictures measured together, at most
_TRIAL = 4  # pictures that are measured first, to see what all of them take; a verdict has as many at least
_LARGEST = 1 << 14  # pixels of one of them: of larger ones the middle is taken, so that there are enough
_MOST_PSNR = 50.0  # dB
_ROUNDS = rounds_of(DEFAULT_EFFORT)
_WEBP_QUALITIES = (0, 5, 10, 20, 35, 50, 65, 80, 90, 95, 98)
_AVIF_QUALITIES = (10, 25, 40, 55, 70, 80, 90, 95)
_RIVALS: dict[str, tuple[str, Sequence[int], dict[str, Any]]] = {
    "JPEG": ("JPEG", _WEBP_QUALITIES, {"optimize": True, "progressive": True}),
    "WebP": ("WEBP", _WEBP_QUALITIES, {"method": 6}),
    "AVIF": ("AVIF", _AVIF_QUALITIES, {}),
    "AVIF 4:4:4": ("AVIF", _AVIF_QUALITIES, {"subsampling": "4:4:4"}),
}
_OF_QUALITIES, _OF_A_RATE = ("WebP", "AVIF", "AVIF 4:4:4"), ("JPEG", "WebP")  # beside which a model is measured
_ENOUGH_PASSES, _ENOUGH_PICTURES = 20, 1000  # over the set, and in it, from which on more of them help less
_SAME = 1.0  # percent of bytes that nobody would call a difference

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Curve:
    """Means over pictures at settings from low to high: bits of the whole file per pixel, and PSNR in dB."""

    settings: tuple[int, ...]
    bpp: tuple[float, ...]
    psnr: tuple[float, ...]

    @property
    def points(self) -> list[tuple[float, float]]:
        """(bits per pixel, PSNR), as `bench.rates` takes them."""
        return list(zip(self.bpp, self.psnr, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"quality": list(self.settings), "bpp": list(self.bpp), "psnr_mean": list(self.psnr)}


def chosen(pictures: ImageSet, pixels: int = PIXELS) -> list[Pixels]:
    """Held-back pictures from all over the set, of up to about `pixels` pixels in all; the middle of large ones."""
    found: list[Pixels] = []
    room = pixels
    for picture in _readable(pictures):
        height, width, _ = picture.shape
        if height * width > _LARGEST:
            picture = centre_window(picture, int(_LARGEST**0.5))
        if found and picture.size // 3 > room:
            break
        found.append(picture)
        room -= picture.size // 3
    return found


def _readable(pictures: ImageSet) -> Iterable[Pixels]:
    for number in np.random.default_rng(0).permutation(len(pictures)).tolist():
        try:
            yield pictures.image(number)
        except ImageError:
            continue


def affordable(info: ModelInfo, pictures: list[Pixels], models: int, seconds: float) -> list[Pixels]:
    """The first of `pictures`, as many as `models` models like this one are measured on in about so many seconds."""
    engine = Engine(info, "cpu")
    qualities = _qualities(engine)
    _coded(engine, info, pictures[:1], qualities[0])  # what a first one takes is no measure
    trial = pictures[:_TRIAL]
    began = time.monotonic()
    _coded(engine, info, trial, qualities[len(qualities) // 2])
    each = (time.monotonic() - began) / len(trial) * models * len(qualities)
    return pictures[: max(_TRIAL, int(seconds / each))]


def _qualities(engine: Engine) -> list[int]:
    """Those that are measured; a single one of a model with a single rate."""
    return sorted({engine.quality_field(quality) for quality in QUALITIES})


def model_curve(info: ModelInfo, pictures: Sequence[Pixels], rounds: int = _ROUNDS) -> Curve:
    """Of a model's files as `compress` writes them, on the CPU; a single point where it has a single rate."""
    engine = Engine(info, "cpu")
    qualities = _qualities(engine)
    return _curve(qualities, [_coded(engine, info, pictures, quality, rounds) for quality in qualities])


def _coded(
    engine: Engine, info: ModelInfo, pictures: Sequence[Pixels], quality: int, rounds: int = _ROUNDS
) -> list[tuple[float, float]]:
    """Bits per pixel and PSNR of each picture."""
    points: list[tuple[float, float]] = [(0.0, 0.0)] * len(pictures)
    for number, piece in analyse_all(engine, pictures, Setting(quality, rounds=rounds)):
        height, width, _ = pictures[number].shape
        coded = Coded.made(engine, Codes((), width, height, info.model_id, quality), {0: piece}.__getitem__)
        size = len(file_of(coded, {}))
        points[number] = 8 * size / (height * width), _psnr(pictures[number], coded.pixels().pixels)
    return points


def _psnr(original: Pixels, decoded: Pixels) -> float:
    """PSNR in dB; limited, so that a flat picture, which some codec gives back exactly, does not decide the mean."""
    return min(psnr(original, decoded), _MOST_PSNR)


def rival_curves(pictures: Sequence[Pixels], *, single: bool = False) -> dict[str, Curve]:
    """Of WebP at its slowest, and of AVIF as Pillow writes it, where it can; single: of WebP and JPEG."""
    found = {}
    for name in _OF_A_RATE if single else _OF_QUALITIES:
        kind, ladder, options = _RIVALS[name]
        if kind == "JPEG" or features.check(kind.lower()):
            rows = [[_saved(pixels, kind, quality=q, **options) for pixels in pictures] for q in ladder]
            found[name] = _curve(ladder, rows)
    return found


def _saved(pixels: Pixels, kind: str, **options: Any) -> tuple[float, float]:
    """Bits per pixel and PSNR of a picture in one of Pillow's formats."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    decoded = np.asarray(Image.open(buffer).convert("RGB"))
    return 8 * len(buffer.getvalue()) / (pixels.shape[0] * pixels.shape[1]), _psnr(pixels, decoded)


def _curve(settings: Sequence[int], rows: Sequence[Sequence[tuple[float, float]]]) -> Curve:
    rates, qualities = np.array(rows).mean(1).T
    return Curve(tuple(settings), tuple(rates.tolist()), tuple(qualities.tolist()))


def byte_difference(anchor: Curve, tested: Curve) -> float | None:
    """Percent of bytes that `tested` needs more (+) or less (-) at equal PSNR, the mean over the PSNR that both reach.

    None where they reach no common PSNR. A single tested point is compared at its own.
    """
    if len(tested.points) == 1:
        return bytes_beside(anchor, *tested.points[0])
    (rate_a, psnr_a), (rate_t, psnr_t) = (np.array(rising(curve.points)).T for curve in (anchor, tested))
    low, high = max(psnr_a[0], psnr_t[0]), min(psnr_a[-1], psnr_t[-1])
    if low >= high:
        return None
    # Piecewise linear: exact by trapezoids over all the ends of pieces.
    places = np.unique(np.concatenate([psnr_a, psnr_t]).clip(low, high))
    gap = np.interp(places, psnr_t, np.log(rate_t)) - np.interp(places, psnr_a, np.log(rate_a))
    mean = float(((gap[1:] + gap[:-1]) / 2 * np.diff(places)).sum() / (high - low))
    return 100 * float(np.expm1(mean))


def bytes_beside(anchor: Curve, bpp: float, decibels: float) -> float | None:
    """Percent of bytes of a file of `bpp` more (+) or less (-) than the anchor's at its PSNR; None out of its reach."""
    rate, quality = np.array(rising(anchor.points)).T
    if len(rate) < 2 or not quality[0] <= decibels <= quality[-1]:
        return None
    return 100 * (bpp / float(np.exp(np.interp(decibels, quality, np.log(rate)))) - 1)


def psnr_at(anchor: Curve, bpp: float) -> float | None:
    """The anchor's PSNR at a rate, linear in the logarithm of the rate; None out of its reach."""
    rate, quality = np.array(rising(anchor.points)).T
    return float(np.interp(np.log(bpp), np.log(rate), quality)) if rate[0] <= bpp <= rate[-1] else None


@dataclass(frozen=True)
class Verdict:
    """The curve of a run's model, those of other codecs by name, and the one of the model that it started from.

    pictures, side: how many were measured, and their longest side in pixels; trained, passes: pictures trained on, and
    how often each was seen.
    """

    pictures: int
    side: int
    model: Curve
    rivals: dict[str, Curve]
    start: str
    start_curve: Curve | None
    trained: int
    passes: float

    @property
    def single(self) -> bool:
        """Whether the model has a single rate."""
        return len(self.model.points) == 1

    @property
    def beside(self) -> dict[str, Curve]:
        """All that the model is compared with."""
        return self.rivals | ({self.start: self.start_curve} if self.start_curve else {})

    @property
    def from_start(self) -> float | None:
        """Percent of bytes beside the start's; None without a start, or where no PSNR is common.

        Two single rates are compared by what WebP needs for the PSNR of each.
        """
        if self.start_curve is None or not self.single:
            return byte_difference(self.start_curve, self.model) if self.start_curve else None
        mine, other = (byte_difference(self.rivals["WebP"], curve) for curve in (self.model, self.start_curve))
        return None if mine is None or other is None else 100 * ((100 + mine) / (100 + other) - 1)

    @property
    def worse(self) -> bool:
        """Whether the start is the better model. Without a common PSNR it is the one that reaches less."""
        if self.start_curve is None:
            return False
        difference = self.from_start
        return self.model.psnr[-1] < self.start_curve.psnr[-1] if difference is None else difference > 0

    def differences(self) -> dict[str, float | None]:
        """Percent of bytes of the model beside each of the others."""
        found = {name: byte_difference(curve, self.model) for name, curve in self.rivals.items()}
        return found | ({self.start: self.from_start} if self.start_curve else {})

    def sentence(self) -> str:
        """Better, level or worse, by how much, and what to do next."""
        found = self.differences()
        change = found.pop(self.start, None)
        against = [f"{_words(value)} {name}" for name, value in found.items() if value is not None]
        if self.start_curve is not None:
            reach = f"{'less' if self.worse else 'more'} PSNR at any size than" if change is None else _words(change)
            level = change is not None and abs(change) < _SAME
            judged = "level" if level else "worse" if self.worse else "better"
            against.insert(0, f"{judged}: {reach} {self.start}, which it started from")
        where = "" if self.single else f", mean over qualities {QUALITIES[0]} to {QUALITIES[-1]}"
        how = f"bytes at equal PSNR{where}, {self.pictures} held-back pictures of at most {self.side}x{self.side}"
        return f"{', '.join(against) or 'no PSNR in common with other codecs'} ({how}). {self._advice()}"

    def _advice(self) -> str:
        if self.worse and self.passes >= _ENOUGH_PASSES:
            return "Next: more pictures; these were seen so often that more time would not help."
        webp = self.differences().get("WebP")
        if self.passes < _ENOUGH_PASSES:
            more = "" if self.trained >= _ENOUGH_PICTURES else ", then more pictures"
            return f"Next: more time, for each picture was seen {self.passes:.1f} times only{more}."
        if self.trained < _ENOUGH_PICTURES:
            return f"Next: more pictures than these {self.trained}, which were seen {self.passes:.0f} times each."
        if webp is not None and webp > 0:
            return "Next: another preset; such pictures do not suit this one."
        return "Next: more time and pictures of the same kind; each doubling brings less."

    def lines(self) -> list[str]:
        """A table of the model's qualities: whole files, and their bytes beside others' at equal PSNR."""
        names = list(self.beside)
        widths = [max(9, len(name) + 2) for name in names]
        head = "".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))
        rows = [f"  quality     bpp    PSNR{head}   (bytes beside theirs at equal PSNR)"]
        for quality, bpp, decibels in zip(self.model.settings, self.model.bpp, self.model.psnr, strict=True):
            cells = []
            for name, width in zip(names, widths, strict=True):
                value = bytes_beside(self.beside[name], bpp, decibels)
                value = self.from_start if self.single and name == self.start else value
                cells.append(f"{'-' if value is None else f'{value:+.0f} %':>{width}}")
            rows.append(f"  {quality:7d}  {bpp:6.3f}  {decibels:6.2f}{''.join(cells)}")
        return [*rows, self.sentence()]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for the card."""
        return {
            "pictures": self.pictures,
            "side": self.side,
            "percent_of_bytes": self.differences(),
            "curves": {name: curve.to_dict() for name, curve in self.beside.items()},
            "text": self.sentence(),
        }


def _words(percent: float) -> str:
    """A difference in bytes for people."""
    if abs(percent) < _SAME:
        return "as many bytes as"
    return f"{abs(percent):.0f} % {'more' if percent > 0 else 'fewer'} bytes than"
