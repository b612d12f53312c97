"""gmvqzip compress: pictures -> .gmvq files."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

from gmvqzip.cli import options
from gmvqzip.cli.batch import LeftAlone, check_cuda, deliver, encoding_threads, prepare, read_picture, refuse_stream
from gmvqzip.cli.naming import check_ending, namer
from gmvqzip.cli.pipeline import Steps, run_steps
from gmvqzip.cli.plan import (
    GMVQ_SUFFIXES,
    KEEP_HINT,
    SUFFIX,
    Task,
    image_suffixes,
    image_to_gmvq,
    plan,
    undone,
)
from gmvqzip.cli.records import Fields, conversion_shower, input_name, output_name
from gmvqzip.cli.report import Report
from gmvqzip.cli.run import UsageError
from gmvqzip.errors import ModelError, safe_name
from gmvqzip.rates import MAX_PSNR, RateOptions, Wish
from gmvqzip.setting import DEFAULT_EFFORT

if TYPE_CHECKING:
    from gmvqzip.codec import Codec
    from gmvqzip.engines.files import Compressed
    from gmvqzip.images.pixels import Picture

TargetBpp = Annotated[
    float | None,
    options.Panel.RATE.option(
        "--target-bpp", metavar="BPP", help="At most this many bits per pixel, of each whole file."
    ),
]
TargetSize = Annotated[
    str | None,
    options.Panel.RATE.option(
        "--target-size",
        metavar="BYTES",
        help="At most this size of each file, such as 300, 20k or 1.5M (or 20kB, 2MiB).",
    ),
]
TargetPsnr = Annotated[
    float | None,
    options.Panel.RATE.option("--target-psnr", metavar="DB", help="At least this PSNR of each picture, over RGB."),
]
MinPsnr = Annotated[
    float | None,
    options.Panel.RATE.option("--min-psnr", metavar="DB", help="Leave pictures alone that come out below this PSNR."),
]
OnlyIfSmaller = Annotated[
    bool, options.Panel.RATE.flag("--only-if-smaller", help="Leave pictures alone whose file would not get smaller.")
]
Psnr = Annotated[
    bool, options.Panel.RATE.flag("--psnr", help="Decode each file again and tell its PSNR, with -v and --json.")
]
Ssimulacra2 = Annotated[
    bool, options.Panel.RATE.flag("--ssimulacra2", help="Likewise its SSIMULACRA2, with the package ssimulacra2.")
]


@dataclass(frozen=True)
class Rate:
    """What is asked of the rate."""

    quality: options.Quality = None
    target_bpp: TargetBpp = None
    target_size: TargetSize = None
    target_psnr: TargetPsnr = None
    effort: options.Effort = DEFAULT_EFFORT

    def wish(self) -> RateOptions:
        """As the library takes it. Raises UsageError."""
        size = None if self.target_size is None else options.byte_count(self.target_size)
        if self.target_size is not None and not size:
            shown = safe_name(self.target_size)
            raise UsageError(f"--target-size {shown}: give bytes, such as 300, 20k, 20kB or 1.5M")
        wanted = RateOptions(
            quality=self.quality,
            target_bpp=self.target_bpp,
            target_size=size,
            target_psnr=self.target_psnr,
            effort=self.effort,
        )
        try:
            Wish(**wanted)
        except ModelError as error:
            names = re.sub(r"\b(?:quality|target_\w+)\b", lambda m: "--" + m[0].replace("_", "-"), str(error))
            raise UsageError(names) from None
        return wanted

    @property
    def has_target(self) -> bool:
        """Whether each picture has a search of its own."""
        return any(target is not None for target in (self.target_bpp, self.target_size, self.target_psnr))


@dataclass(frozen=True)
class Demands:
    """What a result must be like, and what is told of it."""

    min_psnr: MinPsnr = None
    only_if_smaller: OnlyIfSmaller = False
    psnr: Psnr = False
    ssimulacra2: Ssimulacra2 = False

    def check(self) -> None:
        """Raise UsageError for a PSNR that is none, ModelError where what measures is not installed."""
        if self.min_psnr is not None and not 0 < self.min_psnr <= MAX_PSNR:
            raise UsageError(f"--min-psnr {self.min_psnr:g}: give dB, more than 0 and at most {MAX_PSNR:g}")
        if self.ssimulacra2 and find_spec("ssimulacra2") is None:
            raise UsageError("--ssimulacra2 needs the package ssimulacra2: pip install ssimulacra2")

    def measure(self, codec: Codec, picture: Picture, done: Compressed) -> Fields:
        """What is asked for of psnr, in dB, and ssimulacra2, of the decoded file."""
        from gmvqzip.bench import metrics

        found: Fields = {} if done.psnr is None else {"psnr": done.psnr}
        wants_psnr = (self.psnr or self.min_psnr is not None) and done.psnr is None
        if not (wants_psnr or self.ssimulacra2):
            return found
        decoded = codec.follow(done.codes).pixels().pixels
        if wants_psnr:
            found["psnr"] = metrics.psnr(picture.given, decoded)
        if self.ssimulacra2 and metrics.no_ssimulacra2(*decoded.shape[:2]) is None:
            found["ssimulacra2"] = metrics.ssimulacra2(picture.given, decoded)
        return found

    def unmeasured(self, width: int, height: int) -> str | None:
        """Why the SSIMULACRA2 that is asked for is not told, if it is not."""
        from gmvqzip.bench import metrics

        return metrics.no_ssimulacra2(height, width) if self.ssimulacra2 else None

    def meet(self, measures: Fields, in_bytes: int, out_bytes: int) -> None:
        """Raise LeftAlone where a result is not what is asked for."""
        if self.min_psnr is not None and measures["psnr"] < self.min_psnr:
            raise LeftAlone(f"it would have {measures['psnr']:.2f} dB, less than {self.min_psnr:g}")
        if self.only_if_smaller and out_bytes >= in_bytes:
            raise LeftAlone(f"its {in_bytes:,} bytes would become {out_bytes:,}")


@dataclass(frozen=True)
class _Read:
    """A picture, the bytes of its file, and the seconds so far."""

    picture: Picture
    in_bytes: int
    seconds: float


@dataclass(frozen=True)
class _Done:
    """A compressed picture, and what is known of its source."""

    done: Compressed
    in_bytes: int
    seconds: float  # so far, with its share of the batch
    measures: Fields
    dropped: tuple[str, ...]
    extras: Fields  # whether there are transparency, a profile and metadata


def compress(
    files: options.Files = None,
    *,
    inputs: options.Inputs,
    outputs: options.Outputs,
    keep_ending: options.KeepEnding = False,
    strip: options.Strip = False,
    rate: Rate,
    demands: Demands,
    models: options.Models,
    running: options.Running,
) -> int:
    """Compress pictures into .gmvq files.

    img.png becomes img.gmvq beside it. The source is kept, and an existing output is never overwritten unasked.
    EXIF, XMP, IPTC, resolution, texts and colour profile are kept unless --strip is given.
    """
    report = running.report()
    wish = rate.wish()
    demands.check()
    tasks, total = _plan(inputs.paths(files), inputs.recursive, outputs, keep_ending, report)
    refuse_stream(tasks, force=outputs.force, as_json=running.as_json)
    if outputs.skip_existing:
        tasks = undone(tasks, report)
    if not tasks:
        return report.finish(total)

    from gmvqzip import codec as codecs
    from gmvqzip.engines.batching import batch_pixels

    codec = codecs.load(models.chosen, device=models.device.value)
    check_cuda(models.device)
    if not codec.qualities and rate.quality is not None:
        report.note(f"model {codec.name} has a single rate: --quality {rate.quality} changes nothing")

    def work(items: Sequence[_Read]) -> list[_Done]:
        start = time.perf_counter()
        found = codec.compress_pictures([item.picture for item in items], **wish)
        measured = [demands.measure(codec, item.picture, done) for item, done in zip(items, found, strict=True)]
        share = (time.perf_counter() - start) / len(items)
        return [
            _Done(
                done,
                item.in_bytes,
                item.seconds + share,
                measures,
                tuple(item.picture.dropped),
                {name: getattr(item.picture, name) is not None for name in ("alpha", "icc", "metadata")},
            )
            for item, done, measures in zip(items, found, measured, strict=True)
        ]

    steps = Steps(
        partial(_read, outputs=outputs, strip=strip, max_pixels=models.max_pixels, report=report),
        lambda item: item.picture.width * item.picture.height,
        1 if rate.has_target else batch_pixels(codec.device),
        work,
        partial(_write, codec=codec, outputs=outputs, demands=demands, report=report),
    )
    run_steps(
        tasks,
        steps,
        conversion_shower(report, len(tasks)),
        report,
        jobs=running.jobs,
        what="compressing",
        in_thread=encoding_threads(codec, rate.effort, running.threads, running.jobs),
    )
    return report.finish(total)


def _plan(
    paths: Sequence[str], recursive: bool, outputs: options.Outputs, keep_ending: bool, report: Report
) -> tuple[list[Task], int]:
    """The tasks, and how many inputs there were. Raises UsageError where the options contradict each other."""
    outputs.check()
    check_ending(outputs.output, GMVQ_SUFFIXES, "a .gmvq file")
    rename = namer(
        image_to_gmvq, SUFFIX[1:], outputs.output_name, output=outputs.output, keep_ending=keep_ending
    )  # fmt: skip
    hint = KEEP_HINT if outputs.output_name is None and not keep_ending else ""
    return plan(paths, outputs, report, recursive=recursive, suffixes=image_suffixes(), rename=rename, hint=hint)


def _read(task: Task, *, outputs: options.Outputs, strip: bool, max_pixels: int, report: Report) -> _Read:
    start = time.perf_counter()
    prepare(task, force=outputs.force, make_directory=outputs.output_dir is not None)
    picture, in_bytes = read_picture(task, strip=strip, max_pixels=max_pixels)
    for warning in picture.warnings:
        if not (outputs.remove and warning in picture.dropped):  # what keeps a source is said when it is kept
            report.warn(task.name, warning)
    return _Read(picture, in_bytes, time.perf_counter() - start)


def _write(
    task: Task, product: _Done, *, codec: Codec, outputs: options.Outputs, demands: Demands, report: Report
) -> Fields:
    start = time.perf_counter()
    done = product.done
    demands.meet(product.measures, product.in_bytes, len(done.data))
    deliver(task, done.data, force=outputs.force, remove=outputs.remove and not product.dropped)
    if outputs.remove and product.dropped:
        report.keep(task.name, product.dropped)
    if (reason := demands.unmeasured(done.codes.width, done.codes.height)) is not None:
        report.note(f"{safe_name(task.name)}: {reason}", level=0)
    if len(done.data) > product.in_bytes:
        sizes = f"{product.in_bytes:,} -> {len(done.data):,} bytes"
        report.note(
            f"{safe_name(task.name)}: it got larger, {sizes}; --only-if-smaller leaves such files alone", level=0
        )
    return {
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
        **product.extras,
        "dropped": list(product.dropped),
        "header_bytes": done.header_bytes,
        "sections_bytes": done.sections_bytes,
        "payload_bytes": done.payload_bytes,
        "ideal_bits": done.ideal_bits,
        "codes_crc32": f"{done.codes.crc32():08x}",
        **product.measures,
        "seconds": product.seconds + time.perf_counter() - start,
    }
