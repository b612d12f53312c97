"""Whether a model for photographs reaches its bars: rate and quality on whole files, beside other codecs.

    python scripts/measure/flagship.py photo --pictures KODAK --rivals rivals.json
    python scripts/measure/flagship.py --pictures KODAK --rivals rivals.json   # fills the file, or adds to it
    python scripts/measure/flagship.py photo --pictures KODAK --rivals rivals.json --update   # and the documents

The other codecs are measured once: `--rivals` keeps their figures by picture, settings and versions of libraries.
`--own` keeps those of the model likewise, by its identity, effort and the code of gmvqzip. Both files are written after
every codec of every picture, so that a run that is stopped goes on where it was.

Prints the means over the pictures, the rate differences on SSIMULACRA2 and PSNR, how sizes and metrics follow the
quality from step to step, and each bar; `--json FILE` writes the same, and `--from FILE` reads it in the place of
measuring. `--update` writes the marked blocks of README.md and docs/results.md, and the figures and the plot that these
show; it knows `photo` and `photo-psnr`. Exit code 0, whatever the bars say.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import documents  # beside this file

import gmvqzip
from gmvqzip.bench.codecs import BenchCodec, Gmvq, rivals, settings, why_missing
from gmvqzip.bench.measure import Point, mean_points, measure, read_pixels, ssimulacra2_text
from gmvqzip.bench.metrics import Pixels
from gmvqzip.bench.rates import RateDifference
from gmvqzip.bench.results import METRICS, UNITS, PictureResult, Results, difference_text, libraries
from gmvqzip.format.limits import MAX_PIXELS
from gmvqzip.images.files import atomic_write
from gmvqzip.setting import DEFAULT_EFFORT, DEFAULT_QUALITY, EFFORTS
from gmvqzip.training.folder import list_pictures

ROOT = Path(__file__).resolve().parent.parent.parent
# The qualities that curves go through: SSIMULACRA2 from below 30 to above 80, 0.1 to 0.5 bpp for AVIF tuned for PSNR.
RIVALS = {
    "avif-420": (10, 20, 30, 40, 50, 60, 70, 80, 90),
    "avif": (5, 10, 20, 30, 40, 50, 60, 80),
    "jxl": (5, 10, 20, 30, 50, 70, 80, 90, 95),
    "webp": (5, 10, 20, 40, 60, 80, 90),
    "jpegli": (5, 10, 20, 40, 60, 80, 90),
    "jpeg": (5, 10, 20, 40, 60, 80, 90),
}
PSNR_WINDOW = (0.1, 0.5)  # bits per pixel
# What a flagship is asked for. Rates in percent of each codec's, at equal SSIMULACRA2 from 30 to 80 or, of AVIF tuned
# for PSNR, at equal PSNR from 0.1 to 0.5 bpp: at most so much.
MOST_RATE = {
    ("avif-420", "ssimulacra2"): 0.0,
    ("jxl", "ssimulacra2"): -10.0,
    ("webp", "ssimulacra2"): -25.0,
    ("jpeg", "ssimulacra2"): -45.0,
    ("avif", "psnr"): -5.0,
}
LEAST_AT_100 = {"ssimulacra2": 85.0, "psnr": 39.0}
MOST_BPP_AT_1 = 0.09
SSIMULACRA2_BY_DEFAULT = (70.0, 75.0)
WHOLE = 0.995  # of a range that a rate is compared over
RISING = ("file_bytes", "psnr", "ssimulacra2")  # in quality


class Kept:
    """Points in a JSON file: codec with its settings -> picture -> quality -> point. In memory alone without a path."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._points: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
        if path is not None and path.exists():
            self._points = json.loads(path.read_text(encoding="utf-8"))

    def measured(self, codec: BenchCodec, key: str, pixels: Pixels, qualities: Sequence[float]) -> list[Point]:
        """The points of a picture [H, W, 3], those not yet in the file measured and written to it."""
        picture = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
        points = self._points.setdefault(key, {}).setdefault(picture, {})
        missing = [quality for quality in qualities if f"{quality:g}" not in points]
        for point in measure(codec, pixels, missing):
            points[f"{point.quality:g}"] = asdict(point)
        if missing and self._path is not None:
            atomic_write(self._path, json.dumps(self._points).encode(), force=True)
        return [
            Point(**{entry.name: points[f"{quality:g}"][entry.name] for entry in fields(Point)})
            for quality in qualities
        ]


@dataclass(frozen=True)
class Bar:
    """One thing that is asked for: a figure, None where it could not be measured, and its bounds."""

    name: str
    figure: float | None
    least: float = -math.inf
    most: float = math.inf
    but: str = ""  # why the figure does not count for what is asked

    @property
    def verdict(self) -> str:
        """Met, missed, or why neither can be said."""
        if self.figure is None or self.but:
            return self.but or "not measured"
        return "met" if self.least <= self.figure <= self.most else "missed"

    @property
    def bounds(self) -> str:
        """The bounds that there are, as text."""
        parts = [f">= {self.least:g}"] * math.isfinite(self.least) + [f"<= {self.most:g}"] * math.isfinite(self.most)
        return ", ".join(parts)


def setting_key(codec: BenchCodec, **more: Any) -> str:
    """All that a codec's figures depend on, as a line of JSON."""
    return json.dumps(
        {"name": codec.name, "options": dict(codec.options), "libraries": libraries(), **more}, sort_keys=True
    )


def code_hash() -> str:
    """SHA-256 of gmvqzip's own source: with any change the model is measured anew."""
    folder = Path(gmvqzip.__file__).parent
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.rglob("*.py")))).hexdigest()


def own_qualities(codec: BenchCodec, every: int) -> list[float]:
    """The qualities of a model from the first in equal steps, and the default and the last one."""
    return settings(codec, [*range(1, 101, every), DEFAULT_QUALITY, 100])


def steps_of(results: Results) -> dict[str, dict[str, Any]]:
    """How bytes and metrics fall from one quality of the model to the next: in the means, and in single pictures.

    largest_fall: of one picture, as a part for bytes, in dB or points for metrics.
    """
    name = results.codecs[0].name
    curves = [[point for point in picture.points if point.codec == name] for picture in results.pictures]
    found = {}
    for figure in RISING:
        means, *rows = ([getattr(point, figure) for point in curve] for curve in [mean_points(curves), *curves])
        if any(value is None for row in rows for value in row):
            continue
        pairs = [pair for row in rows for pair in itertools.pairwise(row)]
        falls = [(a - b) / (a if figure == "file_bytes" else 1) for a, b in pairs if b < a]
        found[figure] = {
            "mean_falls": sum(b <= a for a, b in itertools.pairwise(means)),
            "picture_falls": len(falls),
            "picture_steps": len(pairs),
            "largest_fall": max(falls, default=0.0),
        }
    return found


def bars_of(results: Results, steps: dict[str, dict[str, Any]]) -> list[Bar]:
    """Every bar with what was measured."""
    own = {point.quality: point for point in results.means() if point.codec == results.codecs[0].name}
    first, last = own[min(own)], own[max(own)]
    bars = [Bar("bpp at the lowest quality", first.bpp, most=MOST_BPP_AT_1)]
    bars += [
        Bar(f"{METRICS[metric]} at the highest quality", getattr(last, metric), least)
        for metric, least in LEAST_AT_100.items()
    ]
    score = own[DEFAULT_QUALITY].ssimulacra2 if DEFAULT_QUALITY in own else None
    bars.append(Bar(f"SSIMULACRA2 at the default quality, {DEFAULT_QUALITY}", score, *SSIMULACRA2_BY_DEFAULT))
    differences = {(anchor, metric): found for anchor, metric, found in results.differences()}
    for (anchor, metric), most in MOST_RATE.items():
        found = differences.get((anchor, metric), RateDifference())
        part = found.overlap if metric == "ssimulacra2" and found.overlap is not None else 1.0
        but = "" if part > WHOLE else f"of {part:.0%} of the range only"
        bars.append(Bar(f"rate against {anchor} at equal {METRICS[metric]}, %", found.percent, most=most, but=but))
    bars += [Bar(f"steps in which the mean {name} falls", step["mean_falls"], most=0) for name, step in steps.items()]
    return bars


def print_report(results: Results, steps: dict[str, dict[str, Any]], bars: Sequence[Bar]) -> None:
    """Everything as Markdown."""
    codecs = {codec.name: codec for codec in results.codecs}
    print(f"Means over {len(results.pictures)} pictures:\n")
    print("| codec | setting | bpp | PSNR | MS-SSIM | SSIMULACRA2 |\n|---|---|---|---|---|---|")
    for p in results.means():
        codec = codecs[p.codec]
        figures = f"{p.bpp:.4f} | {p.psnr:.2f} | {p.ms_ssim:.4f} | {ssimulacra2_text(p)}"
        print(f"| {codec.title} | {codec.label(p.quality)} | {figures} |")
    if bars:
        print(f"\nRate of {results.codecs[0].title} at equal quality:\n")
        print("| against | metric | rate | range |\n|---|---|---|---|")
        for anchor, metric, found in results.differences():
            wanted = results.ssimulacra2 if metric == "ssimulacra2" else None
            rate, over = difference_text(found, UNITS[metric], wanted)
            print(f"| {codecs[anchor].title} | {METRICS[metric]} | {rate} | {over} |")
        print("\n| asked for | measured | bound | |\n|---|---|---|---|")
    for bar in bars:
        figure = "-" if bar.figure is None else f"{bar.figure:.4g}"
        print(f"| {bar.name} | {figure} | {bar.bounds} | {bar.verdict} |")
    for name, step in steps.items():
        falls = f"{step['picture_falls']} of {step['picture_steps']} steps of single pictures"
        print(f"\n{name} falls in {falls}, by at most {step['largest_fall']:.3g}.")
    for name, reason in results.not_measured().items():
        print(f"\nnot measured: {name}: {reason}")


def results_of(options: argparse.Namespace) -> Results:
    """Everything measured or read from the files; with a model, that is the first codec."""
    import torch

    torch.set_num_threads(options.threads)
    known = rivals(options.threads)
    missing = {name: reason for name in RIVALS if (reason := why_missing(known[name])) is not None}
    rival_file, own_file = Kept(options.rivals), Kept(options.own)
    plan: list[tuple[Kept, BenchCodec, Sequence[float], dict[str, str]]] = [
        (rival_file, known[name], qualities, {}) for name, qualities in RIVALS.items() if name not in missing
    ]
    if options.model is not None:
        from gmvqzip.codec import Codec
        from gmvqzip.models import registry

        model = Codec(registry.find(options.model), options.device)
        ours = Gmvq(model, options.effort)
        plan.insert(
            0, (own_file, ours, own_qualities(ours, options.every), {"model": model.model_id, "code": code_hash()})
        )
    run: dict[str, Any] = {"effort": options.effort, "threads": options.threads}
    if options.model is not None:
        run["model"] = {"name": model.name, "id": model.model_id}
    pictures = []
    for path in picture_paths(options.pictures):
        pixels = read_pixels(path, max_pixels=MAX_PIXELS)
        points: list[Point] = []
        for file, codec, qualities, more in plan:
            points += file.measured(codec, setting_key(codec, **more), pixels, settings(codec, qualities))
        pictures.append(PictureResult(str(path), pixels.shape[1], pixels.shape[0], points))
        print(f"{len(pictures)}: {path}", file=sys.stderr, flush=True)
    codecs = [codec for _, codec, _, _ in plan]
    return Results(codecs, missing, pictures, PSNR_WINDOW, run=run)


def picture_paths(names: Sequence[Path]) -> list[Path]:
    """The files named, and those in the folders named, in the order of their names."""
    return [path for name in names for path in (list_pictures(name) if name.is_dir() else [name])]


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="name or path; none: the other codecs alone")
    parser.add_argument("--pictures", nargs="+", type=Path, help="files and folders")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="what --json wrote; measure nothing")
    parser.add_argument("--rivals", type=Path, metavar="FILE", help="where the figures of the other codecs are kept")
    parser.add_argument("--own", type=Path, metavar="FILE", help="where the figures of the model are kept")
    parser.add_argument("--every", type=int, default=9, help="step from quality to quality of the model")
    parser.add_argument("--effort", type=int, default=DEFAULT_EFFORT, choices=EFFORTS)
    parser.add_argument("--threads", type=int, default=1, help="the others' figures are kept apart by it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it")
    parser.add_argument("--update", action="store_true", help="write the documents' blocks, plot and figures")
    parser.add_argument("--root", type=Path, default=ROOT, help="where the documents are")
    options = parser.parse_args(words)
    if (options.pictures is None) == (options.source is None):
        parser.error("either --pictures or --from is needed")
    results = results_of(options) if options.source is None else documents.recorded(options.source)
    with_model = "model" in results.run
    if options.update and not with_model:
        parser.error("--update needs a model")
    steps = steps_of(results) if with_model else {}
    bars = bars_of(results, steps) if with_model else []
    print_report(results, steps, bars)
    whole = {
        **json.loads(results.to_json()),
        "steps": steps,
        "bars": [asdict(bar) | {"verdict": bar.verdict} for bar in bars],
    }
    if options.json is not None:
        atomic_write(options.json, (json.dumps(whole, indent=1) + "\n").encode(), force=True)
    if options.update:
        documents.update(options.root, whole, results)


if __name__ == "__main__":
    main()
