"""Matrix products by a few threads of our own, each of which does its products alone.

The threads of OpenBLAS wait for one another by spinning: beside other work, or beside as many of another process, a
product by two takes many times as long as by one. The library that NumPy's wheels bring has a function for their
number; with any other library the products go on as they are.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import numpy as np

from gmvqzip.forks import call_after_fork, fork_lock

_NAMES = ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}")
_lock = fork_lock()
_inside = 0
_before = 1
_STRIP = 1 << 19  # numbers in the matrix of a strip of rows: two megabytes
_LITTLE = 1 << 17  # numbers of all rows: less is done sooner than another thread begins
_most_threads: int | None = None

Share = Callable[[Callable[[slice], None], int, int], None]  # work on each strip of rows, rows, numbers of a row


def set_threads(threads: int) -> None:
    """Let so many threads work on one picture."""
    global _most_threads
    _most_threads = threads


def default_threads() -> int:
    """As many as there are cores for this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def alone(work: Callable[[slice], None], rows: int, numbers: int) -> None:
    """`Share` without threads."""
    height = max(1, _STRIP // numbers)
    for top in range(0, rows, height):
        work(slice(top, min(top + height, rows)))


@contextmanager
def workers() -> Iterator[Share]:
    """What does work on strips of rows, by all threads. They end with the block: a forked child never lacks them."""
    threads = _most_threads or default_threads()
    with single_threaded(), ThreadPoolExecutor(threads) as pool:

        def share(work: Callable[[slice], None], rows: int, numbers: int) -> None:
            if threads == 1 or rows * numbers < _LITTLE:
                alone(work, rows, numbers)
                return
            height = max(1, min(_STRIP // numbers, -(-rows // threads)))
            list(pool.map(work, [slice(top, min(top + height, rows)) for top in range(0, rows, height)]))

        yield share


@cache
def _functions() -> tuple[Any, Any] | None:
    """OpenBLAS's functions that get and set the number of its threads."""
    core = getattr(np, "_core", None) or np.core
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(core._multiarray_umath.__file__)
        for name in _NAMES:
            with suppress(AttributeError):
                return getattr(library, name.format("get_num_threads")), getattr(
                    library, name.format("set_num_threads")
                )
    return None


@contextmanager
def single_threaded() -> Iterator[None]:
    """Products of NumPy by one thread each, in the whole process, until the last block of this kind is left."""
    global _inside, _before
    functions = _functions()
    if functions is None:
        yield
        return
    get, put = functions
    with _lock:
        if not _inside:
            _before = int(get())
            put(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                put(_before)


def _forget_threads() -> None:
    """In a forked child: those inside are not there, and their products are no reason for single threads."""
    global _inside
    functions = _functions() if _inside else None
    if functions is not None:
        _inside = 0
        functions[1](_before)


call_after_fork(_forget_threads)
