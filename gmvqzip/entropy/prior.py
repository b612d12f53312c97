"""What codes are coded under: a prior leads a visitor through all codes of a picture, and gives the tables of each.

Encoding, decoding and counting bits are one walk with different visitors. A model with contexts has a `ContextModel`
(`context`), one with a table for each stage a `StaticPrior` (`static`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy import runs
from gmvqzip.entropy.blocks import Block, Visitor
from gmvqzip.entropy.coder import StreamDecoder, StreamEncoder
from gmvqzip.entropy.codes import NO_OFFSETS, frozen
from gmvqzip.entropy.mixture import LATENT_UNIT, Mixtures

Stages = Sequence[NDArray[Any]]  # index arrays, one a stage in coding order


@dataclass
class Memo:
    """What walks with the same codes of a hyper-latent have computed.

    features: of the hyper-latent; sums: of the features' products in each step's first layer; choices: of the
    hyper-latent's parts, codes and their bits.
    """

    features: NDArray[np.float32] | None = None
    sums: NDArray[np.float32] | None = None
    choices: dict[int, tuple[NDArray[np.int32], NDArray[np.float32]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """`groups` index arrays that are coded together, with `scale` x `scale` sites for one of the prior's grid."""

    groups: int
    scale: int
    mixtures: Mixtures


@dataclass(frozen=True)
class Piece:
    """Codes of a picture, or of a tile of one, with the sites where they are coded and what they decode to.

    arrays: read-only, of each part the indices of its groups [G, rows, columns]; sites: the blocks in coding order,
    without their means; latent: y_hat, as the prior's `walk` gives it, with the offsets added, which are as in `Codes`,
    but of these sites.
    """

    arrays: tuple[NDArray[np.int32], ...]
    sites: tuple[Block, ...]
    latent: Any
    offsets: NDArray[np.int32] = field(default_factory=lambda: NO_OFFSETS)

    def with_offsets(self, offsets: NDArray[np.int32]) -> Piece:
        """The same codes with offsets, where they had none."""
        if not len(offsets):
            return self
        latent = self.latent.copy()
        channel, row, column, value = offsets.T
        latent[row, column, channel] += LATENT_UNIT * value
        return replace(self, latent=latent, offsets=offsets)

    @cached_property
    def stages(self) -> tuple[NDArray[np.int32], ...]:
        """Read-only index arrays [rows, columns], group by group."""
        return tuple(group for array in self.arrays for group in frozen(array))

    @property
    def count(self) -> int:
        """How many codes there are."""
        return sum(array.size for array in self.arrays)

    def payload(self) -> bytes:
        """Block after block, in coding order, under the tables of its contexts. Raises ModelError where they do not
        fit."""
        stream = StreamEncoder()
        for block, indices in self._coded():
            runs.put(stream, block.mixtures, block.pairs, indices)
        return stream.finish()

    def site_bits(self) -> tuple[NDArray[np.float32], ...]:
        """Ideal code length of each code under its table, in bits, in arrays as the index arrays."""
        bits = [np.zeros(array.shape, dtype=np.float32) for array in self.arrays]
        for block, indices in self._coded():
            block.put(bits[block.part], runs.index_bits(block.mixtures, block.pairs, indices))
        return tuple(group for part in bits for group in part)

    def bits(self) -> tuple[float, ...]:
        """Ideal code length of each stage, in bits: the sums of `site_bits`, but for rounding."""
        bits = [np.zeros(len(array)) for array in self.arrays]
        for block, indices in self._coded():
            own = runs.index_bits(block.mixtures, block.pairs, indices)
            bits[block.part] += own.sum((1, 2), dtype=np.float64)
        return tuple(np.concatenate(bits).tolist())

    def _coded(self) -> Iterator[tuple[Block, NDArray[np.int32]]]:
        """Block by block, with its indices [G, h, w]."""
        for block in self.sites:
            yield block, block.cut(self.arrays[block.part])


class Prior(ABC):
    """All that a decoder of indices needs of a model, in integers. rows, columns: of its grid, the coarsest."""

    parts: tuple[Part, ...]

    @abstractmethod
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
        """Visit every part at all its sites in coding order; the visitor gives the indices [G, ..., h, w] of a block.

        lead: (B,) for B pictures together; memo: of walks in which the visitor's codes for what comes first, a
        hyper-latent, are the same. Returns the decoded latent, of each picture one.
        """

    def pieces(
        self, count: int, rows: int, columns: int, quality: int, visit: Visitor, memo: Memo | None = None
    ) -> list[Piece]:
        """What a visitor gives, of each of `count` pictures. memo: as for `walk`."""
        blocks: list[Block] = []
        arrays = [
            np.zeros((part.groups, count, rows * part.scale, columns * part.scale), dtype=np.int32)
            for part in self.parts
        ]

        def note(block: Block) -> NDArray[Any]:
            indices = visit(block)
            block.put(arrays[block.part], indices)
            blocks.append(block.without_means())
            return indices

        latents = self.walk(rows, columns, quality, note, lead=(count,), memo=memo)
        for array in arrays:
            array.flags.writeable = False
        return [
            Piece(tuple(array[:, number] for array in arrays), tuple(b.of(number) for b in blocks), latents[number])
            for number in range(count)
        ]

    def read(self, payload: bytes, rows: int, columns: int, quality: int) -> Piece:
        """The codes in a payload, of so many that memory holds them. Raises FormatError where it is damaged."""
        stream = StreamDecoder(payload)
        (piece,) = self.pieces(1, rows, columns, quality, lambda block: runs.take(stream, block.mixtures, block.pairs))
        stream.finish()
        return piece

    def follow(self, stages: Stages, quality: int) -> list[Piece]:
        """Known codes of pictures [B, rows, columns]. Raises ModelError for an index that there is not."""
        rest = iter(stages)
        arrays = [np.stack([next(rest) for _ in range(part.groups)]) for part in self.parts]
        for part, array in zip(self.parts, arrays, strict=True):
            part.mixtures.check(array)
        _, count, rows, columns = arrays[0].shape
        scale = self.parts[0].scale
        return self.pieces(count, rows // scale, columns // scale, quality, lambda block: block.cut(arrays[block.part]))
