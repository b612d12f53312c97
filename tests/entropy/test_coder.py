from __future__ import annotations

import numpy as np
import pytest
from coder_streams import Part, parts
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gmvqzip.entropy import coder
from gmvqzip.entropy.backend import VARIABLE
from gmvqzip.entropy.coder import StreamDecoder, StreamEncoder, decode, encode, shortest
from gmvqzip.entropy.tables import TOTAL, frequencies, ideal_bits
from gmvqzip.entropy.twin import TwinDecoder, TwinEncoder
from gmvqzip.errors import FormatError, ModelError
from gmvqzip.format.limits import MAX_CODES

FLAT = frequencies(np.ones(1024))


@pytest.fixture(params=["constriction", "python"])
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "constriction":
        pytest.importorskip("constriction", exc_type=ImportError)
    monkeypatch.setenv("GMVQZIP_CODER", request.param)
    return str(request.param)


def back(payload: bytes, stream: list[Part]) -> list[NDArray[np.int32]]:
    return decode(payload, [(symbols.size, table) for symbols, table in stream])


@settings(max_examples=250, deadline=None)
@given(parts())
def test_round_trip_and_size(stream: list[Part]) -> None:
    payload = encode(stream)
    decoded = back(payload, stream)
    assert all(got.dtype == np.int32 for got in decoded)
    assert [got.tolist() for got in decoded] == [symbols.tolist() for symbols, _ in stream]
    assert 8 * len(payload) <= 1.001 * sum(ideal_bits(table, symbols) for symbols, table in stream) + 16
    assert not payload.endswith(b"\0")


@pytest.mark.parametrize("size", [2, 3, 17, 256, 1024, 4096, 65536])
@pytest.mark.parametrize("concentration", [0.01, 1.0])
def test_size_of_long_streams(size: int, concentration: float) -> None:
    rng = np.random.default_rng(size)
    table = frequencies(rng.dirichlet(np.full(size, concentration)) + 0.05 / size)
    symbols = rng.choice(size, 100_000, p=table / TOTAL).astype(np.int32)
    payload = encode([(symbols, table)])
    ideal = ideal_bits(table, symbols)
    assert ideal < 8 * len(payload) <= 1.001 * ideal + 16
    assert (back(payload, [(symbols, table)])[0] == symbols).all()


@pytest.mark.parametrize("rare", [2**-3, 2**-6.5, 2**-10, 2**-17, 2**-24])
def test_cost_of_rounding_an_index_however_likely(rare: float) -> None:
    """What docs/format.md states: less than 0.00013 bits an index, and 8 bits at the end."""
    table = frequencies([1 - rare, rare])
    symbols = (np.random.default_rng(1).random(1_000_000) < rare).astype(np.int32)
    assert 8 * len(encode([(symbols, table)])) < ideal_bits(table, symbols) + 0.00013 * symbols.size + 8


def test_mean_cost_of_the_end() -> None:
    rng = np.random.default_rng(0)
    costs = []
    for _ in range(400):
        symbols = rng.integers(0, 1000, rng.integers(1, 40))
        table = frequencies(rng.dirichlet(np.full(1000, 5.0)))
        costs.append(8 * len(encode([(symbols, table)])) - ideal_bits(table, symbols))
    assert max(costs) < 8.1
    assert np.mean(costs) < 3


def test_each_entry_of_the_largest_table(name: str) -> None:
    table = frequencies(np.arange(65536) % 700)
    symbols = np.random.default_rng(2).permutation(65536)
    payload = encode([(symbols, table)])
    assert (back(payload, [(symbols, table)])[0] == symbols).all()


def test_empty_streams_and_single_entries(name: str) -> None:
    none = np.zeros(0, dtype=np.int32)
    one = np.array([TOTAL])
    assert encode([]) == encode([(none, FLAT)]) == encode([(np.zeros(50, dtype=np.int32), one)]) == b""
    assert encode([(np.zeros(1000, dtype=np.int32), FLAT)]) == b""
    assert decode(b"", []) == []
    empty, zeros = decode(b"", [(0, FLAT), (50, one)])
    assert (empty.shape, zeros.tolist()) == ((0,), [0] * 50)
    with pytest.raises(FormatError, match="1 trailing bytes"):
        decode(b"\x01", [(50, one)])


def test_single_entries_among_others_change_nothing(name: str) -> None:
    symbols = np.arange(20)
    one = (np.zeros(5, dtype=np.int32), np.array([TOTAL]))
    assert encode([one, (symbols[:7], FLAT), one, (symbols[7:], FLAT), one]) == encode([(symbols, FLAT)])


def test_the_layout_of_an_array_does_not_matter(name: str) -> None:
    plain = np.arange(600).reshape(20, 30)
    expected = encode([(plain.ravel(), FLAT)])
    for array in (plain, np.asfortranarray(plain), np.repeat(plain, 2, axis=1)[:, ::2], plain.astype(np.uint16)):
        assert encode([(array, FLAT)]) == expected
    padded = np.stack([FLAT, FLAT], axis=1)[:, 0]
    assert encode([(plain, padded)]) == expected


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        (np.array([1024]), "code 1024 is outside its table of 1024 entries"),
        (np.array([0, -1]), "code -1 is outside"),
        (np.array([2**40]), "outside"),
        (np.array([0.0]), "codes are float64"),
        (np.array([True]), "codes are bool"),
    ],
)
def test_symbols_that_do_not_fit(symbols: NDArray[np.int64], message: str, name: str) -> None:
    with pytest.raises(ModelError, match=message):
        encode([(symbols, FLAT)])


def test_tables_that_are_none(name: str) -> None:
    bad = FLAT.copy()
    bad[0] += 1
    with pytest.raises(ModelError, match="sums to"):
        encode([(np.array([0]), bad)])
    with pytest.raises(ModelError, match="sums to"):
        decode(b"", [(1, bad)])


def test_counts_beyond_the_limit_reach_no_coder(name: str) -> None:
    with pytest.raises(FormatError, match=f"more than the limit of {MAX_CODES}"):
        decode(b"", [(2**29, FLAT), (2**29 + 1, FLAT)])
    with pytest.raises(FormatError, match="limit"):
        StreamDecoder(b"").take(2**62, FLAT)
    with pytest.raises(ValueError, match="cannot take -1 symbols"):
        StreamDecoder(b"").take(-1, FLAT)


def test_no_symbol_fits(name: str) -> None:
    for payload in (b"\xff" * 8, b"\xff" * 100):
        with pytest.raises(FormatError, match="no code fits"):
            decode(payload, [(1, FLAT)])


def test_trailing_bytes(name: str) -> None:
    symbols = np.arange(100) * 7
    payload = encode([(symbols, FLAT)])
    for tail in (b"\0", b"\0" * 9, b"\x01", payload):
        with pytest.raises(FormatError, match=f"{len(tail)} trailing bytes follow the payload"):
            decode(payload + tail, [(100, FLAT)])


def test_only_the_canonical_payload_is_taken(name: str) -> None:
    """Every other string of the same length or less that decodes to the same symbols is refused."""
    table, symbols = frequencies([1, 2, 1]), np.array([2, 0, 1, 1])
    payload = encode([(symbols, table)])
    assert len(payload) == 1
    taken = []
    for value in range(65536):
        try:
            found = decode(value.to_bytes(2, "big").rstrip(b"\0"), [(4, table)])
        except FormatError:
            continue
        taken.append(found[0].tolist())
    assert len(taken) == 3**4  # each string of four symbols once
    assert len({tuple(found) for found in taken}) == len(taken)


@settings(max_examples=250, deadline=None)
@given(st.binary(max_size=40), parts())
def test_any_payload_is_refused_or_is_canonical(payload: bytes, stream: list[Part]) -> None:
    try:
        symbols = back(payload, stream)
    except FormatError:
        return
    assert encode([(found, table) for found, (_, table) in zip(symbols, stream, strict=True)]) == payload


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 6), st.integers(0, 2**64 - 1), st.integers(2**32, 2**64 - 1), st.data())
def test_the_shortest_end_by_search(length: int, low: int, width: int, data: st.DataObject) -> None:
    prefix = data.draw(st.binary(min_size=length, max_size=length) | st.just(b"\xff" * length))
    start = int.from_bytes(prefix, "big") * 2**64 + low
    size = length + 8
    width = min(width, 256**size - start)
    if width < 2**32:
        return
    best = shortest(prefix, low, width)
    value = int.from_bytes(best.ljust(size, b"\0"), "big")
    assert start <= value < start + width
    assert not best.endswith(b"\0")
    step = 256 ** (size - len(best))
    assert value - step < start  # none smaller of this length
    if best:
        assert -(-start // (step * 256)) * step * 256 >= start + width  # none shorter


def test_streams_alternate_between_tables(name: str) -> None:
    """A table for each index, picked by the index before: what a conditional prior does."""
    rng = np.random.default_rng(5)
    tables = [frequencies(rng.dirichlet(np.ones(8))) for _ in range(8)]
    symbols = rng.integers(0, 8, 500)
    encoder, context = StreamEncoder(), 0
    for symbol in symbols:
        encoder.put(np.array([symbol]), tables[context])
        context = int(symbol)
    payload = encoder.finish()
    decoder, found = StreamDecoder(payload), [0]
    for _ in symbols:
        found.append(int(decoder.take(1, tables[found[-1]])[0]))
    decoder.finish()
    assert found[1:] == symbols.tolist()
    assert encoder.finish() == payload


def test_a_table_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(coder, "check_table", lambda table: calls.append(table.size))
    encode([(np.array([1]), FLAT)] * 50)
    assert calls == [1024]


def test_a_run_is_one_call_of_the_coder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoding is one, decoding is one and one more to encode what was found. scripts/measure/coder.py: the speed."""
    monkeypatch.setenv(VARIABLE, "python")
    calls = []

    def noted(kind: type[TwinEncoder] | type[TwinDecoder], name: str) -> None:
        real = getattr(kind, name)
        monkeypatch.setattr(kind, name, lambda self, *arguments: (calls.append(name), real(self, *arguments))[1])

    noted(TwinEncoder, "encode")
    noted(TwinDecoder, "decode")
    symbols = np.arange(3000) % FLAT.size
    assert np.array_equal(decode(encode([(symbols, FLAT)]), [(symbols.size, FLAT)])[0], symbols)
    assert calls == ["encode", "decode", "encode"]


def test_a_payload_that_ended_long_ago_is_refused_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after all codes that a header claims."""
    monkeypatch.setattr(coder, "_BLOCK", 500)
    stream = StreamDecoder(b"\xa1\xb2\xc3")
    taken: list[int] = []
    kept = stream._again.encode
    monkeypatch.setattr(stream._again, "encode", lambda run, model: (taken.append(run.size), kept(run, model)))
    with pytest.raises(FormatError, match="damaged"):
        stream.take(1_000_000, FLAT)
    assert sum(taken) <= 1000


@pytest.mark.parametrize("before", [0, 3])
def test_a_payload_may_end_long_before_its_codes(name: str, before: int) -> None:
    """Where all that follows is the first symbol of its table, it takes no bytes, however many bits."""
    symbols = np.array([5] * before + [0] * 2000, dtype=np.int32)
    payload = encode([(symbols, FLAT)])
    assert len(payload) <= (8 if before else 0)
    assert decode(payload, [(symbols.size, FLAT)])[0].tolist() == symbols.tolist()
