"""Use in a child of `fork`: what the parent's other threads held or ran is not there, and must not be waited for."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

_in_child: list[Callable[[], None]] = []
_torch_at_work = False


def fork_lock() -> threading.RLock:
    """A lock that is never held by a thread that a child lacks: `fork` waits for it. For the life of the process."""
    lock = threading.RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


def one_thread_after_fork() -> None:
    """From now on, a forked child computes with one thread of torch.

    The threads of a pool are not inherited, but the pool believes that they are: with more than one, the child's first
    convolution would wait for them for ever.
    """
    global _torch_at_work
    _torch_at_work = True


def call_after_fork(forget: Callable[[], None]) -> None:
    """Call `forget` in each forked child, for the life of the process."""
    _in_child.append(forget)


def _start_child() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and _torch_at_work:
        torch.set_num_threads(1)
    for forget in _in_child:
        forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_child)
