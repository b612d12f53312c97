"""Whole files, damaged in every small way. What a damaged file may do is fail, with a FormatError."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gmvqzip.entropy import coder
from gmvqzip.entropy.alpha import compress_alpha
from gmvqzip.entropy.codes import codes_crc32
from gmvqzip.entropy.tables import frequencies
from gmvqzip.errors import FormatError
from gmvqzip.format.checksum import crc8
from gmvqzip.format.container import MAGIC, pack, read_header, unpack

STRIDES = (32, 16)
SIZES = (16, 300)


@cache
def tables() -> list[NDArray[np.int64]]:
    return [frequencies(1 / np.arange(1, size + 1)) for size in SIZES]


def shapes(width: int, height: int) -> list[tuple[int, int]]:
    return [(-(-height // 32) * 32 // stride, -(-width // 32) * 32 // stride) for stride in STRIDES]


@cache
def make(width: int, height: int, with_sections: bool = False, seed: int = 0) -> bytes:
    """A complete file with codes drawn from their tables."""
    rng = np.random.default_rng(seed)
    stages = [
        rng.choice(len(table), shape, p=table / table.sum())
        for table, shape in zip(tables(), shapes(width, height), strict=True)
    ]
    sections = {}
    if with_sections:
        sections = {1: compress_alpha(np.full((height, width), 7, dtype=np.uint8)), 70: b"note"}
    return pack(
        width=width,
        height=height,
        model_id=bytes(range(32)),
        quality=50,
        gray=False,
        codes_crc32=codes_crc32(stages),
        payload=coder.encode(list(zip(stages, tables(), strict=True))),
        sections=sections,
    )


def read(data: bytes) -> list[NDArray[Any]]:
    """Read a file wholly: container, payload, codes check."""
    box = unpack(data, max_pixels=2**22)
    sizes = [rows * columns for rows, columns in shapes(box.header.width, box.header.height)]
    stages = coder.decode(box.payload, list(zip(sizes, tables(), strict=True)))
    if not box.header.accepts(codes_crc32(stages)):
        raise FormatError("codes check")
    return list(stages)


FILES = {
    "short": (100, 60, False),
    "short, no codes but zero": (1, 1, False),
    "short with sections": (100, 60, True),
    "long": (300, 70, False),
    "long with sections": (300, 70, True),
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_whole_before_they_are_damaged(name: str) -> None:
    assert [stage.size for stage in read(make(*FILES[name]))] == [r * c for r, c in shapes(*FILES[name][:2])]


@pytest.mark.parametrize("name", FILES)
def test_every_value_of_every_byte_is_noticed_by_the_container(name: str) -> None:
    data = make(*FILES[name])
    for position in range(len(data)):
        changed = bytearray(data)
        for value in set(range(256)) - {data[position]}:
            changed[position] = value
            with pytest.raises(FormatError):
                unpack(bytes(changed))


def test_every_byte_of_a_larger_file() -> None:
    data = make(800, 600)
    rng = random.Random(0)
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ rng.randrange(1, 256)]) + data[position + 1 :]
        with pytest.raises(FormatError):
            unpack(changed)


@pytest.mark.parametrize("name", FILES)
def test_cut_at_every_length(name: str) -> None:
    data = make(*FILES[name])
    for length in range(len(data)):
        with pytest.raises(FormatError):
            read(data[:length])


def test_cut_at_every_length_of_a_larger_file() -> None:
    data = make(800, 600, seed=1)
    noticed_late = 0
    for length in range(len(data)):
        try:
            unpack(data[:length])
        except FormatError:
            continue
        noticed_late += 1
        with pytest.raises(FormatError):
            read(data[:length])
    assert noticed_late < 3 * len(data) / 256


def test_cut_payload_under_right_container_checks() -> None:
    """The payload's canonical end and the codes check see what the container's checks are made not to see."""
    data = make(300, 70)
    start = read_header(data)[1]
    for length in range(start, len(data)):
        cut = data[:length]
        with pytest.raises(FormatError):
            read(cut[:3] + bytes([crc8(cut[:3] + cut[4:])]) + cut[4:])


def test_trailing_bytes() -> None:
    data = make(300, 70)
    for tail in (b"\0", b"\0\0\0\0", b"x", b"\x80" + bytes(7), data):
        longer = data + tail
        with pytest.raises(FormatError, match="damaged or cut"):
            read(longer)
        with pytest.raises(FormatError, match="payload"):
            read(longer[:3] + bytes([crc8(longer[:3] + longer[4:])]) + longer[4:])


def survives(data: bytes) -> None:
    for function in (read_header, unpack, read):
        try:
            function(data)
        except FormatError as error:
            assert "\n" not in str(error)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    survives(data)
    survives(MAGIC + data)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([0x20, 0x24, 0x28, 0x2C, 0x30, 0x34, 0x3C]), st.binary(max_size=60), st.data())
def test_any_bytes_under_right_checks(flags: int, rest: bytes, data: st.DataObject) -> None:
    """Nonsense that passes both checks, to reach the parsers behind them."""
    front = MAGIC + bytes([flags])
    end = data.draw(st.integers(8, 16))
    rest = rest[:end] + bytes([crc8(front + rest[:end])]) + rest[end:]
    survives(front + bytes([crc8(front + rest)]) + rest)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(FILES)), st.data())
def test_several_changes(name: str, data: st.DataObject) -> None:
    changed = bytearray(make(*FILES[name]))
    for _ in range(data.draw(st.integers(2, 5))):
        position = data.draw(st.integers(0, len(changed) - 1))
        action = data.draw(st.sampled_from(["set", "delete", "insert"]))
        if action == "set":
            changed[position] = data.draw(st.integers(0, 255))
        elif action == "insert":
            changed.insert(position, data.draw(st.integers(0, 255)))
        elif len(changed) > 1:
            del changed[position]
    survives(bytes(changed))
