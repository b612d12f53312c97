"""gmvqzip list: what is in .gmvqp files, from their indexes, without weights, torch or numpy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gmvqzip.cli import options
from gmvqzip.cli.packing import say_state
from gmvqzip.cli.records import Fields
from gmvqzip.cli.report import Report
from gmvqzip.errors import ModelError, json_name, safe_name

if TYPE_CHECKING:
    from gmvqzip.pack.file import PackFile

Packs = Annotated[list[str], typer.Argument(metavar="FILE", help="Packs to read.")]


def list_pictures(
    files: Packs,
    verbose: options.Verbose = 0,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> int:
    """List the pictures in .gmvqp files, by name.

    -v adds the number, size, bytes, quality and model of each, and the parts of each pack.
    """
    from gmvqzip.pack.file import PackFile

    report = Report(verbose=verbose, quiet=quiet, as_json=as_json, progress=False)
    for file in files:
        try:
            with PackFile(Path(file)) as pack:
                names = pack.names  # damage is found before anything is printed
                say_state(pack, file, report)
                models = _Models()
                for number, name in enumerate(names):
                    if as_json:
                        report.record({"input": json_name(file)} | _fields(pack, number, name, models))
                    elif verbose:
                        report.line(_line(_fields(pack, number, name, models)))
                    else:
                        report.line(safe_name(name))
                if verbose and not as_json:
                    report.note(f"{safe_name(file)}: {_summary(pack)}")
        except BrokenPipeError:
            raise
        except Exception as error:
            report.fail(file, error)
    return report.finish(len(files))


class _Models:
    """Names of models by the start of their identity, each sought once."""

    def __init__(self) -> None:
        self._names: dict[bytes, str | None] = {}

    def name(self, model_id: bytes) -> str | None:
        """None where the model is not installed."""
        from gmvqzip.models import registry

        if model_id not in self._names:
            try:
                self._names[model_id] = registry.find_by_id(model_id).name
            except ModelError:
                self._names[model_id] = None
        return self._names[model_id]


def _fields(pack: PackFile, number: int, name: str, models: _Models) -> Fields:
    entry = pack.entry(number)
    kind = entry.kind
    return {
        "number": number,
        "name": json_name(name),
        "width": kind.width,
        "height": kind.height,
        "bytes": entry.size,
        "bpp": entry.bpp,
        "model": models.name(kind.model_id),
        "model_id": kind.model_id.hex(),
        "quality": kind.quality,
        "gray": kind.gray,
        "icc": bool(kind.profile),
    }


def _line(fields: Fields) -> str:
    size = f"{fields['width']}x{fields['height']}"
    quality = f"q{fields['quality']}" if fields["quality"] else "-"
    model = fields["model"] or fields["model_id"]
    return (
        f"{fields['number']:>7} {size:>11} {fields['bytes']:>9,} {quality:>4}  {model:<10}  {safe_name(fields['name'])}"
    )


def _summary(pack: PackFile) -> str:
    count = len(pack)
    size = pack.file_bytes
    line = f"{count:,} pictures, {size:,} bytes (records {pack.record_bytes:,}, index {pack.index_bytes:,})"
    return f"{line}, {size / count:.2f} a picture" if count else line
