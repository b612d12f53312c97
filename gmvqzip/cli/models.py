"""gmvqzip models: the models that are installed, their cards, where they are, whether they are whole."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gmvqzip.cli import options
from gmvqzip.cli.batch import write_stdout
from gmvqzip.cli.report import Report
from gmvqzip.cli.run import guarded
from gmvqzip.errors import safe_name
from gmvqzip.models import registry
from gmvqzip.models.cost import cost
from gmvqzip.models.kinds import Config, read_config
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
    """List the installed models: name, identity, size, parameters, work per pixel, grids."""
    report = Report(verbose=verbose, as_json=as_json, progress=False)
    found = registry.installed()
    if not found and not as_json:
        folders = ", ".join(safe_name(folder) for folder in registry.search_path())
        report.note(f"no models are installed in {folders}", level=0)
    rows = []
    for info in found:
        try:
            fields = _fields(info)
        except Exception as error:
            report.fail(str(info.path), error)
            continue
        if as_json:
            report.record(fields)
        else:
            rows.append(_row(fields) + ((fields["path"],) if verbose else ()))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        report.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return report.finish(len(found))


def show_model(name: Name, as_json: options.Json = False, verbose: options.Verbose = 0) -> int:
    """Show a model's card: what it was trained on, results, parameters, work per pixel, configuration."""
    report = Report(verbose=verbose, as_json=as_json, progress=False)
    info = registry.find(name)
    fields = _fields(info)
    if as_json:
        report.record(fields | {"config": info.config, "card": info.card})
        return 0
    fields["grids"] = _readable(fields["grids"])
    for title, value in (fields | {"card": info.card, "config": info.config}).items():
        _print(report, title, value)
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
    config, work = read_config(info.config), cost(info)
    return {
        "name": info.name,
        "model_id": info.model_id,
        "path": safe_name(info.path),
        "file_bytes": work.file_bytes,
        "parameters": work.parameters,
        "encode_kmac_per_pixel": round(work.encode_kmac, 3),
        "decode_kmac_per_pixel": round(work.decode_kmac, 3),
        "grids": _grids(config),
        "max_bpp": sum(math.log2(g.codes) / g.stride**2 for g in config.stages()),
    }


def _grids(config: Config) -> list[dict[str, Any]]:
    """The grids of a staged model, the parts of a hyperprior model; `stages` counts arrays of indices."""
    rows: list[dict[str, Any]] = [{"stride": g.stride, "stages": g.stages, "codes": g.codes} for g in config.grids]
    if not config.quarter:
        return rows
    parts = zip(config.parts(), rows, config.grids, strict=True)
    return [{"part": title, **row, "dimensions": grid.dimensions} for (title, _), row, grid in parts]


def _readable(grids: list[dict[str, Any]]) -> Any:
    """Parts as lines for people; grids as they are."""
    if "part" not in grids[0]:
        return grids
    return {
        g["part"]: f"{g['stages']} groups of {g['dimensions']} dimensions, {g['codes']} codes at 1/{g['stride']}"
        for g in grids
    }


def _row(fields: dict[str, Any]) -> tuple[str, ...]:
    grids = ", ".join(f"{g['stages']} x {g['codes']} codes at 1/{g['stride']}" for g in fields["grids"])
    return (
        fields["name"],
        fields["model_id"][:8],
        f"{fields['file_bytes'] / 1e6:.1f} MB",
        f"{fields['parameters'] / 1e6:.2f} M parameters",
        f"{fields['encode_kmac_per_pixel']:.1f} + {fields['decode_kmac_per_pixel']:.1f} kMAC/pixel",
        grids,
    )


def _print(report: Report, title: str, value: Any, depth: int = 0) -> None:
    """A field on a line of its own; the fields of a table below it, indented."""
    if isinstance(value, Mapping):
        report.line(f"{'  ' * depth}{title}:")
        for key, inner in value.items():
            _print(report, str(key), inner, depth + 1)
    else:
        report.line(f"{'  ' * depth}{title}: {value if isinstance(value, str) else json.dumps(value)}")
