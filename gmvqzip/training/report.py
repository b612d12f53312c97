"""What a run leaves behind for people: a JSON line a step, sheets of reconstructions, a plot of the curves.

Where TensorBoard is installed, the numbers go there too.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from gmvqzip.images.files import atomic_write

LOG_NAME = "log.jsonl"
_PLOT_SIZE, _MARGIN = (960, 320), 48
_PLOTS = ("psnr", "perplexity_hard.0", "loss")


class RunLog:
    """The log of a run: one JSON object a line, appended and flushed at once."""

    def __init__(self, folder: Path, step: int) -> None:
        """Open the log in `folder`, dropping what lies beyond `step` (a run resumed from an older checkpoint)."""
        self.path = folder / LOG_NAME
        kept = [line for line in read_log(self.path) if int(line.get("step", 0)) <= step]
        atomic_write(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode(), force=True)
        self._file = self.path.open("a", encoding="utf-8")
        self._board = _tensorboard(folder)

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Append one object: `kind` is "step", "evaluation" or "end"."""
        self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items() if self._board else ():
            if isinstance(value, int | float):
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Close the file; nothing is lost without it."""
        self._file.close()
        if self._board:
            self._board.close()


def _tensorboard(folder: Path) -> Any:
    """A TensorBoard writer into the run's folder, or None where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))


def read_log(path: Path) -> list[dict[str, Any]]:
    """The objects of a log; a last line that was cut is left out."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def save_sheet(folder: Path, step: int, sheet: np.ndarray[Any, Any]) -> None:
    """Write a sheet of originals above reconstructions [H, W, 3] uint8."""
    Image.fromarray(sheet).save(folder / f"samples-{step:08d}.png")


def plot_curves(folder: Path) -> None:
    """Draw the run's curves from its log into curves.png: PSNR, perplexity and loss over steps."""
    records = [r for r in read_log(folder / LOG_NAME) if r["kind"] == "step"]
    shown = [name for name in _PLOTS if any(name in r for r in records)]
    if not shown:
        return
    width, height = _PLOT_SIZE
    picture = Image.new("RGB", (width, height * len(shown)), "white")
    draw = ImageDraw.Draw(picture)
    for row, name in enumerate(shown):
        points = [(float(r["step"]), float(r[name])) for r in records if name in r]
        _plot(draw, row * height, name, points)
    picture.save(folder / "curves.png")


def _plot(draw: ImageDraw.ImageDraw, top: int, name: str, points: Sequence[tuple[float, float]]) -> None:
    width, height = _PLOT_SIZE
    x, y = np.array(points).T
    low, high = np.quantile(y, [0.01, 0.99])
    low, high = (low - 0.5, low + 0.5) if high <= low else (low, high)
    left, right = x[0], max(x[-1], x[0] + 1)
    u = _MARGIN + (x - left) / (right - left) * (width - 2 * _MARGIN)
    v = top + height - _MARGIN - np.clip((y - low) / (high - low), 0, 1) * (height - 2 * _MARGIN)
    draw.rectangle([_MARGIN, top + _MARGIN, width - _MARGIN, top + height - _MARGIN], outline="gray")
    draw.line(list(zip(u.tolist(), v.tolist(), strict=True)), fill="navy", width=1)
    draw.text(
        (_MARGIN, top + _MARGIN - 16), f"{name}: {low:.4g} to {high:.4g}, steps {left:.0f} to {right:.0f}", "black"
    )
