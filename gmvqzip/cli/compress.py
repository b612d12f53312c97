"""gmvqzip compress: pictures -> .gmvq files."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from gmvqzip.cli import options
from gmvqzip.cli.batch import deliver, prepare, read_source, read_stdin, refuse_stream, threads_for_jobs
from gmvqzip.cli.pipeline import Steps, run_steps
from gmvqzip.cli.plan import (
    IMAGE_SUFFIXES,
    Destination,
    Task,
    check_overwriting,
    image_to_gmvq,
    plan,
    undone,
)
from gmvqzip.cli.records import Fields, conversion_shower, input_name, output_name
from gmvqzip.cli.report import Report, safe_name
from gmvqzip.cli.run import UsageError
from gmvqzip.models.registry import DEFAULT_MODEL
from gmvqzip.rates import DEFAULT_EFFORT, EFFORTS, MAX_PSNR, QUALITIES, RateOptions

if TYPE_CHECKING:
    from gmvqzip.compressed import Compressed
    from gmvqzip.images.picture import Picture

Quality = Annotated[
    int | None,
    typer.Option(
        "-q",
        "--quality",
        min=QUALITIES[0],
        max=QUALITIES[-1],
        help="Quality. A model with a single rate takes any and has one.",
        rich_help_panel=options.RATE_PANEL,
    ),
]
TargetBpp = Annotated[
    float | None,
    typer.Option(
        "--target-bpp",
        metavar="BPP",
        help="At most this many bits per pixel, of each whole file.",
        rich_help_panel=options.RATE_PANEL,
    ),
]
TargetSize = Annotated[
    str | None,
    typer.Option(
        "--target-size",
        metavar="BYTES",
        help="At most this size of each file, such as 300, 20k or 1.5M.",
        rich_help_panel=options.RATE_PANEL,
    ),
]
TargetPsnr = Annotated[
    float | None,
    typer.Option(
        "--target-psnr",
        metavar="DB",
        help="At least this PSNR of each picture, over RGB.",
        rich_help_panel=options.RATE_PANEL,
    ),
]
Effort = Annotated[
    int,
    typer.Option(
        "-e",
        "--effort",
        min=EFFORTS[0],
        max=EFFORTS[-1],
        help="Search longer for better codes.",
        rich_help_panel=options.RATE_PANEL,
    ),
]
Strip = Annotated[
    bool,
    typer.Option(
        "--strip",
        help="Convert to sRGB and drop the colour profile.",
        rich_help_panel=options.OUTPUT_PANEL,
        show_default=False,
    ),
]


@dataclass(frozen=True)
class _Read:
    """A picture, the bytes of its file, and the seconds so far."""

    picture: Picture
    in_bytes: int
    seconds: float

    def extras(self) -> tuple[bool, bool, tuple[str, ...]]:
        """Whether there are transparency and a colour profile; what is not kept."""
        return self.picture.alpha is not None, self.picture.icc is not None, tuple(self.picture.dropped)


@dataclass(frozen=True)
class _Done:
    """A compressed picture, and what is known of its source."""

    done: Compressed
    in_bytes: int
    seconds: float  # so far, with its share of the batch
    alpha: bool
    icc: bool
    dropped: tuple[str, ...]


def compress(
    files: options.Files,
    output: options.Output = None,
    output_dir: options.OutputDir = None,
    stdout: options.Stdout = False,
    recursive: options.Recursive = False,
    force: options.Force = False,
    skip_existing: options.SkipExisting = False,
    remove: options.Remove = False,
    strip: Strip = False,
    quality: Quality = None,
    target_bpp: TargetBpp = None,
    target_size: TargetSize = None,
    target_psnr: TargetPsnr = None,
    effort: Effort = DEFAULT_EFFORT,
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
    """Compress pictures into .gmvq files.

    img.png becomes img.gmvq beside it. The source is kept, and an existing output is never overwritten unasked.
    """
    report = Report(verbose=verbose, quiet=quiet, as_json=as_json, progress=not no_progress)
    rate = rate_options(quality, target_bpp, target_size, target_psnr, effort)
    destination = Destination(output, output_dir, stdout, remove)
    tasks, total = plan(files, destination, report, recursive=recursive, suffixes=IMAGE_SUFFIXES, rename=image_to_gmvq)
    refuse_stream(tasks, force=force, as_json=as_json)
    check_overwriting(force=force, skip_existing=skip_existing)
    if skip_existing:
        tasks = undone(tasks, report)
    if not tasks:
        return report.finish(total)

    from gmvqzip import codec as codecs
    from gmvqzip.engines.base import check_device
    from gmvqzip.engines.batching import batch_pixels
    from gmvqzip.images.preparing import read_prepared

    codec = codecs.load(model or DEFAULT_MODEL, device=device.value)
    if device is options.Device.CUDA:
        check_device(device.value)
    if not codec.qualities and quality is not None:
        report.note(f"model {codec.name} has a single rate: --quality {quality} changes nothing")

    has_target = any(target is not None for target in (target_bpp, target_size, target_psnr))
    most_pixels = 1 if has_target else batch_pixels(codec.device)  # each picture has a search of its own

    def read(task: Task) -> _Read:
        start = time.perf_counter()
        prepare(task, force=force, make_directory=output_dir is not None)
        source = read_stdin() if task.source is None else read_source(task.source)
        in_bytes = len(source) if isinstance(source, bytes) else source.stat().st_size
        picture = read_prepared(source, strip=strip, max_pixels=max_pixels)
        for warning in picture.warnings:
            if not (remove and warning in picture.dropped):  # what keeps a source is said when it is kept
                report.warn(task.name, warning)
        return _Read(picture, in_bytes, time.perf_counter() - start)

    def work(items: Sequence[_Read]) -> list[_Done]:
        start = time.perf_counter()
        found = codec.compress_pictures([item.picture for item in items], **rate)
        share = (time.perf_counter() - start) / len(items)
        return [
            _Done(done, item.in_bytes, item.seconds + share, *item.extras())
            for item, done in zip(items, found, strict=True)
        ]

    def write(task: Task, product: _Done) -> Fields:
        start = time.perf_counter()
        done = product.done
        deliver(task, done.data, force=force, remove=remove and not product.dropped)
        if remove and product.dropped:
            report.keep(task.name, product.dropped)
        fields = {
            "input": input_name(task),
            "output": output_name(task),
            "width": done.codes.width,
            "height": done.codes.height,
            "in_bytes": product.in_bytes,
            "out_bytes": len(done.data),
            "bpp": done.bpp,
            "model": codec.name,
            "model_id": codec.model_id,
            "quality": done.codes.quality,
            "halvings": done.codes.halvings,
            "gray": done.codes.gray,
            "alpha": product.alpha,
            "icc": product.icc,
            "dropped": list(product.dropped),
            "header_bytes": done.header_bytes,
            "sections_bytes": done.sections_bytes,
            "payload_bytes": done.payload_bytes,
            "ideal_bits": done.ideal_bits,
            "codes_crc32": f"{done.codes.crc32():08x}",
        }
        if done.psnr is not None:
            fields["psnr"] = done.psnr
        return fields | {"seconds": product.seconds + time.perf_counter() - start}

    run_steps(
        tasks,
        Steps(read, lambda item: item.picture.width * item.picture.height, most_pixels, work, write),
        conversion_shower(report, len(tasks)),
        report,
        jobs=jobs,
        what="compressing",
        in_thread=threads_for_jobs(threads, jobs),
    )
    return report.finish(total)


def rate_options(
    quality: int | None, target_bpp: float | None, target_size: str | None, target_psnr: float | None, effort: int
) -> RateOptions:
    """The options that choose the rate, as the library takes them. Raises UsageError."""
    wanted = {
        "--quality": quality,
        "--target-bpp": target_bpp,
        "--target-size": target_size,
        "--target-psnr": target_psnr,
    }
    given = [option for option, value in wanted.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} contradict each other: give one")
    if target_bpp is not None and not 0 < target_bpp < math.inf:
        raise UsageError(f"--target-bpp {target_bpp:g}: give bits per pixel, more than 0")
    if target_psnr is not None and not 0 < target_psnr <= MAX_PSNR:
        raise UsageError(f"--target-psnr {target_psnr:g}: give dB, more than 0 and at most {MAX_PSNR:g}")
    size = None if target_size is None else options.byte_count(target_size)
    if target_size is not None and not size:
        raise UsageError(f"--target-size {safe_name(target_size)}: give bytes, such as 300, 20k or 1.5M")
    return RateOptions(quality=quality, target_bpp=target_bpp, target_size=size, target_psnr=target_psnr, effort=effort)
