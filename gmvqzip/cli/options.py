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
from typing import Annotated

import typer

from gmvqzip.cli.report import Report, describe, safe_name
from gmvqzip.cli.run import UsageError
from gmvqzip.format.limits import MAX_PIXELS
from gmvqzip.setting import EFFORTS, QUALITIES

RATE_PANEL = "Size and quality"
OUTPUT_PANEL = "Output"
MODEL_PANEL = "Model and limits"
RUN_PANEL = "Running and messages"
DEFAULT_MAX_PIXELS = MAX_PIXELS
_BYTES = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?) ?([kmg]?)(i?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3}


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
    str | None,
    typer.Option(
        "-o", "--output", metavar="FILE", help="Write to FILE; - is standard output.", rich_help_panel=OUTPUT_PANEL
    ),
]
OutputDir = Annotated[
    str | None,
    typer.Option(
        "--output-dir", metavar="DIR", help="Write into DIR, created if need be.", rich_help_panel=OUTPUT_PANEL
    ),
]
Stdout = Annotated[
    bool,
    typer.Option("-c", "--stdout", help="Write to standard output.", rich_help_panel=OUTPUT_PANEL, show_default=False),
]
Force = Annotated[
    bool,
    typer.Option(
        "-f",
        "--force",
        help="Overwrite an existing output; write binary data to a terminal.",
        rich_help_panel=OUTPUT_PANEL,
        show_default=False,
    ),
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        help="Leave out files whose output exists, without a line for each: go on after an interruption.",
        rich_help_panel=OUTPUT_PANEL,
        show_default=False,
    ),
]
Remove = Annotated[
    bool,
    typer.Option(
        "--rm",
        help="Remove each source once its output is safe on disk.",
        rich_help_panel=OUTPUT_PANEL,
        show_default=False,
    ),
]
OutputName = Annotated[
    str | None,
    typer.Option(
        "--output-name",
        metavar="TEMPLATE",
        help="Name of each output, of {name}, {stem} and {suffix} of the input, and {ending} of the output: "
        "'{stem}-small.{ending}'.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
KeepEnding = Annotated[
    bool,
    typer.Option(
        "--keep-ending",
        help="Keep the input's ending: a.jpg becomes a.jpg.gmvq beside a.png.gmvq.",
        rich_help_panel=OUTPUT_PANEL,
        show_default=False,
    ),
]
Strip = Annotated[
    bool,
    typer.Option(
        "--strip",
        help="Convert to sRGB and drop the colour profile and all metadata.",
        rich_help_panel=OUTPUT_PANEL,
        show_default=False,
    ),
]
Recursive = Annotated[
    bool,
    typer.Option(
        "-r", "--recursive", help="Take the files in directories; --output-dir mirrors the tree.", show_default=False
    ),
]
Quality = Annotated[
    int | None,
    typer.Option(
        "-q",
        "--quality",
        min=QUALITIES[0],
        max=QUALITIES[-1],
        help="Quality. A model with a single rate takes any and has one.",
        rich_help_panel=RATE_PANEL,
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
        rich_help_panel=RATE_PANEL,
    ),
]
Model = Annotated[
    str | None,
    typer.Option("-m", "--model", metavar="NAME|PATH", help="The model, by name or file.", rich_help_panel=MODEL_PANEL),
]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where the network runs.", rich_help_panel=MODEL_PANEL)]
Threads = Annotated[
    int | None,
    typer.Option(
        "-T", "--threads", min=0, help="Processor threads for one file; 0: all there are.", rich_help_panel=RUN_PANEL
    ),
]
Jobs = Annotated[int, typer.Option("-j", "--jobs", min=1, help="Files worked on at once.", rich_help_panel=RUN_PANEL)]
MaxPixels = Annotated[
    int,
    typer.Option("--max-pixels", min=1, metavar="N", help="Refuse larger pictures.", rich_help_panel=MODEL_PANEL),
]
Verbose = Annotated[
    int,
    typer.Option(
        "-v",
        "--verbose",
        count=True,
        help="Say more; -vv adds tracebacks.",
        rich_help_panel=RUN_PANEL,
        show_default=False,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="Say nothing but errors.", rich_help_panel=RUN_PANEL, show_default=False)
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object per file on standard output.",
        rich_help_panel=RUN_PANEL,
        show_default=False,
    ),
]
NoProgress = Annotated[
    bool, typer.Option("--no-progress", help="Draw no progress bar.", rich_help_panel=RUN_PANEL, show_default=False)
]


@dataclass(frozen=True)
class Inputs:
    """Where files come from, besides the command line."""

    recursive: Recursive = False
    filelist: FileList = None
    null: Null = False

    def paths(self, files: Sequence[str] | None) -> list[str]:
        """The names on the command line, and those in the list. Raises UsageError where there are none of either."""
        return listed_paths(files, self.filelist, null=self.null)


@dataclass(frozen=True)
class Outputs:
    """Where outputs go, and what becomes of what is there."""

    output: Output = None
    output_dir: OutputDir = None
    output_name: OutputName = None
    stdout: Stdout = False
    force: Force = False
    skip_existing: SkipExisting = False
    remove: Remove = False


@dataclass(frozen=True)
class Models:
    """The model, where it runs, and how much it may be asked."""

    model: Model = None
    device: DeviceOption = Device.AUTO
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS


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


def listed_paths(files: Sequence[str] | None, filelist: str | None, *, null: bool = False) -> list[str]:
    """The given names, and those in a list, one a line or ended by zero bytes. Raises UsageError."""
    given = list(files or [])
    if filelist is None:
        if null:
            raise UsageError("-0 says how --filelist is to be read: give that, too")
        if not given:
            raise UsageError("name a file, or give --filelist")
        return given
    if filelist == "-" and "-" in given:
        raise UsageError("standard input can be read only once")
    try:
        if filelist != "-":
            data = Path(filelist).read_bytes()
        elif sys.stdin is None:
            raise UsageError("standard input is closed: name the list")
        else:
            data = sys.stdin.buffer.read()
    except (OSError, ValueError) as error:
        raise UsageError(f"the list {safe_name(filelist)} cannot be read: {describe(error)}") from None
    names = data.split(b"\0") if null else data.replace(b"\r\n", b"\n").split(b"\n")
    return given + [os.fsdecode(name) for name in names if name]


def byte_count(text: str) -> int | None:
    """Bytes of a size such as 300, 20k, 20kB, 1.5M or 2MiB, fractions of a byte dropped; None where it is none."""
    match = _BYTES.fullmatch(text.strip())
    if match is None or (match[3] and not match[2]):
        return None
    return int(Decimal(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].lower()])
