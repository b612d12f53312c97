"""Any tree of pictures as a data set."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gmvqzip.errors import TrainingError
from gmvqzip.images.picture import picture_size
from gmvqzip.images.preparing import read_prepared
from gmvqzip.training.imagesets import ImageSet, MixedSet, Pixels, scaled_bytes
from gmvqzip.training.splits import DataSplits, folder_every, hold_out, memory_budget, read_each
from gmvqzip.training.streamed import StreamedSet

ENDINGS = tuple(f".{name}" for name in (
    "png", "jpg", "jpeg", "jpe", "jfif", "webp", "avif", "bmp", "dib", "gif", "tif", "tiff",
    "ppm", "pgm", "pbm", "pnm", "tga", "jp2", "j2k",
))  # fmt: skip
STORED_PIXELS = 1 << 22
"""Larger pictures are reduced to about this many pixels when read: a small crop of them would show little but blur."""


def list_pictures(root: Path) -> list[Path]:
    """Every file under `root` with the ending of a picture, sorted by its path inside `root`; hidden ones left out."""
    found: list[Path] = []
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if not name.startswith(".")]
        found += [Path(folder, f) for f in files if Path(f).suffix.lower() in ENDINGS and not f.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


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
    return round(width / shrink), round(height / shrink)


def load_folder(root: Path, *, crop: int, say: Callable[[str], None], budget: int | None = None) -> DataSplits:
    """All pictures under `root`; every 50th file (in the order of their paths) is the validation part, of fewer than
    2,000 every 40th part of them, up to every 10th.

    `crop` is the side of the training crops in pixels. `budget` is the memory for decoded pictures in bytes.
    """
    paths = list_pictures(root)
    names = [path.relative_to(root).as_posix() for path in paths]
    sizes = list(read_each(names, lambda index: stored_size(paths[index]), say, verb="looked at"))
    kept, held = hold_out(range(len(paths)), folder_every(len(paths)))
    kept, held = ([i for i in part if sizes[i] is not None] for part in (kept, held))
    if not kept and not held:
        raise TrainingError(f"{root}: no picture that can be read; looked for files ending in {' '.join(ENDINGS)}")
    kept, held = kept or held, held or kept[-1:]
    known = {names[i]: size for i, size in enumerate(sizes) if size is not None}
    total = sum(scaled_bytes(*size, crop) for size in known.values())
    in_memory = total <= (memory_budget() if budget is None else budget)
    title = root.resolve().name

    def make(part: str, chosen: Sequence[int]) -> ImageSet:
        picked = {names[i]: known[names[i]] for i in chosen}
        name = f"{title} ({part})"
        return _held(name, root, list(picked), crop, say) if in_memory else _streamed(name, root, picked, crop, say)

    train, validation = make("train", kept), make("validation", held)
    where = f"{total / 2**20:.0f} MiB in memory" if in_memory else "read at each use: too large for memory"
    text = f"folder {title}: {len(train)} pictures to train on, {len(validation)} held out; {where}"
    return DataSplits(train, validation, None, text)


def _held(name: str, root: Path, names: Sequence[str], crop: int, say: Callable[[str], None]) -> ImageSet:
    read = read_each(names, lambda index: read_for_training(root / names[index]), say)
    pictures = [picture for picture in read if picture is not None]
    return MixedSet(name, pictures, crop=crop)


def _streamed(
    name: str, root: Path, known: Mapping[str, tuple[int, int]], crop: int, say: Callable[[str], None]
) -> ImageSet:
    names = list(known)

    def read(index: int) -> Pixels:
        return read_for_training(root / names[index])

    return StreamedSet(name, names, read, crop=crop, scaled=True, sizes=list(known.values()), say=say)
