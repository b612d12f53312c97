"""Indices of a part into and out of a stream, and what they cost."""

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
from gmvqzip.entropy.mixture import GroupMixtures, load_mixtures
from gmvqzip.entropy.tables import TOTAL
from gmvqzip.errors import FormatError, ModelError

CODES, CLASSES, GROUPS = 9, 4, 2
EXTRA = np.array([0, 0, 1, 0, 2, 0, 8, 1, 0], np.int8)
Array = NDArray[Any]


def mixtures_of(shared: bool) -> GroupMixtures:
    """Two groups, with a codebook each or a shared one that has codes with extra bits."""
    shape = (GROUPS, CODES, 2)
    tensors = group_tensors(np.random.default_rng(0), "", (1, *shape[1:]) if shared else shape, CLASSES)
    return load_mixtures(tensors | {"extra": EXTRA}, shape, shared=shared)


OWN, SHARED = mixtures_of(False), mixtures_of(True)
BOTH = pytest.mark.parametrize("mixtures", [OWN, SHARED], ids=["own", "shared"])


def drawn(mixtures: GroupMixtures, seed: int, shape: tuple[int, ...] = (5, 7)) -> tuple[Array, Array]:
    """Class pairs [2, ...], and indices drawn from their tables, 0 where the pair is 0."""
    generator = np.random.default_rng(seed)
    pairs = generator.integers(0, CLASSES**2, (GROUPS, *shape))
    indices = np.zeros(pairs.shape, np.int32)
    for place, pair in np.ndenumerate(pairs):
        (table,) = mixtures.tables(0 if mixtures.shared else place[0], np.array([pair]))
        code = generator.choice(CODES, p=table / table.sum()) if pair else 0
        indices[place] = code + CODES * generator.integers(0, 1 << mixtures.point_bits[code])
    return pairs, indices


@BOTH
def test_put_takes_codebooks_and_pairs_in_order_and_else_as_indices_lie(mixtures: GroupMixtures) -> None:
    pairs, indices = drawn(mixtures, 1)
    stream = StreamEncoder()
    runs.put(stream, mixtures, pairs, indices)
    sent, parts = [], []
    for book, group in [(0, slice(None))] if mixtures.shared else [(0, slice(0, 1)), (1, slice(1, 2))]:
        for pair in range(1, CLASSES**2):
            mine = indices[group][pairs[group] == pair]
            sent.append(mine)
            parts.append((mine % CODES, mixtures.tables(book, np.array([pair]))[0]))
    every = np.concatenate(sent)
    for bits in range(1, 17):  # then the points of codes with 1, 2, ... extra bits
        numbers = (every // CODES)[mixtures.point_bits[every % CODES] == bits]
        parts.append((numbers, np.full(1 << bits, TOTAL >> bits)))
    assert stream.finish() == encode(parts)


@BOTH
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 6), columns=st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_round_trip(mixtures: GroupMixtures, seed: int, rows: int, columns: int) -> None:
    drawings = [drawn(mixtures, seed + i, (rows, columns)) for i in range(3)]
    encoder = StreamEncoder()
    for pairs, indices in drawings:
        runs.put(encoder, mixtures, pairs, indices)
    decoder = StreamDecoder(encoder.finish())
    for pairs, indices in drawings:
        found = runs.take(decoder, mixtures, pairs)
        assert found.dtype == np.int32
        assert np.array_equal(found, indices)
    decoder.finish()


@BOTH
def test_pair_0_sends_nothing(mixtures: GroupMixtures) -> None:
    pairs = np.zeros((GROUPS, 4, 4), np.int64)
    stream = StreamEncoder()
    runs.put(stream, mixtures, pairs, np.zeros(pairs.shape, np.int32))
    assert stream.finish() == b""
    decoder = StreamDecoder(b"")
    assert not runs.take(decoder, mixtures, pairs).any()
    decoder.finish()
    assert not runs.index_bits(mixtures, pairs, np.zeros(pairs.shape, np.int32)).any()


def test_pair_0_sends_nothing_among_others() -> None:
    pairs, indices = drawn(SHARED, 2)
    sent = pairs != 0
    assert not sent.all()
    one, other = StreamEncoder(), StreamEncoder()
    runs.put(one, SHARED, pairs, indices)
    runs.put(other, SHARED, pairs[sent][None], indices[sent][None])
    assert one.finish() == other.finish()


@BOTH
def test_pair_0_refuses_other_codes(mixtures: GroupMixtures) -> None:
    pairs = np.array([[3, 0], [0, 5]])
    runs.put(StreamEncoder(), mixtures, pairs, np.array([[8, 0], [0, 8]]))
    with pytest.raises(ModelError, match="leaves no choice"):
        runs.put(StreamEncoder(), mixtures, pairs, np.array([[8, 1], [0, 8]]))


@pytest.mark.parametrize(
    ("mixtures", "index"),
    [
        *[(OWN, index) for index in (-1, CODES, 10**6)],
        *[(SHARED, index) for index in (-1, CODES, 2 + CODES * 4, 4 + CODES * 16, 6 + CODES * 65536)],
    ],
)
def test_indices_that_there_are_not(mixtures: GroupMixtures, index: int) -> None:
    pairs = np.full((2, 2), 7)
    if mixtures.shared and index >= 2 * CODES:
        runs.put(StreamEncoder(), mixtures, pairs, np.array([[0, 1], [2, index - CODES]]))
    with pytest.raises(ModelError, match=f"no index {index} there"):
        runs.put(StreamEncoder(), mixtures, pairs, np.array([[0, 1], [2, index]]))


@BOTH
def test_a_payload_that_fits_no_code(mixtures: GroupMixtures) -> None:
    with pytest.raises(FormatError):
        runs.take(StreamDecoder(b"\xff" * 8), mixtures, np.full((2, 2), 7))


@BOTH
def test_bits_are_those_of_the_stream(mixtures: GroupMixtures) -> None:
    pairs, indices = drawn(mixtures, 3, (60, 60))
    bits = runs.index_bits(mixtures, pairs, indices)
    assert bits.shape == pairs.shape
    stream = StreamEncoder()
    runs.put(stream, mixtures, pairs, indices)
    ideal = float(bits.sum(dtype=np.float64))
    assert ideal - 1 <= 8 * len(stream.finish()) <= ideal * 1.0001 + 16
    places = [(pairs != 0).nonzero(), (pairs == 0).nonzero()]
    for place in zip(*places[0], strict=True):
        code = indices[place] % CODES
        (table,) = mixtures.tables(0 if mixtures.shared else place[0], pairs[place].reshape(1))
        assert bits[place] == pytest.approx(24 - np.log2(table[code]) + mixtures.point_bits[code], abs=1e-4)
    assert not bits[places[1]].any()


class TestPoints:
    def test_codewords(self) -> None:
        indices = np.arange(CODES).reshape(1, -1).repeat(GROUPS, 0)
        assert np.array_equal(OWN.points(indices), OWN.codebook)

    def test_a_square_of_points_around_its_codeword(self) -> None:
        for code, extra in enumerate(EXTRA.tolist()):
            side = 1 << extra
            points = SHARED.points(code + CODES * np.arange(side**2)[None])[0]
            rows, columns = np.divmod(np.arange(side**2), side)
            expected = SHARED.codebook[0, code] + 32 * np.stack([rows, columns], 1) - 16 * (side - 1)
            assert np.array_equal(points, expected)


BIT = np.eye(CODES, dtype=np.int8)
WRONG = (EXTRA[:-1], EXTRA.astype(np.int16), EXTRA[None], EXTRA + BIT[6], EXTRA - BIT[1], EXTRA + BIT[0])


@pytest.mark.parametrize("extra", WRONG)
def test_extra_bits_that_are_refused(extra: Array) -> None:
    tensors = group_tensors(np.random.default_rng(0), "", (1, CODES, 2), CLASSES)
    load_mixtures(tensors | {"extra": EXTRA}, (GROUPS, CODES, 2), shared=True)
    with pytest.raises(ModelError, match="'extra' of groups"):
        load_mixtures(tensors | {"extra": extra}, (GROUPS, CODES, 2), shared=True)


def test_only_codes_of_two_dimensions_have_extra_bits() -> None:
    shape = (GROUPS, CODES, 4)
    tensors = group_tensors(np.random.default_rng(0), "", (1, *shape[1:]), CLASSES)
    load_mixtures(tensors | {"extra": 0 * EXTRA}, shape, shared=True)
    with pytest.raises(ModelError, match="'extra' of groups"):
        load_mixtures(tensors | {"extra": EXTRA}, shape, shared=True)
