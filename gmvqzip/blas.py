"""One thread for each matrix product, where a pool of ours has the processor's cores already.

The threads of OpenBLAS wait for one another by spinning: beside other work, or beside as many of another process, a
product by two takes many times as long as by one. The library that NumPy's wheels bring has a function for their
number; with any other library the products go on as they are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import numpy as np

from gmvqzip.forks import fork_lock

_NAMES = ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}")
_lock = fork_lock()
_inside = 0
_before = 1


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
