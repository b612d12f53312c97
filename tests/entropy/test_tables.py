from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmvqzip.entropy.tables import TOTAL, check_table, code_bits, frequencies, ideal_bits
from gmvqzip.errors import ModelError

floats = st.floats(0, 1e300, allow_subnormal=True)
whole = st.integers(0, 2**53)


@settings(max_examples=200, deadline=None)
@given(st.lists(whole, min_size=1, max_size=40) | st.lists(floats, min_size=1, max_size=40))
def test_any_counts_make_a_table_in_their_order(counts: list[Any]) -> None:
    table = frequencies(np.array(counts))
    check_table(table)
    assert table.dtype == np.int64
    assert table.size == len(counts)
    by_count = sorted(range(len(counts)), key=lambda i: (counts[i], -i))
    assert (np.diff(table[by_count]) >= 0).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 2**40), min_size=2, max_size=30))
def test_shares_are_within_one_unit_where_all_are_large(counts: list[int]) -> None:
    table = frequencies(np.array(counts))
    exact = [Fraction(TOTAL * count, sum(counts)) for count in counts]
    if min(exact) >= 1:
        assert all(abs(entry - share) < 1 for entry, share in zip(table.tolist(), exact, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=30), st.integers(-80, 80))
def test_floats_and_powers_of_two_change_nothing(counts: list[int], exponent: int) -> None:
    table = frequencies(np.array(counts, dtype=np.int64))
    scaled = np.ldexp(np.array(counts, dtype=np.float64), exponent)
    assert (frequencies(scaled) == table).all()
    assert (frequencies(counts) == table).all()


def test_worked_examples() -> None:
    assert frequencies([0, 0, 0]).tolist() == [5592406, 5592405, 5592405]
    assert frequencies([5]).tolist() == [TOTAL]
    assert frequencies([1, 0]).tolist() == [TOTAL - 1, 1]
    assert frequencies([1, 2, 1]).tolist() == [2**22, 2**23, 2**22]
    assert frequencies([0, 10**15, 1, 0]).tolist() == [1, TOTAL - 3, 1, 1]
    assert frequencies([1, 1, 1, 1, 1, 1]).tolist() == [2796203] * 4 + [2796202] * 2
    assert frequencies(np.full(65536, 0.1)).tolist() == [256] * 65536


@pytest.mark.parametrize("size", [2, 1000, 65536])
def test_extremes(size: int) -> None:
    counts = np.zeros(size)
    counts[size // 2] = 5e-324
    table = frequencies(counts)
    assert table[size // 2] == TOTAL - size + 1
    check_table(table)
    check_table(frequencies(np.ldexp(1.0, -np.arange(size).clip(max=1070))))
    check_table(frequencies(np.arange(size) ** 3))
    check_table(frequencies(np.full(size, 1.7e308)))


@pytest.mark.parametrize(
    "counts",
    [
        np.zeros(0),
        np.zeros((2, 2)),
        np.zeros(65537),
        np.array([1.0, np.nan]),
        np.array([1.0, np.inf]),
        np.array([-1, 2]),
        np.array([-0.5, 2]),
        np.array(["a"]),
        np.array([1j]),
    ],
)
def test_counts_that_are_none(counts: Any) -> None:
    with pytest.raises(ModelError, match="counts"):
        frequencies(counts)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros(0, dtype=np.int64), "shape"),
        (np.full((1, 1), TOTAL), "shape"),
        (np.full(65537, 256), "shape"),
        (np.array([TOTAL / 2, TOTAL / 2]), "float64"),
        (np.array([TOTAL, 0]), "entry outside"),
        (np.array([TOTAL + 1, -1]), "entry outside"),
        (np.array([TOTAL - 1]), "sums to 16777215"),
        (np.array([TOTAL, 1]), "sums to 16777217"),
        (np.array([2**63 - 1, 2**63 - 1]), "entry outside"),
        (np.array([2**64 - 1, TOTAL + 1], dtype=np.uint64), "entry outside"),
    ],
)
def test_tables_that_are_none(table: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_table(table)


def test_ideal_bits() -> None:
    table = frequencies([1, 2, 1])
    assert ideal_bits(table, np.array([[0, 1], [1, 2]])) == 6.0
    assert ideal_bits(table, np.zeros((0, 3), dtype=np.int32)) == 0.0
    assert ideal_bits(frequencies([3]), np.zeros(9, dtype=np.int32)) == 0.0
    with pytest.raises(ModelError, match="codes 3 to 3 are outside a table of 3 entries"):
        ideal_bits(table, np.array([3]))
    with pytest.raises(ModelError, match="codes -1 to 1 are outside"):
        ideal_bits(table, np.array([1, -1]))


def test_bits_of_each_code() -> None:
    table = np.array([2**23, 2**22, 2**22])
    bits = code_bits(table, np.array([[0, 1, 2], [1, 0, 0]]))
    assert bits.tolist() == [[1, 2, 2], [2, 1, 1]]
