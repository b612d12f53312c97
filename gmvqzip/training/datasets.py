"""Finding a data set on this machine and loading it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from gmvqzip.errors import TrainingError
from gmvqzip.training import cifar10, folder
from gmvqzip.training.imagesets import UniformSet
from gmvqzip.training.splits import DataSplits, hold_out

KINDS = ("cifar10", "celeba", "folder")
DATA_VARIABLE = "GMVQZIP_DATA"


def search_places(name: str) -> list[Path]:
    """Where the data set `name` is looked for when no path is given, in this order."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gmvqzip"
    roots = [Path("data"), cache]
    if os.environ.get(DATA_VARIABLE):
        roots.insert(0, Path(os.environ[DATA_VARIABLE]))
    return [root / name for root in roots]


def load_dataset(
    kind: str,
    path: Path | None,
    *,
    crop: int | None,
    seed: int,
    download: bool = False,
    say: Callable[[str], None],
) -> DataSplits:
    """Load `cifar10`, `celeba` or `folder` from `path`, or from where it is usually kept."""
    if kind == "cifar10":
        place = cifar10.find(path) if path else None
        if place is None:
            raise TrainingError("CIFAR-10 not found")
        train, test = cifar10.load(place)
        kept, held = hold_out(range(len(train)))
        text = (
            f"CIFAR-10: {len(kept)} pictures to train on, {len(held)} of the training part held out, {len(test)} test"
        )
        return DataSplits(
            UniformSet("cifar10 (train)", train[kept]),
            UniformSet("cifar10 (validation)", train[held]),
            UniformSet("cifar10 (test)", test),
            text,
        )
    if kind == "folder" and path is not None and crop is not None:
        return folder.load_folder(path, crop=crop, say=say)
    raise TrainingError(f"unknown data set {kind!r}")
