"""What a person and a script read: one-line messages on standard error, results on standard output, progress."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from gmvqzip.errors import GmvqError, json_name, safe_name, system_error

MANY = 20  # files of one command: beyond it only a summary is shown, and what failed is said again at the end
_SAID_AGAIN = 100  # of what failed
_OUT_OF_MEMORY = "not enough memory: close other programs, or lower --jobs"


def describe(error: BaseException) -> str:
    """One line that says what is wrong."""
    if isinstance(error, GmvqError):
        text = str(error)
    elif isinstance(error, OSError):
        text = system_error(error)
    elif isinstance(error, MemoryError) or "memory" in str(error).lower():
        text = _OUT_OF_MEMORY  # torch raises RuntimeError for its own allocator
    else:
        text = f"internal error, {type(error).__name__}: {error} (-vv shows where)"
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def to_stderr(line: str) -> None:
    """Print a line on standard error, if there is one."""
    if sys.stderr is not None:
        print(line, file=sys.stderr, flush=True)


def is_watched() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


class Tally:
    """What came of the files so far."""

    def __init__(self) -> None:
        self.files = self.in_bytes = self.out_bytes = 0
        self._start = time.monotonic()

    def add(self, fields: Mapping[str, Any]) -> None:
        """Count a file."""
        self.files += 1
        self.in_bytes += fields.get("in_bytes", 0)
        self.out_bytes += fields.get("out_bytes", 0)

    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._start

    def figures(self) -> str:
        """Files per second, and megabytes in and out; nothing before the first file."""
        if not self.files:
            return ""
        sizes = " -> ".join(f"{size / 1e6:,.2f}" for size in (self.in_bytes, self.out_bytes) if size)
        return f"{self.files / max(self.seconds(), 1e-3):,.1f} files/s, {sizes} MB"


class Report:
    """Messages of one command over many files, usable from several threads; counts what failed."""

    def __init__(self, *, verbose: int = 0, quiet: bool = False, as_json: bool = False, progress: bool = True) -> None:
        self.verbose = verbose
        self.quiet = quiet
        self.as_json = as_json
        self.failures = 0
        self.skipped = 0
        self.kept = 0
        self.left = 0
        self._failed: list[str] = []
        self._tally = Tally()
        self._progress = progress and not quiet
        self._write: Callable[[str], None] = to_stderr
        self._lock = threading.RLock()

    def note(self, text: str, *, level: int = 1) -> None:
        """Say something on standard error at this level of -v; level 0 is said unless --quiet."""
        if self.verbose >= level and not self.quiet:
            with self._lock:
                self._write(f"gmvqzip: {text}")

    def warn(self, name: str, text: str) -> None:
        """Warn about a file that is processed all the same."""
        self.note(f"{safe_name(name)}: warning: {text}", level=0)

    def keep(self, name: str, dropped: Sequence[str]) -> None:
        """Say, whatever else is said, that a source is not removed as it was asked for, and count it."""
        with self._lock:
            self.kept += 1
            self._write(f"gmvqzip: {safe_name(name)}: the source is not removed: {'; '.join(dropped)}")

    def fail(self, name: str, error: BaseException) -> None:
        """Say that a file failed, and count it."""
        with self._lock:
            self.failures += 1
            if self.verbose >= 2:
                for line in "".join(traceback.format_exception(error)).rstrip().splitlines():
                    self._write(line)
            text = describe(error)
            self._failed.append(f"{safe_name(name)}: {text}")
            self._write(f"gmvqzip: {self._failed[-1]}")
            if self.as_json:
                self.record({"input": json_name(name), "error": text})

    def skip(self, name: str, output: os.PathLike[str], reason: str = "") -> None:
        """Count a file that is left out since its output exists; say so where a reason is given."""
        with self._lock:
            self.skipped += 1
        if reason:
            self.note(f"{safe_name(name)}: {reason}", level=0)
        if self.as_json:
            self.record({"input": json_name(name), "output": json_name(output), "skipped": True})

    def leave(self, name: str, reason: str) -> None:
        """Say that a file is left alone, as the options ask for, and count it."""
        with self._lock:
            self.left += 1
        self.note(f"{safe_name(name)}: left alone: {reason}", level=0)
        if self.as_json:
            self.record({"input": json_name(name), "left_alone": True, "reason": reason})

    def count(self, fields: Mapping[str, Any]) -> None:
        """Count a file that is done, with its in_bytes and out_bytes where it has these."""
        with self._lock:
            self._tally.add(fields)

    def record(self, fields: Mapping[str, Any]) -> None:
        """Print one JSON object on a line of its own on standard output."""
        self.line(json.dumps(fields))

    def line(self, text: str) -> None:
        """Print a line of results on standard output."""
        with self._lock:
            print(text, flush=True)

    def finish(self, total: int) -> int:
        """The exit code, after a summary of several files: what was done, and what failed."""
        many = total > MANY
        if total > 1 and (self._tally.files or self.skipped or self.left):
            self.note(self._summary(), level=0 if many or is_watched() else 1)
        if self.failures and total > 1:
            for line in self._failed[:_SAID_AGAIN] if many else ():
                to_stderr(f"gmvqzip: failed: {line}")
            if many and self.failures > _SAID_AGAIN:
                to_stderr(f"gmvqzip: failed: {self.failures - _SAID_AGAIN} more, said above")
            to_stderr(f"gmvqzip: {self.failures} of {total} files failed")
        return 1 if self.failures else 0

    def _summary(self) -> str:
        tally = self._tally
        parts = [f"{tally.files:,} files"]
        if tally.files:
            parts += [f"{tally.seconds():.1f} s", tally.figures()]
            if tally.in_bytes and tally.out_bytes:
                parts.append(f"{100 * tally.out_bytes / tally.in_bytes:.1f} % of their size")
        if self.skipped:
            parts.append(f"{self.skipped:,} skipped")
        if self.left:
            parts.append(f"{self.left:,} left alone")
        if self.kept:
            parts.append(f"{self.kept:,} sources not removed")
        return ", ".join(parts)

    @contextmanager
    def progress(self, total: int, what: str, resume: str = "") -> Iterator[Callable[[], None]]:
        """Yield a function to call after each file.

        A bar is drawn on standard error if that is a terminal. Where a signal ends the work on several files, it is
        said how many were counted, and with `resume` how to go on.
        """
        self._tally = Tally()
        try:
            with self._bar(total, what, self._tally) as advance:
                yield advance
        except Exception:
            raise
        except BaseException:  # Ctrl-C, or a signal
            if total > 1:
                done = f"{self._tally.files:,} of {total:,} files were done before it ended"
                self.note(f"{done}; {resume}" if resume else done, level=0)
            raise

    @contextmanager
    def _bar(self, total: int, what: str, tally: Tally) -> Iterator[Callable[[], None]]:
        if not (self._progress and total > 1 and is_watched()):
            yield lambda: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        if console.is_dumb_terminal or console.width < 1:  # rich would lose what is said beside the bar
            yield lambda: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
        )

        def advance() -> None:
            bar.update(task, advance=1, figures=tally.figures())

        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total, figures="")
            self._write = lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)
            try:
                yield advance
            finally:
                self._write = to_stderr
