"""gmvqzip pack: pictures, or packs, -> one .gmvqp file, new or appended to."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gmvqzip.cli import options
from gmvqzip.cli.batch import read_source
from gmvqzip.cli.compress import Effort, Quality, Strip
from gmvqzip.cli.naming import check_ending
from gmvqzip.cli.plan import (
    GMVQ_SUFFIXES,
    PACK_SUFFIX,
    PACK_SUFFIXES,
    STREAM,
    Member,
    image_suffixes,
    inputs,
    members,
)
from gmvqzip.cli.records import Fields
from gmvqzip.cli.report import Report, json_name, safe_name
from gmvqzip.cli.run import UsageError
from gmvqzip.errors import FormatError, OutputError
from gmvqzip.models.registry import DEFAULT_MODEL
from gmvqzip.setting import DEFAULT_EFFORT
from gmvqzip.torchrun import Place, place

if TYPE_CHECKING:
    from gmvqzip.codec import Codec
    from gmvqzip.engines.coded import Coded
    from gmvqzip.images.pixels import Picture
    from gmvqzip.pack.writer import PackWriter

_BATCH = 64  # pictures that are encoded together, at most
_BATCH_PIXELS = 1 << 20  # of all of them, about
_READ_AHEAD = 4  # pictures read at once for each job
_NOTHING = "no picture could be packed: there is no pack"

Sources = Annotated[list[str] | None, typer.Argument(metavar="DIR", help="Folders of pictures, or pictures.")]
Append = Annotated[
    bool,
    typer.Option(
        "--append",
        help="Add to the pack if it exists; what it holds is never touched.",
        rich_help_panel=options.OUTPUT_PANEL,
        show_default=False,
    ),
]
Finished = Annotated[
    bool, typer.Option("--gmvq", help="Take finished .gmvq files instead of pictures.", show_default=False)
]
Merge = Annotated[
    bool, typer.Option("--merge", help="Take finished packs: their records are copied as they are.", show_default=False)
]
PackOutput = Annotated[
    str | None,
    typer.Option(
        "-o", "--output", metavar="FILE", help="The pack; by default DIR.gmvqp.", rich_help_panel=options.OUTPUT_PANEL
    ),
]


def pack(
    files: Sources = None,
    *,
    filelist: options.FileList = None,
    null: options.Null = False,
    output: PackOutput = None,
    append: Append = False,
    finished: Finished = False,
    merge: Merge = False,
    force: options.Force = False,
    strip: Strip = False,
    keep_ending: options.KeepEnding = False,
    quality: Quality = None,
    effort: Effort = DEFAULT_EFFORT,
    model: options.Model = None,
    device: options.DeviceOption = options.Device.AUTO,
    max_pixels: options.MaxPixels = options.DEFAULT_MAX_PIXELS,
    threads: options.Threads = None,
    jobs: options.Jobs = 1,
    verbose: options.Verbose = 0,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    no_progress: options.NoProgress = False,
) -> int:
    """Pack the pictures in folders into one .gmvqp file.

    Each keeps its path below its folder as its name, without the ending. The sources are kept; the pack appears when
    it is finished. Under torchrun each process takes a share of the pictures into a pack of its own, DIR.1-of-4.gmvqp;
    --merge makes one of them.
    """
    report = Report(verbose=verbose, quiet=quiet, as_json=as_json, progress=not no_progress)
    paths = options.listed_paths(files, filelist, null=null)
    target = _target(paths, output)
    if append and force:
        raise UsageError("--append and --force contradict each other: give one")
    if finished and (strip or quality is not None or effort != DEFAULT_EFFORT):
        raise UsageError("--gmvq takes files as they are: leave --strip, --quality and --effort")
    here = place()
    if merge:
        if finished or strip or quality is not None or effort != DEFAULT_EFFORT or model is not None:
            raise UsageError("--merge takes packs as they are: leave --gmvq, --strip, --quality, --effort and --model")
        if here.world > 1:
            raise UsageError("--merge is the work of one process: run it without torchrun")
        return _merge(paths, target, report, append=append, force=force)
    suffixes = GMVQ_SUFFIXES if finished else image_suffixes()
    found, total = members(paths, report, suffixes=suffixes, keep_ending=keep_ending)
    if here.world > 1:
        found, target = _share(found, here), _part(target, here)
        total = len(found)
        if not found:
            report.note(f"no picture is left for {safe_name(target)}", level=0)
    if not found:
        return report.finish(total)

    from gmvqzip import codec as codecs
    from gmvqzip.engines.base import check_device, set_threads
    from gmvqzip.pack.writer import PackWriter

    check_device(device.value)
    if threads:
        set_threads(threads)
    try:
        opened = PackWriter(target, append=append, force=force, device=device.value, max_pixels=max_pixels)
    except FormatError as error:
        raise FormatError(f"{safe_name(target)}: {error}") from None
    with opened as writer, report.progress(len(found), "packing") as advance:
        before = len(writer)
        if finished:
            results = _add_finished(writer, found, model, report)
        else:
            codec = codecs.load(model or DEFAULT_MODEL, device=device.value)
            if not codec.qualities and quality is not None:
                report.note(f"model {codec.name} has a single rate: --quality changes nothing")
            results = _Packing(writer, codec, report, strip, quality, effort, max_pixels, jobs).run(found)
        shown = list[Fields]()
        for fields in results:
            if fields is not None and (as_json or verbose):
                shown.append(fields)
            advance()
        if not writer:
            raise OutputError(_NOTHING)
        added = len(writer) - before
    return _finish(report, target, shown, added, total)


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
    from gmvqzip.pack.appending import Appender
    from gmvqzip.pack.file import PackFile
    from gmvqzip.pack.merging import add_pack

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
            for warning in pack.warnings:
                report.warn(task.name, warning)
            packs.append((task.name, pack))
            for name in names:
                if name in homes:
                    both = f"{safe_name(homes[name])} and {safe_name(task.name)}"
                    raise UsageError(f"{both} both have a picture named {safe_name(name)}: nothing was done")
                homes[name] = task.name
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
                    member = Member(name, source, Path(source))
                    fields = _names(member, entry.size, entry.size, entry.kind.width, entry.kind.height)
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
    if output == "":
        raise UsageError("the name of the output is empty")
    if output is not None:
        return Path(output)
    first = Path(files[0])
    if len(files) > 1 or not first.is_dir() or not first.name:
        raise UsageError("name the pack with -o FILE")
    return first.with_name(first.name + PACK_SUFFIX)


def _add_finished(
    writer: PackWriter, found: Iterable[Member], model: str | None, report: Report
) -> Iterator[Fields | None]:
    """Add `.gmvq` files; yield the fields of each, None where it failed."""
    from gmvqzip.format.container import read_header

    for member in found:
        start = time.perf_counter()
        try:
            data = member.source.read_bytes()
            size = writer.add_gmvq(member.name, data, model=model)
        except OutputError:
            raise  # the pack itself cannot be written
        except Exception as error:
            report.fail(member.shown, error)
            yield None
            continue
        header, _ = read_header(data)
        yield {
            **_names(member, len(data), size, header.width, header.height),
            "quality": header.quality,
            "seconds": time.perf_counter() - start,
        }


class _Packing:
    """Reads pictures, encodes them together, and adds them in their order."""

    def __init__(
        self,
        writer: PackWriter,
        codec: Codec,
        report: Report,
        strip: bool,
        quality: int | None,
        effort: int,
        max_pixels: int,
        jobs: int,
    ) -> None:
        self.writer, self.codec, self.report = writer, codec, report
        self.strip, self.quality, self.effort, self.max_pixels = strip, quality, effort, max_pixels
        self.jobs = jobs

    def run(self, found: Sequence[Member]) -> Iterator[Fields | None]:
        """Yield the fields of each picture, None where it failed."""
        with ThreadPoolExecutor(self.jobs) as pool:
            ready: list[tuple[Member, Picture, int]] = []
            pixels = 0
            ahead = self.jobs * _READ_AHEAD
            for start in range(0, len(found), ahead):
                window = found[start : start + ahead]
                files = all(member.source.is_file() for member in window)
                mapped = pool.map if files else map  # in this thread, a signal ends the wait for a pipe
                for member, read in zip(window, mapped(self._read, window), strict=True):
                    if isinstance(read, Exception):
                        self.report.fail(member.shown, read)
                        yield None
                        continue
                    picture, size = read
                    for warning in picture.warnings:
                        self.report.warn(member.shown, warning)
                    ready.append((member, picture, size))
                    pixels += picture.width * picture.height
                if len(ready) >= _BATCH or pixels >= _BATCH_PIXELS:
                    yield from self._add(ready, pool.map)
                    ready, pixels = [], 0
            yield from self._add(ready, pool.map)

    def _read(self, member: Member) -> tuple[Picture, int] | Exception:
        """The picture and the bytes of its file."""
        from gmvqzip.images.preparing import read_prepared

        try:
            if member.name in self.writer:
                raise FormatError(f"the pack has a picture named {safe_name(member.name)}: skipped")
            source = read_source(member.source)
            size = len(source) if isinstance(source, bytes) else source.stat().st_size
            return read_prepared(source, strip=self.strip, max_pixels=self.max_pixels), size
        except Exception as error:
            return error

    def _add(
        self, ready: Sequence[tuple[Member, Picture, int]], mapped: Callable[..., Iterator[Sequence[Coded | Exception]]]
    ) -> Iterator[Fields | None]:
        from gmvqzip.codec import sections_of

        start = time.perf_counter()
        encoded = self._encode([picture for _, picture, _ in ready], mapped)
        for (member, picture, in_bytes), coded in zip(ready, encoded, strict=True):
            try:
                if isinstance(coded, Exception):
                    raise coded
                size, codes = self.writer.add_coded(member.name, coded, sections_of(picture)), coded.codes
            except OutputError:
                raise  # the pack itself cannot be written
            except Exception as error:
                self.report.fail(member.shown, error)
                yield None
                continue
            yield {
                **_names(member, in_bytes, size, codes.width, codes.height),
                "model": self.codec.name,
                "model_id": self.codec.model_id,
                "quality": codes.quality,
                "gray": codes.gray,
                "alpha": picture.alpha is not None,
                "icc": picture.icc is not None,
                "codes_crc32": f"{codes.crc32():08x}",
                "seconds": (time.perf_counter() - start) / len(ready),
            }

    def _encode(
        self, pictures: Sequence[Picture], mapped: Callable[..., Iterator[Sequence[Coded | Exception]]]
    ) -> Sequence[Coded | Exception]:
        """The codes of all pictures, or why there are none: each job takes a share of them."""
        share = -(-len(pictures) // self.jobs)
        shares = [pictures[start : start + share] for start in range(0, len(pictures), share)] if pictures else []
        return [coded for found in mapped(self._encode_share, shares) for coded in found]

    def _encode_share(self, pictures: Sequence[Picture]) -> Sequence[Coded | Exception]:
        """Together, or each alone where that does not work."""
        try:
            coded = self.codec.analyse(pictures, quality=self.quality, effort=self.effort)
            found = {number: one.packed() for number, one in coded}
            return [found[number] for number in range(len(pictures))]
        except Exception as error:
            if len(pictures) == 1:
                return [error]
        return [self._encode_share([picture])[0] for picture in pictures]  # one of them may be to blame


def _names(member: Member, in_bytes: int, size: int, width: int, height: int) -> Fields:
    return {
        "input": json_name(member.source),
        "name": json_name(member.name),
        "width": width,
        "height": height,
        "in_bytes": in_bytes,
        "out_bytes": size,
        "bpp": 8 * size / (width * height),
    }


def _show(fields: Fields, report: Report) -> None:
    if report.as_json:
        report.record(fields)
        return
    sizes = f"{fields['in_bytes']:,} -> {fields['out_bytes']:,} bytes"
    report.note(f"{safe_name(fields['name'])}: {fields['width']}x{fields['height']}, {sizes}")
