"""TIFF and PNG files made by hand, after their specifications and without any library that reads or writes them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
UNSIGNED, SIGNED, FLOAT, COMPLEX = 1, 2, 3, 6
_TYPES = {3: "H", 4: "I", 11: "f", 16: "Q"}


def packed(samples: np.ndarray, bits: int, order: str = "<") -> bytes:
    """Rows of samples [rows, n]: whole bytes in the file's order, other depths as fields from the highest bit on."""
    if samples.dtype.kind in "fc":
        return samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    if bits in (8, 16, 32, 64):
        return samples.astype(f"{order}{'i' if samples.dtype.kind == 'i' else 'u'}{bits // 8}").tobytes()
    rows = []
    for row in samples.astype(object):
        number, count = 0, 0
        for value in row:
            number, count = (number << bits) | (int(value) & ((1 << bits) - 1)), count + bits
        spare = -count % 8
        rows.append((number << spare).to_bytes((count + spare) // 8, "big"))
    return b"".join(rows)


def lzw(data: bytes) -> bytes:
    """LZW that never uses its table: a clear code before every 200 bytes, so that codes stay 9 bits long."""
    codes: list[int] = []
    for start in range(0, len(data), 200):
        codes += [256, *data[start : start + 200]]
    number = 1
    for code in [*codes, 257]:
        number = (number << 9) | code
    text = f"{number:b}"[1:]
    return int(text + "0" * (-len(text) % 8), 2).to_bytes((len(text) + 7) // 8, "big")


def packbits(data: bytes) -> bytes:
    """Runs of literals alone."""
    parts = [data[start : start + 128] for start in range(0, len(data), 128)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


COMPRESS = {NONE: bytes, LZW: lzw, DEFLATE: zlib.compress, PACKBITS: packbits}


def _differences(samples: np.ndarray, bits: int) -> np.ndarray:
    """Predictor 2: each sample [rows, columns, channels] less the one to its left."""
    values = samples.astype(np.int64)
    values[:, 1:] -= samples.astype(np.int64)[:, :-1]
    return (values & ((1 << bits) - 1)).astype(np.uint64)


def _float_differences(samples: np.ndarray) -> bytes:
    """Predictor 3 of Technical Note 3."""
    rows, columns, channels = samples.shape
    size = samples.dtype.itemsize
    data = np.frombuffer(samples.astype(samples.dtype.newbyteorder(">")).tobytes(), np.uint8)
    apart = data.reshape(rows, columns * channels, size).swapaxes(1, 2).reshape(rows, -1, channels).astype(np.int16)
    out = apart.copy()
    out[:, 1:] -= apart[:, :-1]
    return (out & 255).astype(np.uint8).tobytes()


def page(
    samples: np.ndarray,
    bits: int,
    photometric: int | None,
    *,
    order: str = "<",
    compression: int = NONE,
    predictor: int = 1,
    planar: int = 1,
    rows: int | None = None,
    tile: tuple[int, int] | None = None,
    kind: int = UNSIGNED,
    fill_order: int = 1,
    tags: dict[int, tuple[int, Any]] | None = None,
) -> tuple[dict[int, tuple[int, Any]], list[bytes]]:
    """(tags, strips or tiles) of samples [H, W, channels]; tags: {number: (type, value or values)}."""
    height, width, channels = samples.shape
    groups = [samples] if planar == 1 else [samples[:, :, i : i + 1] for i in range(channels)]
    pieces = []
    for group in groups:
        if tile is not None:
            across, down = -(-width // tile[0]), -(-height // tile[1])
            whole = np.zeros((down * tile[1], across * tile[0], group.shape[2]), group.dtype)
            whole[:height, :width] = group
            blocks = [
                whole[y * tile[1] : (y + 1) * tile[1], x * tile[0] : (x + 1) * tile[0]]
                for y in range(down)
                for x in range(across)
            ]
        else:
            blocks = [group[top : top + (rows or height)] for top in range(0, height, rows or height)]
        for block in blocks:
            if predictor == 3:
                data = _float_differences(block)
            else:
                if predictor == 2:
                    block = _differences(block, bits)
                data = packed(block.reshape(len(block), -1), bits, order)
            data = COMPRESS[compression](data)
            if fill_order == 2:
                data = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
            pieces.append(data)
    found: dict[int, tuple[int, Any]] = {
        256: (4, width),
        257: (4, height),
        258: (3, [bits] * channels),
        259: (3, compression),
        277: (3, channels),
        284: (3, planar),
        317: (3, predictor),
        339: (3, [kind] * channels),
    }
    if photometric is not None:
        found[262] = (3, photometric)
    if fill_order != 1:
        found[266] = (3, fill_order)
    if tile is not None:
        found |= {322: (4, tile[0]), 323: (4, tile[1])}
    else:
        found[278] = (4, rows or height)
    return found | (tags or {}), pieces


def tiff_of(
    pages: Sequence[tuple[dict[int, tuple[int, Any]], list[bytes]]], *, order: str = "<", big: bool = False
) -> bytes:
    """A TIFF, or BigTIFF, of pages made by `page`."""
    word, counter = ("Q", "Q") if big else ("I", "H")
    mark = b"II" if order == "<" else b"MM"
    out = bytearray(mark + struct.pack(f"{order}HHHQ", 43, 8, 0, 0) if big else mark + struct.pack(f"{order}HI", 42, 0))
    link = 8 if big else 4
    for tags, pieces in pages:
        offsets = []
        for piece in pieces:
            offsets.append(len(out))
            out += piece
        tiled = 322 in tags
        entries = dict(tags)
        entries[324 if tiled else 273] = (16 if big else 4, offsets)
        entries[325 if tiled else 279] = (4, [len(piece) for piece in pieces])
        table = []
        for number, (kind, value) in sorted(entries.items()):
            if isinstance(value, bytes):
                data, count = value, len(value)
            else:
                values = list(value) if isinstance(value, list | tuple) else [value]
                data, count = struct.pack(f"{order}{len(values)}{_TYPES[kind]}", *values), len(values)
            size = struct.calcsize(word)
            if len(data) > size:
                at = len(out)
                out += data + b"\0" * (len(data) % 2)
                data = struct.pack(f"{order}{word}", at)
            table.append(struct.pack(f"{order}HH{word}", number, kind, count) + data.ljust(size, b"\0"))
        out += b"\0" * (len(out) % 2)
        struct.pack_into(f"{order}{word}", out, link, len(out))
        out += struct.pack(f"{order}{counter}", len(table)) + b"".join(table)
        link = len(out)
        out += struct.pack(f"{order}{word}", 0)
    return bytes(out)


def tiff(samples: np.ndarray, bits: int, photometric: int | None, *, big: bool = False, **options: Any) -> bytes:
    """A TIFF of one page."""
    return tiff_of([page(samples, bits, photometric, **options)], order=options.get("order", "<"), big=big)


SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    samples: np.ndarray,
    depth: int,
    colour: int,
    *,
    before: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
    interlaced: bool = False,
) -> bytes:
    """A PNG of samples [H, W, channels]; chunks before and after the pixels."""
    height, width = samples.shape[:2]
    parts = [samples[y::down, x::across] for x, y, across, down in _PASSES] if interlaced else [samples]
    raw = b""
    for part in parts:
        if part.size:
            flat = packed(part.reshape(len(part), -1), depth, ">")
            size = len(flat) // len(part)
            raw += b"".join(b"\0" + flat[i * size : (i + 1) * size] for i in range(len(part)))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(raw)), *after, (b"IEND", b"")]
    return SIGNATURE + b"".join(chunk(*each) for each in chunks)


def matrix_profile(gamma: float, primaries: str = "srgb", *, gray: bool = False, name: str = "a profile") -> bytes:
    """An ICC profile (version 2) of a power curve, with the primaries of sRGB or Display P3."""
    colours = {
        "srgb": ((0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139)),
        "p3": ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)),
    }[primaries]

    def fixed(values: Sequence[float]) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    white = (0.9642, 1.0, 0.8249)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name.encode() + bytes(79)
    tags = [(b"desc", text), (b"cprt", b"text\0\0\0\0x\0"), (b"wtpt", b"XYZ \0\0\0\0" + fixed(white))]
    if gray:
        tags.append((b"kTRC", curve))
    else:
        tags += [
            (kind, b"XYZ \0\0\0\0" + fixed(xyz)) for kind, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colours, strict=True)
        ]
        tags += [(kind, curve) for kind in (b"rTRC", b"gTRC", b"bTRC")]
    table, data, start = b"", b"", 132 + 12 * len(tags)
    for kind, content in tags:
        content += bytes(-len(content) % 4)
        table += kind + struct.pack(">II", start + len(data), len(content))
        data += content
    body = struct.pack(">I", len(tags)) + table + data
    space = b"GRAY" if gray else b"RGB "
    head = struct.pack(">I4sI4s4s4s", 128 + len(body), b"lcms", 0x02400000, b"mntr", space, b"XYZ ")
    return head + bytes(12) + b"acsp" + bytes(28) + fixed(white) + bytes(48) + body
