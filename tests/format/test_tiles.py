import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmvqzip.errors import FormatError
from gmvqzip.format.limits import MAX_SIDE
from gmvqzip.format.tiles import Box, TileGrid, TileIndex, make_index, read_index
from gmvqzip.format.varint import write_varint

sides = st.sampled_from([2**power for power in range(5, 13)])


def sealed(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "big")


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 1000), st.integers(1, 1000), st.sampled_from([32, 64, 128]))
def test_tiles_cover_a_picture_once(width: int, height: int, side: int) -> None:
    grid = TileGrid(width, height, side)
    boxes = [grid.box(number) for number in range(len(grid))]
    assert sum(box.width * box.height for box in boxes) == width * height
    assert boxes == sorted(boxes, key=lambda box: (box.top, box.left))
    assert (boxes[0].left, boxes[0].top, boxes[-1].right, boxes[-1].bottom) == (0, 0, width, height)
    for box in boxes:
        assert 0 < box.width <= side
        assert 0 < box.height <= side


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 500), st.integers(1, 500), st.sampled_from([32, 64]))
def test_touched_tiles_are_those_with_a_common_pixel(data: st.DataObject, width: int, height: int, side: int) -> None:
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = Box(left, top, data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height)))
    grid = TileGrid(width, height, side)
    common = [grid.box(number).common(box) for number in range(len(grid))]
    assert grid.touched(box) == [number for number, part in enumerate(common) if part.width > 0 and part.height > 0]


def test_boxes() -> None:
    box = Box(10, 20, 40, 60)
    assert (box.width, box.height) == (30, 40)
    assert box.grown(15, Box(0, 0, 50, 100)) == Box(0, 5, 50, 75)
    assert box.seen_from(Box(5, 20, 90, 90)) == Box(5, 0, 35, 40)
    assert box.cells() == (slice(20, 60), slice(10, 40))
    assert box.cells(16) == (slice(1, 4), slice(0, 3))


@settings(max_examples=100, deadline=None)
@given(st.data(), sides, st.integers(1, 5), st.integers(1, 5))
def test_round_trip(data: st.DataObject, side: int, rows: int, columns: int) -> None:
    count = rows * columns
    if count < 2:
        return
    lengths = data.draw(st.lists(st.integers(0, 2**28 - 1), min_size=count, max_size=count))
    checks = data.draw(st.lists(st.integers(0, 2**16 - 1), min_size=count, max_size=count))
    index = TileIndex(side, tuple(lengths), tuple(checks))
    assert read_index(index.write(), columns * side, rows * side) == index
    assert [end - start for start, end in index.spans] == lengths
    assert index.spans[0][0] == 0


def test_an_index_of_payloads() -> None:
    index = make_index(64, [b"abc", b"", b"de"], [0x12345678, 0xFFFF0000, 5])
    assert index.lengths == (3, 0, 2)
    assert index.spans == [(0, 3), (3, 3), (3, 5)]
    assert index.checks == (0x5678, 0, 5)
    assert index.accepts(0, 0xAAAA5678)
    assert not index.accepts(0, 0x12345679)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.booleans(), st.integers(1, 2**21), st.integers(1, 2**21))
def test_any_bytes_give_an_index_or_a_format_error(body: bytes, right: bool, width: int, height: int) -> None:
    content = sealed(body) if right else body
    try:
        index = read_index(content, width, height)
    except FormatError:
        return
    assert index.write() == content
    assert len(index.lengths) == len(TileGrid(width, height, index.side))


@given(st.integers(0, 11), st.integers(1, 255))
@settings(max_examples=50, deadline=None)
def test_a_damaged_byte_is_seen(place: int, flip: int) -> None:
    content = bytearray(TileIndex(64, (300, 5), (1, 2)).write())
    content[place] ^= flip
    with pytest.raises(FormatError, match="check differs"):
        read_index(bytes(content), 100, 60)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x04" + bytes(6), "2\\^4 pixels: sides run from 32 to 4096"),
        (b"\x0d" + bytes(6), "2\\^13 pixels"),
        (b"\xff" + bytes(6), "2\\^255 pixels"),
        (b"\x07" + bytes(3), "a single tile"),
        (b"\x06", "index of 2 tiles is cut"),
        (b"\x06" + bytes(5), "index of 2 tiles is cut"),
        (b"\x06" + bytes(7), "does not end where it should"),
        (b"\x06" + write_varint(128) + bytes(4), "does not end where it should"),
        (b"\x06" + bytes(3) + write_varint(2**28) + bytes(2), "length of a tile takes more than 4 bytes"),
        (b"\x06\x80\x00" + bytes(5), "not written in the fewest bytes"),
    ],
)
def test_refusals(body: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_index(sealed(body), 100, 60)


def test_an_index_too_short_for_its_picture_is_refused_at_once() -> None:
    with pytest.raises(FormatError, match="index of 4294967296 tiles is cut"):
        read_index(sealed(b"\x05" + bytes(100)), MAX_SIDE, MAX_SIDE)


def test_an_empty_index() -> None:
    for content in (b"", b"\0\0\0\0", b"\x06"):
        with pytest.raises(FormatError, match="damaged"):
            read_index(content, 100, 60)
