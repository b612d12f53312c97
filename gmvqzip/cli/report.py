"""What a person and a script read: one-line messages on standard error, results on standard output, progress."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gmvqzip.errors import GmvqError

_OS_ERRORS = {
    errno.ENOENT: "no such file",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted by the system",
    errno.EISDIR: "is a directory: add -r, or name the files in it",
    errno.ENOTDIR: "a part of this path is not a directory",
    errno.ENOSPC: "no space left on the device: free some and try again",
    errno.EDQUOT: "the disk quota is used up: free some space and try again",
    errno.EROFS: "the file system is read-only",
    errno.ENAMETOOLONG: "the file name is too long",
    errno.ELOOP: "a symbolic link leads back to itself",
}
_OUT_OF_MEMORY = "not enough memory: close other programs, or lower --jobs"


def safe_name(name: str | os.PathLike[str]) -> str:
    """A file name on one line: bytes that are not UTF-8, and characters that do not print, as backslash escapes."""
    text = json_name(name)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def json_name(name: str | os.PathLike[str]) -> str:
    """A file name for JSON: only the bytes that are not UTF-8 are escaped (JSON escapes the rest itself)."""
    # Not os.fsencode: where the locale is plain ASCII, that refuses the names that UTF-8 would hold.
    return os.fspath(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def describe(error: BaseException) -> str:
    """One line that says what is wrong."""
    if isinstance(error, GmvqError):
        text = str(error)
    elif isinstance(error, OSError):
        text = _OS_ERRORS.get(error.errno or 0) or (error.strerror or str(error) or type(error).__name__).lower()
    elif isinstance(error, MemoryError) or "memory" in str(error).lower():
        text = _OUT_OF_MEMORY  # torch raises RuntimeError for its own allocator
    else:
        text = f"internal error, {type(error).__name__}: {error} (-vv shows where)"
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def to_stderr(line: str) -> None:
    """Print a line on standard error, if there is one."""
    if sys.stderr is not None:
        print(line, file=sys.stderr, flush=True)


class Report:
    """Messages of one command over many files, usable from several threads; counts what failed."""

    def __init__(self, *, verbose: int = 0, quiet: bool = False, as_json: bool = False, progress: bool = True) -> None:
        self.verbose = verbose
        self.quiet = quiet
        self.as_json = as_json
        self.failures = 0
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

    def fail(self, name: str, error: BaseException) -> None:
        """Say that a file failed, and count it."""
        with self._lock:
            self.failures += 1
            if self.verbose >= 2:
                for line in "".join(traceback.format_exception(error)).rstrip().splitlines():
                    self._write(line)
            text = describe(error)
            self._write(f"gmvqzip: {safe_name(name)}: {text}")
            if self.as_json:
                self.record({"input": json_name(name), "error": text})

    def record(self, fields: Mapping[str, Any]) -> None:
        """Print one JSON object on a line of its own on standard output."""
        self.line(json.dumps(fields))

    def line(self, text: str) -> None:
        """Print a line of results on standard output."""
        with self._lock:
            print(text, flush=True)

    def finish(self, total: int) -> int:
        """The exit code, after a count where one of several files failed."""
        if self.failures and total > 1:
            to_stderr(f"gmvqzip: {self.failures} of {total} files failed")
        return 1 if self.failures else 0

    @contextmanager
    def progress(self, total: int, what: str) -> Iterator[Callable[[], None]]:
        """Yield a function to call after each file; a bar is drawn on standard error if that is a terminal."""
        if not (self._progress and total > 1 and sys.stderr is not None and sys.stderr.isatty()):
            yield lambda: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            self._write = lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)
            try:
                yield lambda: bar.advance(task)
            finally:
                self._write = to_stderr
