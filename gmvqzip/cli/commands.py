"""The command line's commands by name, each imported when it is asked for: a command starts without the others."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer

import gmvqzip
from gmvqzip.cli.groups import grouped
from gmvqzip.cli.run import guarded

HOMES = {
    "compress": ("gmvqzip.cli.compress", "compress"),
    "decompress": ("gmvqzip.cli.decompress", "decompress"),
    "info": ("gmvqzip.cli.info", "info"),
    "test": ("gmvqzip.cli.test", "test"),
    "codes": ("gmvqzip.cli.codes", "codes"),
    "pack": ("gmvqzip.cli.pack", "pack"),
    "unpack": ("gmvqzip.cli.unpack", "unpack"),
    "view": ("gmvqzip.cli.view", "view"),
    "bench": ("gmvqzip.cli.bench", "bench"),
    "train": ("gmvqzip.cli.train", "train"),
    "list": ("gmvqzip.cli.listing", "list_pictures"),
    "models": ("gmvqzip.cli.models", "models"),  # a group of commands
}
"""Module and name of each command, in the order of the help."""


def command_line(names: Iterable[str] = HOMES) -> typer.Typer:
    """The command line with these commands."""
    app = typer.Typer(
        name="gmvqzip",
        help="Compress pictures with trained Gaussian-mixture codebooks and exact range coding.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_main)
    for name in names:
        module, attribute = HOMES[name]
        command = getattr(import_module(module), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(guarded(grouped(command)))
    return app


def _version(wanted: bool) -> None:
    if wanted:
        print(f"gmvqzip {gmvqzip.__version__}")
        raise typer.Exit


def _main(
    version: Annotated[
        bool,
        typer.Option(
            "-V", "--version", callback=_version, is_eager=True, help="Print the version.", show_default=False
        ),
    ] = False,
) -> None:
    pass
