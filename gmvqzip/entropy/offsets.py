"""The offsets section: what codes cannot say of latents beyond their reach, whole steps at single places."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from gmvqzip.errors import FormatError
from gmvqzip.format.limits import MAX_OFFSET, MAX_OFFSETS
from gmvqzip.format.sections import inflate
from gmvqzip.format.varint import write_varint

_VARINT_BYTES = 5
_MOST_BYTES = _VARINT_BYTES * (1 + 2 * MAX_OFFSETS)


def write_offsets(offsets: NDArray[np.int32], rows: int, columns: int) -> bytes:
    """The section's content. offsets: [N, 4] of channel, row, column and value in steps, the first three ascending;
    rows, columns: of the latent's grid."""
    places = _places(offsets, rows, columns)
    values = offsets[:, 3].astype(np.int64)
    signs = np.where(values > 0, 2 * values - 2, -2 * values - 1)
    numbers = [len(offsets), *(np.diff(places, prepend=-1) - 1).tolist(), *signs.tolist()]
    return zlib.compress(b"".join(map(write_varint, numbers)), 9)


def read_offsets(content: bytes, channels: int, rows: int, columns: int) -> NDArray[np.int32]:
    """What `write_offsets` was given. Raises FormatError for anything that it does not write but other streams of zlib.

    channels: of the latent.
    """
    numbers = _varints(inflate(content, _MOST_BYTES, "section of offsets"))
    count = int(numbers[0])
    if not 1 <= count <= MAX_OFFSETS or len(numbers) != 1 + 2 * count:
        raise FormatError(f"{len(numbers)} numbers for {count} offsets: the file is damaged")
    places = np.cumsum(numbers[1 : 1 + count] + 1) - 1
    if places[-1] >= channels * rows * columns:
        raise FormatError("an offset lies outside of the picture: the file is damaged")
    signs = numbers[1 + count :]
    values = np.where(signs % 2, -(signs + 1) // 2, signs // 2 + 1)
    if np.abs(values).max() > MAX_OFFSET:
        raise FormatError(f"an offset is beyond {MAX_OFFSET} steps: the file is damaged")
    channel, site = np.divmod(places, rows * columns)
    row, column = np.divmod(site, columns)
    return np.stack([channel, row, column, values], 1).astype(np.int32)


def sorted_offsets(offsets: NDArray[np.int32]) -> NDArray[np.int32]:
    """By channel, row and column; the largest of them, where there are too many."""
    if len(offsets) > MAX_OFFSETS:
        offsets = offsets[np.abs(offsets[:, 3]).argpartition(-MAX_OFFSETS)[-MAX_OFFSETS:]]
    ordered: NDArray[np.int32] = offsets[np.lexsort(offsets[:, 2::-1].T)]
    return ordered


def _varints(data: bytes) -> NDArray[np.int64]:
    """The numbers, one at least. Raises FormatError where they are no varints of at most _VARINT_BYTES."""
    groups = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(groups < 0x80) + 1
    starts = np.concatenate([[0], ends[:-1]])
    lengths = ends - starts
    if not len(ends) or ends[-1] != len(groups) or lengths.max() > _VARINT_BYTES:
        raise FormatError("the offsets are cut: the file is damaged")
    if ((groups[ends - 1] == 0) & (lengths > 1)).any():
        raise FormatError("an offset is not written in the fewest bytes: the file is damaged")
    shifts = 7 * (np.arange(len(groups)) - np.repeat(starts, lengths))
    numbers: NDArray[np.int64] = np.add.reduceat((groups & 0x7F).astype(np.int64) << shifts, starts)
    return numbers


def _places(offsets: NDArray[np.int32], rows: int, columns: int) -> NDArray[np.int64]:
    channel, row, column = offsets[:, :3].astype(np.int64).T
    places: NDArray[np.int64] = (channel * rows + row) * columns + column
    return places
