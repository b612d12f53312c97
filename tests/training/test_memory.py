"""Freed memory that a training keeps."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from gmvqzip.training import memory

# Pages that came from the system while three arrays of 20 MB were made and freed ten times, after three such turns.
_FAULTS = """
import resource, torch
from gmvqzip.training.memory import keep_freed_memory
keep_freed_memory()
def turn():
    return [torch.ones(5_000_000) for _ in range(3)]
for _ in range(3):
    turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    turn()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's alone")
def test_arrays_of_one_turn_use_the_memory_of_the_last() -> None:
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200e6  # of 600e6 bytes that were written


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.keep_freed_memory()
    monkeypatch.setattr(memory.sys, "platform", "win32")
    monkeypatch.setattr(memory.ctypes, "CDLL", None)
    memory.keep_freed_memory()
