"""The samples of a TIFF's page, as they are stored, of any depth: band after band, so that memory stays small."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from gmvqzip.errors import ImageError
from gmvqzip.images.opening import calm_pillow
from gmvqzip.images.tiffdirectory import Page, Tag

NONE, LZW, DEFLATE, PACKBITS, OLD_DEFLATE, LZMA, ZSTD = 1, 5, 8, 32773, 32946, 34925, 50000
PLAIN_COMPRESSIONS = (NONE, LZW, DEFLATE, PACKBITS, OLD_DEFLATE, LZMA, ZSTD)
"""Those that give back bytes, whatever the bytes mean."""
UNSIGNED, SIGNED, FLOAT, UNDEFINED = 1, 2, 3, 4

MAX_SAMPLES = 64  # of a pixel
_BAND_BYTES = 2**24  # of samples that are unpacked at once, where the file's own pieces are not larger
_MAX_PIECE = 2**31  # bytes of a strip or tile
_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)).reshape(256, 8)[:, ::-1], axis=1)[:, 0]

Samples = NDArray[Any]  # [rows, width, samples]; unsigned integers, or floats


@dataclass(frozen=True)
class Layout:
    """How samples lie in a page."""

    width: int
    height: int
    samples: int  # of a pixel
    bits: int  # of each sample
    kind: int  # UNSIGNED, SIGNED or FLOAT
    separate: bool  # a plane for each sample
    compression: int
    predictor: int
    fill_order: int
    piece_width: int  # pixels of a strip or tile
    piece_height: int
    units: tuple[int, int]  # of YCbCr: pixels, across and down, that share a Cb and a Cr; (1, 1) otherwise

    @property
    def across(self) -> int:
        """Pieces in a row of them."""
        return math.ceil(self.width / self.piece_width)

    @property
    def down(self) -> int:
        """Rows of pieces."""
        return math.ceil(self.height / self.piece_height)

    @property
    def in_piece(self) -> int:
        """Samples of a pixel in one piece."""
        return 1 if self.separate else self.samples

    @property
    def row_bytes(self) -> int:
        """Of a row of a piece, or of the rows that share chroma."""
        if self.units != (1, 1):
            right, down = self.units
            return math.ceil(self.piece_width / right) * (right * down + 2)
        return math.ceil(self.piece_width * self.in_piece * self.bits / 8)

    def rows(self, band: int) -> int:
        """Pixel rows of a row of pieces that lie in the picture."""
        return min(self.piece_height, self.height - band * self.piece_height)


def read_layout(page: Page) -> Layout:
    """How the samples of a page lie. ImageError: tags that contradict each other, or samples of several depths."""
    samples = page.one(Tag.SAMPLES, 1)
    width, height = page.one(Tag.WIDTH, 0), page.one(Tag.HEIGHT, 0)
    bits = _same(page, Tag.BITS, samples, 1)
    kind = _same(page, Tag.SAMPLE_FORMAT, samples, UNSIGNED)
    tiled = Tag.TILE_OFFSETS in page.tags or Tag.TILE_WIDTH in page.tags
    if not 1 <= samples <= MAX_SAMPLES:
        raise ImageError(f"a TIFF of {samples} samples per pixel cannot be read (at most {MAX_SAMPLES})")
    if not 1 <= bits <= 64:
        raise ImageError(f"a TIFF of {bits} bits per sample cannot be read (1 to 64)")
    if width < 1 or height < 1:
        raise ImageError(f"the picture has no pixels ({width}x{height})")
    piece = (
        (page.one(Tag.TILE_WIDTH, 0), page.one(Tag.TILE_HEIGHT, 0))
        if tiled
        else (width, min(height, page.one(Tag.ROWS_PER_STRIP, height) or height))
    )
    if min(piece) < 1 or max(piece) > 2**24:
        raise ImageError("the picture is damaged or cut: tiles of no size")
    separate = page.one(Tag.PLANAR, 1) == 2 and samples > 1
    units = (1, 1)
    if page.one(Tag.PHOTOMETRIC, 0) == 6:
        across, down = (int(value) for value in (*page.numbers(Tag.YCBCR_SUBSAMPLING), 2, 2)[:2])
        units = across, down
    return Layout(
        width=width,
        height=height,
        samples=samples,
        bits=bits,
        kind=UNSIGNED if kind == UNDEFINED else kind,
        separate=separate,
        compression=page.one(Tag.COMPRESSION, NONE),
        predictor=page.one(Tag.PREDICTOR, 1),
        fill_order=page.one(Tag.FILL_ORDER, 1),
        piece_width=piece[0],
        piece_height=piece[1],
        units=units,
    )


def _same(page: Page, tag: Tag, samples: int, default: int) -> int:
    """A value that each sample has of its own, and that must be one for all."""
    values = set(page.numbers(tag)[:samples]) or {default}
    if len(values) > 1:
        named = ", ".join(str(value) for value in page.numbers(tag)[:8])
        what = "bits" if tag is Tag.BITS else "kinds"
        raise ImageError(f"a TIFF with samples of several {what} ({named}) cannot be read: convert it first")
    return int(values.pop())


def read_bands(file: BinaryIO, page: Page, layout: Layout, planes: Sequence[int]) -> Iterator[Samples]:
    """The samples [rows, width, len(planes)] of some planes, by bands from the top.

    YCbCr with shared chroma has it repeated. Raises ImageError.
    """
    if layout.row_bytes * layout.piece_height > _MAX_PIECE:
        raise ImageError("the strips or tiles of this TIFF are too large to be read: save it with smaller ones")
    pieces = _Pieces(file, page, layout)
    one_band = layout.row_bytes * layout.piece_height * layout.across
    bands = max(1, _BAND_BYTES // (one_band * len(planes)))
    for first in range(0, layout.down, bands):
        last = min(layout.down, first + bands)
        stored = [pieces.read(first, last, plane) for plane in (planes if layout.separate else (0,))]
        tall = stored[0].shape[2]
        step = tall if one_band <= _BAND_BYTES else max(1, _BAND_BYTES // (layout.row_bytes * layout.across))
        for top in range(0, tall, step):
            found = [_unpacked(data[:, :, top : top + step], layout, page.order) for data in stored]
            samples = np.concatenate(found, axis=-1) if layout.separate else found[0][..., list(planes)]
            # [rows of pieces, pieces across, rows, columns, planes] -> rows and columns of the picture
            joined = samples.swapaxes(1, 2).reshape(samples.shape[0] * samples.shape[2], -1, len(planes))
            left = layout.height - first * layout.piece_height - top * layout.units[1]
            if left > 0:
                yield joined[:left, : layout.width]


class _Pieces:
    """Strips or tiles, decompressed."""

    def __init__(self, file: BinaryIO, page: Page, layout: Layout) -> None:
        self._file, self._page, self._layout = file, page, layout
        self._length = file.seek(0, io.SEEK_END)
        in_tiles = Tag.TILE_OFFSETS in page.tags
        offsets = page.numbers(Tag.TILE_OFFSETS if in_tiles else Tag.STRIP_OFFSETS)
        sizes = page.numbers(Tag.TILE_BYTES if in_tiles else Tag.STRIP_BYTES)
        planes = layout.samples if layout.separate else 1
        if len(offsets) < layout.across * layout.down * planes:
            raise ImageError("the picture is damaged or cut: strips or tiles are missing")
        if len(sizes) < len(offsets):  # some writers leave them out
            sizes = tuple(max(0, self._length - offset) for offset in offsets)
        self._offsets, self._sizes = offsets, sizes

    def read(self, first: int, last: int, plane: int) -> NDArray[np.uint8]:
        """Bytes [rows of pieces, pieces across, rows, bytes] of some rows of pieces; 0 beyond the picture."""
        layout = self._layout
        heights = [self._unit_rows(band) for band in range(first, last)]
        tall = self._unit_rows(None)
        out = np.zeros((last - first, layout.across, tall, layout.row_bytes), dtype=np.uint8)
        start = (plane * layout.down + first) * layout.across
        stored = [self._stored(start + i) for i in range((last - first) * layout.across)]
        flat = out.reshape(-1, tall, layout.row_bytes)
        if layout.compression == NONE:
            for place, data in enumerate(stored):
                rows = heights[place // layout.across]
                need = rows * layout.row_bytes
                if len(data) < need:
                    raise ImageError("the picture is damaged or cut: a strip or tile is too short")
                flat[place, :rows] = np.frombuffer(data, np.uint8, need).reshape(rows, layout.row_bytes)
            if layout.fill_order == 2:
                out = _REVERSED[out]
        else:
            whole = _decompress(stored, layout, sum(heights) * layout.across, tall)
            end = 0
            for place in range(len(stored)):
                rows = heights[place // layout.across]
                flat[place, :rows] = whole[end : end + rows]
                end += rows
        return out

    def _unit_rows(self, band: int | None) -> int:
        """Rows, or rows of shared chroma, of a row of pieces; of None a whole one."""
        layout = self._layout
        in_tiles = layout.piece_width != layout.width or Tag.TILE_OFFSETS in self._page.tags
        rows = layout.piece_height if band is None or in_tiles else layout.rows(band)
        return math.ceil(rows / layout.units[1])

    def _stored(self, number: int) -> bytes:
        offset, size = self._offsets[number], self._sizes[number]
        if self._layout.compression == NONE:  # some writers state too much
            size = min(size, self._length - offset, self._layout.row_bytes * self._layout.piece_height)
        if offset < 0 or size <= 0 or offset + size > self._length:
            raise ImageError("the picture is damaged or cut: a strip or tile lies beyond the file's end")
        self._file.seek(offset)
        return self._file.read(size)


def _decompress(stored: Sequence[bytes], layout: Layout, rows: int, tall: int) -> NDArray[np.uint8]:
    """The bytes [rows, row_bytes] of compressed pieces: handed to libtiff as a gray picture of as many bytes a row."""
    entries = {
        Tag.WIDTH: [layout.row_bytes],
        Tag.HEIGHT: [rows],
        Tag.BITS: [8],
        Tag.COMPRESSION: [layout.compression],
        Tag.PHOTOMETRIC: [1],
        Tag.FILL_ORDER: [layout.fill_order],
        Tag.STRIP_OFFSETS: [],
        Tag.SAMPLES: [1],
        Tag.ROWS_PER_STRIP: [tall],
        Tag.STRIP_BYTES: [len(data) for data in stored],
    }
    count = len(stored)
    tables = 8 + 2 + 12 * len(entries) + 4
    place = tables + (8 * count if count > 1 else 0)
    for data in stored:
        entries[Tag.STRIP_OFFSETS].append(place)
        place += len(data)
    out = io.BytesIO()
    out.write(struct.pack("<2sHIH", b"II", 42, 8, len(entries)))
    for tag, values in entries.items():
        at = tables + (4 * count if tag == Tag.STRIP_BYTES else 0)
        out.write(struct.pack("<HHII", tag, 4, len(values), values[0] if len(values) == 1 else at))
    out.write(bytes(4))
    for tag in (Tag.STRIP_OFFSETS, Tag.STRIP_BYTES) if count > 1 else ():
        out.write(struct.pack(f"<{count}I", *entries[tag]))
    for data in stored:
        out.write(data)
    out.seek(0)
    try:
        with calm_pillow(rows * layout.row_bytes), TiffImagePlugin.TiffImageFile(out) as image:
            return np.asarray(image)
    except MemoryError:
        raise
    except Exception as error:
        raise ImageError(f"the picture is damaged or cut: a strip or tile does not unpack ({error})") from error


def _unpacked(data: NDArray[np.uint8], layout: Layout, order: str) -> Samples:
    """Bytes [..., rows, bytes] -> samples [..., rows, columns, samples]."""
    if layout.units != (1, 1):
        return _shared_chroma(data, layout)
    shape = (*data.shape[:-1], layout.piece_width, layout.in_piece)
    if layout.predictor == 3:
        return _float_predicted(data, layout, shape)
    found: Samples
    if layout.bits in (8, 16, 32, 64):
        found = data.view(f"{order}u{layout.bits // 8}")
    elif layout.bits == 24:
        parts = data.reshape(*data.shape[:-1], -1, 3).astype(np.uint32)[..., :: -1 if order == "<" else 1]
        found = parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2]
    else:
        found = _bit_fields(data, layout.bits, layout.piece_width * layout.in_piece)
    found = found.reshape(shape)
    if layout.predictor == 2:
        native = found.astype(found.dtype.newbyteorder("="))
        found = np.cumsum(native, axis=-2, dtype=native.dtype)
        if layout.bits == 24:
            found &= 0xFFFFFF
    if layout.kind == FLOAT:
        found = found.astype(found.dtype.newbyteorder("=")).view(f"f{layout.bits // 8}")
    return found


def _bit_fields(data: NDArray[np.uint8], bits: int, count: int) -> Samples:
    """Fields of some bits, the highest first, `count` in a row."""
    single = np.unpackbits(data, axis=-1)[..., : bits * count].reshape(*data.shape[:-1], count, bits)
    if bits <= 8:
        return np.packbits(single, axis=-1)[..., 0] >> (8 - bits)
    found = np.zeros(single.shape[:-1], dtype=np.uint16 if bits <= 16 else np.uint64)
    for bit in range(bits):
        found = (found << found.dtype.type(1)) | single[..., bit]
    return found


def _float_predicted(data: NDArray[np.uint8], layout: Layout, shape: tuple[int, ...]) -> Samples:
    """Floats as differences of bytes, those of one significance together (TIFF Technical Note 3)."""
    size = layout.bits // 8
    sums = np.cumsum(data.reshape(*data.shape[:-1], -1, layout.in_piece), axis=-2, dtype=np.uint8)
    bytes_apart = sums.reshape(*data.shape[:-1], size, -1)
    joined = np.ascontiguousarray(bytes_apart.swapaxes(-1, -2))
    return joined.view(f">f{size}").reshape(shape)


def _shared_chroma(data: NDArray[np.uint8], layout: Layout) -> Samples:
    """YCbCr whose units have `right` x `down` of Y, then one Cb and one Cr, which are repeated."""
    right, down = layout.units
    bands, across, rows = data.shape[:3]
    units = data.reshape(bands, across, rows, -1, right * down + 2)
    luma = units[..., : right * down].reshape(*units.shape[:-1], down, right)
    out = np.empty((*luma.shape, 3), dtype=np.uint8)
    out[..., 0] = luma
    out[..., 1:] = units[..., None, None, right * down :]
    # [bands, across, rows, units, down, right, 3] -> [bands, across, rows * down, units * right, 3]
    flat = out.swapaxes(3, 4).reshape(bands, across, rows * down, -1, 3)
    return flat[:, :, : layout.piece_height, : layout.piece_width]  # a strip need not end with a unit
