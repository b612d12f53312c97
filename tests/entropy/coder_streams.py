"""Hypothesis strategies for range-coded streams: parts of symbols and tables, extremes among them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from gmvqzip.entropy.tables import TOTAL, frequencies

Part = tuple[NDArray[np.int32], NDArray[np.int64]]

sizes = st.sampled_from([1, 2, 3, 5, 64, 256, 1024]) | st.integers(1, 400)


@st.composite
def tables(draw: st.DrawFn, size: int) -> NDArray[np.int64]:
    """A table of this size: flat, drawn, or as steep as one can be, the steep entry first, last or between."""
    kind = draw(st.sampled_from(["flat", "drawn", "steep", "steepest"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if kind == "flat":
        return frequencies(np.ones(size))
    if kind == "drawn":
        return frequencies(rng.dirichlet(np.full(size, 10.0 ** rng.uniform(-2, 1))))
    if kind == "steep":
        return frequencies(np.ldexp(1.0, -rng.permutation(size).clip(max=60)))
    table = np.ones(size, dtype=np.int64)
    table[draw(st.sampled_from([0, size // 2, size - 1]))] += TOTAL - size
    return table


@st.composite
def parts(draw: st.DrawFn) -> list[Part]:
    """Up to six parts; symbols likely, uniform, the rarest only, or the last only. Some parts are empty."""
    out: list[Part] = []
    for _ in range(draw(st.integers(0, 6))):
        size = draw(sizes)
        table = draw(tables(size))
        count = draw(st.sampled_from([0, 1, 2, 3, 10, 100]))
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        choices: dict[str, Any] = {
            "likely": lambda rng=rng, size=size, count=count, table=table: rng.choice(size, count, p=table / TOTAL),
            "uniform": lambda rng=rng, size=size, count=count: rng.integers(0, size, count),
            "rarest": lambda table=table, count=count: np.full(count, table.argmin()),
            "last": lambda size=size, count=count: np.full(count, size - 1),
        }
        out.append((choices[draw(st.sampled_from(list(choices)))]().astype(np.int32), table))
    return out
