"""Rate control: which quality reaches a wanted size or PSNR, and how many rounds of refinement an effort means.

A file is asked for by a quality of 1 to 100 and, between two neighbouring qualities, by the trade: a factor of the bits
against the distortion. `search` narrows down first the quality, then the trade, in a few tries; `reach` goes on from
there for an effort that changes the sizes. Both know a file by one number, bytes or PSNR. What makes it is given.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Generic, TypedDict, TypeVar

from gmvqzip.errors import ModelError, real_number, whole_number
from gmvqzip.setting import DEFAULT_EFFORT, EFFORT_ROUNDS, QUALITIES, Setting, rounds_of

SEARCH_ROUNDS = EFFORT_ROUNDS[0]  # of the tries that look for the setting
MAX_PSNR = 100.0  # dB; beyond it no two pictures are told apart

_TRADE_END = math.log(1.25)  # the trade runs from 1 / 1.25 to 1.25
_FINE_TRIES = 6  # on each side of a gap between two qualities
_END_STEPS = 10  # over so many steps the excess rises by more than the slack
_FINISHES = 4  # tries at the wanted effort
_MOST_BPP = 1e6  # bits; no file has as many for each pixel
_GAIN = 0.75  # of its width a range must lose, or be cut in the middle next


class OutOfReach(ModelError):
    """No file of a picture is within the limit; whatever else is wrong with a model ends the search."""


class RateOptions(TypedDict, total=False):
    """Keywords of `Codec.compress` that choose the rate; see `Wish`."""

    quality: int | None
    target_bpp: float | None
    target_size: int | None
    target_psnr: float | None
    effort: int


class Goal(ABC):
    """A number of a file to come near to without passing it.

    `excess` says how far a file's number is beyond the limit; a file above 0 breaks it, and one down to -`tolerance`
    is near enough. It rises with the steps, whole numbers from 0 to LAST_STEP for the qualities, and with the fine
    steps about each, logarithms of the trade.
    """

    LAST_STEP: ClassVar[int] = len(QUALITIES) - 1
    tolerance: ClassVar[float]
    slope: ClassVar[float]  # typical rise of the excess from a step to the next; only the second try depends on it

    @property
    def slack(self) -> float:
        """A search ends at an excess from -slack to 0; less than the tolerance, since a higher effort moves it."""
        return self.tolerance / 3

    @abstractmethod
    def excess(self, measured: float) -> float:
        """How far a file's number is beyond the limit."""

    @abstractmethod
    def setting(self, step: int, fine: float = 0.0) -> Setting:
        """The setting at a step and a fine step."""

    @abstractmethod
    def place(self, setting: Setting) -> tuple[int, float]:
        """The step and the fine step of a setting."""

    @abstractmethod
    def refusal(self, measured: float) -> str:
        """Why a file does not do although none comes nearer, in one line."""

    def grade(self, setting: Setting, excess: float) -> tuple[int, float, float]:
        """Greater is better, and from (0, ...) on within the limit: first the last step, then what is near, then far.

        From one grade the farthest step is the best: where noise makes its file the smaller one, all the better.
        """
        if excess > 0:
            return -1, -excess, 0.0
        place = self.place(setting)
        return 2 if place == (self.LAST_STEP, 0.0) else int(excess >= -self.tolerance), *place


@dataclass(frozen=True)
class SizeGoal(Goal):
    """A ceiling of `limit` bytes for a picture of `pixels` pixels; the excess is the logarithm of a ratio."""

    limit: int
    pixels: int
    tolerance = math.log(1 / 0.97)  # files within 3 % of the ceiling
    slope = 0.03

    def excess(self, measured: float) -> float:
        """Of a size in bytes."""
        return math.log(measured / max(self.limit, 1))

    def setting(self, step: int, fine: float = 0.0) -> Setting:
        """Steps go up the qualities."""
        return Setting(QUALITIES[step], math.exp(-fine))

    def place(self, setting: Setting) -> tuple[int, float]:
        """Inverse of `setting`."""
        return QUALITIES.index(setting.quality), -math.log(setting.trade)

    def refusal(self, measured: float) -> str:
        """Of the smallest size in bytes."""
        found, limit = (f"{size:.0f} bytes ({8 * size / self.pixels:.4g} bpp)" for size in (measured, self.limit))
        return f"the smallest file of this picture has {found}, above the target of {limit}: raise the target"


@dataclass(frozen=True)
class PsnrGoal(Goal):
    """A floor of `limit` dB; the excess is what a file lacks."""

    limit: float
    tolerance = 0.1  # dB
    slope = 0.12

    def excess(self, measured: float) -> float:
        """Of a PSNR in dB."""
        return self.limit - measured

    def setting(self, step: int, fine: float = 0.0) -> Setting:
        """Steps go down the qualities."""
        return Setting(QUALITIES[-1 - step], math.exp(fine))

    def place(self, setting: Setting) -> tuple[int, float]:
        """Inverse of `setting`."""
        return self.LAST_STEP - QUALITIES.index(setting.quality), math.log(setting.trade)

    def refusal(self, measured: float) -> str:
        """Of the highest PSNR in dB."""
        return f"the best file of this picture has {measured:.2f} dB, below the target of {self.limit:g} dB: lower it"


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
                if not 0 < value < math.inf:
                    raise ModelError(f"{name} {value:g} is out of range: give more than 0")
                object.__setattr__(self, name, value)
        if self.target_psnr is not None and self.target_psnr > MAX_PSNR:
            raise ModelError(f"target_psnr {self.target_psnr:g} is out of range: give at most {MAX_PSNR:g} dB")
        object.__setattr__(self, "effort", whole_number(self.effort, "effort", ModelError))
        rounds_of(self.effort)

    @property
    def has_target(self) -> bool:
        """Whether there is a size or a PSNR to reach."""
        return self.target_bpp is not None or self.target_size is not None or self.target_psnr is not None

    @property
    def rounds(self) -> int:
        """Rounds of refinement."""
        return rounds_of(self.effort)

    def goal(self, width: int, height: int) -> Goal:
        """The goal for a picture of this size in pixels, where there is a target."""
        pixels = width * height
        if self.target_psnr is not None:
            return PsnrGoal(self.target_psnr)
        if self.target_size is not None:
            return SizeGoal(math.floor(self.target_size), pixels)
        if self.target_bpp is None:
            raise ValueError("no target is given")
        size = math.floor(min(self.target_bpp, _MOST_BPP) * pixels / 8)
        if 8 * size / pixels > self.target_bpp:  # the product was rounded up to a whole number
            size -= 1
        return SizeGoal(size, pixels)


Product = TypeVar("Product")
Attempt = Callable[[Setting], tuple[float, Product]]
ReducedAttempt = Callable[[int, Setting], tuple[float, Product]]


@dataclass(frozen=True)
class Found(Generic[Product]):
    """A file: its setting, its number (bytes or dB), and whatever the attempt returned beside that."""

    setting: Setting
    measured: float
    product: Product


class _Tries(Generic[Product]):
    """What was tried so far. Excesses of all are kept; products only of the best file of each number of rounds."""

    def __init__(self, attempt: Attempt[Product], goal: Goal) -> None:
        self.attempt, self.goal = attempt, goal
        self.excesses: dict[Setting, float] = {}
        self._best: dict[int, Found[Product]] = {}

    def excess(self, setting: Setting, shift: float = 0.0) -> float:
        """The excess of a setting, tried if it is new, plus `shift`."""
        if setting not in self.excesses:
            measured, product = self.attempt(setting)
            self.excesses[setting] = self.goal.excess(measured)
            found = Found(setting, measured, product)
            if self._grade(found) >= self._grade(self._best.setdefault(setting.rounds, found)):
                self._best[setting.rounds] = found
        return self.excesses[setting] + shift

    def choose(self, rounds: int) -> Found[Product]:
        """The best file of `rounds`; or of SEARCH_ROUNDS, where only that is near the limit, or within it at all.

        Raises ModelError where no file is within the limit.
        """
        found = [self._best[key] for key in (rounds, SEARCH_ROUNDS) if key in self._best]
        for least in (1, 0):
            for candidate in found:
                if self._grade(candidate)[0] >= least:
                    return candidate
        raise OutOfReach(self.goal.refusal(max(found, key=self._grade).measured))

    def _grade(self, found: Found[Product]) -> tuple[int, float, float]:
        return self.goal.grade(found.setting, self.excesses[found.setting])


def single(attempt: Attempt[Product], goal: Goal, setting: Setting) -> Found[Product]:
    """The file of a model with a single rate at its setting; or, where only that will do, without refinement.

    Raises ModelError where both are beyond the goal's limit.
    """
    found = [Found(setting, *attempt(setting))]
    if goal.excess(found[0].measured) > 0 and setting.rounds:
        first = replace(setting, rounds=0)
        found.append(Found(first, *attempt(first)))
    best = min(found, key=lambda one: goal.excess(one.measured))
    if goal.excess(best.measured) > 0:
        raise OutOfReach(f"{goal.refusal(best.measured)}, or take a model with more than a single rate")
    return best


def reach(attempt: Attempt[Product], goal: Goal, rounds: int = SEARCH_ROUNDS) -> Found[Product]:
    """A file within the goal's limit and, where there is one, within its tolerance of it.

    attempt: makes a file, and returns its bytes or its PSNR in dB, and a product to keep; rounds: of the wanted file.
    The search itself tries files of SEARCH_ROUNDS. Then at most four of `rounds` follow, each where the difference
    between the two that was seen before says; if none of them does, the best of the others is taken. Raises
    ModelError, with the nearest file's number, where none is within the limit.
    """
    tries = _Tries(attempt, goal)
    setting = search(tries.excess, goal)
    if rounds == SEARCH_ROUNDS:
        return tries.choose(rounds)
    for _ in range(_FINISHES):
        final = replace(setting, rounds=rounds)
        if final in tries.excesses:
            break
        excess = tries.excess(final)
        if -goal.tolerance <= excess <= 0:
            break
        shift = excess - tries.excess(setting)
        setting = search(partial(tries.excess, shift=shift), goal, start=setting)
    return tries.choose(rounds)


def reach_reduced(attempt: ReducedAttempt[Product], goal: Goal, rounds: int, most_halvings: int) -> Found[Product]:
    """As `reach`, of pictures of full size, and where none of them is within the limit, of ever smaller ones.

    attempt: as for `reach`, behind how often the picture is halved; most_halvings: of it. Raises ModelError, with the
    number of the smallest picture's nearest file, where none is within the limit.
    """
    for halvings in range(most_halvings):
        try:
            return reach(partial(attempt, halvings), goal, rounds)
        except OutOfReach:
            continue
    return reach(partial(attempt, most_halvings), goal, rounds)


def search(excess: Callable[[Setting], float], goal: Goal, start: Setting | None = None) -> Setting:
    """The best of the settings tried; the one nearest to the limit where none is within it.

    excess: rises, save for noise, with the goal's steps; start: where to begin. At most 30 settings are tried, mostly
    4 to 8.
    """
    tried: dict[Setting, float] = {}

    def look(step: int, fine: float = 0.0) -> float:
        setting = goal.setting(step, fine)
        tried[setting] = excess(setting)
        return tried[setting]

    steps = _Bracket(-1, goal.LAST_STEP + 1, goal)
    step = goal.LAST_STEP // 2 if start is None else goal.place(start)[0]
    while not steps.enter(step, look(step)) and steps.high - steps.low > 1:
        step = round(steps.guess(1.0, goal.slope))
    if not steps.done and steps.low < goal.LAST_STEP:
        _refine(look, steps, goal)
    elif steps.high > goal.LAST_STEP > steps.low >= goal.LAST_STEP - _END_STEPS:
        look(goal.LAST_STEP)  # near the limit, but even the last step may be within it
    return max(tried, key=lambda setting: goal.grade(setting, tried[setting]))


def _refine(look: Callable[[int, float], float], steps: _Bracket, goal: Goal) -> None:
    """Fine steps up from a step within the limit, and down from the next one, which is beyond it; the nearer first."""
    below, above = round(steps.low), round(steps.high)
    up = _Bracket(0.0, _TRADE_END, goal, low_excess=steps.low_excess)
    down = _Bracket(-_TRADE_END, 0.0, goal, high_excess=steps.high_excess)
    sides = [(below, up), (above, down)]
    if steps.low_excess is None or steps.high_excess is None:  # the first step is beyond the limit
        if down.enter(down.low, look(above, down.low)) or down.low_excess is None:
            return
        sides = [(above, down)]
    elif steps.high_excess < -steps.low_excess:
        sides.reverse()
    for step, side in sides:
        for _ in range(_FINE_TRIES):
            fine = side.guess((side.high - side.low) / 20)
            if side.enter(fine, look(step, fine)):
                return


class _Bracket:
    """A range whose low end is within the limit and whose high end is not, as far as their excesses are known."""

    def __init__(
        self,
        low: float,
        high: float,
        goal: Goal,
        *,
        low_excess: float | None = None,
        high_excess: float | None = None,
    ) -> None:
        self.low, self.high, self.goal = low, high, goal
        self.low_excess, self.high_excess = low_excess, high_excess
        self.done = False
        self._halve = False

    def enter(self, place: float, excess: float) -> bool:
        """Make a place the new end of its side; true, and `done`, where it ends the search."""
        width = self.high - self.low
        if excess <= 0:
            self.low, self.low_excess = place, excess
        else:
            self.high, self.high_excess = place, excess
        self._halve = self.high - self.low > _GAIN * width
        self.done = -self.goal.slack <= excess <= 0
        return self.done

    def guess(self, margin: float, slope: float | None = None) -> float:
        """A place at least `margin` from both ends: where the known ends, or one and a slope, lead; or the middle."""
        place = (self.low + self.high) / 2
        aim = -self.goal.slack / 2
        if self._halve:
            pass
        elif self.low_excess is not None and self.high_excess is not None:
            rise = self.high_excess - self.low_excess
            place = self.low + (self.high - self.low) * (aim - self.low_excess) / rise
        elif slope is not None and self.low_excess is not None:
            place = self.low + (aim - self.low_excess) / slope
        elif slope is not None and self.high_excess is not None:
            place = self.high - (self.high_excess - aim) / slope
        return min(max(place, self.low + margin), self.high - margin)
