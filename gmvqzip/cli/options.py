"""Options that several commands share, described once."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gmvqzip.cli.report import Report, describe
from gmvqzip.cli.run import UsageError
from gmvqzip.errors import safe_name
from gmvqzip.format.limits import MAX_PIXELS
from gmvqzip.models.registry import DEFAULT_MODEL
from gmvqzip.setting import EFFORTS, QUALITIES

DEFAULT_MAX_PIXELS = MAX_PIXELS
_BYTES = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?) ?([kmg]?)(i?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3}


class Panel(StrEnum):
    """Options that the help shows together."""

    RATE = "Size and quality"
    OUTPUT = "Output"
    MODEL = "Model and limits"
    RUN = "Running and messages"
    MEASURE = "What is measured"

    def option(self, *names: str, **more: Any) -> Any:
        """An option in the panel, as by `typer.Option`."""
        return typer.Option(*names, rich_help_panel=self.value, **more)

    def flag(self, *names: str, **more: Any) -> Any:
        """One without a value, off by default."""
        return self.option(*names, show_default=False, **more)


class Device(StrEnum):
    """Where the network runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


Files = Annotated[list[str] | None, typer.Argument(metavar="FILE", help="Files to read; - is standard input.")]
FileList = Annotated[
    str | None,
    typer.Option(
        "--filelist", metavar="FILE", help="Read names of more files from FILE, one a line; - is standard input."
    ),
]
Null = Annotated[
    bool,
    typer.Option(
        "-0", "--null", help="Names in --filelist end with a zero byte, as from find -print0.", show_default=False
    ),
]

Output = Annotated[
    str | None, Panel.OUTPUT.option("-o", "--output", metavar="FILE", help="Write to FILE; - is standard output.")
]
OutputDir = Annotated[
    str | None, Panel.OUTPUT.option("--output-dir", metavar="DIR", help="Write into DIR, created if need be.")
]
Stdout = Annotated[bool, Panel.OUTPUT.flag("-c", "--stdout", help="Write to standard output.")]
Force = Annotated[
    bool, Panel.OUTPUT.flag("-f", "--force", help="Overwrite an existing output; write binary data to a terminal.")
]
SkipExisting = Annotated[
    bool,
    Panel.OUTPUT.flag(
        "--skip-existing",
        help="Leave out files whose output exists, without a line for each: go on after an interruption.",
    ),
]
Remove = Annotated[bool, Panel.OUTPUT.flag("--rm", help="Remove each source once its output is safe on disk.")]
OutputName = Annotated[
    str | None,
    Panel.OUTPUT.option(
        "--output-name",
        metavar="TEMPLATE",
        help="Name of each output, of {name}, {stem} and {suffix} of the input, and {ending} of the output: "
        "'{stem}-small.{ending}'.",
    ),
]
KeepEnding = Annotated[
    bool,
    Panel.OUTPUT.flag("--keep-ending", help="Keep the input's ending: a.jpg becomes a.jpg.gmvq beside a.png.gmvq."),
]
Strip = Annotated[
    bool, Panel.OUTPUT.flag("--strip", help="Convert to sRGB and drop the colour profile and all metadata.")
]
Recursive = Annotated[
    bool,
    typer.Option(
        "-r", "--recursive", help="Take the files in directories; --output-dir mirrors the tree.", show_default=False
    ),
]
Quality = Annotated[
    int | None,
    Panel.RATE.option(
        "-q",
        "--quality",
        min=QUALITIES[0],
        max=QUALITIES[-1],
        help="Quality. A model with a single rate takes any and has one.",
    ),
]
Effort = Annotated[
    int, Panel.RATE.option("-e", "--effort", min=EFFORTS[0], max=EFFORTS[-1], help="Search longer for better codes.")
]
Model = Annotated[
    str | None, Panel.MODEL.option("-m", "--model", metavar="NAME|PATH", help="The model, by name or file.")
]
DeviceOption = Annotated[Device, Panel.MODEL.option("--device", help="Where the network runs.")]
Threads = Annotated[
    int | None,
    Panel.RUN.option("-T", "--threads", min=0, max=1024, help="Processor threads for one file; 0: all there are."),
]
Jobs = Annotated[int, Panel.RUN.option("-j", "--jobs", min=1, help="Files worked on at once.")]
MaxPixels = Annotated[int, Panel.MODEL.option("--max-pixels", min=1, metavar="N", help="Refuse larger pictures.")]
Verbose = Annotated[int, Panel.RUN.flag("-v", "--verbose", count=True, help="Say more; -vv adds tracebacks.")]
Quiet = Annotated[bool, Panel.RUN.flag("--quiet", help="Say nothing but errors.")]
Json = Annotated[bool, Panel.RUN.flag("--json", help="Print one JSON object per file on standard output.")]
NoProgress = Annotated[bool, Panel.RUN.flag("--no-progress", help="Draw no progress bar.")]


@dataclass(frozen=True)
class Inputs:
    """Where files come from, besides the command line."""

    recursive: Recursive = False
    filelist: FileList = None
    null: Null = False

    def paths(self, files: Sequence[str] | None) -> list[str]:
        """The names on the command line, and those in the list. Raises UsageError where there are none."""
        given = list(files or [])
        if self.filelist is None:
            if self.null:
                raise UsageError("-0 says how --filelist is to be read: give that, too")
            if not given:
                raise UsageError("name a file, or give --filelist")
            return given
        if self.filelist == "-" and "-" in given:
            raise UsageError("standard input can be read only once")
        try:
            if self.filelist != "-":
                data = Path(self.filelist).read_bytes()
            elif sys.stdin is None:
                raise UsageError("standard input is closed: name the list")
            else:
                data = sys.stdin.buffer.read()
        except (OSError, ValueError) as error:
            raise UsageError(f"the list {safe_name(self.filelist)} cannot be read: {describe(error)}") from None
        if b"\0" in data and not self.null:
            raise UsageError(f"the list {safe_name(self.filelist)} has zero bytes: add -0 where names end with them")
        names = data.split(b"\0") if self.null else data.replace(b"\r\n", b"\n").split(b"\n")
        return given + [os.fsdecode(name) for name in names if name]


@dataclass(frozen=True)
class Destination:
    """Where outputs go, and what becomes of what is there."""

    output: Output = None
    output_dir: OutputDir = None
    stdout: Stdout = False
    force: Force = False
    remove: Remove = False


@dataclass(frozen=True)
class Outputs(Destination):
    """The same, with names of their own, and of many files those that are there left out."""

    output_name: OutputName = None
    skip_existing: SkipExisting = False

    def check(self) -> None:
        """Raise UsageError where the options contradict each other."""
        if self.force and self.skip_existing:
            raise UsageError("--force and --skip-existing contradict each other: give one")


@dataclass(frozen=True)
class Models:
    """The model, where it runs, and how much it may be asked."""

    model: Model = None
    device: DeviceOption = Device.AUTO
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS

    @property
    def chosen(self) -> str:
        """The model that is asked for, or the default."""
        return DEFAULT_MODEL if self.model is None else self.model


@dataclass(frozen=True)
class Running:
    """How a command works through its files, and what it says."""

    threads: Threads = None
    jobs: Jobs = 1
    verbose: Verbose = 0
    quiet: Quiet = False
    as_json: Json = False
    no_progress: NoProgress = False

    def report(self) -> Report:
        """Messages as the options want them."""
        return Report(verbose=self.verbose, quiet=self.quiet, as_json=self.as_json, progress=not self.no_progress)


def byte_count(text: str) -> int | None:
    """Bytes of a size such as 300, 20k, 20kB, 1.5M or 2MiB, fractions of a byte dropped; None where it is none."""
    match = _BYTES.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        return None
    return int(Decimal(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].lower()])
