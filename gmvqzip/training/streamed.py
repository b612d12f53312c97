"""A set of pictures that memory cannot hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np

from gmvqzip.errors import ImageError, TrainingError
from gmvqzip.training.crops import Group
from gmvqzip.training.imagesets import (
    Batch,
    BatchPlan,
    ImageSet,
    Integers,
    Pixels,
    cut,
    needed_crop,
    rescale,
    scaled_sizes,
    whole,
)


class StreamedSet(ImageSet):
    """Pictures that are read again at each use, by threads that also work ahead: for what memory cannot hold.

    Gives the same pixels as the sets in memory. A picture that turns out damaged is named once through `say` and
    replaced by the next readable one. sizes: (width, height) of each picture, which decide its crop; `crop` x `crop`
    where they are not known.
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
        sizes: Sequence[tuple[int, int]] | None = None,
        flip: bool = True,
        say: Callable[[str], None],
    ) -> None:
        self.name, self.flip, self._layouts = name, flip, {}
        self._known = np.array([(crop, crop)] if sizes is None else sizes)
        self._names, self._read, self._crop, self._scaled, self._say = names, read, crop, scaled, say
        self._pool = ThreadPoolExecutor(thread_name_prefix="pictures")
        self._bad: set[int] = set()
        self._bad_lock = Lock()
        self._coming: dict[tuple[Any, ...], tuple[Batch, list[Future[None]]]] = {}

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

    def _sizes_of_all(self) -> Integers:
        return self._known

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
        crop = needed_crop(crop if crop is not None or self._scaled else self._crop, self.name)
        plans = [(s, *self.plan(s, batch_size, seed, crop, alignment)) for s in range(step, step + 1 + self.AHEAD)]
        wanted = {
            (s, batch_size, crop, alignment, seed, str(share(group.batch))): (group, plan) for s, group, plan in plans
        }
        self._coming = {key: self._coming[key] for key in wanted if key in self._coming}
        for key, (group, plan) in wanted.items():
            if key not in self._coming:
                self._coming[key] = self._begin(group, plan, range(group.batch)[share(group.batch)])
        batch, jobs = self._coming.pop(next(iter(wanted)))
        for job in jobs:
            job.result()
        return batch

    def _begin(self, group: Group, plan: BatchPlan, slots: range) -> tuple[Batch, list[Future[None]]]:
        out = np.empty((len(slots), group.rows, group.columns, 3), dtype=np.uint8)
        batch = Batch(out, np.empty((len(slots), 2), dtype=np.int64))
        return batch, [self._pool.submit(self._fill, plan, slot, batch, row) for row, slot in enumerate(slots)]

    def _fill(self, plan: BatchPlan, slot: int, batch: Batch, row: int) -> None:
        pixels = self._read_or_next(int(plan.indices[slot]))
        height, width = pixels.shape[:2]
        sizes = scaled_sizes(width, height, self._crop) if self._scaled else [(width, height)]
        batch.extents[row] = cut(lambda version: rescale(pixels, sizes[version]), sizes, plan, slot, batch.pixels[row])

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
