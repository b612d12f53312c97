"""Which crop each picture of a set is trained in, and which pictures share a batch: the set decides.

A crop has the configured side where the picture is as large. Along a smaller side it is a multiple of the network's
alignment: the one above, with padding as `compress` has it, or the one below, without. Pictures with equal crops make
the batches. Where crops are small a batch has more of them, so that a step always has about as many pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def crop_shape(width: int, height: int, crop: int | None, alignment: int) -> tuple[int, int]:
    """(rows, columns) of the crop of a picture; crop: the largest side, None for any.

    Among the multiples of `alignment` beside each side, those with the largest product of what a crop shows of the
    picture, in pixels, and of the share of the crop that is not padding.
    """

    def score(shape: tuple[int, int]) -> tuple[float, int]:
        shown, area = min(shape[0], height) * min(shape[1], width), shape[0] * shape[1]
        return shown * shown / area, area

    return max(product(_sides(height, crop, alignment), _sides(width, crop, alignment)), key=score)


def _sides(side: int, crop: int | None, alignment: int) -> list[int]:
    if crop is not None and side >= crop:
        return [crop]
    below = side // alignment * alignment
    above = below if below == side else below + alignment
    return sorted({above if crop is None else min(above, crop), below or above})


@dataclass(frozen=True)
class Group:
    """Pictures that share batches: their numbers [N], the shape of their crops, and how many make a batch."""

    members: Integers
    rows: int
    columns: int
    batch: int


class Layout:
    """The batches of a set, as a pure function of their number: each holds crops of one group.

    Over a time every picture comes equally often: of a group with N pictures, B to a batch, batch j comes in that epoch
    e with floor(e N / B) <= j < floor((e + 1) N / B). Within an epoch the batches of all groups are shuffled.
    """

    def __init__(self, groups: list[Group]) -> None:
        self.groups = groups

    def place(self, step: int, seed: int) -> tuple[int, int]:
        """Number of the group of batch `step`, and which of the group's batches it is."""
        if len(self.groups) == 1:
            return 0, step
        epoch = int(step / self.steps_per_epoch)  # nearly: the sum of floors is a little less
        while self._before(epoch + 1) <= step:
            epoch += 1
        while self._before(epoch) > step:
            epoch -= 1
        batches = [
            (number, batch)
            for number, group in enumerate(self.groups)
            for batch in range(self._first(group, epoch), self._first(group, epoch + 1))
        ]
        order = np.random.default_rng([seed, 2, epoch]).permutation(len(batches))
        return batches[int(order[step - self._before(epoch)])]

    @staticmethod
    def _first(group: Group, epoch: int) -> int:
        return epoch * len(group.members) // group.batch

    def _before(self, epoch: int) -> int:
        """Batches in all epochs before this one."""
        return sum(self._first(group, epoch) for group in self.groups)

    @property
    def steps_per_epoch(self) -> float:
        """Batches in which each picture comes once, on an average."""
        return sum(len(group.members) / group.batch for group in self.groups)

    def describe(self) -> str:
        """Crops by the number of their pictures, in words."""
        ordered = sorted(self.groups, key=lambda group: -len(group.members))
        return ", ".join(
            f"{group.columns}x{group.rows} of {len(group.members)} pictures, {group.batch} a step" for group in ordered
        )


def layout(sizes: Integers, batch_size: int, crop: int | None, shape: Callable[[int, int], tuple[int, int]]) -> Layout:
    """The layout of pictures of these sizes [N, 2], (width, height), whose crops have the shape that `shape` says.

    batch_size: of crops of crop x crop; of smaller ones a batch has a multiple of it.
    """
    kinds, inverse = np.unique(sizes, axis=0, return_inverse=True)
    shapes = [shape(int(width), int(height)) for width, height in kinds]
    groups = []
    for rows, columns in sorted(set(shapes), reverse=True):
        chosen = np.array([one == (rows, columns) for one in shapes])[inverse.reshape(-1)]
        times = 1 if crop is None else max(1, round(crop * crop / (rows * columns)))
        groups.append(Group(np.flatnonzero(chosen), rows, columns, batch_size * times))
    return Layout(groups)
