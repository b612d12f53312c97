"""gmvqzip pack: pictures, or packs, -> one .gmvqp file, new or appended to."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gmvqzip.cli import options
from gmvqzip.cli.batch import encoding_threads, read_gmvq
from gmvqzip.cli.naming import check_ending
from gmvqzip.cli.packing import add_encoded, add_finished, added, encoding_steps, member_fields, say_state
from gmvqzip.cli.pipeline import results
from gmvqzip.cli.plan import (
    GMVQ_SUFFIXES,
    PACK_SUFFIX,
    PACK_SUFFIXES,
    STREAM,
    Member,
    check_file_name,
    image_suffixes,
    inputs,
    members,
)
from gmvqzip.cli.records import Fields
from gmvqzip.cli.report import Report
from gmvqzip.cli.run import UsageError
from gmvqzip.errors import FormatError, OutputError, json_name, safe_name
from gmvqzip.setting import DEFAULT_EFFORT
from gmvqzip.torchrun import Place, place

if TYPE_CHECKING:
    from gmvqzip.pack.writer import PackWriter

_NOTHING = "no picture could be packed: there is no pack"
_NO_SOURCE = "nothing to pack was found, and no pack is written: name pictures, or folders that hold some"

Sources = Annotated[list[str] | None, typer.Argument(metavar="DIR", help="Folders of pictures, or pictures.")]
Append = Annotated[
    bool, options.Panel.OUTPUT.flag("--append", help="Add to the pack if it exists; what it holds is never touched.")
]
Finished = Annotated[
    bool, typer.Option("--gmvq", help="Take finished .gmvq files instead of pictures.", show_default=False)
]
Merge = Annotated[
    bool, typer.Option("--merge", help="Take finished packs: their records are copied as they are.", show_default=False)
]
PackOutput = Annotated[
    str | None, options.Panel.OUTPUT.option("-o", "--output", metavar="FILE", help="The pack; by default DIR.gmvqp.")
]


@dataclass(frozen=True)
class Packed:
    """Into which pack, from what, and how."""

    output: PackOutput = None
    append: Append = False
    finished: Finished = False
    merge: Merge = False
    force: options.Force = False
    strip: options.Strip = False
    keep_ending: options.KeepEnding = False
    quality: options.Quality = None
    effort: options.Effort = DEFAULT_EFFORT

    def check(self, model: str | None, here: Place) -> None:
        """Raise UsageError where the options contradict each other."""
        if self.append and self.force:
            raise UsageError("--append and --force contradict each other: give one")
        encoding = self.strip or self.quality is not None or self.effort != DEFAULT_EFFORT
        if self.finished and encoding:
            raise UsageError("--gmvq takes files as they are: leave --strip, --quality and --effort")
        if self.merge and (self.finished or encoding or model is not None):
            raise UsageError("--merge takes packs as they are: leave --gmvq, --strip, --quality, --effort and --model")
        if self.merge and here.world > 1:
            raise UsageError("--merge is the work of one process: run it without torchrun")


def pack(
    files: Sources = None,
    *,
    filelist: options.FileList = None,
    null: options.Null = False,
    packed: Packed,
    models: options.Models,
    running: options.Running,
) -> int:
    """Pack the pictures in folders into one .gmvqp file.

    Each keeps its path below its folder as its name, without the ending. The sources are kept; the pack appears when
    it is finished. Under torchrun each process takes a share of the pictures into a pack of its own, DIR.1-of-4.gmvqp;
    --merge makes one of them.
    """
    report = running.report()
    paths = options.Inputs(filelist=filelist, null=null).paths(files)
    if not paths:
        raise OutputError(_NO_SOURCE)
    target = _target(paths, packed.output)
    here = place()
    packed.check(models.model, here)
    if packed.merge:
        return _merge(paths, target, report, append=packed.append, force=packed.force)
    suffixes = GMVQ_SUFFIXES if packed.finished else image_suffixes()
    found, total = members(paths, report, suffixes=suffixes, keep_ending=packed.keep_ending)
    if not total:
        raise OutputError(_NO_SOURCE)
    if here.world > 1:
        found, target = _share(found, here), _part(target, here)
        total = len(found)
        if not found:
            report.note(f"no picture is left for {safe_name(target)}", level=0)
    if not found:
        return report.finish(total)

    from gmvqzip.engines.base import check_device

    check_device(models.device.value)
    shown, added = _pack(found, target, packed, models, running, report)
    return _finish(report, target, shown, added, total)


def _pack(
    found: Sequence[Member],
    target: Path,
    packed: Packed,
    models: options.Models,
    running: options.Running,
    report: Report,
) -> tuple[list[Fields], int]:
    """Add the pictures to the pack; returns the fields of those to be shown, and how many were added."""
    from gmvqzip import codec as codecs
    from gmvqzip.pack.writer import PackWriter

    device, max_pixels = models.device.value, models.max_pixels
    try:
        opened = PackWriter(target, append=packed.append, force=packed.force, device=device, max_pixels=max_pixels)
    except FormatError as error:
        raise FormatError(f"{safe_name(target)}: {error}") from None
    with ExitStack() as stack:
        writer = stack.enter_context(opened)
        before = len(writer)
        new = [member for member in found if not _is_there(writer, member, report)]
        advance = stack.enter_context(report.progress(len(new), "packing"))
        if packed.finished:
            files = (partial(read_gmvq, member) for member in new)
            every = added(new, files, partial(add_finished, writer, models.model), report)
        else:
            codec = codecs.load(models.chosen, device=device)
            if not codec.qualities and packed.quality is not None:
                report.note(f"model {codec.name} has a single rate: --quality changes nothing")
            steps = encoding_steps(
                codec,
                report,
                strip=packed.strip,
                quality=packed.quality,
                effort=packed.effort,
                max_pixels=max_pixels,
            )
            in_thread = encoding_threads(codec, packed.effort, running.threads, running.jobs)
            encoded = stack.enter_context(results(new, steps, running.jobs, in_thread))
            every = added(new, encoded, partial(add_encoded, writer, codec), report)
        shown = list[Fields]()
        for fields in every:
            if fields is not None and (report.as_json or report.verbose):
                shown.append(fields)
            advance()
        if not writer:
            raise OutputError(_NOTHING)
        return shown, len(writer) - before


def _is_there(writer: PackWriter, member: Member, report: Report) -> bool:
    """Whether the pack has a picture of this name, which is reported."""
    if member.inside in writer:
        report.fail(member.name, FormatError(f"the pack has a picture named {safe_name(member.inside)} already"))
        return True
    return False


def _finish(report: Report, target: Path, shown: Iterable[Fields], added: int, total: int) -> int:
    """Tell what is in the pack, only now that it is; returns the exit code."""
    for fields in shown:
        _show(fields | {"output": json_name(target)}, report)
    if added:
        watched = sys.stderr is not None and sys.stderr.isatty()
        size = target.stat().st_size
        report.note(f"{safe_name(target)}: {added:,} pictures added, {size:,} bytes in all", level=0 if watched else 1)
    return report.finish(total)


def _share(found: list[Member], here: Place) -> list[Member]:
    """This process's pictures: neighbours, so that merged parts have the order of one process."""
    return found[len(found) * here.rank // here.world : len(found) * (here.rank + 1) // here.world]


def _part(target: Path, here: Place) -> Path:
    """set.gmvqp -> set.01-of-12.gmvqp: parts sort in the order of their processes."""
    number = f"{here.rank + 1:0{len(str(here.world))}d}"
    return target.with_name(f"{target.stem}.{number}-of-{here.world}{target.suffix}")


def _merge(files: Sequence[str], target: Path, report: Report, *, append: bool, force: bool) -> int:
    """Copy the records of packs; a pack that cannot be read, and a picture that is damaged, are left out and named."""
    from gmvqzip.pack.appending import Appender, add_pack
    from gmvqzip.pack.file import PackFile

    tasks, total = inputs(files, report, recursive=True, suffixes=PACK_SUFFIXES)
    with ExitStack() as stack:
        packs: list[tuple[str, PackFile]] = []
        homes: dict[str, str] = {}
        for task in tasks:
            try:
                pack = stack.enter_context(PackFile(task.name))
                names = pack.names
            except (FormatError, OSError) as error:
                report.fail(task.name, error)
                continue
            say_state(pack, task.name, report)
            packs.append((task.name, pack))
            for name in names:
                if name in homes:
                    both = f"{safe_name(homes[name])} and {safe_name(task.name)}"
                    raise UsageError(f"{both} both have a picture named {safe_name(name)}: nothing was done")
                homes[name] = task.name
        if not packs and not report.failures:
            raise OutputError(_NO_SOURCE)
        if not packs:
            return report.finish(total)
        total = report.failures + len(homes)
        shown = list[Fields]()
        appender = Appender(target, append=append, force=force)
        stack.callback(appender.discard)
        before = len(appender)
        advance = stack.enter_context(report.progress(len(homes), "merging"))
        for source, pack in packs:
            for name, entry, problem in add_pack(appender, pack):
                if problem is not None:
                    report.fail(f"{source}: {name}", problem)
                elif report.as_json or report.verbose:
                    member = Member(source, Path(source), None, name)
                    fields = member_fields(member, entry.size, entry.size, entry.kind.width, entry.kind.height)
                    shown.append(fields | {"model_id": entry.kind.model_id.hex(), "quality": entry.kind.quality})
                advance()
        if not len(appender):
            raise OutputError(_NOTHING)
        added = len(appender) - before
        appender.finish()
    return _finish(report, target, shown, added, total)


def _target(files: Sequence[str], output: str | None) -> Path:
    check_ending(output, PACK_SUFFIXES, "a pack")
    if STREAM in files or output in (STREAM, "/dev/stdout"):
        raise UsageError("a pack is made of files and is one: standard input and output do not do")
    check_file_name(output)
    if output is not None:
        return Path(output)
    first = Path(files[0])
    if len(files) > 1 or not first.is_dir() or not first.name:
        raise UsageError("name the pack with -o FILE")
    return first.with_name(first.name + PACK_SUFFIX)


def _show(fields: Fields, report: Report) -> None:
    if report.as_json:
        report.record(fields)
        return
    sizes = f"{fields['in_bytes']:,} -> {fields['out_bytes']:,} bytes"
    report.note(f"{safe_name(fields['name'])}: {fields['width']}x{fields['height']}, {sizes}")
