"""Working through many files: one that fails does not stop the others, and nothing is ever lost."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gmvqzip.cli.options import Device
from gmvqzip.cli.plan import AlreadyThere, State, Task, check_target, state_of
from gmvqzip.cli.records import Fields
from gmvqzip.cli.report import Report
from gmvqzip.cli.run import UsageError
from gmvqzip.errors import FormatError, ImageError, OutputError, safe_name
from gmvqzip.format.source import read_bounded
from gmvqzip.images.files import reason
from gmvqzip.setting import rounds_of

if TYPE_CHECKING:
    from gmvqzip.codec import Codec
    from gmvqzip.images.pixels import Picture

_HEAD_BYTES = 64  # more than any header: a foreign file is refused before the rest is read


class LeftAlone(Exception):
    """What the options ask of a result is not there: no output is written, which is no failure."""


def finish(task: Task, result: Callable[[], Fields], show: Callable[[Fields], None], report: Report) -> None:
    """Show a result; where getting it raises, report that and count it.

    A file that is skipped or left alone is told from one that failed.
    """
    try:
        fields = result()
    except BrokenPipeError:
        raise
    except AlreadyThere as there:
        report.skip(task.name, task.target or Path(), str(there))
    except LeftAlone as left:
        report.leave(task.name, str(left))
    except Exception as error:
        report.fail(task.name, error)
    else:
        show(fields)


def read_gmvq(task: Task) -> bytes:
    """The bytes of a `.gmvq` file or of standard input; a foreign file is refused after its first bytes."""
    from gmvqzip.format.container import read_header

    if task.source is None:
        return read_stdin()
    with task.source.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        read_header(head)
        return head + (file.read() if task.source.is_file() else read_bounded(file, FormatError))


def read_stdin() -> bytes:
    """All of standard input."""
    if sys.stdin is None:
        raise OutputError("standard input is closed: name a file")
    return read_bounded(sys.stdin.buffer, OutputError)


def encoding_threads(codec: Codec, effort: int, threads: int | None, jobs: int) -> Callable[[], None]:
    """What each of the threads that encode at once calls first.

    threads: for each; where none are given, several jobs share those that one would use.
    """
    if (threads is None and jobs == 1) or not codec.engine.network.needs_torch(rounds_of(effort)):
        return decoding_threads(threads, jobs)
    import torch

    from gmvqzip.engines.base import set_threads

    return partial(set_threads, threads or max(1, torch.get_num_threads() // jobs))


def decoding_threads(threads: int | None, jobs: int) -> Callable[[], None]:
    """The same for what does without torch, as decoders do."""
    from gmvqzip.blas import default_threads, set_threads

    if threads is None and jobs == 1:
        return lambda: None
    return partial(set_threads, threads or max(1, default_threads() // jobs))


def check_cuda(device: Device) -> None:
    """Raise ModelError where a CUDA device is asked for and there is none."""
    if device is Device.CUDA:
        from gmvqzip.engines.base import check_device

        check_device(device.value)


def write_stdout(data: bytes) -> None:
    """Write all of `data` to standard output."""
    if sys.stdout is None:
        raise OutputError("standard output is closed: use -o FILE")
    stream, rest = sys.stdout.buffer, memoryview(data)
    while rest:  # under `python -u` the stream is unbuffered, and may take a part only
        taken = stream.write(rest)
        if not taken:
            raise BlockingIOError(errno.EAGAIN, "standard output takes no more bytes")
        rest = rest[taken:]
    stream.flush()


def read_source(task: Task) -> Path | bytes:
    """The path itself, or the bytes where it is no regular file: pipes and devices can be read only once."""
    if task.source is None:
        return read_stdin()
    if task.source.is_file():
        return task.source
    with task.source.open("rb") as file:
        return read_bounded(file, ImageError)


def read_picture(task: Task, *, strip: bool, max_pixels: int) -> tuple[Picture, int]:
    """The picture of a task, prepared for coding, and the bytes of its file."""
    from gmvqzip.images.preparing import read_prepared

    source = read_source(task)
    if isinstance(source, bytes):
        return read_prepared(source, strip=strip, max_pixels=max_pixels), len(source)
    before, size = state_of(source), source.stat().st_size
    picture = read_prepared(source, strip=strip, max_pixels=max_pixels)
    if state_of(source) != before:  # it may still be written, and its end be empty
        raise ImageError("it was changed while it was read: try again")
    return picture, size


def refuse_stream(tasks: Sequence[Task], *, force: bool, as_json: bool) -> None:
    """Raise UsageError where an output would go to a terminal, or among JSON."""
    if all(task.target is not None for task in tasks):
        return
    if as_json:
        raise UsageError("--json and the output would both go to standard output: use -o FILE")
    if not force and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError("binary data would go to the terminal: use -o FILE, or -f if you mean it")


def prepare(task: Task, *, force: bool, make_directory: bool) -> None:
    """Check the output before any work is spent on it, and make its directory where --output-dir asks for it."""
    if task.target is None:
        return
    try:
        check_target(task, force=force)
        if make_directory:
            _make_folder(task.target.parent, task.source, task.depth)
        elif not task.target.parent.is_dir():
            shown = safe_name(task.target.parent)
            raise OutputError(f"output directory {shown} does not exist: create it, or use --output-dir")
    except OSError as error:  # of the output, not of the file that is worked on
        raise OutputError(f"cannot write {safe_name(task.target)}: {reason(error)}") from error


def _make_folder(folder: Path, inner: Path | None, depth: int) -> None:
    """Make a folder and those above it; `depth` of them are no more open than those above `inner`."""
    mode = 0o777
    if inner is not None and depth and not folder.is_dir():
        _make_folder(folder.parent, inner.parent, depth - 1)
        mode = inner.parent.stat().st_mode & 0o777 | 0o700
    try:
        folder.mkdir(mode, parents=True, exist_ok=True)
    except FileExistsError:
        raise OutputError(f"output directory {safe_name(folder)} is a file: give another name") from None


def deliver(task: Task, data: bytes, *, force: bool, remove: bool) -> None:
    """Write the finished output; only when it is safe on disk is the source removed, where --rm asks for it."""
    from gmvqzip.images.files import atomic_write

    if task.target is None:
        write_stdout(data)
        return
    atomic_write(task.target, data, force=force, copy_from=task.source)
    if remove and task.source is not None:
        _remove(task.source, task.target, task.state)


def _remove(source: Path, target: Path, state: State | None) -> None:
    from gmvqzip.images.files import is_stream, reason

    if is_stream(target) or not target.is_file():  # what went into a pipe or a device may be gone
        raise OutputError(f"the source is kept: output {safe_name(target)} is not a regular file")
    if state_of(source) != state:
        raise OutputError("the source is kept: it was changed meanwhile; its output is written")
    try:
        source.unlink()
    except OSError as error:
        raise OutputError(f"the source cannot be removed ({reason(error)}); its output is written") from error
