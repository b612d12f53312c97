"""Rate control: which setting of the encoder reaches a wanted size or PSNR.

Qualities and the trade between them make one axis: a place is a quality and, as its fraction, a trade, so that sizes
and PSNR rise along it almost without a gap. `reach` looks along it for the file that comes nearest to a target without
passing it, by secants. It knows a file by one number, bytes or PSNR; what makes it is given.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Generic, TypedDict, TypeVar

from gmvqzip.errors import ModelError, real_number, whole_number
from gmvqzip.setting import DEFAULT_EFFORT, EFFORT_ROUNDS, QUALITIES, Setting, rounds_of

MAX_PSNR = 100.0  # dB; beyond it no two pictures are told apart

_STEP_TRADE = 0.15  # logarithm of the trade that changes a file as much as a quality more; models have 0.13 to 0.18
_SPARE = math.log(1.25) / _STEP_TRADE  # of the axis, beyond the first quality and the last
_SCOUTS = 2  # tries without refinement, which tell the slope, before those of an effort
_TRIES = 12  # after which what is within the limit will do
_NARROW = 0.02  # of the axis: no closer are two places
_GAIN = 0.75  # of its width a range must lose, or be cut in the middle next
_MOST = {"target_psnr": MAX_PSNR}
_WANTED = {
    "target_bpp": "bits per pixel, more than 0",
    "target_size": "bytes, more than 0",
    "target_psnr": f"dB, more than 0 and at most {MAX_PSNR:g}",
}
_MOST_BPP = 1e6  # bits; no file has as many for each pixel


class OutOfReach(ModelError):
    """No file of a picture is within the limit; whatever else is wrong with a model ends the search."""


class RateOptions(TypedDict, total=False):
    """Keywords of `Codec.compress` that choose the rate; see `Wish`."""

    quality: int | None
    target_bpp: float | None
    target_size: int | None
    target_psnr: float | None
    effort: int


class Target(ABC):
    """A number of a file to come near to without passing it.

    `excess` says how far a file's number is beyond the limit; a file above 0 breaks it, and one down to -`tolerance`
    is near enough. It rises, by about `slope` a quality, along the axis from `start` to `end`.
    """

    tolerance: ClassVar[float]
    slope: ClassVar[float]  # only the first secant depends on it
    start: ClassVar[float]
    end: ClassVar[float]
    least_first: ClassVar[bool] = False  # the file of the least excess is tried first: it tells at once of a refusal

    @abstractmethod
    def excess(self, measured: float) -> float:
        """How far a file's number is beyond the limit."""

    @abstractmethod
    def refusal(self, measured: float) -> str:
        """Why a file does not do although none comes nearer, in one line."""

    def setting(self, place: float, rounds: int) -> Setting:
        """The setting at a place, counted from `start`: the nearest quality, and a trade for what is between."""
        at = self.start + math.copysign(place, self.end - self.start)
        quality = min(max(round(at), QUALITIES[0]), QUALITIES[-1])
        return Setting(quality, math.exp((quality - at) * _STEP_TRADE), rounds)


@dataclass(frozen=True)
class SizeTarget(Target):
    """A ceiling of `limit` bytes for a picture of `pixels` pixels; the excess is the logarithm of a ratio."""

    limit: int
    pixels: int
    tolerance = math.log(1 / 0.97)  # files within 3 % of the ceiling
    slope = 0.03
    start, end = QUALITIES[0] - _SPARE, float(QUALITIES[-1])

    def excess(self, measured: float) -> float:
        """Of a size in bytes."""
        return math.log(measured / max(self.limit, 1))

    def refusal(self, measured: float) -> str:
        """Of the smallest size in bytes."""
        found, limit = (f"{size:.0f} bytes ({8 * size / self.pixels:.4g} bpp)" for size in (measured, self.limit))
        return f"the smallest file of this picture has {found}, above the target of {limit}: raise the target"


@dataclass(frozen=True)
class PsnrTarget(Target):
    """A floor of `limit` dB; the excess is what a file lacks."""

    limit: float
    tolerance = 0.1  # dB
    slope = 0.12
    start, end = QUALITIES[-1] + _SPARE, float(QUALITIES[0])
    least_first = True

    def excess(self, measured: float) -> float:
        """Of a PSNR in dB."""
        return self.limit - measured

    def refusal(self, measured: float) -> str:
        """Of the PSNR in dB of the finest file."""
        return f"the finest file of this picture has {measured:.2f} dB, below the target of {self.limit:g} dB: lower it"


@dataclass(frozen=True)
class Wish:
    """What is asked of a file, checked: at most one of quality, target_bpp, target_size and target_psnr, and an effort.

    quality: 1 to 100, checked by the model; target_bpp: bits of the whole file per pixel, a ceiling; target_size:
    bytes of the whole file, a ceiling; target_psnr: dB over RGB of the decoded 8-bit picture, a floor; effort: 1 to 9.
    Raises ModelError.
    """

    quality: int | None = None
    target_bpp: float | None = None
    target_size: int | None = None
    target_psnr: float | None = None
    effort: int = DEFAULT_EFFORT

    def __post_init__(self) -> None:
        names = ("quality", "target_bpp", "target_size", "target_psnr")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if len(given) > 1:
            raise ModelError(f"{' and '.join(given)} contradict each other: give one")
        if self.quality is not None:
            object.__setattr__(self, "quality", whole_number(self.quality, "quality", ModelError))
        for name in names[1:]:
            if name in given:
                value = real_number(given[name], name, ModelError)
                if not 0 < value <= _MOST.get(name, sys.float_info.max):
                    raise ModelError(f"{name} {value:g} is out of range: give {_WANTED[name]}")
                object.__setattr__(self, name, value)
        object.__setattr__(self, "effort", whole_number(self.effort, "effort", ModelError))
        rounds_of(self.effort)

    @property
    def rounds(self) -> int:
        """Rounds of refinement."""
        return rounds_of(self.effort)

    @property
    def has_target(self) -> bool:
        """Whether there is a size or a PSNR to reach."""
        return self.target_bpp is not None or self.target_size is not None or self.target_psnr is not None

    def target(self, width: int, height: int) -> Target:
        """The target for a picture of this size in pixels, where there is one."""
        pixels = width * height
        if self.target_psnr is not None:
            return PsnrTarget(self.target_psnr)
        if self.target_size is not None:
            return SizeTarget(math.floor(self.target_size), pixels)
        if self.target_bpp is None:
            raise ValueError("no target is given")
        size = math.floor(min(self.target_bpp, _MOST_BPP) * pixels / 8)
        if 8 * size / pixels > self.target_bpp:  # the product was rounded up to a whole number
            size -= 1
        return SizeTarget(size, pixels)


Product = TypeVar("Product")
Attempt = Callable[[Setting], tuple[float, Product]]
ReducedAttempt = Callable[[int, Setting], tuple[float, Product]]


@dataclass(frozen=True)
class Found(Generic[Product]):
    """A file: its setting, its number (bytes or dB), and whatever the attempt returned beside that."""

    setting: Setting
    measured: float
    product: Product


def single(attempt: Attempt[Product], target: Target, quality: int, rounds: int) -> Found[Product]:
    """The file of a model with a single rate; or, where only that will do, without refinement.

    Raises OutOfReach where both are beyond the target's limit.
    """
    setting = Setting(quality, rounds=rounds)
    found = Found(setting, *attempt(setting))
    if target.excess(found.measured) > 0 and rounds and not target.least_first:
        setting = Setting(quality)
        found = min(found, Found(setting, *attempt(setting)), key=lambda one: target.excess(one.measured))
    if target.excess(found.measured) > 0:
        raise OutOfReach(f"{target.refusal(found.measured)}, or take a model with more than a single rate")
    return found


def reach_reduced(attempt: ReducedAttempt[Product], target: Target, rounds: int, most_halvings: int) -> Found[Product]:
    """As `reach`, of pictures of full size, and where none of them is within the limit, of ever smaller ones.

    attempt: as for `reach`, behind how often the picture is halved; most_halvings: of it. Raises OutOfReach, with the
    number of the smallest picture's nearest file, where none is within the limit.
    """
    for halvings in range(most_halvings):
        try:
            return reach(partial(attempt, halvings), target, rounds)
        except OutOfReach:
            continue
    return reach(partial(attempt, most_halvings), target, rounds)


def reach(attempt: Attempt[Product], target: Target, rounds: int = EFFORT_ROUNDS[0]) -> Found[Product]:
    """A file within the target's limit and, where there is one, within its tolerance of it; mostly 3 to 5 are made.

    attempt: makes a file, and returns its bytes or its PSNR in dB, and a product to keep; rounds: of refinement. Raises
    OutOfReach, with the nearest file's number, where none is within the limit.
    """
    search = _Search(target)
    best: Found[Product] | None = None
    place = search.length / 2
    if target.least_first:
        place = 0.0
    elif rounds:
        place = _scouted(attempt, search, place)
    while True:
        found = Found(target.setting(place, rounds), *attempt(target.setting(place, rounds)))
        excess = search.enter(place, target.excess(found.measured))
        if excess <= 0 and (best is None or place == search.length or excess >= target.excess(best.measured)):
            best = found
        if best is not None and search.done:
            return best
        if place == 0 and excess > 0:
            break
        place = search.following()
    if rounds and not target.least_first:  # what refinement adds may be too much
        first = Found(target.setting(0.0, 0), *attempt(target.setting(0.0, 0)))
        if target.excess(first.measured) <= 0:
            return first
        found = min(first, found, key=lambda one: target.excess(one.measured))
    raise OutOfReach(target.refusal(found.measured))


def _scouted(attempt: Attempt[Product], search: _Search, place: float) -> float:
    """Where to begin, by files without refinement, which also tell the slope."""
    for _ in range(_SCOUTS):
        if not 0 < place < search.length:
            break
        measured, _ = attempt(search.target.setting(place, 0))
        search.enter(place, search.target.excess(measured))
        place = search.following()
    search.forget()
    return place


class _Search:
    """Places that were tried, from 0 to `length`, and the next one."""

    def __init__(self, target: Target) -> None:
        self.target, self.length = target, abs(target.end - target.start)
        self.slope = target.slope
        self.tried: dict[float, float] = {}  # places and excesses
        self.done = False
        self._halve = False

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """The last place within the limit before the first one that is not, and that."""
        high = min((place for place, excess in self.tried.items() if excess > 0), default=None)
        low = max((place for place in self.tried if high is None or place < high), default=None)
        return low, high

    def enter(self, place: float, excess: float) -> float:
        """Take note of a try."""
        before = self._width()
        self.tried[place] = excess
        width = self._width()
        self._halve = len(self.tried) > 2 and width > _GAIN * before
        near = -self.target.tolerance <= excess <= 0 or (excess <= 0 and place == self.length)
        self.done = near or width <= _NARROW or len(self.tried) >= _TRIES
        return excess

    def following(self) -> float:
        """The place where the excess should be a little less than 0, by a secant; or the middle."""
        aim = -self.target.tolerance / 3
        low, high = self.ends
        if low is not None and high is not None:
            if self._halve:
                return (low + high) / 2
            rise = (self.tried[high] - self.tried[low]) / (high - low)
            margin = min((high - low) / 4, _NARROW)
            return min(max(low + (aim - self.tried[low]) / rise, low + margin), high - margin)
        self._learn()
        if len(self.tried) > 4:  # far from what is typical
            return self.length if high is None else 0.0
        if high is None:
            nearest = max(self.tried)
            return min(nearest + max((aim - self.tried[nearest]) / self.slope, _NARROW), self.length)
        return max(high - max((self.tried[high] - aim) / self.slope, _NARROW), 0.0)

    def forget(self) -> None:
        """All but the slope."""
        self._learn()
        self.tried.clear()
        self._halve = self.done = False

    def _learn(self) -> None:
        """The slope between the first and the last place, as far as it is credible."""
        first, last = min(self.tried, default=0.0), max(self.tried, default=0.0)
        if last - first >= 1:
            slope = (self.tried[last] - self.tried[first]) / (last - first)
            self.slope = min(max(slope, self.target.slope / 4), self.target.slope * 4)

    def _width(self) -> float:
        low, high = self.ends
        return (self.length if high is None else high) - (0.0 if low is None else low)
