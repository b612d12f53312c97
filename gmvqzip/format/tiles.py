"""Tiles: the squares of a large picture that are coded one by one, and the section that says where each one lies."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

from gmvqzip.errors import FormatError
from gmvqzip.format.limits import MAX_TILE_SIDE, MIN_TILE_SIDE
from gmvqzip.format.varint import read_varint, write_varint

_LENGTH_BYTES = 4  # the most that the varint of a tile's length takes
_CHECK_BYTES, _INDEX_CHECK_BYTES = 2, 4


@dataclass(frozen=True)
class Box:
    """The pixels of columns left to right - 1 and rows top to bottom - 1."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels."""
        return self.bottom - self.top

    def grown(self, margin: int, within: Box) -> Box:
        """With `margin` pixels more on each side, as far as they are within another box."""
        return Box(self.left - margin, self.top - margin, self.right + margin, self.bottom + margin).common(within)

    def common(self, other: Box) -> Box:
        """The pixels in both of two boxes that overlap."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        return Box(left, top, min(self.right, other.right), min(self.bottom, other.bottom))

    def seen_from(self, other: Box) -> Box:
        """The same pixels, counted from another box's corner."""
        return Box(self.left - other.left, self.top - other.top, self.right - other.left, self.bottom - other.top)

    def aligned(self, stride: int) -> Box:
        """The pixels of all cells of stride x stride pixels that have a pixel here."""
        rows, columns = self.cells(stride)
        return Box(columns.start * stride, rows.start * stride, columns.stop * stride, rows.stop * stride)

    def cells(self, stride: int = 1) -> tuple[slice, slice]:
        """Rows and columns of the cells of stride x stride pixels that have a pixel here."""
        rows = slice(self.top // stride, -(-self.bottom // stride))
        return rows, slice(self.left // stride, -(-self.right // stride))


@dataclass(frozen=True)
class TileGrid:
    """Squares of `side` pixels that cover a picture, numbered in raster order; the last of a row or column is less."""

    width: int
    height: int
    side: int

    @property
    def columns(self) -> int:
        """Tiles beside each other."""
        return -(-self.width // self.side)

    @property
    def rows(self) -> int:
        """Tiles above each other."""
        return -(-self.height // self.side)

    def __len__(self) -> int:
        return self.rows * self.columns

    @property
    def whole(self) -> Box:
        """All pixels."""
        return Box(0, 0, self.width, self.height)

    def box(self, number: int) -> Box:
        """The pixels of a tile."""
        row, column = divmod(number, self.columns)
        left, top = column * self.side, row * self.side
        return Box(left, top, min(left + self.side, self.width), min(top + self.side, self.height))

    def touched(self, box: Box) -> list[int]:
        """The tiles that have a pixel in a box, in raster order."""
        rows = range(box.top // self.side, -(-box.bottom // self.side))
        columns = range(box.left // self.side, -(-box.right // self.side))
        return [row * self.columns + column for row in rows for column in columns]


@dataclass(frozen=True)
class TileIndex:
    """What the section holds: the side of the tiles in pixels, and for each the bytes of its payload and its check."""

    side: int
    lengths: tuple[int, ...]
    checks: tuple[int, ...]  # the low 16 bits of the CRC-32 of the tile's indices

    @cached_property
    def spans(self) -> list[tuple[int, int]]:
        """Where each tile's payload starts and ends in the payload of the file."""
        return list(pairwise(accumulate(self.lengths, initial=0)))

    def accepts(self, number: int, codes_crc32: int) -> bool:
        """Whether indices with this CRC-32 are those of the tile."""
        return self.checks[number] == codes_crc32 & (1 << 8 * _CHECK_BYTES) - 1

    def write(self) -> bytes:
        """The content of the section."""
        out = bytearray([self.side.bit_length() - 1])
        for length, check in zip(self.lengths, self.checks, strict=True):
            out += write_varint(length) + check.to_bytes(_CHECK_BYTES, "big")
        return bytes(out) + zlib.crc32(out).to_bytes(_INDEX_CHECK_BYTES, "big")


def make_index(side: int, payloads: Sequence[bytes], codes_crc32: Sequence[int]) -> TileIndex:
    """The index of tiles with these payloads, and indices of these CRC-32."""
    low = (1 << 8 * _CHECK_BYTES) - 1
    return TileIndex(side, tuple(map(len, payloads)), tuple(crc & low for crc in codes_crc32))


def read_index(content: bytes, width: int, height: int) -> TileIndex:
    """The index in a section, of a picture of width x height coded pixels. Raises FormatError where it is damaged."""
    body, stored = content[:-_INDEX_CHECK_BYTES], content[-_INDEX_CHECK_BYTES:]
    if not body or zlib.crc32(body) != int.from_bytes(stored, "big"):
        raise FormatError("the index of the tiles is damaged: its check differs; get the file again")
    if not MIN_TILE_SIDE <= 1 << body[0] <= MAX_TILE_SIDE:
        raise FormatError(f"tiles of 2^{body[0]} pixels: sides run from {MIN_TILE_SIDE} to {MAX_TILE_SIDE}")
    grid = TileGrid(width, height, 1 << body[0])
    count = len(grid)
    if count < 2:
        raise FormatError("the picture is a single tile, which has no index: the file is damaged")
    if (1 + _CHECK_BYTES) * count > len(body) - 1:
        raise FormatError(f"the index of {count} tiles is cut: the file is damaged")
    lengths, checks, position = [], [], 1
    for _ in range(count):
        length, position = read_varint(body, position, longest=_LENGTH_BYTES, what="length of a tile")
        lengths.append(length)
        checks.append(int.from_bytes(body[position : position + _CHECK_BYTES], "big"))
        position += _CHECK_BYTES
    if position != len(body):
        raise FormatError("the index of the tiles does not end where it should: the file is damaged")
    return TileIndex(grid.side, tuple(lengths), tuple(checks))
