"""Blocks: the codes that a prior gives out together, with all that they are coded under."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

EVERYWHERE = ((slice(None), slice(None)),)
NO_MEANS: NDArray[np.int32] = np.empty((0, 0, 0), dtype=np.int32)


@dataclass(frozen=True)
class Block:
    """What is asked of a visitor: the indices of all groups of a part, at the sites where it is coded together.

    part: number of the part, the hyper-latent's first; windows: rows and columns of the sites in the groups' arrays, of
    each quarter of the groups, or of all groups of the hyper-latent; channels: of each window, first and last of its
    groups' in the latent or hyper-latent; pairs: class pairs [G, ..., h, w]; means: [G, ..., h, w, L] in 1/32 of the
    step; mixtures: whose tables and codewords apply. Where a pair is 0, both classes the lowest, the index is 0 and
    takes no bits.
    """

    part: int
    windows: tuple[tuple[slice, slice], ...]
    channels: tuple[slice, ...]
    pairs: NDArray[np.integer[Any]]
    means: NDArray[np.integer[Any]]
    mixtures: Any  # `Mixtures`; those of a context model are `GroupMixtures`

    def cut(self, arrays: NDArray[Any]) -> NDArray[Any]:
        """Its own [G, ..., h, w] of arrays of the part's groups [G, ..., rows, columns]."""
        quarters = np.split(arrays, len(self.windows))
        return np.concatenate([part[(..., *at)] for part, at in zip(quarters, self.windows, strict=True)])

    def put(self, arrays: NDArray[Any], values: NDArray[Any]) -> None:
        """The inverse of `cut`."""
        pairs = zip(np.split(arrays, len(self.windows)), np.split(values, len(self.windows)), self.windows, strict=True)
        for part, own, at in pairs:
            part[(..., *at)] = own

    def cut_channels(self, latent: NDArray[Any]) -> NDArray[Any]:
        """Its own [G, ..., h, w, L] of a latent, or hyper-latent, [..., rows, columns, channels]."""
        parts = [latent[(..., *at, own)] for at, own in zip(self.windows, self.channels, strict=True)]
        return grouped(np.stack(parts), self.mixtures.dimensions)

    def put_channels(self, latent: NDArray[Any], values: NDArray[Any]) -> None:
        """The inverse of `cut_channels`."""
        quarters = np.split(values, len(self.windows))
        for own, at, channels in zip(quarters, self.windows, self.channels, strict=True):
            target = latent[(..., *at, channels)]
            target[...] = np.moveaxis(own, 0, -2).reshape(target.shape)

    def of(self, number: int) -> Block:
        """What of it is one picture's, of several that go together."""
        return replace(self, pairs=self.pairs[:, number])

    def without_means(self) -> Block:
        """Without what only an encoder looks at."""
        return replace(self, means=NO_MEANS)


Visitor = Callable[[Block], NDArray[Any]]


def grouped(quarters: NDArray[Any], dimensions: int) -> NDArray[Any]:
    """[Q, ..., C] -> [Q * C / L, ..., L]: the channels of each group."""
    count = quarters.shape[-1] // dimensions
    split = np.moveaxis(quarters.reshape(*quarters.shape[:-1], count, dimensions), -2, 1)
    return split.reshape(-1, *split.shape[2:])
