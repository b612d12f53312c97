"""Indices of the groups of a part into and out of a stream: in runs, each under the table of one class pair."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.coder import CodingTable, StreamDecoder, StreamEncoder
from gmvqzip.entropy.mixture import Mixtures
from gmvqzip.entropy.tables import TOTAL
from gmvqzip.errors import ModelError

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """How the codes of a part are sent.

    places: of those that are sent, in coding order: by codebook, by class pair, and else as they lie; ends: where each
    run of them under one table ends; tables: of the runs.
    """

    places: Integers
    ends: list[int]
    tables: list[CodingTable]


def order(mixtures: Mixtures, pairs: NDArray[Any]) -> Order:
    """The order of the codes of groups under class pairs [G, ...]. Where the pair is 0, both classes the lowest, the
    code is 0, and not sent."""
    flat = pairs.reshape(-1)
    places = np.flatnonzero(flat)
    keys, span, books = flat[places], mixtures.classes**2, mixtures.books
    if books > 1:
        keys = keys + places // (flat.size // len(pairs)) * span
    if (keys[1:] < keys[:-1]).any():
        if books * span <= 1 << 16:
            keys = keys.astype(np.uint16)  # which NumPy sorts by digits
        sorting = np.argsort(keys, kind="stable")
        places, keys = places[sorting], keys[sorting]
    keys = keys.astype(np.int64)
    last = np.flatnonzero(np.diff(keys, append=-1))
    found = keys[last]
    bounds = np.searchsorted(found, np.arange(books + 1) * span)
    tables: list[CodingTable] = []
    for book in np.flatnonzero(np.diff(bounds)).tolist():
        tables += mixtures.coding_tables(book, found[bounds[book] : bounds[book + 1]] - book * span)
    return Order(places, (last + 1).tolist(), tables)


def put(stream: StreamEncoder, mixtures: Mixtures, pairs: NDArray[Any], indices: NDArray[Any]) -> None:
    """Append the indices [G, ...] of groups under class pairs [G, ...].

    Raises ModelError for an index that there is not, or other than 0 where no code is sent.
    """
    mixtures.check(indices)
    flat = indices.reshape(-1)
    if flat[pairs.reshape(-1) == 0].any():
        raise ModelError("codes do not fit: a code other than 0 where the context leaves no choice")
    ordered = order(mixtures, pairs)
    numbers, codes = np.divmod(flat[ordered.places], mixtures.codes)
    stream.put_runs(codes, ordered.ends, ordered.tables)
    for at, table in _points(mixtures.point_bits[codes]):
        stream.put_runs(numbers[at], [at.size], [table])


def take(stream: StreamDecoder, mixtures: Mixtures, pairs: NDArray[Any]) -> NDArray[np.int32]:
    """The indices [G, ...] of groups under class pairs [G, ...] from the stream."""
    ordered = order(mixtures, pairs)
    sent = stream.take_runs(ordered.ends, ordered.tables)
    for at, table in _points(mixtures.point_bits[sent]):
        sent[at] += mixtures.codes * stream.take_runs([at.size], [table])
    indices = np.zeros(pairs.shape, dtype=np.int32)
    indices.reshape(-1)[ordered.places] = sent
    return indices


def index_bits(mixtures: Mixtures, pairs: NDArray[Any], indices: NDArray[Any]) -> NDArray[np.float32]:
    """The ideal code length of each of the indices [G, ...], in bits; 0 of one that is not sent."""
    ordered = order(mixtures, pairs)
    codes = indices.reshape(-1)[ordered.places] % mixtures.codes
    bits = np.zeros(pairs.shape, dtype=np.float32)
    lengths = mixtures.point_bits[codes].astype(np.float32)
    start = 0
    for end, table in zip(ordered.ends, ordered.tables, strict=True):
        lengths[start:end] += table.bits[codes[start:end]]
        start = end
    bits.reshape(-1)[ordered.places] = lengths
    return bits


def _points(bits: Integers) -> Iterator[tuple[Integers, CodingTable]]:
    """Places of the codes with extra bits, of few bits first, and the table of their points' numbers."""
    for length in np.flatnonzero(np.bincount(bits, minlength=1)).tolist():
        if length:
            yield np.flatnonzero(bits == length), _flat(length)


@cache
def _flat(bits: int) -> CodingTable:
    """The table under which 2^bits numbers are equally likely."""
    return CodingTable(np.full(1 << bits, TOTAL >> bits, dtype=np.int64))
