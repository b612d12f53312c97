"""How `train` is stopped: Ctrl-C is answered at once, also while the network works and Python's handlers cannot run."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from gmvqzip.torchrun import place
from gmvqzip.training.stopping import EVALUATING, STEPS, Stopping

HEEDED = (signal.SIGINT, signal.SIGTERM)
_DONE = 0  # no signal's number: ends the thread


class SignalStop(Stopping):
    """A context in which the first SIGINT or SIGTERM asks the run to stop, and a second one ends the program at once.

    Python's own handlers wait until the main thread is between two instructions, which can take as long as a step. But
    the interpreter writes each signal's number into a socket at once, and a thread reads it there and answers. A signal
    that was ignored when the program was started (a job in the background) stays ignored.
    """

    def __init__(
        self, say: Callable[[str], None], leave: Callable[[], None], show: Callable[[str], None] = lambda doing: None
    ) -> None:
        """say: shows a line, from any thread; leave: brings the terminal into order before the program ends at once;
        show: is told of every phase but steps."""
        self.signal: int | None = None
        self._say, self._leave, self._show = say, leave, show
        self._answered = threading.Event()
        self._met: str | None = None  # what was being done when the main thread heard of the signal
        self._step: int = 0
        self._saved: int | None = None
        self._before: dict[int, Any] = {}
        self._many = place().world > 1  # torchrun repeats what its processes have had from the terminal already

    @property
    def asked(self) -> bool:  # type: ignore[override]
        """Whether a signal came."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """Of a program that a signal ended; the signal may have come to another process of the run alone."""
        return 128 + (self.signal or signal.SIGTERM)

    def __enter__(self) -> SignalStop:
        self._theirs, self._ours = socket.socketpair()
        self._theirs.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        heeded = [number for number in HEEDED if signal.getsignal(number) != signal.SIG_IGN]
        self._before = {number: signal.getsignal(number) for number in heeded}
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()
        for number in heeded:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self.doing = STEPS  # what comes now is noted alone
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._theirs.send(bytes([_DONE]))
        self._thread.join()
        self._theirs.close()
        self._ours.close()

    def entered(self, doing: str) -> None:
        """Show what is done besides steps."""
        if doing != STEPS:
            self._show(doing)

    def at(self, step: int, saved: int | None) -> None:
        """Remember what a second signal would lose."""
        self._step, self._saved = step, saved

    def outcome(self) -> str:
        """What is left of a run that was stopped, in a line; to be said behind the context, after the answer."""
        if self._saved is None:
            return "stopped; nothing was trained yet"
        return f"stopped; {self._kept()}"

    def _note(self, number: int, frame: FrameType | None) -> None:
        """In the main thread, as soon as it gets there: leave what may be left anywhere."""
        if self.signal is None:
            self.signal, self._met = number, self.doing
            self.look()

    def _watch(self) -> None:
        """In the thread: answer the first signal, end the program at the second."""
        while True:
            for number in self._ours.recv(64):
                if number == _DONE:
                    return
                if number in self._before:
                    self._heed(number)

    def _heed(self, number: int) -> None:
        if not self._answered.is_set():
            with suppress(OSError, ValueError):  # nobody reads what is said
                self._say(self._answer())
            self._answered.set()
        elif not self._many:
            with suppress(OSError, ValueError):
                self._say(f"ended at once; {self._kept()}, {self._lost() or 'no step'} lost")
                self._leave()
            os._exit(128 + number)

    def _answer(self) -> str:
        doing = self._met or self.doing
        if doing not in (STEPS, EVALUATING):
            return f"stopping while {doing}; {self._kept()}"
        what = "leaves the evaluation" if doing == EVALUATING else f"finishes step {self._step + 1}"
        lost = self._lost()
        second = "a second Ctrl-C ends at once" + (f" and loses {lost}" if lost else "")
        return f"stopping: {what} and saves a checkpoint" + ("" if self._many else f"; {second}")

    def _kept(self) -> str:
        if self._saved is None:
            return "nothing is saved yet"
        return f"a checkpoint is saved at step {self._saved}, and --resume goes on from it"

    def _lost(self) -> str:
        """The steps that are in no checkpoint, in words; empty where there are none."""
        steps = self._step - (self._saved or 0)
        since = "" if self._saved is None else " since the last checkpoint"
        return f"the {steps} steps{since}" if steps > 1 else f"the step{since}" if steps else ""
