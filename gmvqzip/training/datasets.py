"""Finding a data set on this machine and loading it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from gmvqzip.errors import TrainingError
from gmvqzip.models.registry import user_folder
from gmvqzip.training import celeba, cifar10, folder
from gmvqzip.training import download as downloads
from gmvqzip.training.imagesets import UniformSet
from gmvqzip.training.splits import DataSplits, hold_out

KINDS = ("cifar10", "celeba", "folder")
DATA_VARIABLE = "GMVQZIP_DATA"
"""Environment variable with the folder that holds the data sets, each in a folder of its name."""

CIFAR10_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
CELEBA_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


def search_places(kind: str) -> list[Path]:
    """Where the data set is looked for when no path is given, in this order."""
    cache = user_folder("XDG_CACHE_HOME", ".cache")
    roots = [Path("data")] if cache is None else [Path("data"), cache]
    if os.environ.get(DATA_VARIABLE):
        roots.insert(0, Path(os.environ[DATA_VARIABLE]))
    return [root / kind for root in roots]


def load_dataset(
    kind: str,
    path: Path | None,
    *,
    crop: int | None,
    seed: int = 0,
    download: bool = False,
    say: Callable[[str], None],
    budget: int | None = None,
) -> DataSplits:
    """Load `cifar10`, `celeba` or `folder` from `path`, or from the first of `search_places` that has it.

    crop      side of the training crops in pixels; a folder needs it, CIFAR-10 and CelebA have pictures of one size
    seed      changes nothing here: which pictures are held out depends on their order alone, so that runs compare
    download  fetch the official archive where nothing is found (CIFAR-10 only)
    say       gets one line for each picture skipped, and reports while a large set is read
    budget    bytes that decoded pictures may take; beyond, they are read at each use. Default: half of the memory

    TrainingError: nothing found (which files, where, and where people get them), or what is found is damaged.
    """
    if kind not in KINDS:
        raise TrainingError(f"there is no data set {kind!r}; choose {', '.join(KINDS)}")
    places = [path] if path is not None else search_places(kind)
    if download and kind != "cifar10":
        raise TrainingError(f"{kind} cannot be downloaded by this program; {_advice(kind)}")
    if kind == "cifar10":
        return _load_cifar10(places, download, say)
    if kind == "celeba":
        found = next((found for place in places if (found := celeba.find(place))), None)
        if found is None:
            names = f"{celeba.PICTURES}/ or {celeba.PICTURES_ZIP} with {celeba.PARTITION_LISTS[0]}, or cropped faces,"
            raise _missing("CelebA", names, places, kind)
        return celeba.load(found, say=say, budget=budget)
    root = next((place for place in places if place.is_dir()), None)
    if root is None:
        raise _missing("the folder of pictures", "any tree of pictures", places, kind)
    if crop is None:
        raise TrainingError("pictures of different sizes need a crop: set it in the configuration")
    return folder.load_folder(root, crop=crop, say=say, budget=budget)


def _load_cifar10(places: list[Path], fetch: bool, say: Callable[[str], None]) -> DataSplits:
    found = next((found for place in places if (found := cifar10.find(place))), None)
    if found is None and fetch:
        found = downloads.download(downloads.CIFAR10, places[-1], _Percent(say))
    if found is None:
        names = ", ".join(path.name for path in cifar10.looked_for(Path()))
        raise _missing("CIFAR-10", names, places, "cifar10")
    train, test = cifar10.load(found)
    kept, held = hold_out(range(len(train)))
    return DataSplits(
        UniformSet("cifar10 (train)", train[kept]),
        UniformSet("cifar10 (validation)", train[held]),
        UniformSet("cifar10 (test)", test),
        f"CIFAR-10: {len(kept)} pictures to train on, {len(held)} for validation (every 50th of the training part "
        f"held out), {len(test)} test",
    )


class _Percent:
    """Says the progress of a download at every tenth."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._said = say, -1

    def __call__(self, done: int, total: int | None) -> None:
        tenth = done * 10 // total if total else done >> 24
        if tenth > self._said:
            self._said = tenth
            self._say(f"downloaded {done / 1e6:.0f} MB" + (f" of {total / 1e6:.0f} MB" if total else ""))


def _missing(what: str, names: str, places: list[Path], kind: str) -> TrainingError:
    where = ", ".join(str(place) for place in places)
    return TrainingError(f"{what} not found: looked for {names} in {where}; {_advice(kind)}")


def _advice(kind: str) -> str:
    if kind == "cifar10":
        return f"get it with --download, or from {CIFAR10_PAGE} and give its folder with --data"
    if kind == "celeba":
        return f"get it from {CELEBA_PAGE} and give its folder with --data"
    return "give a folder with --data"
