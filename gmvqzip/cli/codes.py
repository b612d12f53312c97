"""gmvqzip codes: the code indices as a .npz archive, and back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from gmvqzip.cli import options
from gmvqzip.cli.batch import deliver, prepare, read_gmvq, read_stdin, refuse_stream, run_tasks
from gmvqzip.cli.naming import check_ending
from gmvqzip.cli.plan import GMVQ_SUFFIXES, SUFFIX, Destination, Task, plan, swap_suffix
from gmvqzip.cli.records import Fields, conversion_shower, file_fields, input_name, output_name
from gmvqzip.cli.report import Report

if TYPE_CHECKING:
    from gmvqzip.codec import Codec
    from gmvqzip.engines.coded import Coded
    from gmvqzip.format.container import Container

_NPZ = ".npz"

Pack = Annotated[bool, typer.Option("--pack", help="The way back: .npz archives into .gmvq files.", show_default=False)]


def codes(
    files: options.Files = None,
    *,
    inputs: options.Inputs,
    pack: Pack = False,
    output: options.Output = None,
    output_dir: options.OutputDir = None,
    stdout: options.Stdout = False,
    force: options.Force = False,
    remove: options.Remove = False,
    model: options.Model = None,
    max_pixels: options.MaxPixels = options.DEFAULT_MAX_PIXELS,
    jobs: options.Jobs = 1,
    verbose: options.Verbose = 0,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    no_progress: options.NoProgress = False,
) -> int:
    """Write the code indices of .gmvq files as .npz archives, one array per stage.

    img.gmvq becomes img.npz; with --pack, img.npz becomes img.gmvq.

    The arrays stage_00, stage_01, ... are int32, rows by columns, coarse first: tokens for a generative model.
    """
    report = Report(verbose=verbose, quiet=quiet, as_json=as_json, progress=not no_progress)
    destination = Destination(output, output_dir, stdout, remove)
    check_ending(output, frozenset({SUFFIX if pack else _NPZ}), "codes")
    tasks, total = plan(
        inputs.paths(files),
        destination,
        report,
        recursive=inputs.recursive,
        suffixes=frozenset({_NPZ}) if pack else GMVQ_SUFFIXES,
        rename=swap_suffix(_NPZ, SUFFIX) if pack else swap_suffix(SUFFIX, _NPZ),
    )
    refuse_stream(tasks, force=force, as_json=as_json)
    if not tasks:
        return report.finish(total)
    convert = _pack if pack else _unpack

    def work(task: Task) -> Fields:
        start = time.perf_counter()
        prepare(task, force=force, make_directory=output_dir is not None)
        in_bytes, data, box, coded, codec = convert(task, model, max_pixels)
        deliver(task, data, force=force, remove=remove)
        return {
            "input": input_name(task),
            "output": output_name(task),
            "in_bytes": in_bytes,
            "out_bytes": len(data),
            **file_fields(box, coded, codec, as_json=as_json),
            "seconds": time.perf_counter() - start,
        }

    what = "packing" if pack else "unpacking"
    run_tasks(tasks, work, conversion_shower(report, len(tasks)), report, jobs=jobs, what=what)
    return report.finish(total)


def _unpack(task: Task, model: str | None, max_pixels: int) -> tuple[int, bytes, Container, Coded, Codec]:
    from gmvqzip import codec as codecs
    from gmvqzip.entropy.extras import read_extras
    from gmvqzip.format.container import unpack
    from gmvqzip.npz import dump_npz

    data = read_gmvq(task)
    box = unpack(data, max_pixels=max_pixels)
    codec = codecs.load_for(box.header.model_id, model=model)
    coded = codec.open(box)
    return len(data), dump_npz(coded.codes, **read_extras(box)._asdict()), box, coded, codec


def _pack(task: Task, model: str | None, max_pixels: int) -> tuple[int, bytes, Container, Coded, Codec]:
    from gmvqzip import codec as codecs
    from gmvqzip.engines.files import file_of
    from gmvqzip.entropy.extras import make_sections
    from gmvqzip.format.container import unpack
    from gmvqzip.npz import load_npz

    archive = read_stdin() if task.source is None else task.source.read_bytes()
    indices, extras = load_npz(archive, max_pixels=max_pixels)
    codec = codecs.load_for(bytes.fromhex(indices.model_id), model=model)
    coded = codec.follow(indices)
    data = file_of(coded, make_sections(*extras))
    return len(archive), data, unpack(data, max_pixels=max_pixels), coded, codec
