"""How a command begins and ends: signals, exit codes, one line for each error."""

from __future__ import annotations

import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ParamSpec

import typer

from gmvqzip.cli.report import describe, to_stderr

DONE, FAILED, USAGE = 0, 1, 2
BROKEN_PIPE = 128 + 13  # a shell's code for SIGPIPE
_ENDING_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]

_P = ParamSpec("_P")


class UsageError(Exception):
    """The options do not go together, or the inputs would overwrite each other: nothing is done, exit code 2."""


class Ended(BaseException):
    """A signal asks the process to end. Not an Exception: only clean-up code may see it pass."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@contextmanager
def ending_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into `Ended`, so that temporaries are removed: Python runs no `finally` on them."""

    def end(number: int, frame: FrameType | None) -> None:
        for other in _ENDING_SIGNALS:
            signal.signal(other, signal.SIG_IGN)  # a second one must not cut the clean-up short
        raise Ended(number)

    # A signal that was ignored when we were started (nohup) stays ignored.
    heeded = [number for number in _ENDING_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def guarded(command: Callable[_P, int | None]) -> Callable[_P, None]:
    """Wrap a command: its result is the exit code, and whatever it raises becomes one line and an exit code."""

    @functools.wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        code = _run(command, *args, **kwargs)
        if code:
            raise typer.Exit(code)

    return run


def _run(command: Callable[..., int | None], *args: Any, **kwargs: Any) -> int:
    verbose = kwargs.get("verbose") or 0
    try:
        with ending_signals():
            code = command(*args, **kwargs) or DONE
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
    except UsageError as error:
        to_stderr(f"gmvqzip: {error}")
        return USAGE
    except KeyboardInterrupt:
        _show_traceback(verbose)
        to_stderr("gmvqzip: interrupted")
        return 128 + signal.SIGINT
    except Ended as end:
        return end.exit_code
    except BrokenPipeError:
        discard_stdout()
        return BROKEN_PIPE
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if _is_usage_error(error):
            raise
        _show_traceback(verbose)
        to_stderr(f"gmvqzip: {describe(error)}")
        if isinstance(error, OSError | MemoryError):
            discard_stdout()
        return FAILED


def flush_stdout() -> None:
    """Flush what is left on standard output; exits with the code of a closed pipe where nobody reads it."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()
        sys.exit(BROKEN_PIPE)


def discard_stdout() -> None:
    """Point standard output at nothing: the interpreter flushes it once more on its way out, and must not fail."""
    try:
        with open(os.devnull, "wb") as null:  # noqa: PTH123
            os.dup2(null.fileno(), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        pass  # no descriptor behind it: nothing will be flushed


def _is_usage_error(error: Exception) -> bool:
    return isinstance(error, typer.BadParameter.__mro__[2])  # Click's base of all that it reports itself


def _show_traceback(verbose: int) -> None:
    if verbose >= 2:
        traceback.print_exc()
