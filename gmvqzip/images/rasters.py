"""The parts of BMP, TGA, SGI, PCX, QOI, PSD, ICO and ICNS files, and what these hold that Pillow does not hand out.

Walkers give the ranges of a file, up to its end or to where it is damaged.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from gmvqzip.errors import ImageError
from gmvqzip.format.metadata import read_resources
from gmvqzip.images.notes import Range

_BMP_RLE = (1, 2)
_BMP_PROFILE_EMBEDDED = b"DEBM"
_BMP_V3, _BMP_V5 = 40, 124  # bytes of the usual header, and of that which may have a profile
_BEYOND = 1 << 62  # beyond any file's end
_TGA_FOOTER, _TGA_MARK = 26, b"TRUEVISION-XFILE."
_TGA_RLE = 8
_SGI_HEAD = 512
_PCX_HEAD, _PCX_PALETTE, _PCX_PALETTE_MARK = 128, 769, 12
_QOI_HEAD, _QOI_END = 14, 8
_PSD_EXIF, _PSD_XMP = 1058, 1060


def bmp_ranges(file: BinaryIO, found: dict[str, Any]) -> Iterator[Range]:
    """A bitmap, with its file's head or without (DIB). found: its colour profile."""
    head = _read(file, 0, 14 + _BMP_V5)
    size, start, header = struct.unpack_from("<I4xI", head, 2) + struct.unpack_from("<I", head, 14)
    if head[:2] != b"BM":
        yield from _dib_ranges(head)
        return
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HhHH", head, 18)
        compression = data_size = 0
    else:
        width, height, _, bits, compression, data_size = struct.unpack_from("<iiHHII", head, 18)
    yield Range(0, start)
    if compression in _BMP_RLE:
        yield Range(start, start + data_size if data_size else size)
    else:
        yield Range(start, start + (width * bits + 31) // 32 * 4 * abs(height))
    if header == _BMP_V5 and head[14 + 56 : 14 + 60] == _BMP_PROFILE_EMBEDDED:
        offset, length = struct.unpack_from("<II", head, 14 + 112)
        found["icc_profile"] = _read(file, 14 + offset, length)
        yield Range(14 + offset, 14 + offset + length)


def _dib_ranges(head: bytes) -> Iterator[Range]:
    header, width, height, _, bits, compression = struct.unpack_from("<IiiHHI", head)
    if header < _BMP_V3:  # of OS/2: not looked at
        yield Range(0, _BEYOND)
        return
    (colours,) = struct.unpack_from("<I", head, 32)
    palette = 4 * (colours or (1 << bits if bits <= 8 else 0))
    masks = 12 if compression == 3 and header == _BMP_V3 else 0
    if compression not in _BMP_RLE:
        yield Range(0, header + masks + palette + (width * bits + 31) // 32 * 4 * abs(height))
    else:
        (size,) = struct.unpack_from("<I", head, 20)
        yield Range(0, header + palette + size)


def tga_ranges(file: BinaryIO, found: dict[str, Any]) -> Iterator[Range]:
    """A picture with its palette; an extension area is not kept. found: the text that may stand before it."""
    head = _read(file, 0, 18)
    length = file.seek(0, os.SEEK_END)
    text, map_kind, kind, _, map_count, map_bits = struct.unpack_from("<BBBHHB", head)
    width, height, bits = struct.unpack_from("<HHB", head, 12)
    start = 18 + text + (map_count * (-(-map_bits // 8)) if map_kind else 0)
    if text:
        found["comment"] = _read(file, 18, text).rstrip(b"\0 ")
    pixel = -(-bits // 8)
    if kind & _TGA_RLE:
        end = start + _tga_rle_size(_read(file, start, length), width * height, pixel)
    else:
        end = start + width * height * pixel
    yield Range(0, end)
    if _TGA_MARK in _read(file, end, _TGA_FOOTER):
        yield Range(end, end + _TGA_FOOTER)
    elif length - _TGA_FOOTER >= end and _TGA_MARK in _read(file, length - _TGA_FOOTER, _TGA_FOOTER):
        yield Range(end, length - _TGA_FOOTER, "of TGA's extension or developer area")
        yield Range(length - _TGA_FOOTER, length)


def _tga_rle_size(data: bytes, pixels: int, size: int) -> int:
    place = 0
    while pixels > 0 and place < len(data):
        head = data[place]
        count = (head & 127) + 1
        place += 1 + (size if head & 128 else count * size)
        pixels -= count
    return place


def sgi_ranges(file: BinaryIO, found: dict[str, Any]) -> Iterator[Range]:
    """Planes, as they are or in runs of rows. found: the picture's name, bits per channel."""
    head = _read(file, 0, _SGI_HEAD)
    compressed, bytes_each, dimensions, width, height, planes = struct.unpack_from(">BBHHHH", head, 2)
    height, planes = height if dimensions > 1 else 1, planes if dimensions > 2 else 1
    found["depth"] = 8 * bytes_each
    name = head[24:104].partition(b"\0")[0]
    if name and name != b"no name":
        found["comment"] = name
    end = _SGI_HEAD + width * height * planes * bytes_each
    if compressed:
        rows = height * planes
        table = struct.unpack(f">{2 * rows}I", _read(file, _SGI_HEAD, 8 * rows))
        end = max(start + size for start, size in zip(table[:rows], table[rows:], strict=True))
    yield Range(0, end)


def pcx_ranges(file: BinaryIO, _: dict[str, Any]) -> Iterator[Range]:
    """Rows in runs, and the palette of 256 colours behind them."""
    file.seek(0)
    data = file.read()
    top, bottom = struct.unpack_from("<2xH2xH", data, 4)
    stride = data[65] * struct.unpack_from("<H", data, 66)[0]
    wanted, place = stride * (bottom - top + 1), _PCX_HEAD
    while wanted > 0 and place < len(data):
        runs = data[place] >= 0xC0
        wanted -= data[place] & 63 if runs else 1
        place += 1 + runs
    yield Range(0, place)
    palette = len(data) - _PCX_PALETTE
    if palette >= place and data[palette] == _PCX_PALETTE_MARK:
        yield Range(palette, len(data))
    elif data[3] == 8 and data[65] == 1 and data[place : place + 1] == bytes([_PCX_PALETTE_MARK]):
        end = place + _PCX_PALETTE  # Pillow looks for a palette at the very end
        raise ImageError(f"something stands behind the palette of this PCX: cut it to {end} bytes")


def qoi_ranges(file: BinaryIO, _: dict[str, Any]) -> Iterator[Range]:
    """Operations for as many pixels as there are, and the end mark."""
    file.seek(0)
    data = file.read()
    width, height = struct.unpack_from(">II", data, 4)
    pixels, place = width * height, _QOI_HEAD
    while pixels > 0 and place < len(data):
        head = data[place]
        if head == 0xFE:  # RGB
            place += 4
        elif head == 0xFF:  # RGBA
            place += 5
        elif head >= 0xC0:  # a run
            place += 1
            pixels -= head & 63
        else:  # 0x80 up: a difference of luma, of two bytes
            place += 2 if head >= 0x80 else 1
        pixels -= 1
    yield Range(0, place + _QOI_END)


def psd_ranges(file: BinaryIO, found: dict[str, Any]) -> Iterator[Range]:
    """Photoshop's five sections; layers are not kept. found: channels, EXIF, XMP and the other image resources."""
    channels, height, width, bits = struct.unpack(">HIIH", _read(file, 12, 12))
    found["channels"] = channels
    place = 26
    place += 4 + _number(file, place)
    size = _number(file, place)
    found["resources"] = _read(file, place + 4, size)
    for kind, data in read_resources(found["resources"]):
        name = {_PSD_EXIF: "exif", _PSD_XMP: "xmp"}.get(kind)
        if name is not None:
            found[name] = data
    yield Range(0, place + 4 + size)
    place += 4 + size
    size = _number(file, place)
    yield Range(place, place + 4)
    yield Range(place + 4, place + 4 + size, "of layers, masks and patterns")
    place += 4 + size
    (packed,) = struct.unpack(">H", _read(file, place, 2))
    rows = height * channels
    if packed == 1:
        counts = struct.unpack(f">{rows}H", _read(file, place + 2, 2 * rows))
        end = place + 2 + 2 * rows + sum(counts)
    else:
        end = place + 2 + rows * (-(-width * bits // 8))
    yield Range(place, end)


def ico_ranges(file: BinaryIO, found: dict[str, Any]) -> Iterator[Range]:
    """Icons of several sizes and depths. found: their number."""
    count = int.from_bytes(_read(file, 4, 2), "little")
    found["icons"] = count
    yield Range(0, 6 + 16 * count)
    for number in range(count):
        size, start = struct.unpack("<II", _read(file, 6 + 16 * number + 8, 8))
        yield Range(start, start + size)


def icns_ranges(file: BinaryIO, _: dict[str, Any]) -> Iterator[Range]:
    """Apple's icons: blocks up to a stated end."""
    yield Range(0, _number(file, 4))


def _read(file: BinaryIO, place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


def _number(file: BinaryIO, place: int) -> int:
    """The number of 4 bytes at a place, the high byte first."""
    return int(struct.unpack(">I", _read(file, place, 4))[0])
