"""Codes under class-selected tables into and out of a stream: sorted by class pair, in raster order within a pair."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.coder import CodingTable, StreamDecoder, StreamEncoder
from gmvqzip.entropy.context import Site
from gmvqzip.entropy.tables import PRECISION
from gmvqzip.errors import ModelError

Integers = NDArray[np.int64]


def put(stream: StreamEncoder, site: Site, codes: NDArray[Any]) -> None:
    """Append the codes [h, w] of a site. Raises ModelError for a code other than 0 where no code is sent."""
    flat = codes.reshape(-1)
    if flat[site.pairs.reshape(-1) == 0].any():
        raise ModelError("codes do not fit: a code other than 0 where the context leaves no choice")
    places, ends, tables = _runs(site)
    stream.put_runs(flat[places], ends, tables)


def take(stream: StreamDecoder, site: Site) -> NDArray[np.int32]:
    """The codes [h, w] of a site from the stream."""
    codes = np.zeros(site.pairs.size, dtype=np.int32)
    places, ends, tables = _runs(site)
    codes[places] = stream.take_runs(ends, tables)
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


def _runs(site: Site) -> tuple[Integers, list[int], list[CodingTable]]:
    """The places that take a code, in coding order; where each run of them under one table ends; and the tables."""
    flat = site.pairs.reshape(-1)
    counts = np.bincount(flat, minlength=1)
    places = np.argsort(flat, kind="stable")[counts[0] :]
    pairs = counts.nonzero()[0]
    pairs = pairs[pairs != 0]
    return places, counts[pairs].cumsum().tolist(), site.mixtures.coding_tables(site.group, pairs)
