"""Frequency tables: K integers of at least 1 that sum to exactly 2^24. The coder never sees another number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmvqzip.errors import ModelError
from gmvqzip.format.limits import MAX_TABLE

PRECISION = 24  # bits
TOTAL = 2**PRECISION
_MANTISSA = 53  # bits of a float64


def frequencies(counts: ArrayLike) -> NDArray[np.int64]:
    """The table [K] of int64 for `counts` [K] >= 0, integers or floats: proportional, each at least 1, sum 2^24.

    Entries whose share is below 1 get 1; the rest share what is left in proportion, rounded down, and the units that
    remain go to the largest remainders, the lower index first. Computed in integers: the same on every machine.
    Counts that are all zero give the flattest table. Raises ModelError for counts that are no counts.
    """
    values = _integers(np.asarray(counts))
    if not any(values):
        values = [1] * len(values)
    table = np.ones(len(values), dtype=np.int64)
    active, left, mass = list(range(len(values))), TOTAL, sum(values)
    while small := [i for i in active if values[i] * left < mass]:
        dropped = set(small)
        active = [i for i in active if i not in dropped]
        left -= len(small)
        mass -= sum(values[i] for i in small)
    shares = [divmod(values[i] * left, mass) for i in active]
    units = left - sum(whole for whole, _ in shares)
    by_remainder = sorted(range(len(active)), key=lambda n: (-shares[n][1], n))
    extra = set(by_remainder[:units])
    for n, i in enumerate(active):
        table[i] = shares[n][0] + (n in extra)
    return table


def check_table(table: NDArray[Any]) -> None:
    """Raise ModelError unless `table` is K integers >= 1, K from 1 to 65,536, that sum to 2^24."""
    if table.ndim != 1 or not 1 <= table.size <= MAX_TABLE:
        raise ModelError(f"a table has shape {list(table.shape)}: one row of 1 to {MAX_TABLE} entries is wanted")
    if table.dtype.kind not in "iu":
        raise ModelError(f"a table holds {table.dtype}: integers are wanted")
    if int(table.min()) < 1 or int(table.max()) > TOTAL:
        raise ModelError(f"a table has an entry outside 1 to 2^{PRECISION}")
    if (total := int(table.sum(dtype=np.int64))) != TOTAL:
        raise ModelError(f"a table sums to {total}, not to 2^{PRECISION}: the model is damaged")


def ideal_bits(table: NDArray[Any], symbols: NDArray[Any]) -> float:
    """The ideal code length of `symbols` (any shape) under `table` [K], in bits: the sum of `code_bits`."""
    return float(code_bits(table, symbols).sum())


def code_bits(table: NDArray[Any], symbols: NDArray[Any]) -> NDArray[np.float64]:
    """The ideal code length of each of `symbols` (any shape) under `table` [K], in bits: 24 - log2(table[s]).

    Raises ModelError for a symbol outside the table.
    """
    if symbols.size and (symbols.min() < 0 or symbols.max() >= table.size):
        raise ModelError(f"codes {symbols.min()} to {symbols.max()} are outside a table of {table.size} entries")
    bits: NDArray[np.float64] = (PRECISION - np.log2(table.astype(np.float64)))[symbols]
    return bits


def _integers(counts: NDArray[Any]) -> list[int]:
    """Counts as Python integers; floats times a power of two, exact but for what is 2^-53 of the largest."""
    if counts.ndim != 1 or not 1 <= counts.size <= MAX_TABLE:
        raise ModelError(f"counts have shape {list(counts.shape)}: one row of 1 to {MAX_TABLE} is wanted")
    if counts.dtype.kind not in "iuf":
        raise ModelError(f"counts are {counts.dtype}: numbers are wanted")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ModelError("counts must be finite and not negative")
    if counts.dtype.kind == "f":
        floats = counts.astype(np.float64)
        exponent = int(np.frexp(floats.max())[1])
        # In two steps, since the power of two may be beyond a float64 where the counts are tiny.
        step = (_MANTISSA - exponent) // 2
        counts = np.rint(np.ldexp(np.ldexp(floats, step), _MANTISSA - exponent - step)).astype(np.int64)
    return [int(value) for value in counts.tolist()]
