"""Checkpoints: atomic, the last two kept, readable without unpickling code."""

from __future__ import annotations

import contextlib
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from gmvqzip.errors import TrainingError

KEEP = 2
_NAME = re.compile(r"checkpoint-(\d{8})\.pt")


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint beside the others by rename, then drop all but the last two.

    Raises TrainingError where the file system refuses; the earlier checkpoints stay untouched then.
    """
    path = folder / f"checkpoint-{step:08d}.pt"
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise TrainingError(f"cannot write checkpoint {path}: {_reason(error)}; the last good one is kept") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    for old in checkpoints(folder)[:-KEEP]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """The newest readable checkpoint of a run. Raises TrainingError where there is none."""
    found = checkpoints(folder)
    for path in reversed(found):
        state = read_checkpoint(path)
        if state is not None:
            return state
    if found:
        raise TrainingError(f"no checkpoint in {folder} can be read")
    raise TrainingError(f"nothing to resume: no checkpoint in {folder}")


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state in a checkpoint; None where the file is damaged or something else."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not compare the checksums that it writes
            if archive.testzip() is not None:
                return None
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file makes zipfile and torch raise nearly anything
        return None
    return state if isinstance(state, dict) and "step" in state else None


def _reason(error: OSError | RuntimeError) -> str:
    """The error in one line; torch adds lines of its own inside."""
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or next(iter(str(error).splitlines()), type(error).__name__)
