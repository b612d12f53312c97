"""What `train` shows while it runs: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmvqzip.cli.report import to_stderr

if TYPE_CHECKING:
    from gmvqzip.training.loop import StepRecord, TrainingLoop

_LINE_SECONDS = 30.0  # between progress lines where there is no terminal


class TrainingDisplay:
    """A context: `say` a line, `on_step`, `on_evaluation`, and the `results` at the end."""

    def __init__(self, *, enabled: bool, quiet: bool) -> None:
        self.quiet = quiet
        self._bar: Any = None
        self._last = self._rate_time = time.monotonic()
        self._rate_step: int | None = None
        self._rate = 0.0
        if enabled:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task("starting", total=1.0)

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

    def on_step(self, record: StepRecord, trainer: TrainingLoop) -> None:
        """Move the bar, or print a line from time to time."""
        now = time.monotonic()
        if self._rate_step is None:
            self._rate_step, self._rate_time = record.step, now
        elif now - self._rate_time > 1:
            self._rate = (record.step - self._rate_step) / (now - self._rate_time)
            if now - self._rate_time > 10:
                self._rate_step, self._rate_time = record.step, now
        text = describe_step(record, self._rate * trainer.config.batch_size)
        if self._bar:
            self._bar.update(self._task, completed=trainer.progress, description=text)
        elif now - self._last > _LINE_SECONDS and not self.quiet:
            self._last = now
            to_stderr(f"{trainer.progress:6.1%} {text}")

    def on_evaluation(self, step: int, summary: dict[str, Any]) -> None:
        """One line with the figures on validation pictures."""
        self.say(f"step {step}: validation {describe_results(summary)}")

    def results(self, output: Path, card: dict[str, Any]) -> None:
        """The measured results of the model that was written."""
        for split, summary in card["results"].items():
            self.say(f"{split}: {describe_results(summary)}")
            for line in beside_webp(summary):
                self.say(line)
        self.say(f"wrote {output} ({output.stat().st_size / 1e6:.2f} MB)")


def describe_step(record: StepRecord, images_per_second: float) -> str:
    """Step, loss terms, PSNR, perplexity, utilisation and speed in one line."""
    values = record.values
    parts = [f"step {record.step}", f"loss {values['loss']:.4f}", f"PSNR {values['psnr']:.2f} dB"]
    if "bpp" in values:
        parts.append(f"{values['bpp']:.3f} bpp")
    for name, label in (("perplexity_hard", "perplexity"), ("utilisation", "used")):
        numbers = [values[key] for key in values if key.startswith(name + ".")]
        if numbers:
            form = "{:.0%}" if name == "utilisation" else "{:.0f}"
            parts.append(f"{label} " + "/".join(form.format(number) for number in numbers))
    parts.append(f"{images_per_second:.0f} images/s")
    return ", ".join(parts)


def beside_webp(summary: dict[str, Any]) -> list[str]:
    """A table of a model's qualities beside WebP at equal rates, where the summary has one."""
    if "webp_psnr_mean" not in summary:
        return []
    lines = ["  quality     bpp    PSNR    WebP at this rate"]
    rows = zip(summary["quality"], summary["bpp"], summary["psnr_mean"], summary["webp_psnr_mean"], strict=True)
    for quality, bpp, psnr, webp in rows:
        rival = "not reached" if webp is None else f"{webp:6.2f}  ({psnr - webp:+.2f} dB)"
        lines.append(f"  {quality:7d}  {bpp:6.3f}  {psnr:6.2f}    {rival}")
    return lines


def describe_results(summary: dict[str, Any]) -> str:
    """Error, bits and code use of an evaluation in one line; of several qualities, rate and PSNR of each."""
    if "quality" in summary:
        rows = zip(summary["bpp"], summary["psnr_mean"], strict=True)
        points = ", ".join(f"{bpp:.3f} bpp {psnr:.2f} dB" for bpp, psnr in rows)
        return f"{points} (mean of {summary['pictures']} pictures)"
    perplexity = "/".join(f"{value:.0f}" for value in summary["perplexity_hard"])
    used = "/".join(f"{value:.1%}" for value in summary["utilisation"])
    bits = summary.get("bpp", summary["bpp_order0"])
    return (
        f"MSE {summary['mse']:.3e}, PSNR {summary['psnr_mean']:.2f} dB (mean of {summary['pictures']} pictures), "
        f"{bits:.4f} bpp, perplexity {perplexity}, used {used}"
    )
