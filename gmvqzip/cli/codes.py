"""gmvqzip codes: the code indices as a .npz archive, and back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from gmvqzip.cli import options
from gmvqzip.cli.batch import decoding_threads, deliver, prepare, read_gmvq, read_source, refuse_stream
from gmvqzip.cli.naming import check_ending
from gmvqzip.cli.pipeline import run_tasks
from gmvqzip.cli.plan import GMVQ_SUFFIXES, SUFFIX, Task, plan, swap_suffix
from gmvqzip.cli.records import Fields, conversion_shower, file_fields, input_name, output_name

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
    destination: options.Destination,
    model: options.Model = None,
    max_pixels: options.MaxPixels = options.DEFAULT_MAX_PIXELS,
    running: options.Running,
) -> int:
    """Write the code indices of .gmvq files as .npz archives, one array per stage.

    img.gmvq becomes img.npz; with --pack, img.npz becomes img.gmvq.

    The arrays stage_00, stage_01, ... are int32, rows by columns, coarse first: tokens for a generative model.
    """
    report = running.report()
    check_ending(destination.output, (SUFFIX if pack else _NPZ,), "codes")
    tasks, total = plan(
        inputs.paths(files),
        destination,
        report,
        recursive=inputs.recursive,
        suffixes=frozenset({_NPZ}) if pack else GMVQ_SUFFIXES,
        rename=swap_suffix(_NPZ, SUFFIX) if pack else swap_suffix(SUFFIX, _NPZ),
    )
    refuse_stream(tasks, force=destination.force, as_json=running.as_json)
    if not tasks:
        return report.finish(total)
    convert = _pack if pack else _unpack

    def work(task: Task) -> Fields:
        start = time.perf_counter()
        prepare(task, force=destination.force, make_directory=destination.output_dir is not None)
        in_bytes, data, box, coded, codec = convert(task, model, max_pixels)
        deliver(task, data, force=destination.force, remove=destination.remove)
        return {
            "input": input_name(task),
            "output": output_name(task),
            "in_bytes": in_bytes,
            "out_bytes": len(data),
            **file_fields(box, coded, codec, as_json=running.as_json),
            "seconds": time.perf_counter() - start,
        }

    what = "packing" if pack else "unpacking"
    show, in_thread = conversion_shower(report, len(tasks)), decoding_threads(running.threads, running.jobs)
    run_tasks(tasks, work, show, report, jobs=running.jobs, what=what, in_thread=in_thread)
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

    source = read_source(task)
    archive = source if isinstance(source, bytes) else source.read_bytes()
    indices, extras = load_npz(archive, max_pixels=max_pixels)
    codec = codecs.load_for(bytes.fromhex(indices.model_id), model=model)
    coded = codec.follow(indices)
    data = file_of(coded, make_sections(*extras))
    return len(archive), data, unpack(data, max_pixels=max_pixels), coded, codec
