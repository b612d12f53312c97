"""CelebA as people have it: the aligned pictures (a folder, or the zip as downloaded) and the list of partitions.

A folder of faces that were cropped before is accepted too.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gmvqzip.errors import ImageError, TrainingError
from gmvqzip.images.preparing import read_prepared
from gmvqzip.training.folder import list_pictures
from gmvqzip.training.imagesets import ImageSet, Pixels, UniformSet
from gmvqzip.training.splits import DataSplits, hold_out, memory_budget, read_each
from gmvqzip.training.streamed import StreamedSet

PICTURES = "img_align_celeba"
PICTURES_ZIP = "img_align_celeba.zip"
PARTITION_LISTS = ("list_eval_partition.txt", "list_eval_partition.csv")
SIDE = 128  # pixels of a face as trained on
ALIGNED_SIZE = (178, 218)  # width, height of the official aligned pictures
ALIGNED_CROP = 140  # side of the middle square that is cut out of them
MAX_MEMBER_BYTES = 1 << 24  # of one picture in the zip; the official ones have some 10 kB


@dataclass(frozen=True)
class Found:
    """Where a copy of CelebA lies."""

    pictures: Path  # folder, or zip
    partition: Path | None  # the list of partitions; None for a folder of cropped faces without one


@dataclass(frozen=True)
class _Source:
    """The names of the pictures, in order, and how to read one."""

    names: list[str]
    read: Callable[[str], Pixels]


def looked_for(folder: Path) -> list[Path]:
    """The places, in this order, where the pictures may lie when `folder` is searched."""
    return [folder / PICTURES, folder / PICTURES_ZIP]


def find(path: Path) -> Found | None:
    """The pictures at or directly under `path`, None if there are none. TrainingError: no partition list with them."""
    pictures = path if path.name in (PICTURES, PICTURES_ZIP) or path.suffix.lower() == ".zip" else None
    if pictures is None or not pictures.exists():
        pictures = next((place for place in looked_for(path) if place.exists()), None)
    if pictures is not None:
        partition = _partition_near(pictures)
        if partition is None:
            raise TrainingError(
                f"{pictures}: {PARTITION_LISTS[0]} is missing beside it; it says which pictures are for training, "
                "and comes with CelebA in the folder Eval"
            )
        return Found(pictures, partition)
    return Found(path, _partition_near(path)) if path.is_dir() and list_pictures(path) else None


def _partition_near(pictures: Path) -> Path | None:
    above = pictures.parent
    folders = [above, above / "Eval", above.parent / "Eval"]
    if pictures.is_dir():
        folders.insert(0, pictures)
    return next((f / name for f in folders for name in PARTITION_LISTS if (f / name).is_file()), None)


def read_partition(path: Path) -> dict[str, int]:
    """Stem of the file name -> 0 training, 1 validation, 2 test. Lines `000001.jpg 0`; with a comma in the CSV."""
    partition: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(lines, 1):
        words = line.replace(",", " ").split()
        if not words or (number == 1 and words[0] == "image_id"):
            continue
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise TrainingError(f"{path}: line {number} is not 'FILE 0|1|2'; fetch the list again")
        partition[Path(words[0]).stem] = int(words[1])
    return partition


def prepare_face(pixels: Pixels, side: int = SIDE) -> Pixels:
    """The middle square of a picture, reduced by Lanczos to `side` unless it is smaller. [H, W, 3] -> [s, s, 3]

    The square has 140 pixels in the official 178x218 pictures, else the shorter side of the picture.
    """
    height, width = pixels.shape[:2]
    square = ALIGNED_CROP if (width, height) == ALIGNED_SIZE else min(width, height)
    top, left = (height - square) // 2, (width - square) // 2
    pixels = pixels[top : top + square, left : left + square]
    return _resized(pixels, side) if square > side else pixels


def _resized(pixels: Pixels, side: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))


def load(found: Found, *, say: Callable[[str], None], budget: int | None = None) -> DataSplits:
    """All faces of one size: 128x128, or the size of the first one where that is smaller.

    Official partitions 0, 1, 2 are training, validation and test; where there is no list, or it leaves one of the
    first two without pictures here, every 50th training picture is held out for validation.
    """
    source = _zip_source(found.pictures) if found.pictures.is_file() else _folder_source(found.pictures)
    if not source.names:
        raise TrainingError(f"{found.pictures}: no pictures in it")
    train, validation, test = _split(source.names, found.partition)
    official = bool(validation)
    if not official:
        train, validation = hold_out(train)
    if not train:
        raise TrainingError(f"{found.pictures}: none of its pictures is in the training part of {found.partition}")
    side = _side(source)
    total = len(train + validation + test) * side * side * 3
    in_memory = total <= (memory_budget() if budget is None else budget)

    def make(part: str, names: list[str]) -> ImageSet:
        def read(index: int) -> Pixels:
            face = prepare_face(source.read(names[index]), side)
            return face if len(face) == side else _resized(face, side)

        name = f"celeba ({part})"
        if not in_memory:
            return StreamedSet(name, names, read, crop=side, scaled=False, say=say)
        pixels, count = np.empty((len(names), side, side, 3), dtype=np.uint8), 0
        for face in read_each(names, read, say):
            if face is not None:
                pixels[count] = face
                count += 1
        return UniformSet(name, pixels[:count])

    sets = make("train", train), make("validation", validation), make("test", test) if test else None
    how = "official validation part" if official else "every 50th held out for validation"
    where = f"{total / 2**20:.0f} MiB in memory" if in_memory else "read at each use: too large for memory"
    text = (
        f"CelebA {side}x{side}: {len(sets[0])} faces to train on, {len(sets[1])} for validation ({how}), "
        f"{len(sets[2]) if sets[2] else 0} test; {where}"
    )
    return DataSplits(*sets, text)


def _split(names: list[str], partition: Path | None) -> tuple[list[str], list[str], list[str]]:
    if partition is None:
        return names, [], []
    numbers = read_partition(partition)
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    for name in names:
        number = numbers.get(Path(name).stem)
        if number is not None:
            parts[number].append(name)
    return parts


def _side(source: _Source) -> int:
    """Side of the faces of this copy: that of the first readable one."""
    for name in source.names:
        try:
            return len(prepare_face(source.read(name)))
        except ImageError:
            continue  # named when the set is read
    raise TrainingError(f"none of the {len(source.names)} pictures can be read; the first is {source.names[0]}")


def _folder_source(folder: Path) -> _Source:
    names = [path.relative_to(folder).as_posix() for path in list_pictures(folder)]
    return _Source(names, lambda name: read_prepared(folder / name).pixels)


def _zip_source(path: Path) -> _Source:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise TrainingError(f"{path}: not a whole zip ({error}); fetch it again") from error
    names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpg", ".png")))

    def read(name: str) -> Pixels:
        try:
            with archive.open(name) as member:
                data = member.read(MAX_MEMBER_BYTES)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise ImageError(f"damaged in the zip ({error})") from error
        return read_prepared(data).pixels

    return _Source(names, read)
