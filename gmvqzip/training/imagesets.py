"""Sets of pictures that give training batches as a pure function of the step, so that a run resumes exactly.

Nothing here keeps a position: batch `s` of size `B` holds the samples `s*B .. s*B + B - 1` of an endless sequence in
which epoch `e` is the permutation drawn from (seed, 0, e); crops, flips and scales of batch `s` are drawn from
(seed, 1, s). Two calls with equal arguments give equal pixels, in any process, at any time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import numpy as np
from PIL import Image

from gmvqzip.errors import ImageError, TrainingError

SCALES = (1.0, 2 ** (-1 / 3), 2 ** (-2 / 3), 0.5)
"""Factors of the random down-scaling, equally spaced in octaves. A few fixed ones, since they are computed once."""

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Flags = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True)
class BatchPlan:
    """What one batch is made of: everything random about it, drawn before any pixel is touched. All arrays [B]."""

    indices: Integers  # which picture
    flips: Flags  # mirrored left to right
    scale: Floats  # in [0, 1): position in the list of the picture's allowed scales
    row: Floats  # in [0, 1): position of the crop between top and bottom
    column: Floats  # in [0, 1): position of the crop between left and right


@lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> Integers:
    order = np.random.default_rng([seed, 0, epoch]).permutation(count)
    order.setflags(write=False)
    return order


def plan_batch(count: int, step: int, batch_size: int, seed: int, *, flip: bool) -> BatchPlan:
    """Draw batch `step` of `batch_size` samples out of `count` pictures. A pure function of its arguments."""
    if step < 0 or batch_size < 1 or seed < 0:
        raise TrainingError(f"step {step}, batch size {batch_size} or seed {seed} is negative or zero")
    position, stop = step * batch_size, (step + 1) * batch_size
    parts = []
    while position < stop:
        epoch, offset = divmod(position, count)
        part = _permutation(count, seed, epoch)[offset : offset + stop - position]
        parts.append(part)
        position += len(part)
    rng = np.random.default_rng([seed, 1, step])
    draws = rng.random((4, batch_size))  # always four per sample: switching flips off moves no crop
    flips = draws[0] < 0.5 if flip else np.zeros(batch_size, dtype=bool)
    return BatchPlan(np.concatenate(parts), flips, draws[1], draws[2], draws[3])


def _dots(pixels: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.void]]:
    """View [..., 3] uint8 as [...] pixels of three bytes: mirroring those is twice as fast."""
    return pixels.view("V3")[..., 0]


def pad_to(pixels: Pixels, crop: int) -> Pixels:
    """Replicate the bottom row and the right column until both sides are at least `crop`. [H, W, 3] -> [H', W', 3]"""
    rows, columns = max(0, crop - pixels.shape[0]), max(0, crop - pixels.shape[1])
    return np.pad(pixels, ((0, rows), (0, columns), (0, 0)), mode="edge") if rows or columns else pixels


def centre_crop(pixels: Pixels, crop: int) -> Pixels:
    """The middle `crop` x `crop` of a picture [H, W, 3], padded first where it is smaller."""
    pixels = pad_to(pixels, crop)
    top, left = (pixels.shape[0] - crop) // 2, (pixels.shape[1] - crop) // 2
    return pixels[top : top + crop, left : left + crop]


class ImageSet(ABC):
    """A fixed list of RGB pictures, uint8."""

    name: str
    flip: bool

    @abstractmethod
    def __len__(self) -> int:
        """Number of pictures."""

    @abstractmethod
    def image(self, index: int) -> Pixels:
        """Picture `index` as it is, [H, W, 3], not to be written into. ImageError if it cannot be read."""

    @abstractmethod
    def batch(self, step: int, batch_size: int, crop: int | None, seed: int, *, part: slice = slice(None)) -> Pixels:
        """Training batch `step`, [B, crop, crop, 3], freshly allocated; `crop=None`: whole pictures of a uniform set.

        `part` gives only these rows of the batch: each of several processes takes its share of one common batch.
        """

    def plan(self, step: int, batch_size: int, seed: int) -> BatchPlan:
        """The random decisions of batch `step`, for a caller that augments on its own device."""
        return plan_batch(len(self), step, batch_size, seed, flip=self.flip)

    @property
    def array(self) -> Pixels | None:
        """All pictures as one array [N, H, W, 3] where they have one size and lie in memory, else None."""
        return None

    def all_images(self) -> Iterator[Pixels]:
        """Every picture once, in the fixed order of the set, unchanged: [H, W, 3]."""
        for index in range(len(self)):
            yield self.image(index)

    def evaluation_batches(self, batch_size: int, crop: int | None = None) -> Iterator[Pixels]:
        """Every picture once, in order, as centre crops [B, crop, crop, 3] (`None`: whole); the last may be shorter."""
        held: list[Pixels] = []
        for pixels in self.all_images():
            held.append(pixels if crop is None else centre_crop(pixels, crop))
            if len(held) == batch_size:
                yield np.stack(held)
                held = []
        if held:
            yield np.stack(held)


class UniformSet(ImageSet):
    """Pictures of one size in one array [N, H, W, 3]."""

    def __init__(self, name: str, pixels: Pixels, *, flip: bool = True) -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or not len(pixels):
            raise TrainingError(f"{name}: expected a non-empty uint8 array [N, H, W, 3], got {pixels.shape}")
        self.name, self.flip, self._pixels = name, flip, pixels

    def __len__(self) -> int:
        return len(self._pixels)

    @property
    def array(self) -> Pixels | None:
        return self._pixels

    def image(self, index: int) -> Pixels:
        picture: Pixels = self._pixels[index]
        return picture

    def batch(self, step: int, batch_size: int, crop: int | None, seed: int, *, part: slice = slice(None)) -> Pixels:
        plan = self.plan(step, batch_size, seed)
        indices, flips = plan.indices[part], plan.flips[part]
        height, width = self._pixels.shape[1:3]
        if crop is None or (crop == height == width):
            out = self._pixels[indices]
        else:
            if crop > min(height, width):
                raise TrainingError(f"{self.name}: a crop of {crop} does not fit pictures of {width}x{height}")
            out = np.empty((len(indices), crop, crop, 3), dtype=np.uint8)
            tops = (plan.row[part] * (height - crop + 1)).astype(np.int64)
            lefts = (plan.column[part] * (width - crop + 1)).astype(np.int64)
            for slot, (index, top, left) in enumerate(zip(indices, tops, lefts, strict=True)):
                out[slot] = self._pixels[index, top : top + crop, left : left + crop]
        dots = _dots(out)
        dots[flips] = dots[flips, :, ::-1]
        return out


def scaled_sizes(width: int, height: int, crop: int) -> list[tuple[int, int]]:
    """The sizes at which a picture is used: itself, then each of SCALES that keeps both sides at `crop` or more."""
    sizes = [(width, height)]
    for scale in SCALES[1:]:
        size = round(width * scale), round(height * scale)
        if min(size) >= crop:
            sizes.append(size)
    return sizes


def scaled_bytes(width: int, height: int, crop: int) -> int:
    """Bytes that a picture takes in memory with all its scaled versions."""
    return sum(3 * w * h for w, h in scaled_sizes(width, height, crop))


def rescale(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """[H, W, 3] -> [h, w, 3] by Lanczos; size is (width, height)."""
    if size == (pixels.shape[1], pixels.shape[0]):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _cut(versions: Callable[[int], Pixels], sizes: Sequence[tuple[int, int]], draw: tuple[float, float, float],
         flip: bool, out: Pixels) -> None:  # fmt: skip
    """Fill `out` [crop, crop, 3] with a random crop of one of the versions of a picture."""
    crop = out.shape[0]
    allowed = 1
    while allowed < len(sizes) and min(sizes[allowed]) >= crop:
        allowed += 1
    pixels = pad_to(versions(int(draw[0] * allowed)), crop)
    top = int(draw[1] * (pixels.shape[0] - crop + 1))
    left = int(draw[2] * (pixels.shape[1] - crop + 1))
    piece = pixels[top : top + crop, left : left + crop]
    _dots(out)[:] = _dots(piece)[:, ::-1] if flip else _dots(piece)


class MixedSet(ImageSet):
    """Pictures of any sizes in memory, each with its down-scaled versions; batches are random crops of them."""

    def __init__(self, name: str, pictures: Sequence[Pixels], *, crop: int, flip: bool = True) -> None:
        if not pictures:
            raise TrainingError(f"{name}: no pictures")
        self.name, self.flip = name, flip
        self._sizes = [scaled_sizes(p.shape[1], p.shape[0], crop) for p in pictures]
        with ThreadPoolExecutor() as pool:  # Pillow resizes outside the interpreter's lock
            self._versions = list(pool.map(_all_versions, pictures, self._sizes))

    def __len__(self) -> int:
        return len(self._versions)

    def image(self, index: int) -> Pixels:
        return self._versions[index][0]

    def batch(self, step: int, batch_size: int, crop: int | None, seed: int, *, part: slice = slice(None)) -> Pixels:
        plan = self.plan(step, batch_size, seed)
        crop = _needed(crop, self.name)
        slots = range(batch_size)[part]
        out = np.empty((len(slots), crop, crop, 3), dtype=np.uint8)
        for piece, slot in zip(out, slots, strict=True):
            index = int(plan.indices[slot])
            draw = (float(plan.scale[slot]), float(plan.row[slot]), float(plan.column[slot]))
            _cut(self._versions[index].__getitem__, self._sizes[index], draw, bool(plan.flips[slot]), piece)
        return out


def _all_versions(pixels: Pixels, sizes: Sequence[tuple[int, int]]) -> list[Pixels]:
    return [rescale(pixels, size) for size in sizes]


def _needed(crop: int | None, name: str) -> int:
    if crop is None:
        raise TrainingError(f"{name}: pictures of different sizes need a crop: set it in the configuration")
    return crop


class StreamedSet(ImageSet):
    """Pictures that are read again at each use, by threads that also work ahead: for what memory cannot hold.

    Gives the same pixels as the sets in memory. A picture that turns out damaged is named once through `say` and
    replaced by the next readable one.
    """

    AHEAD = 2  # batches prepared before they are asked for

    def __init__(
        self,
        name: str,
        names: Sequence[str],
        read: Callable[[int], Pixels],
        *,
        crop: int,
        scaled: bool,
        flip: bool = True,
        say: Callable[[str], None],
    ) -> None:
        self.name, self.flip = name, flip
        self._names, self._read, self._crop, self._scaled, self._say = names, read, crop, scaled, say
        self._pool = ThreadPoolExecutor(thread_name_prefix="pictures")
        self._bad: set[int] = set()
        self._bad_lock = Lock()
        self._coming: dict[tuple[int, int, int, int, int, int], tuple[Pixels, list[Future[None]]]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def image(self, index: int) -> Pixels:
        return self._read(index)

    def all_images(self) -> Iterator[Pixels]:
        for index in range(len(self)):
            try:
                yield self._read(index)
            except ImageError as error:
                self._blame(index, error)

    def batch(self, step: int, batch_size: int, crop: int | None, seed: int, *, part: slice = slice(None)) -> Pixels:
        crop = _needed(crop if crop is not None or self._scaled else self._crop, self.name)
        slots = range(batch_size)[part]
        wanted = [(s, batch_size, crop, seed, slots.start, slots.stop) for s in range(step, step + 1 + self.AHEAD)]
        self._coming = {key: self._coming[key] for key in wanted if key in self._coming}
        for key in wanted:
            if key not in self._coming:
                self._coming[key] = self._begin(key[0], batch_size, crop, seed, slots)
        out, jobs = self._coming.pop(wanted[0])
        for job in jobs:
            job.result()
        return out

    def _begin(
        self, step: int, batch_size: int, crop: int, seed: int, slots: range
    ) -> tuple[Pixels, list[Future[None]]]:
        plan = self.plan(step, batch_size, seed)
        out = np.empty((len(slots), crop, crop, 3), dtype=np.uint8)
        jobs = [self._pool.submit(self._fill, plan, slot, piece) for piece, slot in zip(out, slots, strict=True)]
        return out, jobs

    def _fill(self, plan: BatchPlan, slot: int, out: Pixels) -> None:
        pixels = self._read_or_next(int(plan.indices[slot]))
        height, width = pixels.shape[:2]
        sizes = scaled_sizes(width, height, self._crop) if self._scaled else [(width, height)]
        draw = (float(plan.scale[slot]), float(plan.row[slot]), float(plan.column[slot]))
        _cut(lambda version: rescale(pixels, sizes[version]), sizes, draw, bool(plan.flips[slot]), out)

    def _read_or_next(self, index: int) -> Pixels:
        for turn in range(len(self)):
            candidate = (index + turn) % len(self)
            if candidate in self._bad:
                continue
            try:
                return self._read(candidate)
            except ImageError as error:
                self._blame(candidate, error)
        raise TrainingError(f"{self.name}: not one picture can be read")

    def _blame(self, index: int, error: ImageError) -> None:
        with self._bad_lock:
            known = index in self._bad
            self._bad.add(index)
        if not known:
            self._say(f"skipped {self._names[index]}: {error}")
