"""gmvqzip info: what is inside a .gmvq file, from its header, without weights, torch or numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gmvqzip.cli import options
from gmvqzip.cli.batch import read_gmvq
from gmvqzip.cli.pipeline import run_tasks
from gmvqzip.cli.plan import GMVQ_SUFFIXES, Task
from gmvqzip.cli.plan import inputs as readable
from gmvqzip.cli.records import Fields, input_name, shown_input
from gmvqzip.cli.report import Report

if TYPE_CHECKING:
    from gmvqzip.inspection import Info
    from gmvqzip.models.kinds import Config

_KINDS = {(False, False): "colour", (False, True): "colour, transparency", (True, False): "gray"}
_KINDS[True, True] = "gray, transparency"


def info(
    files: options.Files = None,
    *,
    inputs: options.Inputs,
    model: options.Model = None,
    verbose: options.Verbose = 0,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> int:
    """Say what is inside .gmvq files: size, model, quality, bytes of each part.

    -v adds the bits of each stage, or of each part of a model with many groups, for which the codes are decoded; and
    the metadata: EXIF by tags, texts, resolution, and the bytes of XMP and IPTC.
    """
    report = Report(verbose=verbose, quiet=quiet, as_json=as_json, progress=False)
    tasks, total = readable(inputs.paths(files), report, recursive=inputs.recursive, suffixes=GMVQ_SUFFIXES)

    def work(task: Task) -> Fields:
        from gmvqzip import inspection

        data = read_gmvq(task)
        found = inspection.info(data, model=model)
        fields = _fields(task, found)
        if verbose and found.model is not None:
            fields["stages"] = _stages(data, found)
        if verbose and found.metadata:
            from gmvqzip.images import describing

            fields["metadata"] = describing.described(found.metadata) if as_json else describing.lines(found.metadata)
        return fields | ({} if as_json else {"text": _text(found)})

    def show(fields: Fields) -> None:
        if as_json:
            report.record(fields)
            return
        report.line(f"{shown_input(fields)}:")
        for title, value in fields["text"]:
            report.line(f"  {title + ':':<12} {value}")
        for title, value in fields["metadata"] if verbose and fields["metadata"] else []:
            report.line(f"  {title + ':':<12} {value}")
        for number, stage in enumerate(fields.get("stages", [])):
            title, grid = f"stage {number}", f"{stage['columns']}x{stage['rows']} of {stage['codes']}"
            if "part" in stage:
                title = f"{stage['part']}:"
                grid += f", {stage['groups']} groups of {stage['dimensions']} dimensions"
            report.line(f"  {title:<12} {grid}, {stage['bits']:.1f} bits")

    run_tasks(tasks, work, show, report, what="reading")
    return report.finish(total)


def _fields(task: Task, found: Info) -> Fields:
    return {
        "input": input_name(task),
        "width": found.width,
        "height": found.height,
        "in_bytes": found.file_bytes,
        "bpp": found.bpp,
        "model": found.model.name if found.model else None,
        "model_id": found.model_id,
        "quality": found.quality,
        "halvings": found.header.halvings,
        "tile": found.tile,
        "gray": found.gray,
        "alpha": found.alpha,
        "icc": found.icc,
        "metadata": found.metadata is not None,
        "version": found.header.version,
        "header_bytes": found.header_bytes,
        "sections_bytes": found.sections_bytes,
        "payload_bytes": found.payload_bytes,
        "codes_crc32": found.codes_crc32,
    }


def _text(found: Info) -> list[tuple[str, str]]:
    parts = [f"header {found.header_bytes}"]
    parts += [f"{name} {size}" for name, size in found.sections.items()]
    parts += [f"payload {found.payload_bytes}"]
    coded = f", coded as {'x'.join(map(str, found.header.coded_size))}" if found.header.halvings else ""
    coded += f", tiles of {found.tile}x{found.tile}" if found.tile else ""
    return [
        ("picture", f"{found.width}x{found.height}, {_KINDS[found.gray, found.alpha]}{coded}"),
        ("file", f"{found.file_bytes} bytes, {found.bpp:.3f} bits per pixel"),
        ("bytes", ", ".join(parts)),
        ("model", f"{found.model.name} ({found.model_id[:8]})" if found.model else found.model_error),
        ("quality", str(found.quality) if found.quality else "the model's single rate"),
    ]


def _stages(data: bytes, found: Info) -> list[Fields]:
    from gmvqzip import codec as codecs
    from gmvqzip.format.container import unpack
    from gmvqzip.format.limits import MAX_PIXELS

    if found.model is None:
        return []
    codec = codecs.load_info(found.model)
    coded = codec.open(unpack(data, max_pixels=MAX_PIXELS))
    rows = zip(coded.codes.stages, codec.config.stages(), coded.bits(), strict=True)
    stages = [{"rows": s.shape[0], "columns": s.shape[1], "codes": grid.codes, "bits": bits} for s, grid, bits in rows]
    return _parts(codec.config, stages) if codec.config.quarter else stages


def _parts(config: Config, stages: list[Fields]) -> list[Fields]:
    """One entry for each part, with the bits of its groups added up."""
    parts, queue = [], iter(stages)
    for (title, _), grid in zip(config.parts(), config.grids, strict=True):
        groups = [next(queue) for _ in range(grid.stages)]
        own = {"part": title, "groups": grid.stages, "dimensions": grid.dimensions}
        parts.append(own | groups[0] | {"bits": sum(group["bits"] for group in groups)})
    return parts
