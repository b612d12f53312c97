"""gmvqzip decompress: .gmvq files -> pictures."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gmvqzip.cli import options
from gmvqzip.cli.batch import deliver, prepare, read_gmvq, refuse_stream, threads_for_jobs
from gmvqzip.cli.pipeline import Steps, run_steps
from gmvqzip.cli.plan import GMVQ_SUFFIXES, SUFFIX, Destination, Task, check_overwriting, plan, swap_suffix, undone
from gmvqzip.cli.records import Fields, conversion_shower, file_fields, front_fields, input_name, output_name
from gmvqzip.cli.report import Report, safe_name
from gmvqzip.cli.run import UsageError

if TYPE_CHECKING:
    from gmvqzip.codec import Region
    from gmvqzip.images.picture import Picture


class Format(StrEnum):
    """A format to decompress to."""

    PNG = "png"
    WEBP = "webp"
    JPG = "jpg"
    PPM = "ppm"
    NPY = "npy"


_ENDINGS = {f".{name.value}": name for name in Format} | {".jpeg": Format.JPG}

_BATCH_PIXELS = 1 << 18  # of pictures that are held at once by one job, and written together

FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        help="Picture format; by default the ending of -o decides, or it is png. npy is a uint8 array.",
        rich_help_panel=options.OUTPUT_PANEL,
    ),
]


class Scale(StrEnum):
    """The size of the result."""

    FULL = "1"
    HALF = "1/2"
    QUARTER = "1/4"
    EIGHTH = "1/8"


RegionOption = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="X,Y,W,H",
        help="Only W x H pixels from column X and row Y on; of a file with tiles, only what they need is read.",
        rich_help_panel=options.OUTPUT_PANEL,
    ),
]
ScaleOption = Annotated[
    Scale,
    typer.Option(
        "--scale", help="Size of the result; squares of pixels become their mean.", rich_help_panel=options.OUTPUT_PANEL
    ),
]
_REGION = re.compile(r"(\d{1,7}),(\d{1,7}),(\d{1,7}),(\d{1,7})", re.ASCII)


@dataclass(frozen=True)
class _Decoded:
    """A picture, and what is known of its file."""

    picture: Picture
    in_bytes: int
    fields: Fields
    seconds: float  # so far


def decompress(
    files: options.Files,
    output: options.Output = None,
    output_dir: options.OutputDir = None,
    stdout: options.Stdout = False,
    picture_format: FormatOption = None,
    region: RegionOption = None,
    scale: ScaleOption = Scale.FULL,
    recursive: options.Recursive = False,
    force: options.Force = False,
    skip_existing: options.SkipExisting = False,
    remove: options.Remove = False,
    model: options.Model = None,
    device: options.DeviceOption = options.Device.AUTO,
    max_pixels: options.MaxPixels = options.DEFAULT_MAX_PIXELS,
    threads: options.Threads = None,
    jobs: options.Jobs = 1,
    verbose: options.Verbose = 0,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    no_progress: options.NoProgress = False,
) -> int:
    """Decompress .gmvq files into pictures.

    img.gmvq becomes img.png beside it. The source is kept, and an existing output is never overwritten unasked.

    Each file names its model; --model is for one that is not installed.

    With --region, checks of the whole file are not compared; each tile that is read has one of its own.
    """
    report = Report(verbose=verbose, quiet=quiet, as_json=as_json, progress=not no_progress)
    chosen = picture_format or _format_of(output)
    part = None if region is None else _region(region)
    factor = float(Fraction(scale.value))
    only_a_part = ["only a region of it is written"] if part is not None else []
    only_a_part += ["it is written at a reduced size"] if factor != 1 else []
    destination = Destination(output, output_dir, stdout, remove)
    rename = swap_suffix(SUFFIX, f".{chosen.value}")
    tasks, total = plan(files, destination, report, recursive=recursive, suffixes=GMVQ_SUFFIXES, rename=rename)
    refuse_stream(tasks, force=force, as_json=as_json)
    check_overwriting(force=force, skip_existing=skip_existing)
    if skip_existing:
        tasks = undone(tasks, report)
    if not tasks:
        return report.finish(total)

    from gmvqzip import codec as codecs
    from gmvqzip.engines.base import check_device
    from gmvqzip.format.container import read_front, read_header
    from gmvqzip.format.limits import MAX_HEADER_BYTES
    from gmvqzip.format.source import open_source, read_source
    from gmvqzip.images.writing import picture_bytes

    if device is options.Device.CUDA:
        check_device(device.value)

    def read(task: Task) -> bytes | Path:
        prepare(task, force=force, make_directory=output_dir is not None)
        if part is not None and task.source is not None and task.source.is_file():
            return task.source  # of which only a part may be read
        return read_gmvq(task)

    def pixels(source: bytes | Path) -> int:
        with open_source(source) as file:
            header, _ = read_header(file.read(MAX_HEADER_BYTES))
        return header.width * header.height

    def work(items: Sequence[bytes | Path]) -> list[_Decoded]:
        return [decoded(item) if part is None else decoded_part(item, part) for item in items]

    def decoded(source: bytes | Path) -> _Decoded:
        start = time.perf_counter()
        data = read_source(source)
        header, _ = read_header(data)
        codec = codecs.load_for(header.model_id, model=model, device=device.value)
        box, codes = codec.unpack_codes(data, max_pixels=max_pixels)
        picture = codec.restore(box, codes, scale=factor)
        fields = file_fields(box, codes, codec, as_json=as_json)
        return _Decoded(picture, len(data), fields, time.perf_counter() - start)

    def decoded_part(source: bytes | Path, wanted: Region) -> _Decoded:
        start = time.perf_counter()
        with open_source(source) as file:
            front, place = read_front(file, max_pixels=max_pixels)
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            codec = codecs.load_for(front.header.model_id, model=model, device=device.value)
            picture = codec.decompress_picture(file, region=wanted, scale=factor, max_pixels=max_pixels)
        fields = front_fields(front, size - place, codec) | {"region": wanted}
        return _Decoded(picture, size, fields, time.perf_counter() - start)

    def write(task: Task, product: _Decoded) -> Fields:
        start = time.perf_counter()
        encoded, warnings = picture_bytes(product.picture, chosen.value)
        dropped = [*warnings, *only_a_part] if remove else []
        for warning in () if dropped else warnings:
            report.warn(task.name, warning)
        deliver(task, encoded, force=force, remove=remove and not dropped)
        if dropped:
            report.keep(task.name, dropped)
        return {
            "input": input_name(task),
            "output": output_name(task),
            "in_bytes": product.in_bytes,
            "out_bytes": len(encoded),
            **product.fields,
            "seconds": product.seconds + time.perf_counter() - start,
        }

    run_steps(
        tasks,
        Steps(read, pixels, _BATCH_PIXELS, work, write),
        conversion_shower(report, len(tasks)),
        report,
        jobs=jobs,
        what="decompressing",
        in_thread=threads_for_jobs(threads, jobs),
    )
    return report.finish(total)


def _format_of(output: str | None) -> Format:
    """The format that the ending of -o asks for; png where nothing does."""
    suffix = Path(output).suffix.lower() if output is not None else ""
    if suffix in _ENDINGS:
        return _ENDINGS[suffix]
    if output is None or not suffix:
        return Format.PNG
    names = ", ".join(_ENDINGS)
    raise UsageError(f"no format is known for the ending of {safe_name(output)}: use {names}, or --format")


def _region(text: str) -> Region:
    match = _REGION.fullmatch(text)
    if match is None:
        raise UsageError(f"--region {safe_name(text)}: give X,Y,W,H in pixels, such as 0,0,512,512")
    x, y, width, height = map(int, match.groups())
    return x, y, width, height
