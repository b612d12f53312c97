"""Codes under class-selected tables into and out of a stream: sorted by class pair, in raster order within a pair."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.coder import StreamDecoder, StreamEncoder
from gmvqzip.entropy.context import Site
from gmvqzip.entropy.tables import PRECISION
from gmvqzip.errors import ModelError

Integers = NDArray[np.int64]


def put(stream: StreamEncoder, site: Site, codes: NDArray[Any]) -> None:
    """Append the codes [h, w] of a site. Raises ModelError for a code other than 0 where no code is sent."""
    flat = codes.reshape(-1)
    if flat[site.pairs.reshape(-1) == 0].any():
        raise ModelError("codes do not fit: a code other than 0 where the context leaves no choice")
    for places, table in _runs(site):
        stream.put(flat[places], table)


def take(stream: StreamDecoder, site: Site) -> NDArray[np.int32]:
    """The codes [h, w] of a site from the stream."""
    codes = np.zeros(site.pairs.size, dtype=np.int32)
    for places, table in _runs(site):
        codes[places] = stream.take(len(places), table)
    return codes.reshape(site.pairs.shape)


def bits(site: Site) -> NDArray[np.float32]:
    """Bits of each code at each place: [h * w, K]; where the context leaves no choice, 0 for code 0, else infinite."""
    flat = site.pairs.reshape(-1)
    pairs, rows = np.unique(flat, return_inverse=True)
    tables = np.stack(site.mixtures.tables(site.group, pairs))
    cost = (PRECISION - np.log2(tables)).astype(np.float32)
    cost[pairs == 0] = np.inf
    cost[pairs == 0, 0] = 0
    return cost[rows]


def _runs(site: Site) -> Iterator[tuple[Integers, Integers]]:
    """Places, in coding order, that share a table, and the table."""
    flat = site.pairs.reshape(-1)
    order = np.argsort(flat, kind="stable")
    pairs, starts = np.unique(flat[order], return_index=True)
    sent = pairs != 0
    tables = site.mixtures.tables(site.group, pairs[sent])
    ends = np.append(starts[1:], flat.size)
    for start, end, table in zip(starts[sent].tolist(), ends[sent].tolist(), tables, strict=True):
        yield order[start:end], table
