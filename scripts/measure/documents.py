"""What flagship.py found, in the documents: Markdown between two marks, a picture, and the figures as JSON.

<!-- NAME: written by scripts/measure/flagship.py -->
...
<!-- NAME: end -->
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from gmvqzip.bench.measure import Point
from gmvqzip.bench.plot import plot
from gmvqzip.bench.results import PictureResult, Results
from gmvqzip.images.files import atomic_write
from gmvqzip.setting import DEFAULT_QUALITY

PLOTTED = ("ssimulacra2", "psnr")
# Titles of the other codecs, for readers who do not know their settings.
TITLES = {
    "avif-420": "AVIF, as Pillow writes it (4:2:0)",
    "avif": "AVIF 4:4:4, tuned for PSNR",
    "jxl": "JPEG XL",
    "webp": "WebP",
    "jpegli": "JPEG by jpegli",
    "jpeg": "JPEG by libjpeg-turbo",
}


@dataclass(frozen=True)
class Recorded:
    """A codec of which the figures alone are known."""

    name: str
    title: str
    labels: dict[float, str]

    def label(self, quality: float) -> str:
        """The setting as its own tool counts it."""
        return self.labels[quality]


def recorded(path: Path) -> Results:
    """What `flagship.py --json` wrote. Raises ValueError where the file has no pictures' points, as FIGURES has not."""
    found = json.loads(path.read_text(encoding="utf-8"))
    names = [entry.name for entry in fields(Point)]
    if not all("points" in image for image in found["images"]):
        raise ValueError(f"{path} holds means alone")
    pictures = [
        PictureResult(
            image["name"],
            image["width"],
            image["height"],
            [Point(**{name: point[name] for name in names}) for point in image["points"]],
        )
        for image in found["images"]
    ]
    codecs: list[Any] = [
        Recorded(name, title, {point["quality"]: point["setting"] for point in found["mean"] if point["codec"] == name})
        for name, title in found["codecs"].items()
    ]
    run = {key: found[key] for key in ("model", "effort", "threads") if key in found}
    return Results(codecs, found["missing"], pictures, tuple(found["bpp_window"]), run=run)


def means_alone(found: dict[str, Any]) -> dict[str, Any]:
    """The figures without times and the points of single pictures, whose names are left."""
    mean = [{name: value for name, value in point.items() if not name.endswith("_seconds")} for point in found["mean"]]
    return {**found, "mean": mean, "images": [Path(image["name"]).name for image in found["images"]]}


def update(root: Path, found: dict[str, Any], results: Results) -> None:
    """Write a model's figures, picture and blocks. Raises ValueError, before anything is written, where a mark is
    missing, or for a model that the documents say nothing of."""
    name = found["model"]["name"]
    if name not in PLACES:
        raise ValueError(f"the documents have {' and '.join(PLACES)}, not {name}")
    kept, places = means_alone(found), PLACES[name]
    texts = {root / page: with_block(root / page, block, make(kept)) for page, block, make in places.blocks}
    atomic_write(root / places.figures, (json.dumps(kept, indent=1) + "\n").encode(), force=True)
    if places.plot is not None:
        atomic_write(root / places.plot, plot(results, PLOTTED), force=True)
    for path, text in texts.items():
        atomic_write(path, text.encode(), force=True)


def with_block(path: Path, name: str, text: str) -> str:
    """The document with that text between the marks of that name. Raises ValueError where they are not there once."""
    begin, end = f"<!-- {name}: written by scripts/measure/flagship.py -->\n", f"<!-- {name}: end -->\n"
    document = path.read_text(encoding="utf-8")
    if document.count(begin) != 1 or document.count(end) != 1:
        raise ValueError(f"{path} has not one block {name}")
    head, rest = document.split(begin)
    return f"{head}{begin}{text}{end}{rest.split(end)[1]}"


def comparison(found: dict[str, Any]) -> str:
    """A table of the README: how many bytes more or fewer than each codec, and what the qualities span."""
    (low, high), window = found["ssimulacra2_range"], found["bpp_window"]
    lines = [
        f"| bytes of `{found['model']['name']}` beside | at equal SSIMULACRA2, {low:g} to {high:g} | "
        f"at equal PSNR, {window[0]:g} to {window[1]:g} bpp |",
        "|---|---|---|",
    ]
    for anchor in found["codecs"]:
        rates = [_rate(found, anchor, metric) for metric in PLOTTED]
        if anchor in TITLES and any(rates):
            lines.append(f"| {TITLES[anchor]} | {rates[0] or '-'} | {rates[1] or '-'} |")
    return "\n".join([*lines, "", f"Means over {len(found['images'])} Kodak pictures. {_span(found)}", ""])


def everything(found: dict[str, Any]) -> str:
    """The tables of docs/results.md: rates with the ranges they stand for, and the model's own points."""
    names = [name.removesuffix(".png") for name in found["images"]]
    pictures = f"{len(names)} Kodak pictures, {names[0]} to {names[-1]}"
    model = found["model"]
    lines = [
        f"Model `{model['id'][:16]}`, {pictures}, effort {found['effort']}.",
        "Rate at equal quality, and the range of quality that it is the mean over:",
        "",
        "| against | SSIMULACRA2 | over | PSNR | over, dB | MS-SSIM | over, dB |",
        "|---|---|---|---|---|---|---|",
    ]
    for anchor in found["codecs"]:
        rates = [
            (_rate(found, anchor, metric) or "-", _range(found, anchor, metric)) for metric in (*PLOTTED, "ms_ssim_db")
        ]
        if anchor in TITLES:
            lines.append(f"| {TITLES[anchor]} | {' | '.join(text for pair in rates for text in pair)} |")
    lines += ["", _span(found), "", "| quality | bpp | SSIMULACRA2 | PSNR, dB | MS-SSIM |", "|---|---|---|---|---|"]
    for point in _own(found):
        rate, score = f"{point['quality']:g} | {point['bpp']:.4f}", _score(point)
        lines.append(f"| {rate} | {score} | {point['psnr']:.2f} | {point['ms_ssim']:.4f} |")
    return "\n".join([*lines, ""])


def _rate(found: dict[str, Any], anchor: str, metric: str) -> str:
    """The rate difference as text, with the part of the range where it is not all of it; empty where there is none."""
    for row in found["rate_differences"]:
        if (row["anchor"], row["metric"]) == (anchor, metric) and row["percent"] is not None:
            part = metric == "ssimulacra2" and row["overlap"] is not None and row["overlap"] < 0.995
            return f"{row['percent']:+.1f} %" + f", {row['low']:.0f} to {row['high']:.0f} alone" * part
    return ""


def _range(found: dict[str, Any], anchor: str, metric: str) -> str:
    """The range of quality that a rate difference stands for, or why there is none."""
    for row in found["rate_differences"]:
        if (row["anchor"], row["metric"]) == (anchor, metric):
            return row["note"] if row["low"] is None else f"{row['low']:.1f} to {row['high']:.1f}"
    return "not measured"


def _span(found: dict[str, Any]) -> str:
    """A sentence on the ends of the qualities and the default."""
    own = _own(found)
    first, last = own[0], own[-1]
    sentences = [
        f"Quality {first['quality']:g} to {last['quality']:g}: {first['bpp']:.3f} to {last['bpp']:.2f} bits per pixel, "
        f"{first['psnr']:.1f} to {last['psnr']:.1f} dB, SSIMULACRA2 up to {_score(last)}"
    ]
    for point in own:
        if point["quality"] == DEFAULT_QUALITY:
            sentences.append(f"{DEFAULT_QUALITY}, the default, has {_score(point)} at {point['bpp']:.2f}")
    return "; ".join(sentences) + "."


def _own(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The model's mean points, rising in quality."""
    points = [point for point in found["mean"] if point["codec"] == next(iter(found["codecs"]))]
    return sorted(points, key=lambda point: point["quality"])


def _score(point: dict[str, Any]) -> str:
    return "-" if point["ssimulacra2"] is None else f"{point['ssimulacra2']:.1f}"


@dataclass(frozen=True)
class Places:
    """Where the documents have a model's figures; blocks: page, name, and what makes the text of the figures."""

    figures: Path
    plot: Path | None
    blocks: Sequence[tuple[str, str, Callable[[dict[str, Any]], str]]]


PLACES = {
    "photo": Places(
        Path("docs/data/kodak.json"),
        Path("docs/pictures/kodak.png"),
        (("README.md", "comparison", comparison), ("docs/results.md", "photo", everything)),
    ),
    "photo-psnr": Places(
        Path("docs/data/kodak-psnr.json"),
        None,
        (("README.md", "psnr", comparison), ("docs/results.md", "photo-psnr", everything)),
    ),
}
