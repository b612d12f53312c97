"""Options that several commands share, described once."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

import typer

from gmvqzip.format.limits import MAX_PIXELS

RATE_PANEL = "Size and quality"
OUTPUT_PANEL = "Output"
MODEL_PANEL = "Model and limits"
RUN_PANEL = "Running and messages"
DEFAULT_MAX_PIXELS = MAX_PIXELS
_BYTES = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(k|M)?")
_UNITS = {None: 1, "k": 1000, "M": 1_000_000}


class Device(StrEnum):
    """Where the network runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


Files = Annotated[list[str], typer.Argument(metavar="FILE", help="Files to read; - is standard input.")]

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
        help="Leave out files whose output exists: go on after an interruption.",
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
Recursive = Annotated[
    bool,
    typer.Option(
        "-r", "--recursive", help="Take the files in directories; --output-dir mirrors the tree.", show_default=False
    ),
]
Model = Annotated[
    str | None,
    typer.Option("-m", "--model", metavar="NAME|PATH", help="The model, by name or file.", rich_help_panel=MODEL_PANEL),
]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where the network runs.", rich_help_panel=MODEL_PANEL)]
Threads = Annotated[
    int | None,
    typer.Option("-T", "--threads", min=1, help="Processor threads for one file.", rich_help_panel=RUN_PANEL),
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


def byte_count(text: str) -> int | None:
    """Bytes of a size such as 300, 20k or 1.5M, fractions of a byte dropped; None where it is none."""
    match = _BYTES.fullmatch(text)
    return int(Decimal(match[1]) * _UNITS[match[2]]) if match else None
