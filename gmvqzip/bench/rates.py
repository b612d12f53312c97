"""Rate differences at equal quality: Bjontegaard's mean over a range, or the plain one where a codec has one rate.

BD-rate (Bjontegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001): of both curves the
logarithm of the rate is interpolated over the quality and averaged over a range of quality; the difference of the two
averages, as a power of ten less one, is the mean difference in rate. Interpolation is PCHIP, by the package
`bjontegaard`: monotone between monotone points, so that a rate has one quality on each curve.

Without a window the range is the overlap of the qualities that the two curves reach. With a window of rates each
curve's range is cut to the qualities that it reaches at rates in the window, and the overlap of the two cut ranges is
taken; both curves stay interpolated through all their points. A range of quality may be given instead, as for
SSIMULACRA2, whose numbers mean the same on all pictures; the overlap is then cut to it, and must hold half of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEAST_POINTS = 4  # for a BD-rate, as in Bjontegaard's definition
LEAST_PART = 0.5  # of a range of quality that is asked for, which both curves must reach
_BISECTIONS = 60

Curve = Sequence[tuple[float, float]]  # (bits per pixel, quality: dB, or points of SSIMULACRA2)
Window = tuple[float, float]  # bits per pixel
Range = tuple[float, float]  # of quality


@dataclass(frozen=True)
class RateDifference:
    """How much more (+) or less (-) rate the tested curve needs than the anchor for the same quality."""

    percent: float | None = None  # None: not computed, for the reason in `note`
    low: float | None = None  # quality: the range it is the mean over; low == high where the tested codec has one rate
    high: float | None = None
    overlap: float | None = None  # that range as a part, 0 to 1, of the one wanted, else of all that both curves span
    note: str = ""


def rate_difference(
    anchor: Curve, tested: Curve, window: Window | None = None, *, wanted: Range | None = None
) -> RateDifference:
    """The rate difference of two curves, of any order of points.

    window: within these bits per pixel; wanted: within this range of quality. Neither: over all the common quality.
    A tested curve of one point is compared at that point: the anchor's rate at the same quality is interpolated,
    linearly in its logarithm. Points at which a curve costs more for no more quality are left out.
    """
    anchor, tested = rising(anchor), rising(tested)
    if len(tested) == 1:
        return _at_a_point(anchor, tested[0], window, wanted)
    if min(len(anchor), len(tested)) < LEAST_POINTS:
        counts = f"{len(tested)} and {len(anchor)}"
        return RateDifference(note=f"needs {LEAST_POINTS} points of rising quality on both curves, not {counts}")
    try:
        import bjontegaard
    except ImportError as error:
        return RateDifference(note=f"{error.name} is not installed: pip install {error.name}")
    (rate_a, level_a), (rate_t, level_t) = np.array(anchor).T, np.array(tested).T
    if max(level_a[0], level_t[0]) >= min(level_a[-1], level_t[-1]):
        return RateDifference(note="the curves reach no common quality")
    # The package gives the two interpolations of log10(rate); its own number is their mean over the whole overlap.
    _, log_a, log_t = bjontegaard.bd_rate(
        *(rate_a, level_a, rate_t, level_t),
        method="pchip",
        require_matching_points=False,
        interpolators=True,
        min_overlap=0,
    )
    ranges = [(level_a[0], level_a[-1]), (level_t[0], level_t[-1])]
    if window is not None:
        cut = [_reached(log, *ends, window) for log, ends in zip((log_a, log_t), ranges, strict=True)]
        if None in cut:
            return RateDifference(note=f"a curve has no rates from {window[0]:g} to {window[1]:g} bpp")
        ranges = [ends for ends in cut if ends is not None]
    if wanted is not None:
        ranges.append(wanted)
    low, high = max(ends[0] for ends in ranges), min(ends[1] for ends in ranges)
    span = max(level_a[-1], level_t[-1]) - min(level_a[0], level_t[0]) if wanted is None else wanted[1] - wanted[0]
    if low >= high:
        where = "in the window" if wanted is None else f"from {wanted[0]:g} to {wanted[1]:g}"
        return RateDifference(note=f"the curves reach no common quality {where}")
    if wanted is not None and high - low < LEAST_PART * span:
        common = f"{low:.2f} to {high:.2f}"
        return RateDifference(note=f"of {wanted[0]:g} to {wanted[1]:g} both curves reach {common} only: less than half")
    mean = float(log_t.integrate(low, high) - log_a.integrate(low, high)) / (high - low)
    return RateDifference(100 * (10**mean - 1), float(low), float(high), float((high - low) / span))


def rising(curve: Curve) -> Curve:
    """The points by rate, without those whose quality is not above that of every cheaper one."""
    kept: list[tuple[float, float]] = []
    for rate, quality in sorted(curve, key=lambda point: (point[0], -point[1])):
        if not kept or (quality > kept[-1][1] and rate > kept[-1][0]):
            kept.append((rate, quality))
    return kept


def _at_a_point(
    anchor: Curve, point: tuple[float, float], window: Window | None, wanted: Range | None
) -> RateDifference:
    rate, quality = point
    if wanted is not None and not wanted[0] <= quality <= wanted[1]:
        return RateDifference(note=f"its {quality:.2f} is outside {wanted[0]:g} to {wanted[1]:g}")
    if window is not None and not window[0] <= rate <= window[1]:
        return RateDifference(note=f"its {rate:.3f} bpp are outside {window[0]:g} to {window[1]:g} bpp")
    if len(anchor) < 2 or not anchor[0][1] <= quality <= anchor[-1][1]:
        return RateDifference(note=f"no rates on both sides of {quality:.2f} were measured")
    rates, qualities = np.array(anchor).T
    log_rate = float(np.interp(quality, qualities, np.log10(rates)))
    return RateDifference(100 * (rate / 10**log_rate - 1), quality, quality)


def _reached(log_rate: Callable[[float], Any], low: float, high: float, window: Window) -> tuple[float, float] | None:
    """The range of quality that a curve reaches at rates in the window, None where it has no rate there."""
    if log_rate(low) > np.log10(window[1]) or log_rate(high) < np.log10(window[0]):
        return None
    return _quality_at(log_rate, low, high, window[0]), _quality_at(log_rate, low, high, window[1])


def _quality_at(log_rate: Callable[[float], Any], low: float, high: float, rate: float) -> float:
    """The quality at which a rising curve reaches a rate, or its nearer end."""
    wanted = np.log10(rate)
    if log_rate(low) >= wanted:
        return low
    if log_rate(high) <= wanted:
        return high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if log_rate(middle) < wanted else (low, middle)
    return low
