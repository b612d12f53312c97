"""The command line's table of commands."""

from __future__ import annotations

from typing import Annotated

import typer

import gmvqzip
from gmvqzip.cli.bench import bench
from gmvqzip.cli.codes import codes
from gmvqzip.cli.compress import compress
from gmvqzip.cli.decompress import decompress
from gmvqzip.cli.groups import grouped
from gmvqzip.cli.info import info
from gmvqzip.cli.listing import list_pictures
from gmvqzip.cli.models import models
from gmvqzip.cli.pack import pack
from gmvqzip.cli.run import guarded
from gmvqzip.cli.test import test
from gmvqzip.cli.train import train
from gmvqzip.cli.unpack import unpack
from gmvqzip.cli.view import view

app = typer.Typer(
    name="gmvqzip",
    help="Compress pictures with trained Gaussian-mixture codebooks and exact range coding.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"gmvqzip {gmvqzip.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "-V", "--version", callback=_version, is_eager=True, help="Print the version.", show_default=False
        ),
    ] = False,
) -> None:
    pass


for _command in (compress, decompress, info, test, codes, pack, unpack, view, bench, train):
    app.command()(guarded(grouped(_command)))
app.command("list")(guarded(grouped(list_pictures)))
app.add_typer(models, name="models")
