"""Which input gives which output: names, directories, and the refusals that come before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gmvqzip.cli.options import Destination
from gmvqzip.cli.report import Report
from gmvqzip.cli.run import UsageError
from gmvqzip.cli.walking import walk
from gmvqzip.errors import OutputError, safe_name
from gmvqzip.images.files import descriptor_of, is_stream
from gmvqzip.images.formats import ADDED_ENDINGS, ENDINGS, picture_endings

STREAM = "-"  # standard input or output
SUFFIX = ".gmvq"
GMVQ_SUFFIXES = frozenset({SUFFIX})
PACK_SUFFIX = ".gmvqp"
PACK_SUFFIXES = frozenset({PACK_SUFFIX})


KEEP_HINT = "; --keep-ending keeps them apart"

State = tuple[int, int, int, int]


@dataclass(frozen=True)
class Task:
    """One file to work on. `name` is for messages; `source` None is standard input, `target` None standard output.

    state: of a source that is to be removed, before it is read; depth: so many of the folders above the target mirror
    those above the source.
    """

    name: str
    source: Path | None
    target: Path | None
    state: State | None = field(default=None, kw_only=True)
    depth: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class Member(Task):
    """One picture for a pack, and its name there."""

    inside: str


class AlreadyThere(OutputError):
    """An output exists, and nobody asked to overwrite it: the file is skipped, which is no failure."""


def plan(
    files: Sequence[str],
    destination: Destination,
    report: Report,
    *,
    recursive: bool,
    suffixes: frozenset[str],
    rename: Callable[[Path], Path],
    hint: str = "",
) -> tuple[list[Task], int]:
    """The tasks for these inputs, and how many inputs there were.

    suffixes: what is taken from directories; rename: from an input's name to its output's; hint: how two inputs get
    outputs of different names. An input that does not
    exist is reported as failed. Raises UsageError where the options contradict each other, or where an output would
    be written twice or would be another input.
    """
    check_destination(files, destination)
    _note_nothing(files, report)
    tasks, failed = [], report.failures
    for name, source, below in _expand(files, report, recursive=recursive, suffixes=suffixes):
        if below is not None:
            state = state_of(source) if destination.remove and source is not None else None
            target, depth = _target(source, below, destination, rename), len(below.parts[1:])
            tasks.append(Task(name, source, target, state=state, depth=depth))
    total = len(tasks) + report.failures - failed  # folders that cannot be read are among these
    if (destination.output is not None or destination.stdout) and total > 1:
        raise UsageError(f"{total} inputs cannot go into one output: use --output-dir")
    _check_collisions(tasks, hint)
    return tasks, total


def inputs(
    files: Sequence[str], report: Report, *, recursive: bool, suffixes: frozenset[str]
) -> tuple[list[Task], int]:
    """As `plan`, for a command that writes no files."""
    if list(files).count(STREAM) > 1:
        raise UsageError("standard input can be read only once")
    _note_nothing(files, report)
    failed = report.failures
    found = _expand(files, report, recursive=recursive, suffixes=suffixes)
    tasks = [Task(name, source, None) for name, source, below in found if below is not None]
    return tasks, len(tasks) + report.failures - failed


def members(
    files: Sequence[str], report: Report, *, suffixes: frozenset[str], keep_ending: bool = False
) -> tuple[list[Member], int]:
    """The pictures for a pack, and how many inputs there were.

    A name is the path below the given directory, or of a given file the last part, without the ending where that is
    one of `suffixes` and is not to be kept. Raises UsageError where two would have one name, or one has none.
    """
    found: dict[str, Member] = {}
    failed = report.failures
    for name, source, below in _expand(files, report, recursive=True, suffixes=suffixes):
        if below is None:
            continue
        if source is None or below == Path():
            raise UsageError(f"{safe_name(name)} has no name to use in a pack: save it as a file")
        stays = keep_ending or below.suffix.lower() not in suffixes
        inside = (below if stays else below.with_suffix("")).as_posix()
        if inside in found:
            both = f"{safe_name(found[inside].name)} and {safe_name(name)}"
            apart = KEEP_HINT if _last(found[inside].name) != _last(name) else ""
            raise UsageError(f"{both} would both be {safe_name(inside)} in the pack: nothing was done{apart}")
        found[inside] = Member(name, source, None, inside)
    return list(found.values()), len(found) + report.failures - failed


def image_suffixes() -> frozenset[str]:
    """Endings of the pictures that are taken from directories."""
    return frozenset(f".{ending}" for ending in picture_endings())


def image_to_gmvq(path: Path) -> Path:
    """img.png -> img.gmvq; an ending that is not an image's stays."""
    known = ENDINGS.union(*ADDED_ENDINGS.values())
    is_image = path.suffix.lower().removeprefix(".") in known
    return path.with_suffix(SUFFIX) if is_image else path.with_name(path.name + SUFFIX)


def swap_suffix(old: str, new: str) -> Callable[[Path], Path]:
    """img.old -> img.new; another ending stays and gets the new one behind it."""

    def rename(path: Path) -> Path:
        return path.with_suffix(new) if path.suffix.lower() == old else path.with_name(path.name + new)

    return rename


def check_target(task: Task, *, force: bool) -> None:
    """Refuse, before any work, an output that is the input or a directory; AlreadyThere: it exists without --force."""
    target = task.target
    if target is None or not os.path.lexists(target):
        return
    shown = safe_name(target)
    if is_stream(target):
        return
    if task.source is not None and target.exists() and target.samefile(task.source):
        raise OutputError(f"output {shown} is the input itself: give another name with -o")
    if target.is_dir():
        raise OutputError(f"output {shown} is a directory: name a file in it, or use --output-dir")
    if force:
        return
    if not target.exists():
        raise OutputError(f"output {shown} is a link to nothing: -f puts the file in its place")
    if target.stat().st_size == 0:  # the rest of a run that was killed, or somebody's placeholder
        raise OutputError(f"output {shown} exists and is empty: -f overwrites it")
    if target.is_file():
        raise AlreadyThere(f"output {shown} exists: skipped; -f overwrites it")


def undone(tasks: Sequence[Task], report: Report) -> list[Task]:
    """The tasks whose output does not exist yet; the others are counted as skipped.

    An output that exists is whole, since it appears whole. An empty file is none: it may hold the place of an output
    on a disk without hard links, where the process was killed.
    """
    left = []
    for task in tasks:
        if task.target is None or not _is_done(task.target):
            left.append(task)
        else:
            report.skip(task.name, task.target)
    return left


def _is_done(target: Path) -> bool:
    """Whether an output is there; not where the system does not tell, which is found again before any work."""
    try:
        return not is_stream(target) and target.is_file() and target.stat().st_size > 0
    except OSError:
        return False


def state_of(path: Path) -> State | None:
    """What tells a file from another of its name, and from itself once it is written to; None where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def check_file_name(name: str | None) -> None:
    """Raise UsageError where the name of an output is empty, or says that it is a folder, as `out/` does."""
    if name == "":
        raise UsageError("the name of the output is empty")
    if name is not None and os.path.basename(name) in ("", ".", ".."):  # noqa: PTH119
        raise UsageError(f"output {safe_name(name)} is a directory: name a file in it")


def check_destination(files: Sequence[str], destination: Destination) -> None:
    """Raise UsageError where the options contradict each other or the inputs."""
    given = {
        "--output": destination.output is not None,
        "--output-dir": destination.output_dir is not None,
        "--stdout": destination.stdout,
    }
    chosen = [option for option, is_given in given.items() if is_given]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} contradict each other: give one")
    check_file_name(destination.output)
    if destination.output_dir == "":
        raise UsageError("the name of the output is empty")
    if list(files).count(STREAM) > 1:
        raise UsageError("standard input can be read only once")
    nameless = [name for name in files if name == STREAM or descriptor_of(Path(name)) is not None]
    if nameless and destination.output_dir is not None:
        what = "standard input" if nameless[0] == STREAM else safe_name(nameless[0])
        raise UsageError(f"{what} has no name to use in --output-dir: use -o FILE")
    if destination.remove and (_is_streamed(destination) or (nameless and destination.output is None)):
        raise UsageError("--rm needs an output on disk: what goes to standard output may be lost")


def _note_nothing(files: Sequence[str], report: Report) -> None:
    if not files:
        report.note("the list names no file: nothing to do", level=0)


def _expand(
    files: Sequence[str], report: Report, *, recursive: bool, suffixes: frozenset[str]
) -> Iterator[tuple[str, Path | None, Path | None]]:
    """Yield (name for messages, path or None for standard input, path below the given directory); None: it failed."""
    for name in files:
        if _is_standard(name, 0):
            yield "(standard input)", None, Path()
            continue
        path = Path(name)
        if descriptor_of(path) is not None and _problem(name) is None:
            yield name, path, Path()  # as from <(command): it has no name for an output
            continue
        if name and recursive and _is_directory(path):
            found = sorted(walk(path, suffixes, report))
            if not found:
                report.note(f"{safe_name(name)}: nothing to do in this directory", level=0)
        else:
            found = [path]
        for inner in found:
            shown = name if inner is path else str(inner)
            problem = _problem(shown)
            if problem is not None:
                report.fail(shown, problem)
            below = Path(path.name) if inner is path else inner.relative_to(path)
            yield shown, inner, below if problem is None else None


def _is_directory(path: Path) -> bool:
    """Whether a path is one; not where the system does not tell, for `_problem` to say why."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _problem(name: str) -> Exception | None:
    """Why an input cannot be read, or None."""
    path = Path(name)
    try:
        if not name:
            return OutputError("the name is empty: name a file, or - for standard input")
        if path.is_symlink() and not path.exists():
            return OutputError(f"a broken link to {safe_name(path.readlink())}")
        path.stat()
    except (OSError, ValueError) as error:
        return error
    return OutputError("is a directory: add -r to take the files in it") if path.is_dir() else None


def _target(source: Path | None, below: Path, destination: Destination, rename: Callable[[Path], Path]) -> Path | None:
    if _is_streamed(destination):
        return None
    if destination.output is not None:
        return Path(destination.output)
    if source is None or below == Path():
        return None
    if destination.output_dir is not None:
        return rename(Path(destination.output_dir, below))
    return rename(source)


def _is_streamed(destination: Destination) -> bool:
    """Whether what is written goes to standard output."""
    return destination.stdout or (destination.output is not None and _is_standard(destination.output, 1))


def _is_standard(name: str, number: int) -> bool:
    """Whether a name stands for standard input (0) or output (1)."""
    return name == STREAM or descriptor_of(Path(name)) == number


def _check_collisions(tasks: Sequence[Task], hint: str) -> None:
    sources = {_key(task.source): task for task in tasks if task.source is not None}
    targets: dict[str, Task] = {}
    for task in tasks:
        if task.target is None:
            continue
        key = _key(task.target)
        if key in targets:
            both = f"{safe_name(targets[key].name)} and {safe_name(task.name)}"
            apart = hint if _last(targets[key].name) != _last(task.name) else ""
            raise UsageError(f"{both} would both be written to {safe_name(task.target)}: nothing was done{apart}")
        targets[key] = task
        if key in sources and sources[key] is not task:
            raise UsageError(
                f"{safe_name(task.name)} would be written over another input, {safe_name(task.target)}: "
                "nothing was done"
            )


def _last(name: str) -> str:
    return Path(name).name


def _key(path: Path) -> str:
    """The same for all spellings of one file, links followed."""
    return os.path.realpath(path)
