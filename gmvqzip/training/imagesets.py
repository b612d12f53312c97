"""Sets of pictures that give training batches as a pure function of the step, so that a run resumes exactly.

Nothing here keeps a position: batch `s` of size `B` holds the samples `s*B .. s*B + B - 1` of an endless sequence in
which epoch `e` is the permutation drawn from (seed, 0, e); crops, flips and scales of batch `s` are drawn from
(seed, 1, s). Two calls with equal arguments give equal pixels, in any process, at any time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

import numpy as np
from PIL import Image

from gmvqzip.errors import TrainingError
from gmvqzip.training.crops import Group, Layout, crop_shape, layout

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


@dataclass(frozen=True)
class Batch:
    """Crops, and how much of each is picture: the rest, at the bottom and on the right, repeats its edges."""

    pixels: Pixels  # uint8 [B, rows, columns, 3]
    extents: Integers  # [B, 2]: rows and columns of the picture

    @property
    def padded(self) -> bool:
        """Whether anything in it is padding."""
        return bool((self.extents < self.pixels.shape[1:3]).any())


def whole(size: int) -> slice:
    """All of `size` things of a batch, as the share of a single process."""
    return slice(0, size)


@lru_cache(maxsize=32)
def _permutation(count: int, key: tuple[int, ...]) -> Integers:
    order = np.random.default_rng(key).permutation(count)
    order.setflags(write=False)
    return order


def plan_batch(count: int, step: int, batch_size: int, seed: int, *, flip: bool, stream: int = 0) -> BatchPlan:
    """Draw batch `step` of `batch_size` samples out of `count` pictures. A pure function of its arguments.

    stream: other numbers than those of other streams with this seed.
    """
    if step < 0 or batch_size < 1 or seed < 0:
        raise TrainingError(f"step {step}, batch size {batch_size} or seed {seed} is negative or zero")
    position, stop = step * batch_size, (step + 1) * batch_size
    own, parts = (stream,) if stream else (), []
    while position < stop:
        epoch, offset = divmod(position, count)
        part = _permutation(count, (seed, 0, epoch, *own))[offset : offset + stop - position]
        parts.append(part)
        position += len(part)
    rng = np.random.default_rng((seed, 1, step, *own))
    draws = rng.random((4, batch_size))  # always four per sample: switching flips off moves no crop
    flips = draws[0] < 0.5 if flip else np.zeros(batch_size, dtype=bool)
    return BatchPlan(np.concatenate(parts), flips, draws[1], draws[2], draws[3])


def _dots(pixels: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.void]]:
    """View [..., 3] uint8 as [...] pixels of three bytes: mirroring those is twice as fast."""
    return pixels.view("V3")[..., 0]


def centre_window(pixels: Pixels, crop: int | None) -> Pixels:
    """The middle of a picture [H, W, 3], at most `crop` along each side; all of it for None."""
    if crop is None:
        return pixels
    top, left = (max(0, side - crop) // 2 for side in pixels.shape[:2])
    return pixels[top : top + crop, left : left + crop]


class ImageSet(ABC):
    """A fixed list of RGB pictures, uint8."""

    name: str
    flip: bool
    _layouts: dict[tuple[int, int | None, int | None], Layout]

    @abstractmethod
    def __len__(self) -> int:
        """Number of pictures."""

    @abstractmethod
    def image(self, index: int) -> Pixels:
        """Picture `index` as it is, [H, W, 3], not to be written into. ImageError if it cannot be read."""

    @abstractmethod
    def _sizes_of_all(self) -> Integers:
        """(width, height) of every picture [N, 2], or of one for all [1, 2]."""

    @abstractmethod
    def drawn(
        self,
        step: int,
        batch_size: int,
        crop: int | None,
        seed: int,
        *,
        share: Callable[[int], slice] = whole,
        alignment: int | None = None,
    ) -> Batch:
        """Training batch `step`, freshly allocated.

        crop: side of the crops, `None` for whole pictures of a uniform set. alignment: crops of smaller pictures follow
        the pictures, in multiples of it, and a batch has `batch_size` or several times as many, all of one shape;
        `None`: all are `crop` x `crop`, of smaller pictures padded. share: which of so many rows of the batch are
        wanted: each of several processes takes its share of one common batch.
        """

    def batch(
        self,
        step: int,
        batch_size: int,
        crop: int | None,
        seed: int,
        *,
        share: Callable[[int], slice] = whole,
        alignment: int | None = None,
    ) -> Pixels:
        """The pixels of `drawn`, [B, rows, columns, 3]."""
        return self.drawn(step, batch_size, crop, seed, share=share, alignment=alignment).pixels

    def layout(self, batch_size: int, crop: int | None, alignment: int | None) -> Layout:
        """Which pictures share batches, for arguments as of `drawn`."""
        key = batch_size, crop, alignment
        if key not in self._layouts:
            sizes = self._sizes_of_all()
            if alignment is not None:
                made = layout(sizes, batch_size, crop, lambda w, h: crop_shape(w, h, crop, alignment))
            elif crop is not None:
                made = layout(sizes, batch_size, crop, lambda w, h: (crop, crop))
            else:
                made = layout(sizes, batch_size, crop, lambda w, h: (h, w))
            if len(sizes) < len(self):
                made = Layout([replace(made.groups[0], members=np.arange(len(self)))])
            self._layouts[key] = made
        return self._layouts[key]

    def plan(
        self, step: int, batch_size: int, seed: int, crop: int | None = None, alignment: int | None = None
    ) -> tuple[Group, BatchPlan]:
        """The shape of batch `step`, and its random decisions."""
        made = self.layout(batch_size, crop, alignment)
        number, own_step = made.place(step, seed)
        group = made.groups[number]
        stream = number + 1 if len(made.groups) > 1 else 0
        plan = plan_batch(len(group.members), own_step, group.batch, seed, flip=self.flip, stream=stream)
        return group, replace(plan, indices=group.members[plan.indices])

    @property
    def array(self) -> Pixels | None:
        """All pictures as one array [N, H, W, 3] where they have one size and lie in memory, else None."""
        return None

    def all_images(self) -> Iterator[Pixels]:
        """Every picture once, in the fixed order of the set, unchanged: [H, W, 3]."""
        for index in range(len(self)):
            yield self.image(index)

    def evaluation_batches(
        self, batch_size: int, crop: int | None = None, count: int | None = None
    ) -> Iterator[Pixels]:
        """The middle of every picture, at most `crop` along each side (`None`: whole pictures), [B, rows, columns, 3].

        Those of one shape come together, up to `batch_size`. count: of the first so many pictures alone.
        """
        held: dict[tuple[int, ...], list[Pixels]] = {}
        for pixels in islice(self.all_images(), count):
            window = centre_window(pixels, crop)
            alike = held.setdefault(window.shape, [])
            alike.append(window)
            if len(alike) == batch_size:
                yield np.stack(held.pop(window.shape))
        for alike in held.values():
            yield np.stack(alike)


class UniformSet(ImageSet):
    """Pictures of one size in one array [N, H, W, 3]."""

    def __init__(self, name: str, pixels: Pixels, *, flip: bool = True) -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or not len(pixels):
            raise TrainingError(f"{name}: expected a non-empty uint8 array [N, H, W, 3], got {pixels.shape}")
        self.name, self.flip, self._pixels, self._layouts = name, flip, pixels, {}

    def __len__(self) -> int:
        return len(self._pixels)

    @property
    def array(self) -> Pixels | None:
        return self._pixels

    def image(self, index: int) -> Pixels:
        picture: Pixels = self._pixels[index]
        return picture

    def _sizes_of_all(self) -> Integers:
        height, width = self._pixels.shape[1:3]
        return np.array([[width, height]])

    def drawn(
        self,
        step: int,
        batch_size: int,
        crop: int | None,
        seed: int,
        *,
        share: Callable[[int], slice] = whole,
        alignment: int | None = None,
    ) -> Batch:
        height, width = self._pixels.shape[1:3]
        if alignment is None and crop is not None and crop > min(height, width):
            raise TrainingError(f"{self.name}: a crop of {crop} does not fit pictures of {width}x{height}")
        group, plan = self.plan(step, batch_size, seed, crop, alignment)
        slots = share(group.batch)
        if (group.rows, group.columns) != (height, width):
            return _crops(
                group, plan, slots, lambda index: (self._pixels[index : index + 1].__getitem__, [(width, height)])
            )
        out, flips = self._pixels[plan.indices[slots]], plan.flips[slots]
        dots = _dots(out)
        dots[flips] = dots[flips, :, ::-1]
        return Batch(out, np.full((len(out), 2), (height, width)))


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


_Versions = Callable[[int], Pixels]


def cut(
    versions: _Versions, sizes: Sequence[tuple[int, int]], plan: BatchPlan, slot: int, out: Pixels
) -> tuple[int, int]:
    """Fill `out` [rows, columns, 3] with the crop in this slot of one of the versions of a picture.

    Returns how many rows and columns show it.
    """
    height, width = out.shape[:2]
    allowed = 1
    while allowed < len(sizes) and sizes[allowed][0] >= width and sizes[allowed][1] >= height:
        allowed += 1
    pixels = versions(int(plan.scale[slot] * allowed))
    rows, columns = min(height, pixels.shape[0]), min(width, pixels.shape[1])
    top = int(plan.row[slot] * (pixels.shape[0] - rows + 1))
    left = int(plan.column[slot] * (pixels.shape[1] - columns + 1))
    piece = _dots(pixels[top : top + rows, left : left + columns])
    _dots(out)[:rows, :columns] = piece[:, ::-1] if plan.flips[slot] else piece
    out[rows:, :columns] = out[rows - 1, :columns]
    out[:, columns:] = out[:, columns - 1 : columns]
    return rows, columns


def _crops(
    group: Group, plan: BatchPlan, part: slice, picture: Callable[[int], tuple[_Versions, Sequence[tuple[int, int]]]]
) -> Batch:
    """A batch, one crop after the other; picture: the versions of a picture and their sizes."""
    slots = range(group.batch)[part]
    out = np.empty((len(slots), group.rows, group.columns, 3), dtype=np.uint8)
    extents = np.empty((len(slots), 2), dtype=np.int64)
    for row, slot in enumerate(slots):
        versions, sizes = picture(int(plan.indices[slot]))
        extents[row] = cut(versions, sizes, plan, slot, out[row])
    return Batch(out, extents)


class MixedSet(ImageSet):
    """Pictures of any sizes in memory, each with its down-scaled versions; batches are random crops of them."""

    def __init__(self, name: str, pictures: Sequence[Pixels], *, crop: int, flip: bool = True) -> None:
        if not pictures:
            raise TrainingError(f"{name}: no pictures")
        self.name, self.flip, self._layouts = name, flip, {}
        self._sizes = [scaled_sizes(p.shape[1], p.shape[0], crop) for p in pictures]
        with ThreadPoolExecutor() as pool:  # Pillow resizes outside the interpreter's lock
            self._versions = list(pool.map(_all_versions, pictures, self._sizes))

    def __len__(self) -> int:
        return len(self._versions)

    def image(self, index: int) -> Pixels:
        return self._versions[index][0]

    def _sizes_of_all(self) -> Integers:
        return np.array([sizes[0] for sizes in self._sizes])

    def drawn(
        self,
        step: int,
        batch_size: int,
        crop: int | None,
        seed: int,
        *,
        share: Callable[[int], slice] = whole,
        alignment: int | None = None,
    ) -> Batch:
        group, plan = self.plan(step, batch_size, seed, needed_crop(crop, self.name), alignment)
        return _crops(
            group, plan, share(group.batch), lambda index: (self._versions[index].__getitem__, self._sizes[index])
        )


def _all_versions(pixels: Pixels, sizes: Sequence[tuple[int, int]]) -> list[Pixels]:
    return [rescale(pixels, size) for size in sizes]


def needed_crop(crop: int | None, name: str) -> int:
    if crop is None:
        raise TrainingError(f"{name}: pictures of different sizes need a crop: set it in the configuration")
    return crop
