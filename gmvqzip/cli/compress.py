"""gmvqzip compress: pictures -> .gmvq files."""

from __future__ import annotations

import math
import time
from typing import Annotated

import typer

from gmvqzip.cli import options
from gmvqzip.cli.batch import deliver, prepare, read_source, read_stdin, refuse_stream, run_tasks
from gmvqzip.cli.plan import IMAGE_SUFFIXES, Destination, Task, image_to_gmvq, plan
from gmvqzip.cli.records import Fields, conversion_shower, input_name, output_name
from gmvqzip.cli.report import Report, safe_name
from gmvqzip.cli.run import UsageError
from gmvqzip.models.registry import DEFAULT_MODEL
from gmvqzip.rates import DEFAULT_EFFORT, EFFORTS, MAX_PSNR, QUALITIES, RateOptions

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


def compress(
    files: options.Files,
    output: options.Output = None,
    output_dir: options.OutputDir = None,
    stdout: options.Stdout = False,
    recursive: options.Recursive = False,
    force: options.Force = False,
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
    if not tasks:
        return report.finish(total)

    from gmvqzip import codec as codecs
    from gmvqzip.images.picture import read_picture

    codec = codecs.load(model or DEFAULT_MODEL, device=device.value)
    if device is options.Device.CUDA:
        codecs.check_device(device.value)
    if threads is not None:
        codecs.set_threads(threads)
    if not codec.qualities:
        for option, given in (
            (f"--quality {quality}", quality is not None),
            (f"--effort {effort}", effort != DEFAULT_EFFORT),
        ):
            if given:
                report.note(f"model {codec.name} has a single rate: {option} changes nothing")

    def work(task: Task) -> Fields:
        start = time.perf_counter()
        prepare(task, force=force, make_directory=output_dir is not None)
        source = read_stdin() if task.source is None else read_source(task.source)
        in_bytes = len(source) if isinstance(source, bytes) else source.stat().st_size
        picture = read_picture(source, strip=strip, max_pixels=max_pixels)
        for warning in picture.warnings:
            report.warn(task.name, warning)
        done = codec.compress_picture(picture, **rate)
        deliver(task, done.data, force=force, remove=remove)
        fields = {
            "input": input_name(task),
            "output": output_name(task),
            "width": done.codes.width,
            "height": done.codes.height,
            "in_bytes": in_bytes,
            "out_bytes": len(done.data),
            "bpp": done.bpp,
            "model": codec.name,
            "model_id": codec.model_id,
            "quality": done.codes.quality,
            "halvings": done.codes.halvings,
            "gray": done.codes.gray,
            "alpha": picture.alpha is not None,
            "icc": picture.icc is not None,
            "header_bytes": done.header_bytes,
            "sections_bytes": done.sections_bytes,
            "payload_bytes": done.payload_bytes,
            "ideal_bits": done.ideal_bits,
            "codes_crc32": f"{done.codes.crc32():08x}",
        }
        if done.psnr is not None:
            fields["psnr"] = done.psnr
        return fields | {"seconds": time.perf_counter() - start}

    run_tasks(tasks, work, conversion_shower(report), report, jobs=jobs, what="compressing")
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
