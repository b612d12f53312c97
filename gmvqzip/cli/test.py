"""gmvqzip test: integrity of .gmvq files; the codes are decoded, no pixels are made."""

from __future__ import annotations

import time

from gmvqzip.cli import options
from gmvqzip.cli.batch import read_gmvq, run_tasks
from gmvqzip.cli.plan import GMVQ_SUFFIXES, Task, inputs
from gmvqzip.cli.records import Fields, file_fields, input_name, shown_input
from gmvqzip.cli.report import Report


def test(
    files: options.Files,
    recursive: options.Recursive = False,
    model: options.Model = None,
    max_pixels: options.MaxPixels = options.DEFAULT_MAX_PIXELS,
    jobs: options.Jobs = 1,
    verbose: options.Verbose = 0,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    no_progress: options.NoProgress = False,
) -> int:
    """Test the integrity of .gmvq files.

    Decodes the codes of each file and compares their checksum. Needs the model's tables, makes no pixels.
    """
    report = Report(verbose=verbose, quiet=quiet, as_json=as_json, progress=not no_progress)
    tasks, total = inputs(files, report, recursive=recursive, suffixes=GMVQ_SUFFIXES)
    if not tasks:
        return report.finish(total)

    from gmvqzip import codec as codecs
    from gmvqzip.format.container import read_header

    def work(task: Task) -> Fields:
        start = time.perf_counter()
        data = read_gmvq(task)
        header, _ = read_header(data)
        codec = codecs.load_for(header.model_id, model=model)
        box, codes = codec.unpack_codes(data, max_pixels=max_pixels)
        plane, profile = codecs.read_extras(box)
        return {
            "input": input_name(task),
            "in_bytes": len(data),
            **file_fields(box, codes, codec),
            "alpha": plane is not None,
            "icc": profile is not None,
            "ok": True,
            "seconds": time.perf_counter() - start,
        }

    def show(fields: Fields) -> None:
        if as_json:
            report.record(fields)
        elif not quiet:
            report.line(f"{shown_input(fields)}: ok, codes {fields['codes_crc32']}")

    run_tasks(tasks, work, show, report, jobs=jobs, what="testing")
    return report.finish(total)
