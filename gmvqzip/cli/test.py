"""gmvqzip test: integrity of .gmvq files and of packs; the codes are decoded, no pixels are made."""

from __future__ import annotations

import time
from pathlib import Path

from gmvqzip.cli import options
from gmvqzip.cli.batch import decoding_threads, read_gmvq
from gmvqzip.cli.packing import say_state
from gmvqzip.cli.pipeline import run_tasks
from gmvqzip.cli.plan import GMVQ_SUFFIXES, PACK_SUFFIXES, Task
from gmvqzip.cli.plan import inputs as readable
from gmvqzip.cli.records import Fields, file_fields, input_name, shown_input
from gmvqzip.cli.report import Report
from gmvqzip.errors import FormatError, ModelError


def test(
    files: options.Files = None,
    *,
    inputs: options.Inputs,
    model: options.Model = None,
    max_pixels: options.MaxPixels = options.DEFAULT_MAX_PIXELS,
    running: options.Running,
) -> int:
    """Test the integrity of .gmvq files, and of the pictures in .gmvqp packs.

    Decodes the codes of each file and compares their checksum. Needs the model's tables, makes no pixels.
    """
    report = running.report()
    tasks, total = readable(
        inputs.paths(files), report, recursive=inputs.recursive, suffixes=GMVQ_SUFFIXES | PACK_SUFFIXES
    )
    if not tasks:
        return report.finish(total)

    from gmvqzip import codec as codecs
    from gmvqzip.entropy.extras import read_extras
    from gmvqzip.format.container import unpack

    def work(task: Task) -> Fields:
        start = time.perf_counter()
        if task.source is not None and _is_pack(task.source):
            return _test_pack(task, task.source, model, max_pixels, report)
        data = read_gmvq(task)
        box = unpack(data, max_pixels=max_pixels)
        codec = codecs.load_for(box.header.model_id, model=model)
        coded = codec.open(box)
        extras = read_extras(box)
        return {
            "input": input_name(task),
            "in_bytes": len(data),
            **file_fields(box, coded, codec, as_json=running.as_json),
            "alpha": extras.alpha is not None,
            "icc": extras.icc is not None,
            "metadata": extras.metadata is not None,
            "ok": True,
            "seconds": time.perf_counter() - start,
        }

    def show(fields: Fields) -> None:
        nonlocal total
        total += max(fields.get("pictures", 1) - 1, 0)  # what fails in a pack are pictures
        if running.as_json:
            report.record(fields)
        elif not running.quiet and fields["ok"]:
            what = f"{fields['pictures']:,} pictures" if "pictures" in fields else f"codes {fields['codes_crc32']}"
            report.line(f"{shown_input(fields)}: ok, {what}")

    in_thread = decoding_threads(running.threads, running.jobs)
    run_tasks(tasks, work, show, report, jobs=running.jobs, what="testing", in_thread=in_thread)
    return report.finish(total)


def _is_pack(source: Path) -> bool:
    from gmvqzip.format.packheader import PACK_MAGIC

    if not source.is_file():  # what is no regular file can be read only once
        return False
    with source.open("rb") as file:
        return file.read(len(PACK_MAGIC)) == PACK_MAGIC


def _test_pack(task: Task, source: Path, model: str | None, max_pixels: int, report: Report) -> Fields:
    """Decode every picture's codes; each that is damaged is reported by its name, a missing model once."""
    from gmvqzip.entropy.extras import read_extras
    from gmvqzip.pack.reader import PackReader

    start = time.perf_counter()
    damaged, untested = 0, dict[str, list[str]]()
    with PackReader(source, model=model, max_pixels=max_pixels) as reader:
        say_state(reader, task.name, report)
        for name in reader.names:
            try:
                reader.codec(name)
            except ModelError as error:
                untested.setdefault(str(error), []).append(name)
                continue
            try:
                box = reader.coded(name).box
                if box is not None:
                    read_extras(box)
            except (FormatError, OSError) as error:
                report.fail(f"{task.name}: {name}", error)
                damaged += 1
        for problem, names in untested.items():
            more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
            report.fail(f"{task.name}: {names[0]}{more}", ModelError(problem))
        return {
            "input": input_name(task),
            "in_bytes": reader.file_bytes,
            "pictures": len(reader),
            "damaged": damaged,
            "ok": not (damaged or untested or reader.lost),
            "seconds": time.perf_counter() - start,
        }
