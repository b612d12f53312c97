"""Any tree of pictures as a data set."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gmvqzip.errors import TrainingError
from gmvqzip.images.formats import package_for, picture_endings, unread_endings
from gmvqzip.images.picture import picture_size
from gmvqzip.images.preparing import read_prepared
from gmvqzip.training.imagesets import ImageSet, MixedSet, Pixels, scaled_bytes
from gmvqzip.training.splits import DataSplits, Item, folder_every, hold_out, memory_budget, read_each
from gmvqzip.training.streamed import StreamedSet

STORED_PIXELS = 1 << 22
"""Larger pictures are reduced to about this many pixels when read: a small crop of them would show little but blur."""


def list_pictures(root: Path) -> list[Path]:
    """Every file under `root` with an ending that `compress` takes, sorted by its path inside `root`; hidden ones left
    out."""
    endings = picture_endings()
    return sorted(
        (path for path in _files(root) if _ending(path) in endings), key=lambda path: path.relative_to(root).as_posix()
    )


def _files(root: Path) -> Iterator[Path]:
    """Every file under `root`; hidden ones, and all in hidden folders, left out."""
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if not name.startswith(".")]
        yield from (Path(folder, name) for name in files if not name.startswith("."))


def _ending(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")


def _say_passed_over(root: Path, say: Callable[[str], None]) -> None:
    """Say how many pictures under `root` are of formats that are not read here, and what would help."""
    unread = unread_endings()
    counts = Counter(ending for path in _files(root) if (ending := _ending(path)) in unread)
    if counts:
        helps = {ending: f" (install {package})" if (package := package_for(ending)) else "" for ending in counts}
        words = (f"{count} .{ending}{helps[ending]}" for ending, count in counts.most_common())
        say(f"pictures passed over: {', '.join(words)}")


def read_for_training(path: Path) -> Pixels:
    """The picture as RGB uint8 [H, W, 3], as `compress` codes it, reduced to about STORED_PIXELS. ImageError."""
    pixels = read_prepared(path).pixels
    excess = pixels.shape[0] * pixels.shape[1] / STORED_PIXELS
    if excess <= 1:
        return pixels
    size = [max(1, round(side / math.sqrt(excess))) for side in (pixels.shape[1], pixels.shape[0])]
    return np.asarray(Image.fromarray(pixels).resize((size[0], size[1]), Image.Resampling.LANCZOS, reducing_gap=3.0))


def stored_size(path: Path) -> tuple[int, int]:
    """(width, height) at which the picture will be read, from the header alone, before any turn. ImageError."""
    width, height = picture_size(path)
    shrink = math.sqrt(max(1.0, width * height / STORED_PIXELS))
    return max(1, round(width / shrink)), max(1, round(height / shrink))


def load_folder(root: Path, *, crop: int, say: Callable[[str], None], budget: int | None = None) -> DataSplits:
    """All pictures under `root`; every 50th file (in the order of their paths) is the validation part, of fewer than
    2,000 some 40 of them, but no more than every 10th. Where nothing of a part can be read, the other is parted again.

    `crop` is the side of the training crops in pixels. `budget` is the memory for decoded pictures in bytes.
    """
    paths = list_pictures(root)
    _say_passed_over(root, say)
    names = [path.relative_to(root).as_posix() for path in paths]
    sizes = list(read_each(names, lambda index: stored_size(paths[index]), say, verb="looked at"))
    kept, held = hold_out(range(len(paths)), folder_every(len(paths)))
    kept, held = ([i for i in part if sizes[i] is not None] for part in (kept, held))
    known = {names[i]: size for i, size in enumerate(sizes) if size is not None}
    total = sum(scaled_bytes(*size, crop) for size in known.values())
    in_memory = total <= (memory_budget() if budget is None else budget)
    title = root.resolve().name
    titles = f"{title} (train)", f"{title} (validation)"
    train: ImageSet
    validation: ImageSet
    if in_memory:
        pictures = _both(root, *(_read(root, [names[i] for i in part], say) for part in (kept, held)))
        train, validation = (MixedSet(t, part, crop=crop) for t, part in zip(titles, pictures, strict=True))
        alone = pictures[0][0] is pictures[1][0]
    else:
        kept, held = _both(root, kept, held)
        picked = ({names[i]: known[names[i]] for i in part} for part in (kept, held))
        train, validation = (_streamed(t, root, part, crop, say) for t, part in zip(titles, picked, strict=True))
        alone = kept == held
    where = f"{total / 2**20:.0f} MiB in memory" if in_memory else "read at each use: too large for memory"
    counts = f"{len(train)} pictures to train on, {len(validation)} held out"
    if alone:
        counts = "one picture, trained on and measured alike: figures say nothing of others"
    text = f"folder {title}: {counts}; {where}"
    return DataSplits(train, validation, None, text)


def _both(root: Path, kept: list[Item], held: list[Item]) -> tuple[list[Item], list[Item]]:
    """The two parts, parted again where one is empty; a single picture is in both. TrainingError: there is none."""
    if kept and held:
        return kept, held
    found = kept or held
    if not found:
        raise TrainingError(f"{root}: no picture that can be read; files are taken by their endings, as .png or .jpg")
    return hold_out(found, folder_every(len(found)))


def _read(root: Path, names: Sequence[str], say: Callable[[str], None]) -> list[Pixels]:
    """Those of the pictures that can be read."""
    read = read_each(names, lambda index: read_for_training(root / names[index]), say)
    return [picture for picture in read if picture is not None]


def _streamed(
    name: str, root: Path, known: Mapping[str, tuple[int, int]], crop: int, say: Callable[[str], None]
) -> ImageSet:
    names = list(known)

    def read(index: int) -> Pixels:
        return read_for_training(root / names[index])

    return StreamedSet(name, names, read, crop=crop, scaled=True, sizes=list(known.values()), say=say)
