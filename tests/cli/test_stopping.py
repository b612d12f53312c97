"""Ctrl-C is answered while the main thread is where no handler of Python's runs; all by order of events, not by clocks.

In these processes the main thread blocks SIGINT, which another thread takes therefore, and waits in a system call until
the answer writes into a pipe: were the answer a matter of the main thread, it would never come.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import partial

import pytest

PROGRAM = """
import ctypes, os, signal, sys
from gmvqzip.cli.stopping import SignalStop
from gmvqzip.training.stopping import STEPS

ours, theirs = os.pipe()
number, second = int(sys.argv[1]), sys.argv[2] == "second"

def say(line):
    print(line, flush=True)
    if second:
        os.kill(os.getpid(), number)
    else:
        os.write(theirs, b"x")

with SignalStop(say, lambda: print("terminal in order", flush=True)) as stop:
    stop.at(7, 4)
    with stop.phase(STEPS):
        signal.pthread_sigmask(signal.SIG_BLOCK, [number])
        os.kill(os.getpid(), number)
        ctypes.CDLL(None).read(ours, ctypes.create_string_buffer(1), 1)
        print("step done, asked:", stop.asked)
print(stop.outcome())
sys.exit(stop.exit_code)
"""


def run(program: str, *arguments: object, handler: signal.Handlers = signal.SIG_DFL) -> tuple[int, list[str]]:
    """Exit code and lines of a process that begins with this way of taking SIGINT."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=partial(signal.signal, signal.SIGINT, handler),
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_answer_comes_while_the_step_goes_on(number: signal.Signals, code: int) -> None:
    assert run(PROGRAM, number.value, "first") == (
        code,
        [
            "stopping: finishes step 8 and saves a checkpoint; "
            "a second Ctrl-C ends at once and loses the 3 steps since the last checkpoint",
            "step done, asked: True",
            "stopped; a checkpoint is saved at step 4, and --resume goes on from it",
        ],
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_at_once(number: signal.Signals, code: int) -> None:
    """The step never ends in this process."""
    found, lines = run(PROGRAM, number.value, "second")
    assert found == code
    assert lines[1:] == [
        "ended at once; a checkpoint is saved at step 4, and --resume goes on from it, "
        "the 3 steps since the last checkpoint lost",
        "terminal in order",
    ]


def test_what_is_ignored_at_the_start_stays_ignored() -> None:
    program = (
        "import os, signal\n"
        "from gmvqzip.cli.stopping import SignalStop\n"
        "with SignalStop(print, lambda: None) as stop:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print(stop.asked, signal.getsignal(signal.SIGINT) == signal.SIG_IGN)\n"
    )
    assert run(program, handler=signal.SIG_IGN) == (0, ["False True"])


def test_work_that_may_be_left_is_left() -> None:
    program = (
        "import os, signal\n"
        "from gmvqzip.cli.stopping import SignalStop\n"
        "from gmvqzip.training.stopping import EXPORTING, STEPS, Stopped\n"
        "answers = []\n"
        "with SignalStop(answers.append, lambda: None) as stop:\n"
        "    try:\n"
        "        with stop.phase(EXPORTING):\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "            print('went on')\n"
        "    except Stopped:\n"
        "        print('left')\n"
        "    with stop.phase(STEPS):\n"
        "        print('a step')\n"
        "    try:\n"
        "        with stop.phase(EXPORTING):\n"
        "            print('begun again')\n"
        "    except Stopped:\n"
        "        print('not begun again')\n"
        "print(*answers, stop.outcome(), sep='\\n')\n"
    )
    assert run(program) == (
        0,
        [
            "left",
            "a step",
            "not begun again",
            "stopping while measuring and writing the model; nothing is saved yet",
            "stopped; nothing was trained yet",
        ],
    )


def test_torchrun_repeats_signals() -> None:
    """What the terminal has sent to all comes a second time from torchrun: not a wish to end at once."""
    program = (
        "import os, signal\n"
        "os.environ |= {'RANK': '0', 'WORLD_SIZE': '2'}\n"
        "from gmvqzip.cli.stopping import SignalStop\n"
        "from gmvqzip.training.stopping import STEPS\n"
        "with SignalStop(print, lambda: None) as stop:\n"
        "    with stop.phase(STEPS):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "print('there')\n"
    )
    assert run(program) == (0, ["stopping: finishes step 1 and saves a checkpoint", "there"])
