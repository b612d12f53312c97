"""Packs that claim as much as a small file can: refused or read within 1 GiB of memory."""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from gmvqzip.format.packheader import Slot, empty_header, slot_offset
from gmvqzip.format.varint import write_varint

MEMORY = 1 << 30  # bytes
CHILD = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
from gmvqzip.errors import FormatError
from gmvqzip.pack import PackFile
try:
    with PackFile(sys.argv[1]) as pack:
        print(len(pack.names))
except FormatError as error:
    print(error)
"""


def kinds(count: int) -> bytes:
    return write_varint(count) + b"".join(b"\0\0" + write_varint(number) + b"\0\0\0" for number in range(count))


def front(count: int, previous: tuple[int, int] | None, own_kinds: int = 1) -> bytes:
    chain = write_varint(previous[0]) + previous[1].to_bytes(4, "big") if previous else b"\0"
    return write_varint(count) + chain + b"\1" + bytes(8) + b"\0" + kinds(own_kinds)


def long_names(count: int, previous: tuple[int, int] | None) -> bytes:
    """Names of 256 bytes, of which each states one."""
    return (
        front(count, previous)
        + b"\1"
        + b"\2" * count
        + b"\0"
        + b"\xff" * (count - 1)
        + b"x" * 255
        + b"\0"
        + b"x\0" * (count - 1)
    )


def nothing_but_zeros(count: int, previous: tuple[int, int] | None) -> bytes:
    """An index near its limit."""
    return front(count, previous) + b"\1" + b"\2" * count + bytes(30 << 20)


def many_kinds(count: int, previous: tuple[int, int] | None) -> bytes:
    """A kind for each picture."""
    planes = b"".join(bytes(number >> 8 * plane & 0xFF for number in range(count)) for plane in range(3))
    names = b"".join(b"%x\0" % number for number in range(count))
    return front(count, previous, count) + planes + b"\1" + b"\2" * count + bytes(count) + names


def one_picture(count: int, previous: tuple[int, int] | None) -> bytes:
    """One of very many segments."""
    return front(count, previous) + b"\1\2\0" + b"%x\0" % (previous[1] if previous else 0)


@pytest.mark.parametrize(
    ("build", "count", "segments", "said"),
    [
        (long_names, 300_000, 1, "one name"),
        (nothing_but_zeros, 1000, 2, "does not hold its names"),
        (nothing_but_zeros, 1000, 3, "inflate to more"),
        (many_kinds, 100_000, 1, "100000"),
        (one_picture, 1, 16_384, "16384"),
        (one_picture, 1, 16_385, "more than 16384 segments"),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_bounded(
    tmp_path: Path,
    build: Callable[[int, tuple[int, int] | None], bytes],
    count: int,
    segments: int,
    said: str,
) -> None:
    data, previous = bytearray(empty_header()), None
    for _ in range(segments):
        index = zlib.compress(build(count, previous))
        previous = len(index), zlib.crc32(index)
        data += bytes(2 * count) + index
    assert previous is not None
    slot = Slot(len(data), *previous).write()
    data[slot_offset(0) : slot_offset(0) + len(slot)] = slot
    path = tmp_path / "hostile.gmvqp"
    path.write_bytes(data)
    assert path.stat().st_size < 1 << 20
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert said in done.stdout.decode()
