"""gmvqzip decompress: .gmvq files -> pictures."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gmvqzip.cli import options
from gmvqzip.cli.batch import check_cuda, decoding_threads, deliver, prepare, read_gmvq, refuse_stream
from gmvqzip.cli.naming import check_ending, namer
from gmvqzip.cli.pipeline import Steps, run_steps
from gmvqzip.cli.plan import GMVQ_SUFFIXES, SUFFIX, Task, plan, swap_suffix, undone
from gmvqzip.cli.records import Fields, conversion_shower, file_fields, front_fields, input_name, output_name
from gmvqzip.cli.report import Report
from gmvqzip.cli.run import UsageError
from gmvqzip.errors import safe_name
from gmvqzip.images.outputs import OTHER_ENDINGS, REFUSED, Format, by_ending, refusal

if TYPE_CHECKING:
    from gmvqzip.codec import Codec, Region
    from gmvqzip.images.pixels import Picture


_BATCH_PIXELS = 1 << 18  # of pictures that are held at once by one job, and written together

FormatOption = Annotated[
    Format | None,
    options.Panel.OUTPUT.option(
        "--format", help="Picture format; by default the ending of -o decides, or it is png. npy is a uint8 array."
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
    options.Panel.OUTPUT.option(
        "--region",
        metavar="X,Y,W,H",
        help="Only W x H pixels from column X and row Y on; of a file with tiles, only what they need is read.",
    ),
]
ScaleOption = Annotated[
    Scale, options.Panel.OUTPUT.option("--scale", help="Size of the result; squares of pixels become their mean.")
]
_REGION = re.compile(r"(\d{1,7}),(\d{1,7}),(\d{1,7}),(\d{1,7})", re.ASCII)


@dataclass(frozen=True)
class Rendering:
    """What the result is like: its format, and which part and size of the picture it has."""

    picture_format: FormatOption = None
    region: RegionOption = None
    scale: ScaleOption = Scale.FULL

    @property
    def part(self) -> Region | None:
        """The wanted part. Raises UsageError."""
        return None if self.region is None else _region(self.region)

    @property
    def factor(self) -> float:
        """The size of the result, of the whole."""
        return float(Fraction(self.scale.value))


@dataclass(frozen=True)
class _Decoded:
    """A picture, and what is known of its file."""

    picture: Picture
    in_bytes: int
    fields: Fields
    seconds: float  # so far


def decompress(
    files: options.Files = None,
    *,
    inputs: options.Inputs,
    outputs: options.Outputs,
    rendering: Rendering,
    models: options.Models,
    running: options.Running,
) -> int:
    """Decompress .gmvq files into pictures.

    img.gmvq becomes img.png beside it. The source is kept, and an existing output is never overwritten unasked.
    Metadata go where the format has a place for them; what has none is said.

    Each file names its model; --model is for one that is not installed.

    With --region, checks of the whole file are not compared; each tile that is read has one of its own.
    """
    report = running.report()
    part = rendering.part
    chosen = chosen_format(rendering.picture_format, outputs.output)
    tasks, total = _plan(inputs.paths(files), inputs.recursive, outputs, chosen, report)
    refuse_stream(tasks, force=outputs.force, as_json=running.as_json)
    if outputs.skip_existing:
        tasks = undone(tasks, report)
    if not tasks:
        return report.finish(total)

    from gmvqzip import codec as codecs

    check_cuda(models.device)
    load = partial(codecs.load_for, model=models.model, device=models.device.value)
    decoding = _Decoding(outputs, load, models.max_pixels, part, rendering.factor, chosen, report)
    run_steps(
        tasks,
        Steps(decoding.read, decoding.pixels, _BATCH_PIXELS, decoding.work, decoding.write),
        conversion_shower(report, len(tasks)),
        report,
        jobs=running.jobs,
        what="decompressing",
        in_thread=decoding_threads(running.threads, running.jobs),
    )
    return report.finish(total)


@dataclass(frozen=True)
class _Decoding:
    """The steps of a file, of which `part` is wanted, `factor` times as large, in the format `chosen`."""

    outputs: options.Outputs
    load: Callable[[bytes], Codec]
    max_pixels: int
    part: Region | None
    factor: float
    chosen: Format
    report: Report

    def read(self, task: Task) -> bytes | Path:
        """The bytes of a file, or its path where only a part of it may be read."""
        prepare(task, force=self.outputs.force, make_directory=self.outputs.output_dir is not None)
        if self.part is not None and task.source is not None and task.source.is_file():
            return task.source
        return read_gmvq(task)

    def pixels(self, source: bytes | Path) -> int:
        """How many there are, as the header says."""
        from gmvqzip.format.container import read_header
        from gmvqzip.format.limits import MAX_HEADER_BYTES
        from gmvqzip.format.source import open_source

        with open_source(source) as file:
            header, _ = read_header(file.read(MAX_HEADER_BYTES))
        return header.width * header.height

    def work(self, items: Sequence[bytes | Path]) -> list[_Decoded]:
        """Each decoded."""
        return [self._whole(item) if self.part is None else self._region(item, self.part) for item in items]

    def _whole(self, source: bytes | Path) -> _Decoded:
        from gmvqzip.format.container import unpack
        from gmvqzip.format.source import read_source

        start = time.perf_counter()
        data = read_source(source)
        box = unpack(data, max_pixels=self.max_pixels)
        codec = self.load(box.header.model_id)
        coded = codec.open(box)
        picture = coded.pixels(scale=self.factor)
        fields = file_fields(box, coded, codec, as_json=self.report.as_json)
        return _Decoded(picture, len(data), fields, time.perf_counter() - start)

    def _region(self, source: bytes | Path, wanted: Region) -> _Decoded:
        from gmvqzip.format.opened import opened

        start = time.perf_counter()
        with opened(source, part=True, max_pixels=self.max_pixels) as file:
            codec = self.load(file.box.header.model_id)
            picture = codec.restore(file, region=wanted, scale=self.factor)
            size = file.size
        payload_bytes = size - file.box.header_bytes - file.box.sections_bytes
        fields = front_fields(file.box, payload_bytes, codec) | {"region": wanted}
        return _Decoded(picture, size, fields, time.perf_counter() - start)

    def write(self, task: Task, product: _Decoded) -> Fields:
        """Write a picture; the source stays where something of it is not in the output."""
        from gmvqzip.images.writing import picture_bytes

        start = time.perf_counter()
        encoded, warnings = picture_bytes(product.picture, self.chosen.value)
        dropped = [*warnings, *self._only_a_part()] if self.outputs.remove else []
        for warning in () if dropped else warnings:
            self.report.warn(task.name, warning)
        deliver(task, encoded, force=self.outputs.force, remove=self.outputs.remove and not dropped)
        if dropped:
            self.report.keep(task.name, dropped)
        return {
            "input": input_name(task),
            "output": output_name(task),
            "in_bytes": product.in_bytes,
            "out_bytes": len(encoded),
            **product.fields,
            "seconds": product.seconds + time.perf_counter() - start,
        }

    def _only_a_part(self) -> list[str]:
        region = ["only a region of it is written"] if self.part is not None else []
        return region + (["it is written at a reduced size"] if self.factor != 1 else [])


def chosen_format(wanted: Format | None, output: str | None) -> Format:
    """The format that --format or the ending of an output asks for; png where nothing does. Raises UsageError."""
    suffix = Path(output).suffix if output is not None else ""
    by_name = by_ending(suffix)
    if wanted is not None:
        others = [f".{ending}" for ending, name in OTHER_ENDINGS.items() if name == wanted]
        check_ending(output, (f".{wanted.value}", *others), f"--format {wanted.value}")
        return wanted
    if by_name is not None:
        return by_name
    if suffix:
        hint = "" if suffix.lower().removeprefix(".") in REFUSED else "; or name it with --format"
        raise UsageError(f"{safe_name(output or '')}: {refusal(suffix)}{hint}")
    return Format.PNG


def _plan(
    paths: Sequence[str], recursive: bool, outputs: options.Outputs, chosen: Format, report: Report
) -> tuple[list[Task], int]:
    """The tasks, and how many inputs there were. Raises UsageError where the options contradict each other."""
    outputs.check()
    usual = swap_suffix(SUFFIX, f".{chosen.value}")
    rename = namer(usual, chosen.value, outputs.output_name, output=outputs.output)
    return plan(paths, outputs, report, recursive=recursive, suffixes=GMVQ_SUFFIXES, rename=rename)


def _region(text: str) -> Region:
    match = _REGION.fullmatch(text)
    if match is None:
        raise UsageError(f"--region {safe_name(text)}: give X,Y,W,H in pixels, such as 0,0,512,512")
    x, y, width, height = map(int, match.groups())
    return x, y, width, height
