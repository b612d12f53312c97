"""The prior of a staged model: one frozen table for each stage, whatever the other codes are.

It is a context model with a single class. A class pair of 0 would say that the code is 0, so the one pair is 1. Sorted
by class, codes stay as they lie: stage after stage, each in raster order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.blocks import EVERYWHERE, NO_MEANS, Block, Visitor
from gmvqzip.entropy.coder import CodingTable
from gmvqzip.entropy.prior import Memo, Part, Prior
from gmvqzip.errors import ModelError

_PAIR = 1

Integers = NDArray[np.int64]


class FixedTables:
    """The tables [K] of the stages of a grid, as `Mixtures`. Raises ModelError for one that is none."""

    classes = 2  # of which one is used

    def __init__(self, tables: Sequence[Integers]) -> None:
        self.codes = len(tables[0])
        self.books = len(tables)
        self.point_bits = np.zeros(self.codes, dtype=np.int64)
        self._tables = [CodingTable(table) for table in tables]

    def coding_tables(self, book: int, pairs: Integers) -> list[CodingTable]:
        """The table of a stage, for each pair."""
        return [self._tables[book]] * len(pairs)

    def check(self, indices: NDArray[Any]) -> None:
        """Raise ModelError unless all indices, of any shape, are of codes that there are."""
        if indices.size and (indices.min() < 0 or indices.max() >= self.codes):
            raise ModelError(f"codes do not fit: indices run from 0 to {self.codes - 1} there: another model's?")


class StaticPrior(Prior):
    """The tables of a staged model. What its codes decode to is left to its network: they are their own latent."""

    def __init__(self, tables: Sequence[Sequence[Integers]], scales: Sequence[int]) -> None:
        """tables: [K] of each stage of each grid; scales: of each grid, sites for one of the coarsest, along a side."""
        self.tables = [table for grid in tables for table in grid]
        self.parts = tuple(
            Part(len(grid), scale, FixedTables(grid)) for grid, scale in zip(tables, scales, strict=True)
        )

    def walk(
        self,
        rows: int,
        columns: int,
        quality: int,
        visit: Visitor,
        *,
        lead: tuple[int, ...] = (),
        memo: Memo | None = None,
    ) -> Any:
        """As `Prior.walk`; the latent of a picture is its index arrays."""
        stages: list[NDArray[Any]] = []
        for number, part in enumerate(self.parts):
            shape = (part.groups, *lead, rows * part.scale, columns * part.scale)
            pairs = np.broadcast_to(np.uint8(_PAIR), shape)
            stages += list(visit(Block(number, EVERYWHERE, (), pairs, NO_MEANS, part.mixtures)))
        return [tuple(stage[number] for stage in stages) for number in range(lead[0])] if lead else tuple(stages)
