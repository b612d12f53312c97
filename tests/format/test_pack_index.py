"""The index of a pack: columns, kinds, names; and every way in which it can lie."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmvqzip.errors import FormatError
from gmvqzip.format.packindex import Index, Kind, check_name, pack_names, read_index, unpack_names, write_index
from gmvqzip.format.varint import write_varint

ROOM = 1 << 30
KIND = Kind(bytes(8), 32, 32, 0)

kinds = st.builds(
    Kind,
    model_id=st.binary(min_size=8, max_size=8),
    width=st.integers(1, 2**21),
    height=st.integers(1, 2**21),
    quality=st.integers(0, 100),
    gray=st.booleans(),
    has_sections=st.booleans(),
    profile=st.binary(max_size=20),
)
parts = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
names = st.lists(parts.filter(lambda part: part not in (".", "..")), min_size=1, max_size=4).map("/".join)


def round_trip(index: Index) -> Index:
    stored = write_index(index)
    return read_index(stored, zlib.crc32(stored), ROOM)[0]


def raw(*columns: bytes) -> bytes:
    return zlib.compress(b"".join(columns))


def refused(stored: bytes, room: int = ROOM) -> str:
    with pytest.raises(FormatError) as caught:
        read_index(stored, zlib.crc32(stored), room)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(st.data(), st.none() | st.tuples(st.integers(1, 2**25), st.integers(0, 2**32 - 1)))
def test_round_trip(data: st.DataObject, previous: Any) -> None:
    own = data.draw(st.lists(kinds, min_size=1, max_size=5, unique=True))
    count = data.draw(st.integers(len(own), 20))
    numbers = data.draw(st.lists(st.integers(0, len(own) - 1), min_size=count, max_size=count))
    lengths = data.draw(st.lists(st.integers(2, 2**34), min_size=count, max_size=count))
    titles = data.draw(st.lists(names, min_size=count, max_size=count, unique=True))
    index = round_trip(Index(previous, own, numbers, lengths, pack_names(titles)))
    assert (index.previous, index.kinds) == (previous, own)
    assert (list(index.kind_numbers), list(index.lengths)) == (numbers, lengths)
    assert unpack_names(index.packed_names, count)[0] == titles


def test_many_kinds_take_more_planes() -> None:
    own = [Kind(bytes(8), 1 + n % 500, 1 + n // 500, 0) for n in range(700)]
    index = round_trip(Index(None, own, range(700), [300] * 700, pack_names([str(n) for n in range(700)])))
    assert list(index.kind_numbers) == list(range(700))
    assert index.kinds == own


def test_an_index_without_pictures() -> None:
    assert len(round_trip(Index())) == 0


def test_what_pictures_share_costs_next_to_nothing() -> None:
    count = 10_000
    titles = pack_names([f"{n:05d}" for n in range(count)])
    same = write_index(Index(None, [KIND], bytes(count), [80] * count, titles))
    assert len(same) < 0.05 * count
    varied = [76 + (n * n // 7) % 8 for n in range(count)]
    assert len(write_index(Index(None, [KIND], bytes(count), varied, titles))) < (3 / 8 + 0.1) * count


@given(st.lists(names, max_size=20))
def test_names(titles: list[str]) -> None:
    packed = pack_names(titles)
    assert unpack_names(packed, len(titles))[0] == titles


def test_a_name_may_share_at_most_255_bytes() -> None:
    titles = ["x" * 300 + "a", "x" * 300 + "b"]
    packed = pack_names(titles)
    assert packed[1] == 255
    assert unpack_names(packed, 2)[0] == titles


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", ".", "../a", "a/./b", "a\0b", "\udcff", "é" * 513])
def test_bad_names(name: str) -> None:
    with pytest.raises(FormatError):
        check_name(name)
    with pytest.raises(FormatError):
        pack_names([name])


@pytest.mark.parametrize("name", ["a", "...", "..a", "a b", "a\\b", "é" * 512, "new\nline"])
def test_good_names(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("packed", "count"),
    [
        (b"", 1),
        (b"\0", 1),
        (b"\0a", 1),
        (b"\0a\0b", 1),
        (b"\0a\0b\0", 1),
        (b"\0\0a\0", 2),
        (b"\1a\0", 1),
        (b"\0\3ab\0c\0", 2),
        (b"\0\xff\0", 1),
        (b"\0..\0", 1),
    ],
)
def test_damaged_names(packed: bytes, count: int) -> None:
    with pytest.raises(FormatError):
        unpack_names(packed, count)


def test_names_are_bounded() -> None:
    shared = bytes([0]) + bytes([255]) * 9_999
    packed = shared + b"x" * 255 + b"\0" * 10_000
    with pytest.raises(FormatError, match="limit"):
        unpack_names(packed, 10_000, most=100_000)


FRONT = write_varint(1) + write_varint(0)
MODELS = write_varint(1) + bytes(8)
NO_PROFILES = write_varint(0)
GOOD_KIND = bytes([0, 0, 31, 31, 0, 0])
REST = bytes([1, 9]) + b"\0a\0"


def test_the_parts_by_hand() -> None:
    stored = raw(FRONT, MODELS, NO_PROFILES, write_varint(1), GOOD_KIND, REST)
    index, inflated = read_index(stored, zlib.crc32(stored), ROOM)
    assert (index.kinds, list(index.lengths)) == ([KIND], [9])
    assert inflated == 24


@pytest.mark.parametrize(
    "stored",
    [
        raw(FRONT, MODELS, NO_PROFILES, write_varint(0), REST),
        raw(FRONT, MODELS, NO_PROFILES, write_varint(2), GOOD_KIND, GOOD_KIND, REST),
        raw(FRONT, MODELS, NO_PROFILES, write_varint(1), bytes([1, 0, 31, 31, 0, 0]), REST),
        raw(FRONT, MODELS, NO_PROFILES, write_varint(1), bytes([0, 1, 31, 31, 0, 0]), REST),
        raw(FRONT, MODELS, NO_PROFILES, write_varint(1), bytes([0, 0, 31, 31, 101, 0]), REST),
        raw(FRONT, MODELS, NO_PROFILES, write_varint(1), bytes([0, 0, 31, 31, 0, 4]), REST),
        raw(FRONT, MODELS, NO_PROFILES, write_varint(1), b"\0\0", write_varint(2**21), bytes([31, 0, 0]), REST),
        raw(FRONT, MODELS, NO_PROFILES, write_varint(1), GOOD_KIND, bytes([1, 1]), b"\0a\0"),
        raw(FRONT, MODELS, NO_PROFILES, write_varint(1), GOOD_KIND, bytes([6]), bytes(6), b"\0a\0"),
        raw(FRONT, MODELS, NO_PROFILES, write_varint(1), GOOD_KIND, bytes([0]), b"\0a\0"),
        raw(FRONT, MODELS, write_varint(1), write_varint(99), b"short"),
        raw(FRONT, MODELS, write_varint(1), write_varint(0), write_varint(1), bytes([0, 1, 31, 31, 0, 0]), REST),
        raw(write_varint(2**20 + 1)),
        raw(write_varint(1), write_varint(7), b"abc"),
        raw(FRONT, MODELS)[:-1],
        raw(FRONT, MODELS, NO_PROFILES, write_varint(1), GOOD_KIND, REST) + b"x",
        b"no zlib stream",
        b"",
    ],
)
def test_a_lying_index(stored: bytes) -> None:
    refused(stored)


def test_another_index_than_the_check_says() -> None:
    stored = write_index(Index())
    with pytest.raises(FormatError, match="check differs"):
        read_index(stored, zlib.crc32(stored) ^ 1, ROOM)


def test_more_records_than_there_is_room_for() -> None:
    stored = write_index(Index(None, [KIND], bytes(50), [2] * 50, pack_names([str(n) for n in range(50)])))
    assert "49 is the most" in refused(stored, room=99)
    read_index(stored, zlib.crc32(stored), 100)


def test_a_bomb_is_not_inflated_to_its_end() -> None:
    assert "inflates to more" in refused(zlib.compress(bytes(2**25 + 1), 9))


def test_limits_of_the_writer() -> None:
    with pytest.raises(FormatError, match="limit"):
        write_index(Index(None, [KIND], bytes(2**20 + 1), bytes([2]) * (2**20 + 1)))
    with pytest.raises(FormatError, match="beyond"):
        write_index(Index(packed_names=bytes(2**25)))
