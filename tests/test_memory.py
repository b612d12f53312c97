"""Telling the C library to keep freed memory, where there is one that listens."""

from __future__ import annotations

import ctypes
import platform
from types import SimpleNamespace
from typing import Any

import pytest

from gmvqzip.memory import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_glibc_accepts() -> None:
    assert keep_freed_memory() is True
    assert keep_freed_memory() is True


@pytest.mark.parametrize("error", [OSError, TypeError])
def test_no_c_library(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def fail(name: Any) -> Any:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", fail)
    assert keep_freed_memory() is False


def test_another_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert keep_freed_memory() is False


def test_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=lambda option, value: 0))
    assert keep_freed_memory() is False
