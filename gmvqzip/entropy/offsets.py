"""The offsets section: what codes cannot say of latents beyond their reach, whole steps at single places."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from gmvqzip.errors import FormatError
from gmvqzip.format.limits import MAX_OFFSET, MAX_OFFSETS
from gmvqzip.format.sections import inflate
from gmvqzip.format.varint import read_varint, write_varint

_VARINT_BYTES = 5


def write_offsets(offsets: NDArray[np.int32], rows: int, columns: int) -> bytes:
    """The section's content. offsets: [N, 4] of channel, row, column and value in steps, the first three ascending;
    rows, columns: of the latent's grid."""
    places = _places(offsets, rows, columns)
    values = offsets[:, 3].astype(np.int64)
    coded = np.where(values > 0, 2 * values - 2, -2 * values - 1)
    numbers = [len(offsets), *(np.diff(places, prepend=-1) - 1).tolist(), *coded.tolist()]
    return zlib.compress(b"".join(map(write_varint, numbers)), 9)


def read_offsets(content: bytes, channels: int, rows: int, columns: int) -> NDArray[np.int32]:
    """What `write_offsets` was given. Raises FormatError for anything that it does not write but other streams of zlib.

    channels: of the latent.
    """
    most = min(MAX_OFFSETS, channels * rows * columns)
    data = inflate(content, _VARINT_BYTES * (1 + 2 * most), "section of offsets")
    count, _ = read_varint(data, 0, longest=_VARINT_BYTES, what="number of offsets")
    if not 1 <= count <= most:
        raise FormatError(f"{count} offsets, where 1 to {most} are allowed: the file is damaged")
    numbers = _varints(data, 1 + 2 * count)
    places = np.cumsum(numbers[1 : 1 + count] + 1) - 1
    if places[-1] >= channels * rows * columns:
        raise FormatError("an offset lies outside of the picture: the file is damaged")
    coded = numbers[1 + count :]
    values = np.where(coded % 2, -(coded + 1) // 2, coded // 2 + 1)
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


def _varints(data: bytes, count: int) -> NDArray[np.int64]:
    """The numbers. Raises FormatError where they are not so many varints of at most _VARINT_BYTES."""
    groups = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(groups < 0x80) + 1
    if len(ends) != count or ends[-1] != len(groups):
        raise FormatError(f"the offsets are not {count} numbers: the file is damaged")
    starts = np.concatenate([[0], ends[:-1]])
    lengths = ends - starts
    if lengths.max() > _VARINT_BYTES or ((groups[ends - 1] == 0) & (lengths > 1)).any():
        raise FormatError("an offset is not written in the fewest bytes: the file is damaged")
    numbers = np.zeros(count, dtype=np.int64)
    for place in range(int(lengths.max())):
        longer = lengths > place
        numbers[longer] |= (groups[starts[longer] + place] & 0x7F).astype(np.int64) << 7 * place
    return numbers


def _places(offsets: NDArray[np.int32], rows: int, columns: int) -> NDArray[np.int64]:
    channel, row, column = offsets[:, :3].astype(np.int64).T
    places: NDArray[np.int64] = (channel * rows + row) * columns + column
    return places
