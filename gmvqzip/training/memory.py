"""Memory that a training keeps, since the next step needs as much of it again."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_KEPT = 1 << 30  # bytes free at the end of the heap before they go back to the system
_MAPPED = 1 << 25  # bytes from which an array has a mapping of its own, which is given back at once: the most allowed


def keep_freed_memory() -> None:
    """Let glibc keep what arrays of up to 32 MiB free. Given back, every page costs a fault and zeros at its next use:
    a seventh of a step's time. Does nothing with another C library."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _MAPPED)
