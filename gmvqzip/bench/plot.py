"""Rate-distortion curves as a picture: PSNR, MS-SSIM and SSIMULACRA2 over bits per pixel, drawn with Pillow."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, features

from gmvqzip.bench.rates import Curve
from gmvqzip.bench.results import METRICS, UNITS, Results

WIDTH, HEIGHT = 720, 600  # pixels of one panel
OVERSAMPLING = 2  # drawn larger and reduced: Pillow's lines have no smooth edges
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 44, 56
# Okabe and Ito's colours, which the colour-blind tell apart; black, the first, is gmvqzip.
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#888888")
_RATE_TICKS = tuple(digit * 10.0**power for power in range(-3, 3) for digit in (1, 2, 5))
_STEPS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
_MOST_TICKS = 9

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


@dataclass(frozen=True)
class _Axes:
    """Where a rate and a quality lie in a panel whose left edge is at `left`; the rate's axis is logarithmic."""

    left: float
    rates: tuple[float, float]
    qualities: tuple[float, float]

    def x(self, rate: float) -> float:
        low, high = map(math.log, self.rates)
        return self.left + _LEFT + (math.log(rate) - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(self, quality: float) -> float:
        low, high = self.qualities
        return HEIGHT - _BOTTOM - (quality - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)


class _Pen:
    """Drawing in the units of the finished picture on the larger canvas."""

    def __init__(self, canvas: Image.Image) -> None:
        self._draw = ImageDraw.Draw(canvas)
        # Without FreeType there is only a small font of fixed size.
        freetype = features.check("freetype2")
        self._font: Font = ImageFont.load_default(15 * OVERSAMPLING) if freetype else ImageFont.load_default()

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1) -> None:
        scaled = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points]
        self._draw.line(scaled, fill=colour, width=round(width * OVERSAMPLING), joint="curve")

    def dot(self, x: float, y: float, colour: str, radius: float) -> None:
        self._draw.circle((x * OVERSAMPLING, y * OVERSAMPLING), radius * OVERSAMPLING, fill=colour)

    def text(self, x: float, y: float, text: str, *, across: float = 0.5, colour: str = "#333333") -> None:
        """Text with its top at y; across: how much of its width lies left of x, 0 to 1."""
        width = self._draw.textlength(text, font=self._font)
        self._draw.text((x * OVERSAMPLING - across * width, y * OVERSAMPLING), text, fill=colour, font=self._font)


def plot(results: Results, metrics: Sequence[str] = tuple(METRICS)) -> bytes:
    """A PNG of the mean curves of all codecs, one panel for each metric that there are points of; none below 0.

    metrics: keys of METRICS, from left to right.
    """
    panels = {metric: [_drawn(results.curve(codec.name, metric)) for codec in results.codecs] for metric in metrics}
    panels = {metric: curves for metric, curves in panels.items() if any(curves)}
    size = (WIDTH * len(panels), HEIGHT)
    canvas = Image.new("RGB", (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING), "white")
    pen = _Pen(canvas)
    titles = [codec.title for codec in results.codecs]
    for panel, (metric, curves) in enumerate(panels.items()):
        title = METRICS[metric] + (" in dB" if UNITS[metric] else "")
        _draw_panel(pen, panel * WIDTH, title, curves, titles, results.measured_by(metric))
    file = io.BytesIO()
    canvas.resize(size, Image.Resampling.LANCZOS).save(file, "PNG", optimize=True)
    return file.getvalue()


def _drawn(curve: Curve) -> Curve:
    """The points worth a place: SSIMULACRA2 below 0 ranks little and goes far."""
    return [point for point in curve if point[1] >= 0]


def _draw_panel(
    pen: _Pen, left: float, title: str, curves: Sequence[Curve], titles: Sequence[str], pictures: int
) -> None:
    points = [point for curve in curves for point in curve]
    rates, qualities = [rate for rate, _ in points], [quality for _, quality in points]
    margin = max(0.05 * (max(qualities) - min(qualities)), 0.5)  # dB
    axes = _Axes(left, (min(rates) / 1.15, max(rates) * 1.15), (min(qualities) - margin, max(qualities) + margin))
    top, bottom = axes.y(axes.qualities[1]), axes.y(axes.qualities[0])
    begin, end = axes.x(axes.rates[0]), axes.x(axes.rates[1])
    for tick in _RATE_TICKS:
        if axes.rates[0] <= tick <= axes.rates[1]:
            pen.line([(axes.x(tick), top), (axes.x(tick), bottom)], "#dddddd")
            pen.text(axes.x(tick), bottom + 6, f"{tick:g}")
    for tick in quality_ticks(*axes.qualities):
        pen.line([(begin, axes.y(tick)), (end, axes.y(tick))], "#dddddd")
        pen.text(begin - 8, axes.y(tick) - 9, f"{tick:g}", across=1)
    pen.line([(begin, top), (begin, bottom), (end, bottom)], "#333333")
    pen.text(begin, top - 30, title, across=0)
    pen.text((begin + end) / 2, bottom + 28, f"bits per pixel, means over {pictures} picture{'s' * (pictures != 1)}")
    for number in reversed(range(len(curves))):  # gmvqzip last, over the others
        colour, ours = COLOURS[number % len(COLOURS)], number == 0
        places = [(axes.x(rate), axes.y(quality)) for rate, quality in curves[number]]
        if len(places) > 1:
            pen.line(places, colour, 3 if ours else 2)
        for place in places:
            pen.dot(*place, colour, 5 if ours else 3)
        row = bottom - 14 - 22 * (len(curves) - number)
        pen.line([(end - 240, row + 10), (end - 212, row + 10)], colour, 3 if ours else 2)
        pen.text(end - 204, row, titles[number], across=0)


def quality_ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, at most nine."""
    step = next((step for step in _STEPS if (high - low) / step <= _MOST_TICKS - 1), _STEPS[-1])
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
