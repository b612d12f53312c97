"""The course of a run: its clock, how a given time is shared out, and when pictures are evaluated.

A run of a given time ends within it, with everything that is done besides steps: reading the pictures, evaluations, the
start of codebooks, the model's export. None of these is known beforehand. So each step moves the run on by the step's
share of the time that is left for steps by what has been measured so far: progress never falls, and reaches 1 when that
time is used up.
"""

from __future__ import annotations

import math
import time

from gmvqzip.errors import TrainingError

GAP = 30.0  # seconds between evaluations, at least
SHARE = 0.05  # of the run's time for evaluations, at most; and of the time so far from one to the next, at least
EXPORT_SHARE, EXPORT_SECONDS = 0.08, (8.0, 180.0)  # of a run of a given time, at least and at most: kept for its end
EXPORT_MOST = 0.25  # of it, in any case
FEWEST, TRIAL = 4, 4  # pictures in an evaluation at least, and in the one that measures how long it takes
KNOWN_AFTER = 3  # steps, of which the fastest says how long a step takes
_SMOOTHING = 0.1  # of the time of a step


class Course:
    """Position and times of a run, all in seconds.

    seconds: given to the whole run, None where its length is in steps; began: when, by `time.monotonic`; every: steps
    between evaluations, None where time decides. What the loop sets: `awaited`, what is still to come between steps,
    besides evaluations and the export.
    """

    def __init__(self, seconds: float | None, began: float | None = None, every: int | None = None) -> None:
        self.seconds, self.every = seconds, every
        self.progress = 0.0  # of a run of a given time
        self.trained = 0.0  # in steps
        self.awaited = 0.0
        self.pictures: int | None = None  # in an evaluation; None until one has been timed
        self._began = time.monotonic() if began is None else began
        self._evaluated = self._began  # when the last evaluation ended
        self._evaluation: float | None = None  # time of an evaluation
        self._steps = 0  # in this process
        self._typical, self._fastest = 0.0, math.inf  # time of a step

    @property
    def elapsed(self) -> float:
        """Since the run's beginning, without the time between a checkpoint and its resumption."""
        return time.monotonic() - self._began

    def export_end(self) -> float | None:
        """When an export that begins now should be over, by `time.monotonic`; None where the length is in steps.

        At the end of the run's time, but a run that is late has half of what is kept for its end.
        """
        if self.seconds is None:
            return None
        return max(self._began + self.seconds, time.monotonic() + export_seconds(self.seconds) / 2)

    def resumed(self, elapsed: float, trained: float, progress: float | None) -> None:
        """Go on from a checkpoint; progress: None where it was of a run of another length."""
        self._began -= elapsed
        self.trained = trained
        self.progress = min(1.0, elapsed / (self.seconds or math.inf)) if progress is None else progress

    def step_done(self, seconds: float) -> None:
        """A step has just ended that took so long."""
        self.trained += seconds
        self._steps += 1
        if self._steps == 1:
            self._evaluated = time.monotonic()  # the first evaluation comes a while after the first step
        self._fastest = min(self._fastest, seconds)
        self._typical += (seconds - self._typical) * (1 if self._steps <= 2 else _SMOOTHING)
        if self.seconds is None:
            return
        left = self._left_for_steps(self.seconds)
        if left <= seconds / 2:
            self.progress = 1.0
        else:
            self.progress += (1 - self.progress) * seconds / (left + seconds)

    def _left_for_steps(self, seconds: float) -> float:
        end = export_seconds(seconds) + (self._evaluation or 0.0)
        left = seconds - self.elapsed - self.awaited - end
        return left if self._evaluation is None else left * (1 - self._evaluation / (self._gap() + self._evaluation))

    # Evaluations.

    def evaluation_due(self, step: int) -> bool:
        """Whether it is time for an evaluation, after so many steps."""
        if self.every is not None:
            return step % self.every == 0
        return time.monotonic() - self._evaluated >= self._gap()

    def _gap(self) -> float:
        if self.every is not None:
            return self.every * self._typical
        return max(GAP, (self._evaluation or 0.0) / SHARE, self.elapsed * SHARE)

    def evaluation_done(self, seconds: float) -> None:
        """An evaluation has just ended that took so long."""
        self._evaluation, self._evaluated = seconds, time.monotonic()

    def pictures_for(self, seconds: float, pictures: int, most: int) -> int:
        """How many pictures of which `pictures` took so long make an evaluation; the same until the end of the run."""
        if self.pictures is None:
            affordable = int(GAP * SHARE * pictures / max(seconds, 1e-9))
            self.pictures = max(FEWEST, min(affordable, most))
        return self.pictures

    # Lengths.

    def check_speed(self, step: int, least_steps: int) -> None:
        """Raise TrainingError where a given time is too short for `least_steps`, of which `step` are done, as soon as
        that is known."""
        if self.seconds is None or step >= least_steps or (self._steps != KNOWN_AFTER and self.progress < 1):
            return
        missing = (least_steps - step) * self._fastest - self._left_for_steps(self.seconds)
        if missing > 0:
            needed = self.seconds + missing
            while needed - export_seconds(needed) < self.seconds - export_seconds(self.seconds) + missing:
                needed *= 1.01
            raise TrainingError(
                f"{self.seconds:.0f} s are too short for the phases of this training: they need {least_steps} steps at "
                f"least, and one takes {self._fastest:.2g} s here: give --time {in_words(needed)} or more"
            )

    def seconds_left(self, steps: int) -> float | None:
        """Until the end of a run that has so many steps before it, or a given time; None before the first step."""
        if self.seconds is not None:
            return max(0.0, self.seconds - self.elapsed)
        evaluation = self._evaluation or 0.0
        return (
            steps * self._typical * (1 + evaluation / self._gap()) + self.awaited + evaluation if self._steps else None
        )


def export_seconds(seconds: float) -> float:
    """What a run of so many seconds keeps for its end."""
    return min(max(EXPORT_SHARE * seconds, EXPORT_SECONDS[0]), EXPORT_SECONDS[1], EXPORT_MOST * seconds)


def in_words(seconds: float) -> str:
    """A duration as `--time` takes it, rounded up."""
    if seconds <= 90:
        return f"{math.ceil(seconds)}s"
    return f"{math.ceil(seconds / 60)}m"
