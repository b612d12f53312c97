"""What `train` shows while it runs: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmvqzip.cli.report import to_stderr
from gmvqzip.training.stopping import CODEBOOKS, EXPORTING, READING

if TYPE_CHECKING:
    from gmvqzip.training.loop import StepRecord, TrainingLoop

_LINE_SECONDS = (10.0, 30.0)  # between progress lines where there is no terminal: after the first, and later
_LOSS_STEPS = 20  # over which the loss is smoothed


class TrainingDisplay:
    """A context: `say` a line, `on_step`, `on_evaluation`, `on_phase`, and the `results` at the end."""

    def __init__(self, *, enabled: bool, quiet: bool) -> None:
        self.quiet = quiet
        self._bar: Any = None
        self._line_due = 0.0
        self._lines = 0
        self._pace = Pace()
        self._last: dict[str, Any] | None = None  # evaluation
        self._trend = ""
        if enabled:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (BarColumn(20), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(READING, total=1.0)

    def __enter__(self) -> TrainingDisplay:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def leave(self) -> None:
        """Bring the terminal into order where the program ends at once."""
        if self._bar:
            self._bar.console.show_cursor(True)

    def say(self, line: str) -> None:
        """One line for the user."""
        if self.quiet:
            return
        if self._bar:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            to_stderr(line)

    def on_phase(self, doing: str) -> None:
        """The run does something else than steps."""
        if self._bar:
            self._bar.update(self._task, description=doing)
        elif doing in (CODEBOOKS, EXPORTING):
            self.say(doing)

    def on_step(self, record: StepRecord, trainer: TrainingLoop) -> None:
        """Move the bar, or print a line: for the first step at once, then from time to time."""
        now = time.monotonic()
        self._pace.step(record.values["loss"], now)
        if self._bar:
            text = describe_step(record, self._pace, self._trend, trainer.seconds_left)
            self._bar.update(self._task, completed=trainer.progress, description=text)
        elif now >= self._line_due:
            self._line_due = now + _LINE_SECONDS[min(self._lines, len(_LINE_SECONDS) - 1)]
            self._lines += 1
            text = describe_step(record, self._pace, self._trend, trainer.seconds_left)
            self.say(f"{trainer.progress:6.1%} {text}")

    def on_evaluation(self, step: int, summary: dict[str, Any]) -> None:
        """One line with the figures on validation pictures, and what changed since the last evaluation."""
        self.say(f"step {step}: validation {describe_results(summary, self._last)}")
        self._trend = describe_trend(summary, self._last)
        self._last = summary

    def results(self, output: Path, card: dict[str, Any]) -> None:
        """The measured results of the model that was written, but for those that the verdict's table has."""
        for split, summary in card["results"].items():
            if split != "validation" or "quality" not in summary:
                self.say(f"{split}: {describe_results(summary)}")
        self.say(f"wrote {output} ({output.stat().st_size / 1e6:.2f} MB)")


class Pace:
    """How fast a run goes, and its loss, both smoothed."""

    def __init__(self) -> None:
        self.loss: float | None = None
        self.rate: float | None = None  # steps per second; None until two are done
        self._steps = 0
        self._marks: deque[float] = deque(maxlen=_LOSS_STEPS)  # when the last steps ended

    def step(self, loss: float, now: float) -> None:
        """A step has ended."""
        self._steps += 1
        share = max(1 / self._steps, 1 / _LOSS_STEPS)
        self.loss = loss if self.loss is None else self.loss + share * (loss - self.loss)
        self._marks.append(now)
        if len(self._marks) > 1 and now > self._marks[0]:
            self.rate = (len(self._marks) - 1) / (now - self._marks[0])


def describe_step(record: StepRecord, pace: Pace, trend: str, left: float | None) -> str:
    """Step, speed, smoothed loss, code use of a staged model, the last evaluation and the time left, in one line."""
    values = record.values
    parts = [f"step {record.step}"]
    if pace.rate is not None:
        parts.append(f"{pace.rate:.2g} steps/s" if pace.rate < 10 else f"{pace.rate:.0f} steps/s")
    parts.append(f"loss {pace.loss or 0.0:.4f}")
    for name, label in (("perplexity_hard", "perplexity"), ("utilisation", "used")):
        numbers = [values[key] for key in values if key.startswith(name + ".")]
        if numbers:
            form = "{:.0%}" if name == "utilisation" else "{:.0f}"
            parts.append(f"{label} " + "/".join(form.format(number) for number in numbers))
    if trend:
        parts.append(trend)
    if left is not None:
        parts.append(f"{describe_time(left)} left")
    return ", ".join(parts)


def describe_time(seconds: float) -> str:
    """Minutes and seconds, or hours and minutes."""
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def describe_trend(summary: dict[str, Any], before: dict[str, Any] | None) -> str:
    """Rate and PSNR of an evaluation, at the middle quality where there are several, and their change, in short."""
    points, last = _points(summary), _points(before) if before else []
    middle = len(points) // 2
    return _point(*points[middle], *(last[middle][1:] if len(last) == len(points) else ()))


def _points(summary: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Name, bits per pixel and PSNR at each quality; a single one, without a name, of a model with one rate."""
    if "quality" not in summary:
        return [("", summary.get("bpp", summary["bpp_order0"]), summary["psnr_mean"])]
    rows = zip(summary["quality"], summary["bpp"], summary["psnr_mean"], strict=True)
    return [(f"q{quality_number(quality)} ", bpp, psnr) for quality, bpp, psnr in rows]


def quality_number(quality: float) -> int:
    """1 to 100, of a number from 0 to 1 as an evaluation has it, or of 1 to 100 as a card does."""
    return round(1 + 99 * quality) if isinstance(quality, float) else quality


def _point(name: str, bpp: float, psnr: float, bpp_before: float | None = None, psnr_before: float = 0.0) -> str:
    text = f"{name}{bpp:.3f} bpp {psnr:.2f} dB"
    if not bpp_before:
        return text
    return f"{text} ({100 * (bpp / bpp_before - 1):+.1f} %, {psnr - psnr_before:+.2f} dB)"


def describe_results(summary: dict[str, Any], before: dict[str, Any] | None = None) -> str:
    """An evaluation in one line, with what changed since the one before: of several qualities rate and PSNR of each."""
    pictures = f"(mean of {summary['pictures']} pictures)"
    if "quality" in summary:
        points, last = _points(summary), _points(before) if before else []
        old = [point[1:] for point in last] if len(last) == len(points) else [()] * len(points)
        return ", ".join(_point(*new, *was) for new, was in zip(points, old, strict=True)) + f" {pictures}"
    perplexity = "/".join(f"{value:.0f}" for value in summary["perplexity_hard"])
    used = "/".join(f"{value:.1%}" for value in summary["utilisation"])
    bits = summary.get("bpp", summary["bpp_order0"])
    change = f" ({summary['psnr_mean'] - before['psnr_mean']:+.2f})" if before else ""
    return (
        f"MSE {summary['mse']:.3e}, PSNR {summary['psnr_mean']:.2f} dB{change} {pictures}, "
        f"{bits:.4f} bpp, perplexity {perplexity}, used {used}"
    )
