"""gmvqzip models: the models that are installed, their cards, where they are, whether they are whole."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import typer

from gmvqzip.cli import options
from gmvqzip.cli.batch import write_stdout
from gmvqzip.cli.report import Report, safe_name
from gmvqzip.cli.run import guarded
from gmvqzip.inspection import summarise
from gmvqzip.models import registry
from gmvqzip.models.config import NetworkConfig
from gmvqzip.models.registry import ModelInfo

models = typer.Typer(help="The models that are installed: list, show, path, verify.", invoke_without_command=True)

Name = Annotated[str, typer.Argument(metavar="NAME|PATH", help="A model, by name or file.")]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME|PATH]...", help="Models, by name or file; all if none.")
]


@models.callback()
def choose(context: typer.Context) -> None:
    """The models that are installed; `gmvqzip models` alone lists them."""
    if context.invoked_subcommand is None:
        guarded(list_models)()


def list_models(as_json: options.Json = False, verbose: options.Verbose = 0) -> int:
    """List the installed models: name, identity, size, grids, the most bits per pixel."""
    report = Report(verbose=verbose, as_json=as_json, progress=False)
    found = registry.installed()
    if as_json:
        for info in found:
            report.record(_fields(info))
        return 0
    if not found:
        folders = ", ".join(safe_name(folder) for folder in registry.search_path())
        report.note(f"no models are installed in {folders}", level=0)
    rows = [_row(info) for info in found]
    widths = [max(len(row[column]) for row in rows) for column in range(4)] if rows else []
    for row in rows:
        report.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + f"  {row[4]}")
        if verbose:
            report.line(f"    {safe_name(found[rows.index(row)].path)}")
    return 0


def show_model(name: Name, as_json: options.Json = False, verbose: options.Verbose = 0) -> int:
    """Show a model's card: what it was trained on, licence, results, parameters, configuration."""
    report = Report(verbose=verbose, as_json=as_json, progress=False)
    info = registry.find(name)
    if as_json:
        report.record(_fields(info) | {"config": info.config, "card": info.card})
        return 0
    for key, value in _fields(info).items():
        report.line(f"{key}: {_plain(value)}")
    for title, table in (("card", info.card), ("config", info.config)):
        report.line(f"{title}:")
        for key, value in table.items():
            report.line(f"  {key}: {_plain(value)}")
    return 0


def model_path(name: Name, verbose: options.Verbose = 0) -> int:
    """Print the path of a model's file, for scripts."""
    write_stdout(os.fsencode(registry.find(name).path) + b"\n")
    return 0


def verify_models(names: Names = None, verbose: options.Verbose = 0, quiet: options.Quiet = False) -> int:
    """Verify models in full: weights, tables, identity."""
    report = Report(verbose=verbose, quiet=quiet, progress=False)
    wanted = list(names or _files())

    from gmvqzip.models.store import verify

    for name in wanted:
        try:
            info = registry.find(name)
            verify(info)
        except Exception as error:
            report.fail(name, error)
            continue
        if not quiet:
            report.line(f"{safe_name(name)}: ok, {info.model_id[:8]}")
    return report.finish(len(wanted))


for _name, _command in (
    ("list", list_models),
    ("show", show_model),
    ("path", model_path),
    ("verify", verify_models),
):
    models.command(_name)(guarded(_command))


def _files() -> list[str]:
    """Every model file on the search path, damaged ones included."""
    return [str(path) for folder in registry.search_path() for path in sorted(folder.glob("*.safetensors"))]


def _fields(info: ModelInfo) -> dict[str, Any]:
    config, summary = NetworkConfig.from_dict(info.config), summarise(info)
    return {
        "name": info.name,
        "model_id": info.model_id,
        "path": safe_name(info.path),
        "file_bytes": summary.file_bytes,
        "parameters": summary.parameters,
        "grids": [{"stride": g.stride, "stages": g.stages, "codes": g.codes} for g in config.grids],
        "max_bpp": summary.max_bpp,
        "kmac_per_pixel": info.card.get("kmac_per_pixel"),
    }


def _row(info: ModelInfo) -> tuple[str, str, str, str, str]:
    fields = _fields(info)
    grids = ", ".join(f"{g['stages']} x {g['codes']} codes at 1/{g['stride']}" for g in fields["grids"])
    summary = str(info.card.get("description", ""))
    return info.name, info.model_id[:8], f"{fields['file_bytes'] / 1e6:.1f} MB", grids, summary


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
