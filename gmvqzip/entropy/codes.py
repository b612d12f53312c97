"""Codes: the indices that a picture becomes, one array per stage."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.errors import FormatError, one_line, truth, whole_number
from gmvqzip.format.limits import (
    MAX_INDEX,
    MAX_OFFSET,
    MAX_OFFSETS,
    MAX_QUALITY,
    MAX_SIDE,
    MAX_TILE_SIDE,
    MIN_TILE_SIDE,
)
from gmvqzip.format.size import coded_size

_TOGETHER = 16  # stages whose check is computed together
_MODEL_ID = re.compile(r"[0-9a-f]{64}")
NO_OFFSETS = np.zeros((0, 4), dtype=np.int32)
NO_OFFSETS.flags.writeable = False
_NUMBERS = ("width", "height", "quality", "halvings", "tile")


@dataclass(frozen=True, eq=False)
class Codes:
    """The code indices of one picture and what is needed to decode them. Equal if all contents are equal.

    stages: one array [rows, columns] per stage, in coding order, coarse first; any integers from 0 to 2^31 - 1, kept as
    read-only int32. width, height: the picture, in pixels. model_id: 64 hexadecimal digits. quality: 0 to 100.
    halvings: how often both sides were halved before the picture was coded, 0 to 16. tile: side of the tiles in pixels,
    on which the codes depend; 0 for a picture in one piece. offsets: [N, 4], the places of a latent that lie beyond the
    reach of codes, each a channel, row and column of the latent, ascending, and the steps to add there; see
    docs/format.md. Raises FormatError for anything else.
    """

    stages: tuple[NDArray[np.int32], ...]
    width: int
    height: int
    model_id: str
    quality: int
    gray: bool = False
    halvings: int = 0
    tile: int = 0
    offsets: NDArray[np.int32] = field(default_factory=lambda: NO_OFFSETS)

    def __post_init__(self) -> None:
        if not isinstance(self.stages, Iterable):
            raise FormatError(f"codes have stages, one array each, not {one_line(self.stages)}")
        object.__setattr__(self, "stages", tuple(_stage(number, s) for number, s in enumerate(self.stages)))
        for name in _NUMBERS:
            object.__setattr__(self, name, whole_number(getattr(self, name), f"the {name} of codes", FormatError))
        object.__setattr__(self, "gray", truth(self.gray, "gray", FormatError))
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise FormatError(f"codes of {self.width}x{self.height} pixels: sides run from 1 to {MAX_SIDE}")
        if not isinstance(self.model_id, str) or not _MODEL_ID.fullmatch(self.model_id):
            raise FormatError("codes need their model's identity: 64 hexadecimal digits in lower case")
        if not 0 <= self.quality <= MAX_QUALITY:
            raise FormatError(f"codes have quality {self.quality}: 0 to {MAX_QUALITY} is wanted")
        coded_size(self.width, self.height, self.halvings)
        if self.tile and (self.tile.bit_count() != 1 or not MIN_TILE_SIDE <= self.tile <= MAX_TILE_SIDE):
            raise FormatError(f"codes have tiles of {self.tile} pixels: {MIN_TILE_SIDE} to {MAX_TILE_SIDE} is wanted")
        object.__setattr__(self, "offsets", _offsets(self.offsets))

    @property
    def coded_size(self) -> tuple[int, int]:
        """Width and height in pixels of the picture that the indices are of."""
        return coded_size(self.width, self.height, self.halvings)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Codes):
            return NotImplemented
        if len(self.stages) != len(other.stages) or self._rest() != other._rest():
            return False
        if not np.array_equal(self.offsets, other.offsets):
            return False
        return all(np.array_equal(mine, theirs) for mine, theirs in zip(self.stages, other.stages, strict=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return Codes, (self.stages, *self._rest(), self.offsets)  # read-only in a copy, too

    def crc32(self) -> int:
        """The codes check, see `codes_crc32`."""
        return codes_crc32(self.stages)

    def _rest(self) -> tuple[Any, ...]:
        return self.width, self.height, self.model_id, self.quality, self.gray, self.halvings, self.tile


def codes_crc32(stages: Iterable[NDArray[Any]]) -> int:
    """CRC-32, as of zlib, of indices from 0 to 2^31 - 1: each stage in C order, as 16-bit big-endian numbers.

    Those are the low 16 bits. Where an index of the picture has more, the high ones of all indices follow likewise.
    """
    arrays = list(stages)
    parts = [arrays[start : start + _TOGETHER] for start in range(0, len(arrays), _TOGETHER)]
    crc, wide = 0, False
    for part in parts:
        row = np.concatenate(part, axis=None)
        crc = zlib.crc32(row.astype(">u2").tobytes(), crc)
        wide = wide or (row.dtype.itemsize > 2 and row.size > 0 and int(row.max()) >> 16 > 0)
    for part in parts if wide else []:
        row = np.concatenate(part, axis=None)
        high = row >> 16 if row.dtype.itemsize > 2 else np.zeros_like(row)
        crc = zlib.crc32(high.astype(">u2").tobytes(), crc)
    return crc


def frozen(array: NDArray[Any]) -> NDArray[np.int32]:
    """The array as read-only int32 in C order, that nobody can change: itself, where it is one."""
    if array.dtype == np.int32 and array.flags.c_contiguous and _read_only(array):
        return array
    kept = np.array(array, dtype=np.int32, order="C")
    kept.flags.writeable = False
    return kept


def _read_only(array: Any) -> bool:
    """Whether an array, and all that it is a view of, is read-only."""
    while isinstance(array, np.ndarray) and not array.flags.writeable:
        if array.base is None:
            return array.flags.owndata
        array = array.base
    return False


def _offsets(offsets: NDArray[Any]) -> NDArray[np.int32]:
    array = np.asarray(offsets)
    if array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind not in "iu" or len(array) > MAX_OFFSETS:
        raise FormatError(
            f"offsets are {array.dtype} {list(array.shape)}: at most {MAX_OFFSETS} integers [N, 4] are wanted"
        )
    if not len(array):
        return NO_OFFSETS
    if int(array[:, :3].min()) < 0 or int(array[:, :3].max()) > MAX_SIDE:
        raise FormatError(f"an offset is at a place outside 0 to {MAX_SIDE}")
    values = array[:, 3]
    if int(values.min()) < -MAX_OFFSET or int(values.max()) > MAX_OFFSET or not values.all():
        raise FormatError(f"an offset is of 0 steps, or of more than {MAX_OFFSET}")
    channel, row, column = array[:, :3].astype(np.int64).T
    if (np.diff((channel << 44) + (row << 22) + column) <= 0).any():
        raise FormatError("offsets must ascend by channel, row and column")
    return frozen(array)


def _stage(number: int, stage: NDArray[Any]) -> NDArray[np.int32]:
    array = np.asarray(stage)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise FormatError(f"stage {number} is {array.dtype} {list(array.shape)}: integers [rows, columns] are wanted")
    if array.size and (int(array.min()) < 0 or int(array.max()) > MAX_INDEX):
        raise FormatError(f"stage {number} has an index outside 0 to {MAX_INDEX}")
    return frozen(array)
