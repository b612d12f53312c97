"""What a comparison found: per picture, in the mean, and as rate differences; as JSON and as a table for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any

import PIL
from PIL import features

from gmvqzip.bench.codecs import BenchCodec
from gmvqzip.bench.measure import Point, mean_points
from gmvqzip.bench.rates import Curve, RateDifference, Window, rate_difference

METRICS = {"psnr": "PSNR", "ms_ssim_db": "MS-SSIM"}
PLAIN_WIDTH = 110  # characters of a line where standard output is no terminal


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
    window: Window | None = None
    run: Mapping[str, Any] = field(default_factory=dict)  # what else should stand in the JSON: model, threads, ...

    def means(self) -> list[Point]:
        """The means over pictures of each codec and quality."""
        return mean_points([picture.points for picture in self.pictures])

    def curve(self, codec: str, metric: str) -> Curve:
        """Mean (bpp, quality in dB) of a codec, rising; metric: a key of METRICS."""
        return sorted((point.bpp, getattr(point, metric)) for point in self.means() if point.codec == codec)

    def differences(self) -> Iterator[tuple[str, str, RateDifference]]:
        """(anchor, metric, rate difference of the first codec against it) for all others and both metrics."""
        tested, *anchors = (codec.name for codec in self.codecs)
        for anchor in anchors:
            for metric in METRICS:
                curves = self.curve(anchor, metric), self.curve(tested, metric)
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
                "missing": dict(self.missing),
                "bpp_window": self.window,
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
        lines += [f"not measured: {name}: {reason}" for name, reason in self.missing.items()]
        print("\n".join(lines), file=file, flush=True)

    def _mean_table(self) -> Any:
        from rich.table import Table

        count = len(self.pictures)
        table = Table(title=f"means over {count} picture{'s' * (count != 1)}", title_justify="left", box=_box())
        for title in ("codec", "setting", "bpp", "PSNR", "MS-SSIM", "in dB", "encode s", "decode s"):
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
                    f"{p.encode_seconds:.3f}",
                    f"{p.decode_seconds:.3f}",
                    end_section=number == len(own) - 1,
                )
        return table

    def _difference_table(self) -> Any:
        from rich.table import Table

        window = f", from {self.window[0]:g} to {self.window[1]:g} bpp" if self.window else ""
        title = f"rate of {self.codecs[0].title} at equal quality (BD-rate){window}"
        table = Table(title=title, title_justify="left", box=_box())
        table.add_column("against")
        table.add_column("measure")
        table.add_column("rate", justify="right")
        table.add_column("range")
        titles = {codec.name: codec.title for codec in self.codecs}
        for anchor, metric, found in self.differences():
            table.add_row(titles[anchor], METRICS[metric], *difference_text(found))
        return table


def difference_text(found: RateDifference) -> tuple[str, str]:
    """The rate difference, and the range it stands for or why there is none."""
    if found.percent is None or found.low is None or found.high is None:
        return "-", found.note
    if found.overlap is None:
        return f"{found.percent:+.2f} %", f"at {found.low:.2f} dB, the single rate"
    return f"{found.percent:+.2f} %", f"{found.low:.2f} to {found.high:.2f} dB, {found.overlap:.0%} of all"


def libraries() -> dict[str, str]:
    """The versions of the libraries that hold the other codecs, as far as they are here."""
    found: dict[str, str] = {"pillow": PIL.__version__}
    for name in ("jpg", "libjpeg_turbo", "webp", "avif"):
        version = features.version(name)
        if version is not None:
            found[name] = version
    try:
        import imagecodecs
    except ImportError:
        return found
    return found | {"imagecodecs": imagecodecs.__version__, "jxl": imagecodecs.jpegxl_version()}


def _box() -> Any:
    from rich import box

    return box.SIMPLE
