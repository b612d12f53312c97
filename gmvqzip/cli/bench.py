"""gmvqzip bench: side by side with JPEG, jpegli, WebP, AVIF and JPEG XL."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gmvqzip.cli import options
from gmvqzip.cli.batch import prepare, read_source, write_stdout
from gmvqzip.cli.naming import check_ending
from gmvqzip.cli.plan import STREAM, Task, check_file_name, image_suffixes, inputs
from gmvqzip.cli.records import input_name
from gmvqzip.cli.report import Report
from gmvqzip.cli.run import UsageError
from gmvqzip.errors import safe_name

if TYPE_CHECKING:
    from gmvqzip.bench.codecs import BenchCodec
    from gmvqzip.bench.compare import SizeLimit
    from gmvqzip.bench.metrics import Pixels
    from gmvqzip.bench.page import Page
    from gmvqzip.bench.results import Results

QUALITIES = "1,10,20,30,40,50,60,70,80,90,95"
SSIMULACRA2 = "30-80"
PAGE_PICTURES = 8
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(k|M|bpp)?")
_BYTES = {None: 1, "k": 1000, "M": 1_000_000}
_SPAN = re.compile(r"(\d*\.?\d+)-(\d*\.?\d+)")


@dataclass(frozen=True)
class Measured:
    """What is measured."""

    codecs: Annotated[
        str | None,
        options.Panel.MEASURE.option(
            "--codecs",
            metavar="NAME,...",
            help="Codecs to compare with: jpeg, jpegli, webp, avif (4:4:4, tuned for PSNR), avif-iq (4:4:4, tuned for "
            "the eye), avif-420 (as Pillow does by default), jxl. Default: all but avif-iq.",
        ),
    ] = None
    qualities: Annotated[
        str, options.Panel.MEASURE.option("--qualities", metavar="N,...", help="Qualities of every codec, 1 to 100.")
    ] = QUALITIES
    bpp: Annotated[
        str | None,
        options.Panel.MEASURE.option(
            "--bpp",
            metavar="LOW-HIGH",
            help="At equal PSNR and MS-SSIM, compare rates within these bits per pixel only.",
        ),
    ] = None
    ssimulacra2: Annotated[
        str,
        options.Panel.MEASURE.option(
            "--ssimulacra2",
            metavar="LOW-HIGH",
            help="At equal SSIMULACRA2, compare rates over this range of it. Near 30 is low quality, 50 medium, 70 "
            "high, 90 not told from the original.",
        ),
    ] = SSIMULACRA2

    def ladder(self) -> list[float]:
        """The qualities. Raises UsageError."""
        parts = self.qualities.split(",")
        if not all(re.fullmatch(r"\d{1,3}", part.strip()) and 1 <= int(part) <= 100 for part in parts):
            raise UsageError(f"--qualities {self.qualities}: give numbers from 1 to 100, such as 10,50,90")
        return [float(part) for part in parts]

    def window(self) -> tuple[float, float] | None:
        """The bits per pixel. Raises UsageError."""
        if self.bpp is None:
            return None
        low, high = _span(self.bpp)
        if not 0 < low < high:
            raise UsageError(f"--bpp {self.bpp}: give a range of bits per pixel such as 0.1-0.5")
        return low, high

    def scores(self) -> tuple[float, float]:
        """The range of SSIMULACRA2, within 0 to 100: below, it ranks little. Raises UsageError."""
        low, high = _span(self.ssimulacra2)
        if not low < high <= 100:
            raise UsageError(f"--ssimulacra2 {self.ssimulacra2}: give a range within 0 to 100 such as {SSIMULACRA2}")
        return low, high

    def rivals(self, threads: int) -> dict[str, BenchCodec]:
        """The codecs by name. Raises UsageError where one is not known."""
        from gmvqzip.bench.codecs import DEFAULT_RIVALS, rivals

        known = rivals(threads)
        names = list(dict.fromkeys(self.codecs.split(","))) if self.codecs is not None else list(DEFAULT_RIVALS)
        if strange := [name for name in names if name not in known]:
            raise UsageError(f"--codecs {strange[0]}: choose {', '.join(known)}")
        return {name: known[name] for name in names}


@dataclass(frozen=True)
class Written:
    """What is written, and where."""

    json_file: Annotated[
        str | None,
        options.Panel.OUTPUT.option(
            "--json", metavar="FILE", help="Write all figures of each picture; - is standard output."
        ),
    ] = None
    plot_file: Annotated[
        str | None,
        options.Panel.OUTPUT.option("--plot", metavar="FILE.png", help="Draw the mean rate-distortion curves."),
    ] = None
    html_file: Annotated[
        str | None,
        options.Panel.OUTPUT.option(
            "--html",
            metavar="FILE.html",
            help="Write one page with a slider between each picture and each codec at one size.",
        ),
    ] = None
    at: Annotated[
        str | None,
        options.Panel.OUTPUT.option(
            "--at",
            metavar="BYTES|BPP",
            help="The size for --html, such as 20000, 20k or 0.25bpp. "
            "Default: that of gmvqzip's file at quality 50, or of its single rate.",
        ),
    ] = None
    page_pictures: Annotated[
        int,
        options.Panel.OUTPUT.option(
            "--html-pictures", min=1, metavar="N", help="How many pictures, the first, --html shows."
        ),
    ] = PAGE_PICTURES
    force: options.Force = False

    def limit(self) -> SizeLimit | None:
        """The size for the page. Raises UsageError."""
        from gmvqzip.bench.compare import SizeLimit

        if self.at is None:
            return None
        match = _SIZE.fullmatch(self.at)
        if not match or float(match[1]) <= 0:
            raise UsageError(f"--at {self.at}: give bytes or bits per pixel, such as 20000, 20k or 0.25bpp")
        if self.html_file is None:
            raise UsageError("--at is the size for --html: name a file for that")
        per_pixel = match[2] == "bpp"
        return SizeLimit(float(match[1]) * (1 if per_pixel else _BYTES[match[2]]), per_pixel)

    def check(self, tasks: Sequence[Task]) -> None:
        """Refuse, before any work, outputs that cannot be written or that would meet each other or an input."""
        if self.plot_file is not None and Path(self.plot_file).suffix.lower() != ".png":
            raise UsageError(f"--plot {safe_name(self.plot_file)}: the name must end in .png")
        if self.html_file is not None and Path(self.html_file).suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--html {safe_name(self.html_file)}: the name must end in .html")
        check_ending(self.json_file, (".json",), "figures")
        names = (self.json_file, self.plot_file, self.html_file)
        for name in names:
            check_file_name(name)
        paths = [Path(name) for name in names if name is not None and name != STREAM]
        places = [os.path.realpath(path) for path in paths]
        if len(set(places)) < len(places):
            raise UsageError("two outputs have one name: nothing was done")
        sources = {os.path.realpath(task.source) for task in tasks if task.source is not None}
        for path, place in zip(paths, places, strict=True):
            if place in sources:
                raise UsageError(f"{safe_name(path)} is one of the pictures: nothing was done")
            prepare(Task(str(path), None, path), force=self.force, make_directory=False)

    def write(self, found: Results, page: Page | None) -> None:
        """Write what is asked for."""
        self._write(self.json_file, lambda: (found.to_json() + "\n").encode())
        if self.plot_file is not None:
            from gmvqzip.bench.plot import plot

            self._write(self.plot_file, lambda: plot(found))
        if page is not None:
            notes = [f"Not measured: {name}: {reason}." for name, reason in found.not_measured().items()]
            self._write(self.html_file, lambda: page.html(notes).encode())

    def _write(self, name: str | None, make: Callable[[], bytes]) -> None:
        from gmvqzip.images.files import atomic_write

        if name == STREAM:
            write_stdout(make())
        elif name is not None:
            atomic_write(Path(name), make(), force=self.force)


def bench(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Pictures to code; - is standard input.")],
    recursive: options.Recursive = False,
    *,
    measured: Measured,
    written: Written,
    models: options.Models,
    threads: Annotated[
        int,
        options.Panel.RUN.option(
            "-T",
            "--threads",
            min=1,
            help="Processor threads of each codec that can use several; one, so that times compare.",
        ),
    ] = 1,
    verbose: options.Verbose = 0,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
) -> int:
    """Compare gmvqzip with other codecs on pictures: rate, PSNR, MS-SSIM, SSIMULACRA2, time, BD-rate.

    Every codec gets the same pixels, 8-bit sRGB: gray as three equal channels, transparency over white. Sizes are of
    whole files. A codec whose encoder is missing is named, and so are pictures that SSIMULACRA2 cannot measure.
    """
    report = Report(verbose=verbose, quiet=quiet, progress=not no_progress)
    ladder, window, scores = measured.ladder(), measured.window(), measured.scores()
    limit = written.limit()
    tasks, total = inputs(images, report, recursive=recursive, suffixes=image_suffixes())
    written.check(tasks)
    known = measured.rivals(threads)
    if not tasks:
        return report.finish(total)

    from gmvqzip import __version__
    from gmvqzip import codec as codecs
    from gmvqzip.bench.codecs import Gmvq, why_missing
    from gmvqzip.bench.compare import compare, warm_up
    from gmvqzip.bench.page import Page
    from gmvqzip.bench.results import Results
    from gmvqzip.engines.base import check_device, set_threads

    codec = codecs.load(models.chosen, device=models.device.value)
    check_device(models.device.value)
    set_threads(threads)
    ours = Gmvq(codec)
    warm_up(ours)
    missing = {name: reason for name, rival in known.items() if (reason := why_missing(rival)) is not None}
    chosen = [ours, *(rival for name, rival in known.items() if name not in missing)]

    results = []
    page = Page() if written.html_file is not None else None
    with report.progress(len(tasks) * len(chosen), "measuring") as advance:
        for task in tasks:
            room = page if page is not None and len(page) < written.page_pictures else None
            try:
                pixels = _read(task, models.max_pixels)
                results.append(
                    compare(input_name(task), pixels, chosen, ladder, page=room, limit=limit, after_each=advance)
                )
            except BrokenPipeError:
                raise
            except Exception as error:  # a picture counts for every codec or for none
                report.fail(task.name, error)
    if not results:
        return report.finish(total)
    run = {"gmvqzip": __version__, "model": codec.name, "model_id": codec.model_id, "threads": threads}
    found = Results(chosen, missing, results, window, scores, run)
    written.write(found, page)
    if not quiet and written.json_file != STREAM:
        found.print_tables(sys.stdout)
    return report.finish(total)


def _span(text: str) -> tuple[float, float]:
    """Two numbers such as 0.1-0.5; two zeros where the text is none."""
    match = _SPAN.fullmatch(text)
    return (float(match[1]), float(match[2])) if match else (0.0, 0.0)


def _read(task: Task, max_pixels: int) -> Pixels:
    from gmvqzip.bench.measure import read_pixels

    return read_pixels(read_source(task), max_pixels=max_pixels)
