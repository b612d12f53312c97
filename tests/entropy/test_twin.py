"""The plain-Python coder and constriction's make the same bytes and read each other's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from coder_streams import Part, parts
from hypothesis import given, settings
from hypothesis import strategies as st

from gmvqzip.entropy import backend as backends
from gmvqzip.entropy.backend import ConstrictionBackend, PythonBackend, backend
from gmvqzip.entropy.coder import decode, encode, shortest
from gmvqzip.entropy.tables import TOTAL, frequencies
from gmvqzip.errors import FormatError, ModelError

pytest.importorskip("constriction", exc_type=ImportError)
PYTHON, COMPILED = PythonBackend(), ConstrictionBackend()


@pytest.fixture(autouse=True)
def fresh_choice() -> Iterator[None]:
    backends._compiled.cache_clear()
    yield
    backends._compiled.cache_clear()


@settings(max_examples=300, deadline=None)
@given(parts())
def test_same_state_after_each_part_and_each_reads_the_other(stream: list[Part]) -> None:
    encoders = PYTHON.encoder(), COMPILED.encoder()
    coded = [(symbols, table) for symbols, table in stream if table.size > 1 and symbols.size]
    for symbols, table in coded:
        for coder, encoder in zip((PYTHON, COMPILED), encoders, strict=True):
            encoder.encode(symbols, coder.model(table))
        assert encoders[0].interval() == encoders[1].interval()
    payload = shortest(*encoders[0].interval())
    for coder in (PYTHON, COMPILED):
        decoder = coder.decoder(payload)
        for symbols, table in coded:
            assert decoder.decode(symbols.size, coder.model(table)).tolist() == symbols.tolist()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=50), parts())
def test_both_read_the_same_from_any_bytes(payload: bytes, stream: list[Part]) -> None:
    found = []
    for coder in (PYTHON, COMPILED):
        decoder, symbols = coder.decoder(payload), []
        try:
            for part, table in stream:
                if table.size > 1:
                    symbols.append(decoder.decode(part.size, coder.model(table)).tolist())
        except FormatError:
            symbols.append(["no code fits"])
        found.append(symbols)
    assert found[0] == found[1]


@pytest.mark.parametrize("symbol", [0, 1, 2])
def test_long_carries(symbol: int) -> None:
    """Under this table the middle symbol keeps the interval around a word's edge, so that carries stay open."""
    model = np.array([1, TOTAL - 2, 1])
    tail = np.array([1] + [0] * 9 + [2] * 4 + [symbol] * 5 + [1] * 3, dtype=np.int32)
    intervals = []
    for coder in (PYTHON, COMPILED):
        encoder = coder.encoder()
        for repeat in range(40):
            encoder.encode(tail[: repeat % tail.size], coder.model(model))
            intervals.append(encoder.interval())
    assert intervals[:40] == intervals[40:]


def test_a_range_of_exactly_two_to_the_32_is_not_scaled() -> None:
    """Three entries chosen so that the scale becomes 3 2^16 - 1, then 2^12, and the range at last 2^12 2^20."""
    entries = (3, -(-(2**36) // (3 * 2**16 - 1)), 2**20)
    for coder in (PYTHON, COMPILED):
        encoder = coder.encoder()
        for entry in entries:
            encoder.encode(np.array([0], dtype=np.int32), coder.model(np.array([entry, TOTAL - entry])))
        assert encoder.interval() == (b"", 0, 2**32)


def test_an_open_carry_is_settled_either_way() -> None:
    """Intervals that lie across a word's edge: constriction seals some above it, and some below."""
    rng = np.random.default_rng(0)
    tables = [np.array([2**23 - 1, 2, 2**23 - 1]), np.array([1, TOTAL - 2, 1])]
    across = 0
    for _ in range(1500):
        stream = [(rng.integers(0, 3, rng.integers(1, 5)).astype(np.int32), tables[rng.integers(2)]) for _ in range(4)]
        encoders = PYTHON.encoder(), COMPILED.encoder()
        for symbols, table in stream:
            for coder, encoder in zip((PYTHON, COMPILED), encoders, strict=True):
                encoder.encode(symbols, coder.model(table))
        _, low, width = encoders[0].interval()
        across += low + width > 2**64
        assert encoders[0].interval() == encoders[1].interval()
    assert across > 20


def extreme_tables() -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(3)
    tables = [np.array([1, TOTAL - 1]), np.array([TOTAL - 1, 1]), np.array([TOTAL // 2] * 2)]
    tables += [frequencies(np.eye(1, 5000, k)[0]) for k in (0, 2500, 4999)]
    tables += [frequencies(rng.dirichlet(np.full(int(rng.integers(2, 3000)), 10.0**e))) for e in np.linspace(-3, 1, 8)]
    return tables


def test_constriction_holds_exactly_the_table() -> None:
    """Start and width of each entry, read off the state after one symbol: a first scale is 2^40 - 1."""
    for table in extreme_tables():
        model = COMPILED.model(table)
        for symbol, start, entry in zip(range(table.size), np.cumsum(table) - table, table, strict=True):
            encoder = COMPILED.encoder()
            encoder.encode(np.array([symbol], dtype=np.int32), model)
            assert encoder.interval() == (b"", int(start) * (2**40 - 1), int(entry) * (2**40 - 1))


def test_constriction_holds_the_largest_table() -> None:
    """The same for 65,536 entries, by decoding the first and last number that each entry owns."""
    rng = np.random.default_rng(4)
    table = frequencies(rng.dirichlet(np.full(65536, 0.3)))
    ends = np.cumsum(table)
    model = COMPILED.model(table)
    for symbol in rng.integers(0, 65536, 2000).tolist():
        for quantile in (int(ends[symbol] - table[symbol]), int(ends[symbol]) - 1):
            value = quantile * (2**40 - 1)
            assert COMPILED.decoder(value.to_bytes(8, "big")).decode(1, model)[0] == symbol


@pytest.mark.parametrize("payload", [b"", b"\x80", b"\x80\0\0\0\0", b"abc", bytes(range(1, 17))])
def test_behind_the_end_both_read_zeros(payload: bytes) -> None:
    table = frequencies([1, 1, 2])
    explicit = payload + bytes(2000)
    for coder in (PYTHON, COMPILED):
        expected = coder.decoder(explicit).decode(5000, coder.model(table)).tolist()
        assert coder.decoder(payload).decode(5000, coder.model(table)).tolist() == expected


def test_long_requests_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gmvqzip.entropy.coder._BLOCK", 7)
    table, symbols = frequencies(np.arange(1, 50)), np.arange(100, dtype=np.int32) % 49
    assert decode(encode([(symbols, table)]), [(100, table)])[0].tolist() == symbols.tolist()


@pytest.mark.parametrize(("value", "name"), [("", "constriction"), ("auto", "constriction"), ("python", "python")])
def test_the_variable_chooses(value: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMVQZIP_CODER", value)
    assert backend().name == name
    monkeypatch.setenv("GMVQZIP_CODER", "constriction")
    assert backend().name == "constriction"


def test_an_unknown_coder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMVQZIP_CODER", "rust")
    with pytest.raises(ModelError, match="GMVQZIP_CODER=rust names no coder: choose one of auto"):
        encode([])


def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)  # importing it raises ImportError


def of_another_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    # The plain probabilities instead of w - 1: constriction rounds them to other frequencies.
    categorical = import_module("constriction").stream.model.Categorical
    model = lambda self, table: categorical(np.sqrt(table.astype(np.float64)), perfect=False)  # noqa: E731
    monkeypatch.setattr(ConstrictionBackend, "model", model)


def of_another_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(import_module("constriction").stream.queue, "RangeEncoder")


@pytest.mark.parametrize("change", [missing, of_another_stream, of_another_interface])
def test_the_twin_takes_over(change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    table, symbols = frequencies(np.arange(1, 50)), np.arange(49)
    payload = encode([(symbols, table)])
    change(monkeypatch)
    backends._compiled.cache_clear()
    monkeypatch.delenv("GMVQZIP_CODER", raising=False)
    assert backend().name == "python"
    assert encode([(symbols, table)]) == payload
    assert decode(payload, [(49, table)])[0].tolist() == symbols.tolist()
    monkeypatch.setenv("GMVQZIP_CODER", "constriction")
    with pytest.raises(ModelError, match="not installed or makes another stream"):
        backend()


def test_nothing_is_written_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    decode(encode([(np.arange(49), frequencies(np.arange(1, 50)))]), [(49, frequencies(np.arange(1, 50)))])
    assert capfd.readouterr() == ("", "")
