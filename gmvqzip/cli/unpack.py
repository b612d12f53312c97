"""gmvqzip unpack: pictures out of .gmvqp files, all or some."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gmvqzip.cli import options
from gmvqzip.cli.batch import check_cuda, decoding_threads, deliver, prepare, refuse_stream
from gmvqzip.cli.decompress import chosen_format
from gmvqzip.cli.naming import check_ending
from gmvqzip.cli.packing import say_state
from gmvqzip.cli.pipeline import run_tasks
from gmvqzip.cli.plan import GMVQ_SUFFIXES, PACK_SUFFIX, STREAM, SUFFIX, Task, check_destination
from gmvqzip.cli.records import Fields, conversion_shower, input_name, output_name
from gmvqzip.cli.report import Report
from gmvqzip.cli.run import UsageError
from gmvqzip.errors import FormatError, json_name
from gmvqzip.images.outputs import Format

if TYPE_CHECKING:
    from gmvqzip.pack.file import Entry, PackFile
    from gmvqzip.pack.reader import PackReader


UnpackFormat = StrEnum("UnpackFormat", {name.name: name.value for name in Format} | {"GMVQ": "gmvq"})  # type: ignore[misc]
_GMVQ = UnpackFormat("gmvq")

PackPath = Annotated[str, typer.Argument(metavar="FILE", help="The pack.")]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="The pictures, by name; all unless told otherwise.")
]
Numbers = Annotated[
    list[int] | None,
    typer.Option("-n", "--number", metavar="N", help="A picture by its number, from 0; may be repeated."),
]
FormatOption = Annotated[
    UnpackFormat | None,
    options.Panel.OUTPUT.option(
        "--format",
        help="Picture format; by default the ending of -o decides, or it is png. gmvq keeps the codes as they are.",
    ),
]


@dataclass(frozen=True)
class Targets:
    """Where the pictures go, and in which format."""

    output: options.Output = None
    output_dir: options.OutputDir = None
    stdout: options.Stdout = False
    picture_format: FormatOption = None
    force: options.Force = False

    def format(self) -> UnpackFormat:
        """What --format or the ending of -o asks for; png where nothing does. Raises UsageError."""
        wanted, output = self.picture_format, self.output
        if wanted is not None and wanted != _GMVQ:
            return UnpackFormat(chosen_format(Format(wanted.value), output))
        if wanted is None and (output is None or Path(output).suffix.lower() != SUFFIX):
            return UnpackFormat(chosen_format(None, output))
        check_ending(output, GMVQ_SUFFIXES, "a .gmvq file")
        return _GMVQ

    def folder(self, source: Path) -> Path | None:
        """Where the pictures go; None where one goes into a file or to standard output. Raises UsageError."""
        check_destination([], options.Destination(self.output, self.output_dir, self.stdout))
        if self.output_dir is not None:
            return Path(self.output_dir)
        if self.stdout or self.output is not None:
            return None
        if source.suffix.lower() != PACK_SUFFIX:
            raise UsageError(f"the name of the pack does not end in {PACK_SUFFIX}: use --output-dir")
        return source.with_suffix("")

    def single(self) -> Path | None:
        """The one file, or None: standard output."""
        return None if self.stdout or self.output in (None, STREAM) else Path(self.output)


def unpack(
    file: PackPath,
    names: Names = None,
    numbers: Numbers = None,
    *,
    targets: Targets,
    models: options.Models,
    running: options.Running,
) -> int:
    """Unpack pictures from a .gmvqp file, all of them or those that are named.

    set.gmvqp is unpacked into the folder set beside it. Only what is asked for is read. The pack is kept, and an
    existing output is never overwritten unasked.
    """
    report = running.report()
    chosen = targets.format()
    source = Path(file)
    folder = targets.folder(source)

    from gmvqzip.pack.reader import PackReader

    check_cuda(models.device)
    try:
        opened = PackReader(source, model=models.model, device=models.device.value, max_pixels=models.max_pixels)
        wanted, total = _wanted(opened, file, names or [], numbers or [], report)
    except (FormatError, OSError) as error:
        report.fail(file, error)
        return report.finish(1)
    with opened as reader:
        say_state(reader, file, report, all_of_it=not (names or numbers))
        if folder is None and total != 1:
            raise UsageError(f"{total} pictures cannot go into one output: use --output-dir")
        tasks = dict[Task, int]()
        for number in wanted:
            name = reader.names[number]
            target = folder / f"{name}.{chosen.value}" if folder else targets.single()
            tasks[Task(f"{file}: {name}", source, target)] = number
        refuse_stream(list(tasks), force=targets.force, as_json=running.as_json)

        def work(task: Task) -> Fields:
            start = time.perf_counter()
            prepare(task, force=targets.force, make_directory=folder is not None)
            entry = reader.entry(tasks[task])
            data, warnings = _converted(reader, entry.number, chosen)
            for warning in warnings:
                report.warn(task.name, warning)
            deliver(task, data, force=targets.force, remove=False)
            return _fields(task, entry, reader.names[entry.number], len(data), time.perf_counter() - start)

        show, in_thread = conversion_shower(report, len(tasks)), decoding_threads(running.threads, running.jobs)
        run_tasks(list(tasks), work, show, report, jobs=running.jobs, what="unpacking", in_thread=in_thread)
    return report.finish(total)


def _fields(task: Task, entry: Entry, name: str, out_bytes: int, seconds: float) -> Fields:
    return {
        "input": input_name(task),
        "output": output_name(task),
        "number": entry.number,
        "name": json_name(name),
        "width": entry.kind.width,
        "height": entry.kind.height,
        "in_bytes": entry.size,
        "out_bytes": out_bytes,
        "bpp": entry.bpp,
        "quality": entry.kind.quality,
        "halvings": entry.kind.halvings,
        "gray": entry.kind.gray,
        "seconds": seconds,
    }


def _wanted(
    pack: PackFile, file: str, names: Sequence[str], numbers: Sequence[int], report: Report
) -> tuple[list[int], int]:
    """The numbers of the pictures that are asked for, each once, and how many were asked for. Reads all names."""
    if not names and not numbers:
        return list(range(len(pack.names))), len(pack)
    keys: list[int | str] = list(dict.fromkeys([*names, *numbers]))
    found = []
    for key in keys:
        try:
            found.append(pack.number(key))
        except (KeyError, IndexError):
            report.fail(f"{file}: {key}", FormatError("there is no such picture: `gmvqzip list` shows those that are"))
    return list(dict.fromkeys(found)), len(keys)


def _converted(reader: PackReader, number: int, chosen: UnpackFormat) -> tuple[bytes, list[str]]:
    """The output's bytes, and a line for each thing that the format cannot hold."""
    from gmvqzip.images.writing import picture_bytes

    if chosen == _GMVQ:
        return reader.gmvq(number), []
    return picture_bytes(reader.picture(number), chosen.value)
