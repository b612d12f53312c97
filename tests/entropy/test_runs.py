"""Codes of a site into and out of a stream, and what they cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from context_tensors import group_tensors
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gmvqzip.entropy import runs
from gmvqzip.entropy.coder import StreamDecoder, StreamEncoder, encode
from gmvqzip.entropy.context import Site
from gmvqzip.entropy.mixture import load_mixtures
from gmvqzip.errors import FormatError, ModelError

CODES, CLASSES = 9, 4


def site(pairs: NDArray[np.int64], group: int = 1) -> Site:
    """A site of these class pairs [h, w]."""
    shape = (2, CODES, 2)
    mixtures = load_mixtures(group_tensors(np.random.default_rng(0), "", shape, CLASSES), shape)
    mean = np.zeros((*pairs.shape, 2), np.int64)
    return Site(0, False, (slice(None), slice(None)), slice(0, 2), pairs, mean, mixtures, group)


def drawn(seed: int, shape: tuple[int, int] = (5, 7)) -> tuple[Site, NDArray[np.int32]]:
    """A site, and codes drawn from its tables, 0 where the pair is 0."""
    generator = np.random.default_rng(seed)
    place = site(generator.integers(0, CLASSES**2, shape))
    codes = np.zeros(shape, np.int32)
    for index, pair in np.ndenumerate(place.pairs):
        (table,) = place.mixtures.tables(place.group, np.array([pair]))
        codes[index] = generator.choice(CODES, p=table / table.sum()) if pair else 0
    return place, codes


def put(stream: StreamEncoder, place: Site, codes: NDArray[Any]) -> None:
    runs.put(stream, runs.order([place], [place.pairs]), codes.reshape(-1))


def test_put_takes_pairs_in_order_and_raster_order_within_a_pair() -> None:
    place, codes = drawn(1)
    stream = StreamEncoder()
    put(stream, place, codes)
    parts = []
    for pair in range(1, CLASSES**2):
        mine = np.array([code for code, p in zip(codes.flat, place.pairs.flat, strict=True) if p == pair], np.int32)
        parts.append((mine, place.mixtures.tables(place.group, np.array([pair]))[0]))
    assert stream.finish() == encode(parts)


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 6), columns=st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_round_trip(seed: int, rows: int, columns: int) -> None:
    drawings = [drawn(seed + i, (rows, columns)) for i in range(3)]
    encoder = StreamEncoder()
    for place, codes in drawings:
        put(encoder, place, codes)
    decoder = StreamDecoder(encoder.finish())
    for place, codes in drawings:
        found = runs.take(decoder, place)
        assert found.dtype == np.int32
        assert np.array_equal(found, codes)
    decoder.finish()


def test_pair_0_sends_nothing() -> None:
    place = site(np.zeros((4, 4), np.int64))
    stream = StreamEncoder()
    put(stream, place, np.zeros((4, 4), np.int32))
    assert stream.finish() == b""
    decoder = StreamDecoder(b"")
    assert not runs.take(decoder, place).any()
    decoder.finish()


def test_pair_0_sends_nothing_among_others() -> None:
    place, codes = drawn(2)
    assert (place.pairs == 0).any()
    sent = place.pairs.reshape(-1) != 0
    one, other = StreamEncoder(), StreamEncoder()
    put(one, place, codes)
    put(other, site(place.pairs.reshape(1, -1)[:, sent]), codes.reshape(1, -1)[:, sent])
    assert one.finish() == other.finish()


def test_pair_0_refuses_other_codes() -> None:
    place = site(np.array([[3, 0], [0, 5]]))
    put(StreamEncoder(), place, np.array([[8, 0], [0, 8]]))
    with pytest.raises(ModelError, match="leaves no choice"):
        put(StreamEncoder(), place, np.array([[8, 1], [0, 8]]))


@pytest.mark.parametrize("code", [-1, CODES, 10**6])
def test_codes_outside_their_table(code: int) -> None:
    place = site(np.full((2, 2), 7))
    with pytest.raises(ModelError, match="outside its table"):
        put(StreamEncoder(), place, np.array([[0, 1], [2, code]]))


def test_a_payload_that_fits_no_code() -> None:
    with pytest.raises(FormatError):
        runs.take(StreamDecoder(b"\xff" * 8), site(np.full((2, 2), 7)))


def test_bits_are_those_of_the_stream() -> None:
    place, codes = drawn(3, (60, 60))
    cost = runs.bits(place)
    assert cost.shape == (3600, CODES)
    ideal = float(np.take_along_axis(cost, codes.reshape(-1, 1), 1).sum(dtype=np.float64))
    stream = StreamEncoder()
    put(stream, place, codes)
    assert ideal - 1 <= 8 * len(stream.finish()) <= ideal * 1.0001 + 16


def test_bits_where_nothing_is_sent() -> None:
    cost = runs.bits(site(np.array([[0, 6]])))
    assert cost[0, 0] == 0
    assert np.isinf(cost[0, 1:]).all()
    assert np.isfinite(cost[1]).all()
    assert (2.0 ** -cost[1].astype(np.float64)).sum() == pytest.approx(1, abs=1e-6)
