"""What a comparison found: per picture, in the mean, and as rate differences; as JSON and as a table for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import IO, Any

import PIL
from PIL import features

from gmvqzip.bench.codecs import BenchCodec
from gmvqzip.bench.measure import Point, mean_points, ssimulacra2_text
from gmvqzip.bench.metrics import no_ssimulacra2
from gmvqzip.bench.rates import Curve, Range, RateDifference, Window, rate_difference

METRICS = {"psnr": "PSNR", "ms_ssim_db": "MS-SSIM", "ssimulacra2": "SSIMULACRA2"}
UNITS = {"psnr": " dB", "ms_ssim_db": " dB", "ssimulacra2": ""}
PLAIN_WIDTH = 120  # characters of a line where standard output is no terminal


@dataclass(frozen=True)
class PictureResult:
    """One picture's points, and what each codec made of it within one size where that was asked for."""

    name: str
    width: int
    height: int
    points: list[Point]
    limit_bytes: int | None = None
    equal_size: list[tuple[Point, bool]] = field(default_factory=list)  # the file, and whether it is within the size


@dataclass(frozen=True)
class Results:
    """A whole comparison; the first codec is the one that the others are anchors for."""

    codecs: Sequence[BenchCodec]
    missing: Mapping[str, str]  # codec -> why it was not measured
    pictures: Sequence[PictureResult]
    window: Window | None = None  # that rates are compared in at equal PSNR and MS-SSIM
    ssimulacra2: Range = (30, 80)  # low quality to very high: rates at equal SSIMULACRA2 are compared over it
    run: Mapping[str, Any] = field(default_factory=dict)  # what else should stand in the JSON: model, threads, ...

    def means(self) -> list[Point]:
        """The means over pictures of each codec and quality."""
        return mean_points([picture.points for picture in self.pictures])

    def metrics(self) -> list[str]:
        """The keys of METRICS that at least one picture was measured by."""
        return [metric for metric in METRICS if self.measured_by(metric)]

    def not_measured(self) -> dict[str, str]:
        """What is missing, codecs and metrics, each with why."""
        without = [picture for picture in self.pictures if not _has(picture, "ssimulacra2")]
        if not without:
            return dict(self.missing)
        reason = no_ssimulacra2(without[0].height, without[0].width) or "no reason is known"
        part = "" if len(without) == len(self.pictures) else f"of {len(without)} of {len(self.pictures)} pictures: "
        return {**self.missing, "ssimulacra2": part + reason}

    def measured_by(self, metric: str) -> int:
        """How many pictures have a figure of the metric, a key of METRICS."""
        return sum(_has(picture, metric) for picture in self.pictures)

    def curve(self, codec: str, metric: str) -> Curve:
        """Mean (bpp, quality) of a codec, rising, over the pictures measured by the metric, a key of METRICS."""
        means = mean_points([picture.points for picture in self.pictures if _has(picture, metric)])
        return sorted((point.bpp, getattr(point, metric)) for point in means if point.codec == codec)

    def differences(self) -> Iterator[tuple[str, str, RateDifference]]:
        """(anchor, metric, rate difference of the first codec against it) for all others and all metrics measured."""
        tested, *anchors = (codec.name for codec in self.codecs)
        for anchor in anchors:
            for metric in self.metrics():
                curves = self.curve(anchor, metric), self.curve(tested, metric)
                if metric == "ssimulacra2":
                    yield anchor, metric, rate_difference(*curves, wanted=self.ssimulacra2)
                else:
                    yield anchor, metric, rate_difference(*curves, self.window)

    def to_json(self) -> str:
        """One object: codecs, means, rate differences, and all points of each picture."""
        labels = {codec.name: codec.label for codec in self.codecs}

        def shown(point: Point) -> dict[str, Any]:
            return {**asdict(point), "setting": labels[point.codec](point.quality)}

        return json.dumps(
            {
                **self.run,
                "libraries": libraries(),
                "codecs": {codec.name: codec.title for codec in self.codecs},
                "missing": self.not_measured(),
                "bpp_window": self.window,
                "ssimulacra2_range": self.ssimulacra2,
                "mean": [shown(point) for point in self.means()],
                "rate_differences": [
                    {"anchor": anchor, "metric": metric, **asdict(found)}
                    for anchor, metric, found in self.differences()
                ],
                "images": [
                    {
                        "name": picture.name,
                        "width": picture.width,
                        "height": picture.height,
                        "points": [shown(point) for point in picture.points],
                        "limit_bytes": picture.limit_bytes,
                        "equal_size": [shown(point) | {"fits": fits} for point, fits in picture.equal_size],
                    }
                    for picture in self.pictures
                ],
            },
            indent=1,
        )

    def print_tables(self, file: IO[str]) -> None:
        """The means, the rate differences and the codecs that are missing, as text."""
        from rich.console import Console

        console = Console(file=file, width=None if file.isatty() else PLAIN_WIDTH, highlight=False, markup=False)
        with console.capture() as captured:
            console.print(self._mean_table())
            if len(self.codecs) > 1:
                console.print(self._difference_table())
        lines = [line.rstrip() for line in captured.get().splitlines()]
        lines += [f"not measured: {name}: {reason}" for name, reason in self.not_measured().items()]
        print("\n".join(lines), file=file, flush=True)

    def _mean_table(self) -> Any:
        from rich.table import Table

        count = len(self.pictures)
        table = Table(title=f"means over {count} picture{'s' * (count != 1)}", title_justify="left", box=_box())
        perceptual = ["SSIMULACRA2"] if "ssimulacra2" in self.metrics() else []
        for title in ("codec", "setting", "bpp", "PSNR", "MS-SSIM", "in dB", *perceptual, "encode s", "decode s"):
            table.add_column(title, justify="left" if title in ("codec", "setting") else "right", no_wrap=True)
        points = self.means()
        for codec in self.codecs:
            own = [point for point in points if point.codec == codec.name]
            for number, p in enumerate(own):
                table.add_row(
                    "" if number else codec.title,
                    codec.label(p.quality),
                    f"{p.bpp:.4f}",
                    f"{p.psnr:.3f}",
                    f"{p.ms_ssim:.5f}",
                    f"{p.ms_ssim_db:.3f}",
                    *([ssimulacra2_text(p)] if perceptual else []),
                    f"{p.encode_seconds:.3f}",
                    f"{p.decode_seconds:.3f}",
                    end_section=number == len(own) - 1,
                )
        return table

    def _difference_table(self) -> Any:
        from rich.table import Table

        window = f"\nPSNR and MS-SSIM from {self.window[0]:g} to {self.window[1]:g} bpp" if self.window else ""
        title = f"rate of {self.codecs[0].title} at equal quality (BD-rate){window}"
        table = Table(title=title, title_justify="left", box=_box())
        table.add_column("against")
        table.add_column("measure")
        table.add_column("rate", justify="right")
        table.add_column("range")
        titles = {codec.name: codec.title for codec in self.codecs}
        for anchor, metric, found in self.differences():
            wanted = self.ssimulacra2 if metric == "ssimulacra2" else None
            table.add_row(titles[anchor], METRICS[metric], *difference_text(found, UNITS[metric], wanted))
        return table


def difference_text(found: RateDifference, unit: str, wanted: Range | None) -> tuple[str, str]:
    """The rate difference, and the range it stands for or why there is none; wanted: the range of quality asked for."""
    if found.percent is None or found.low is None or found.high is None:
        return "-", found.note
    if found.overlap is None:
        return f"{found.percent:+.2f} %", f"at {found.low:.2f}{unit}, the single rate"
    whole = "all" if wanted is None else f"{wanted[0]:g} to {wanted[1]:g}"
    return f"{found.percent:+.2f} %", f"{found.low:.2f} to {found.high:.2f}{unit}, {found.overlap:.0%} of {whole}"


def _has(picture: PictureResult, metric: str) -> bool:
    return all(getattr(point, metric) is not None for point in picture.points)


def libraries() -> dict[str, str]:
    """The versions of the libraries that hold the other codecs and SSIMULACRA2, as far as they are here."""
    found: dict[str, str] = {"pillow": PIL.__version__}
    for name in ("jpg", "libjpeg_turbo", "webp", "avif"):
        version = features.version(name)
        if version is not None:
            found[name] = version
    for name in ("imagecodecs", "pyjpegli", "ssimulacra2"):
        with suppress(ImportError):
            found[name] = import_module(name).__version__
    if "imagecodecs" in found:
        found["jxl"] = import_module("imagecodecs").jpegxl_version()
    return found


def _box() -> Any:
    from rich import box

    return box.SIMPLE
