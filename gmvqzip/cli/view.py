"""gmvqzip view: where a file's bits lie, as one HTML page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gmvqzip.cli import options
from gmvqzip.cli.batch import prepare, read_gmvq, write_stdout
from gmvqzip.cli.naming import check_ending
from gmvqzip.cli.pipeline import run_tasks
from gmvqzip.cli.plan import GMVQ_SUFFIXES, STREAM, SUFFIX, Task, plan, swap_suffix
from gmvqzip.cli.records import Fields, input_name, output_name, shown_input
from gmvqzip.cli.report import Report
from gmvqzip.cli.run import UsageError
from gmvqzip.errors import ImageError, safe_name

if TYPE_CHECKING:
    from gmvqzip.images.pixels import Picture


def view(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The .gmvq file; - is standard input.")],
    original: Annotated[
        str | None, typer.Argument(metavar="ORIGINAL", help="The picture that it was made from, to compare it with.")
    ] = None,
    output: options.Output = None,
    force: options.Force = False,
    *,
    models: options.Models,
    verbose: options.Verbose = 0,
    quiet: options.Quiet = False,
) -> int:
    """Show what is in a .gmvq file, and where its bits lie, as one HTML page.

    img.gmvq becomes img.html beside it: the picture, with a slider between it and ORIGINAL where that is given; maps of
    the bits at each site, part by part; how often each code occurs; the bytes of each part. The page needs nothing from
    outside.
    """
    report = Report(verbose=verbose, quiet=quiet, progress=False)
    if original == STREAM:
        raise UsageError("the original cannot be standard input: name a file")
    check_ending(output, (".html", ".htm"), "a page")
    destination = options.Destination(output, force=force)
    rename = swap_suffix(SUFFIX, ".html")
    tasks, total = plan([file], destination, report, recursive=False, suffixes=GMVQ_SUFFIXES, rename=rename)
    if not tasks:
        return report.finish(total)
    if original is not None and (target := tasks[0].target) is not None and _same(target, original):
        raise UsageError(f"{safe_name(target)} is the original: nothing was done")

    from gmvqzip.images.files import atomic_write

    def work(task: Task) -> Fields:
        prepare(task, force=force, make_directory=False)
        encoded = _page(task, original, models)
        if task.target is None:
            write_stdout(encoded)
        else:
            atomic_write(task.target, encoded, force=force)
        return {"input": input_name(task), "output": output_name(task)}

    def show(fields: Fields) -> None:
        report.note(f"{shown_input(fields)}: see {safe_name(fields['output'])}")

    run_tasks(tasks, work, show, report, what="viewing")
    return report.finish(total)


def _page(task: Task, original: str | None, models: options.Models) -> bytes:
    from gmvqzip import codec as codecs
    from gmvqzip import inspection
    from gmvqzip.format.container import unpack
    from gmvqzip.view.page import Seen, page

    data = read_gmvq(task)
    info = inspection.info(data, model=models.model)
    codec = codecs.load_for(info.header.model_id, model=models.model, device=models.device.value)
    coded = codec.open(unpack(data, max_pixels=models.max_pixels))
    seen = Seen(
        name=safe_name(Path(task.name).name),
        info=info,
        config=codec.config,
        picture=coded.pixels(),
        stages=coded.codes.stages,
        site_bits=coded.site_bits(),
        original=None if original is None else _read(original, models.max_pixels),
    )
    return page(seen).encode()


def _same(target: Path, original: str) -> bool:
    return os.path.realpath(target) == os.path.realpath(original)


def _read(original: str, max_pixels: int) -> Picture:
    from gmvqzip.images.picture import read_picture

    try:
        return read_picture(original, max_pixels=max_pixels)
    except ImageError as error:
        raise ImageError(f"original {safe_name(original)}: {error}") from error
