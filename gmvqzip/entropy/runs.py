"""Codes under class-selected tables into and out of a stream: sorted by class pair, in raster order within a pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.coder import CodingTable, StreamDecoder, StreamEncoder
from gmvqzip.entropy.context import Site
from gmvqzip.errors import ModelError

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """How a row of codes is sent, site after site.

    places: of the codes that are sent, in coding order; ends: where each run of them under one table ends; tables: of
    the runs; implied: places whose code is 0, since the context leaves no choice.
    """

    places: Integers
    ends: list[int]
    tables: list[CodingTable]
    implied: Integers


def order(sites: Sequence[Site], pairs: Sequence[NDArray[Any]]) -> Order:
    """The order of the codes of sites, each with its class pairs, of any shape, instead of `Site.pairs`."""
    row = np.concatenate([own.reshape(-1) for own in pairs], dtype=np.int64)
    owners = np.repeat(np.arange(len(sites)), [own.size for own in pairs])
    span = int(row.max()) + 1
    keys = owners * span + row
    places = np.argsort(keys, kind="stable")
    sent = row[places] != 0
    implied, places = places[~sent], places[sent]
    keys = keys[places]
    last = np.flatnonzero(np.diff(keys, append=-1))
    owner, pair = np.divmod(keys[last], span)
    bounds = np.searchsorted(owner, np.arange(len(sites) + 1)).tolist()
    tables: list[CodingTable] = []
    for site, (first, end) in zip(sites, pairwise(bounds), strict=True):
        tables += site.mixtures.coding_tables(site.group, pair[first:end])
    return Order(places, (last + 1).tolist(), tables, implied)


def put(stream: StreamEncoder, ordered: Order, codes: NDArray[Any]) -> None:
    """Append a row of codes. Raises ModelError for a code other than 0 where no code is sent."""
    if codes[ordered.implied].any():
        raise ModelError("codes do not fit: a code other than 0 where the context leaves no choice")
    stream.put_runs(codes[ordered.places], ordered.ends, ordered.tables)


def take(stream: StreamDecoder, site: Site) -> NDArray[np.int32]:
    """The codes of a site from the stream, in the shape of its pairs."""
    codes = np.zeros(site.pairs.size, dtype=np.int32)
    flat = site.pairs.reshape(-1)
    counts = np.bincount(flat, minlength=1)
    places = np.argsort(flat, kind="stable")[counts[0] :]
    pairs = counts.nonzero()[0]
    pairs = pairs[pairs != 0]
    ends = counts[pairs].cumsum().tolist()
    codes[places] = stream.take_runs(ends, site.mixtures.coding_tables(site.group, pairs))
    return codes.reshape(site.pairs.shape)


def code_bits(ordered: Order, codes: NDArray[Any]) -> NDArray[np.float32]:
    """The ideal code length of each of a row of codes, in bits; 0 of one that is not sent."""
    bits = np.zeros(len(codes), dtype=np.float32)
    start = 0
    for end, table in zip(ordered.ends, ordered.tables, strict=True):
        own = ordered.places[start:end]
        bits[own] = table.bits[codes[own]]
        start = end
    return bits


def bits(site: Site) -> NDArray[np.float32]:
    """Bits of each code at each place: [places, K]; where the context leaves no choice, 0 for code 0, else infinite."""
    pairs, rows = np.unique(site.pairs.reshape(-1), return_inverse=True)
    cost = np.stack([table.bits for table in site.mixtures.coding_tables(site.group, pairs)])
    cost[pairs == 0] = np.inf
    cost[pairs == 0, 0] = 0
    return cost[rows]
