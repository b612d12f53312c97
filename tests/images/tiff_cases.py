"""Odd TIFF files, each with what a reader expects of it."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import made_files as made
import numpy as np
from made_files import DEFLATE, FLOAT, LZW, PACKBITS, SIGNED, page, tiff, tiff_of
from odd_cases import HEIGHT, RNG, WIDTH, Case, depth_note, drawn, levels, three
from PIL import Image

LAYOUTS: list[dict[str, Any]] = [
    {},
    {"rows": 4},
    {"tile": (16, 16)},
    {"compression": LZW, "rows": 5},
    {"compression": DEFLATE},
    {"compression": PACKBITS, "rows": 1},
    {"compression": DEFLATE, "tile": (16, 32)},
    {"rows": 3, "fill_order": 2},
]


def layouts() -> Iterator[dict[str, Any]]:
    """All layouts and byte orders in turn."""
    while True:
        for number, layout in enumerate(LAYOUTS):
            yield layout | {"order": "<>"[number % 2]}
        for layout in LAYOUTS:
            yield layout | {"big": True}


def tiff_gray() -> Iterator[Case]:
    samples = drawn(8, 1)
    data = tiff(samples, 8, 1, order=">", big=True)  # of which Pillow cannot read the metadata
    yield Case("tiff big, high byte first", data, three(samples.astype(np.uint8)), quiet=False)
    turn = layouts()
    for bits in range(1, 17):
        for photometric in (0, 1):
            for _ in range(2):
                samples, layout = drawn(bits, 1), next(turn)
                plane = levels(samples, (1 << bits) - 1)
                expected = three(255 - plane if photometric == 0 else plane)
                name = f"tiff gray {bits} bits, photometric {photometric}, {layout}"
                yield Case(name, tiff(samples, bits, photometric, **layout), expected, says=depth_note(bits))
    for bits in (8, 16):
        for order in "<>":
            samples = drawn(bits, 1)
            for layout in ({}, {"tile": (16, 16)}):
                data = tiff(samples, bits, 1, order=order, compression=LZW, predictor=2, **layout)
                expected = three(levels(samples, (1 << bits) - 1))
                yield Case(f"tiff gray {bits} predictor {order} {layout}", data, expected, says=depth_note(bits))


def tiff_colours() -> Iterator[Case]:
    turn = layouts()
    for bits in (1, 2, 4, 5, 8, 10, 12, 14, 16):
        for planar in (1, 2):
            samples, layout = drawn(bits, 3), next(turn)
            expected = levels(samples, (1 << bits) - 1)
            data = tiff(samples, bits, 2, planar=planar, **layout)
            yield Case(f"tiff rgb {bits} bits, planar {planar}, {layout}", data, expected, says=depth_note(bits))
    for bits in (8, 16):
        samples = drawn(bits, 3)
        data = tiff(samples, bits, 2, compression=DEFLATE, predictor=2, planar=2, order=">")
        yield Case(f"tiff rgb {bits} predictor", data, levels(samples, (1 << bits) - 1), says=depth_note(bits))
        for planar in (1, 2):
            samples, layout, most = drawn(bits, 4), next(turn), (1 << bits) - 1
            alpha = levels(samples[:, :, 3], most)
            for extra in (2, None):
                tags = {338: (3, [extra])} if extra else {}
                data = tiff(samples, bits, 2, planar=planar, tags=tags, **layout)
                name = f"tiff rgba {bits} bits, planar {planar}, extra {extra}"
                yield Case(name, data, levels(samples[:, :, :3], most), alpha, says=depth_note(bits))
            times = (samples[:, :, :3] * samples[:, :, 3:]) // most
            share = np.maximum(samples[:, :, 3:].astype(np.float64), 1)
            straight = np.minimum(np.floor(times / share * 255 + 0.5), 255).astype(np.uint8)
            stored = np.concatenate([times, samples[:, :, 3:]], axis=2)
            data = tiff(stored, bits, 2, planar=planar, tags={338: (3, [1])}, **layout)
            yield Case(f"tiff associated alpha {bits}, planar {planar}", data, straight, alpha, 1, depth_note(bits))
            data = tiff(samples, bits, 2, planar=planar, tags={338: (3, [0])}, **layout)
            says = (*depth_note(bits), "1 further channel")
            yield Case(f"tiff unnamed channel {bits} {planar}", data, levels(samples[:, :, :3], most), says=says)
    gray = drawn(8, 2)
    data = tiff(gray, 8, 1, tags={338: (3, [2])})
    yield Case("tiff gray with alpha", data, three(gray.astype(np.uint8)), gray[:, :, 1].astype(np.uint8))
    six = drawn(8, 6)
    data = tiff(six, 8, 2, tags={338: (3, [0, 2, 0])})
    alpha = six[:, :, 4].astype(np.uint8)
    yield Case("tiff alpha among others", data, six[:, :, :3].astype(np.uint8), alpha, says=("2 further channels",))


def tiff_others() -> Iterator[Case]:
    turn = layouts()
    for bits in (1, 2, 3, 4, 6, 8):
        table = RNG.integers(0, 65536, (3, 1 << bits), dtype=np.uint16)
        samples = drawn(bits, 1)
        expected = levels(table.T, 65535)[samples[:, :, 0].astype(int)]
        data = tiff(samples, bits, 3, tags={320: (3, table.ravel().tolist())}, **next(turn))
        yield Case(f"tiff palette of {bits} bits", data, expected)
    table = RNG.integers(0, 256, (3, 16), dtype=np.uint16)
    samples = drawn(4, 1)
    data = tiff(samples, 4, 3, tags={320: (3, table.ravel().tolist())})
    yield Case("tiff palette of small numbers", data, table.T.astype(np.uint8)[samples[:, :, 0].astype(int)])
    table = RNG.integers(0, 256, (3, 256), dtype=np.uint16)
    samples = drawn(8, 1)
    data = tiff(samples, 8, 3, tags={320: (3, (table << 8).ravel().tolist())})
    yield Case("tiff palette of shifted numbers", data, table.T.astype(np.uint8)[samples[:, :, 0].astype(int)])
    for bits in (8, 16):
        for planar in (1, 2):
            ink = drawn(bits, 4)
            shares = 1 - ink.astype(np.float64) / ((1 << bits) - 1)
            expected = np.rint(255 * shares[:, :, :3] * shares[:, :, 3:]).astype(np.uint8)
            says = (*depth_note(bits), "CMYK converted")
            data = tiff(ink, bits, 5, planar=planar, **next(turn))
            yield Case(f"tiff cmyk {bits} bits, planar {planar}", data, expected, within=3, says=says)
    for across, down in ((1, 1), (2, 1), (2, 2), (4, 2)):
        yield _ycbcr(across, down)
    for bits, half in ((8, 128), (16, 32768)):
        light = np.zeros((HEIGHT, WIDTH, 3), np.uint64)
        light[:, :, 0] = np.linspace(0, (1 << bits) - 1, WIDTH).astype(np.uint64)
        share = light[:, :, :1] / ((1 << bits) - 1) * 100
        y = np.where(share > 8, ((share + 16) / 116) ** 3, share / 903.3)
        shown = np.where(y <= 0.0031308, 12.92 * y, 1.055 * np.maximum(y, 1e-9) ** (1 / 2.4) - 0.055)
        expected = three(np.rint(shown * 255).astype(np.uint8))
        says = (*depth_note(bits), "LAB converted")
        yield Case(f"tiff lab {bits}", tiff(light, bits, 8), expected, within=2, says=says)
        light[:, :, 1:] = half
        yield Case(f"tiff icclab {bits}", tiff(light, bits, 9), expected, within=2, says=says)
    for size in (16, 32, 64):
        values = RNG.random((HEIGHT, WIDTH, 3)).astype(f"f{size // 8}")
        for predictor, order in ((1, "<"), (1, ">"), (3, "<"), (3, ">")):
            options: dict[str, Any] = {"compression": DEFLATE, "predictor": predictor} if predictor > 1 else {}
            data = tiff(values, size, 2, kind=FLOAT, order=order, **options)
            expected = np.rint(values.astype(np.float64) * 255).astype(np.uint8)
            yield Case(f"tiff float {size} {order} {predictor}", data, expected, says=("floating-point",))
    for orientation in range(2, 9):
        upright = drawn(8, 3).astype(np.uint8)
        stored = {
            2: upright[:, ::-1],
            3: upright[::-1, ::-1],
            4: upright[::-1],
            5: upright.swapaxes(0, 1),
            6: np.rot90(upright, 1),
            7: upright[::-1, ::-1].swapaxes(0, 1),
            8: np.rot90(upright, -1),
        }[orientation]
        data = tiff(stored, 8, 2, rows=2, tags={274: (3, orientation)})
        yield Case(f"tiff orientation {orientation}", data, upright)


def _ycbcr(across: int, down: int) -> Case:
    """YCbCr in units of across x down pixels that share a chroma."""
    height, width = 8, 16
    y = RNG.integers(0, 256, (height, width))
    chroma = RNG.integers(90, 166, (height // down, width // across, 2))
    rows = []
    for row in range(0, height, down):
        for column in range(0, width, across):
            rows += y[row : row + down, column : column + across].ravel().tolist()
            rows += chroma[row // down, column // across].tolist()
    cb, cr = (np.repeat(np.repeat(chroma[..., i], down, 0), across, 1) - 128.0 for i in (0, 1))
    red, blue = y + 1.402 * cr, y + 1.772 * cb
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    expected = np.rint(np.clip(np.stack([red, green, blue], axis=2), 0, 255)).astype(np.uint8)
    tags = {530: (3, [across, down])}
    head, _ = page(np.zeros((height, width, 3), np.uint64), 8, 6, tags=tags)
    return Case(f"tiff ycbcr {across}x{down}", tiff_of([(head, [bytes(rows)])]), expected, within=1)


def tiff_refused() -> Iterator[Case]:
    rgb = drawn(8, 3)
    gray = drawn(8, 1)
    for bits in (17, 24, 31, 32, 33, 48, 63, 64):
        data = tiff(drawn(min(bits, 63), 1), bits, 1)
        yield Case(f"tiff of {bits} bits", data, says=(f"{bits}-bit integer samples have no agreed black and white",))
    for bits in (8, 16, 32):
        data = tiff(gray.astype(np.int64), bits, 1, kind=SIGNED)
        yield Case(f"tiff signed {bits}", data, says=(f"signed {bits}-bit samples",))
    for values in (1.5, -0.5, np.nan, np.inf):
        samples = np.full((HEIGHT, WIDTH, 1), values, np.float32)
        yield Case(
            f"tiff float {values}", tiff(samples, 32, 1, kind=FLOAT), says=("floating-point samples beyond 0 to 1",)
        )
    samples = np.zeros((HEIGHT, WIDTH, 1), np.complex64)
    yield Case("tiff complex", tiff(samples, 64, 1, kind=made.COMPLEX), says=("complex samples",))
    for photometric, words in (
        (4, "mask"),
        (10, "ITU"),
        (32803, "raw samples"),
        (32844, "LogL"),
        (32845, "LogLuv"),
        (99, "99"),
    ):
        yield Case(f"tiff photometric {photometric}", tiff(rgb, 8, photometric), says=(words, "convert it"))
    yield Case("tiff without photometric", tiff(gray, 8, None), says=("does not say what its samples mean",))
    yield Case("tiff bits 5 6 5", tiff(rgb, 8, 2, tags={258: (3, [5, 6, 5])}), says=("several bits (5, 6, 5)",))
    yield Case("tiff other inks", tiff(drawn(8, 4), 8, 5, tags={332: (3, 2)}), says=("other inks",))
    yield Case("tiff of 65 bits", tiff(gray, 8, 1, tags={258: (3, 65)}), says=("65 bits per sample",))
    yield Case("tiff of webp", tiff(rgb, 8, 2, tags={259: (3, 50001)}), says=("compression 50001",))
    planes = tiff(rgb, 8, 2, planar=2, tags={259: (3, 7)})
    yield Case("tiff of jpeg in planes", planes, says=("8 bits per sample in planes",))
    yield Case("tiff of jpeg of 12 bits", tiff(drawn(12, 1), 12, 1, tags={259: (3, 7)}), says=("12 bits per sample",))
    big = tiff(rgb, 8, 2, big=True, order=">", tags={259: (3, 7)})
    yield Case("tiff of jpeg, big, high byte first", big, says=("cannot be read here", "LZW"))
    yield Case("tiff of jpeg xl", tiff(gray, 8, 1, tags={259: (3, 50002)}), says=("compression 50002",))
    yield Case("tiff predictor 3 of integers", tiff(gray, 8, 1, tags={317: (3, 3)}), says=("predictor 3",))
    yield Case("tiff raw", tiff(rgb, 8, 2, tags={50706: (4, 0x01040000)}), says=("camera's raw file",))
    small = page(rgb, 8, 2, tags={254: (4, 1), 330: (4, 8)})
    yield Case("tiff preview alone", tiff_of([small]), says=("only a preview",))
    data = tiff(rgb, 8, 2)
    yield Case("tiff cut", data[: len(data) // 3], says=("damaged or cut",))
    strips = tiff(rgb, 8, 2, rows=3, tags={279: (4, [7, 7, 7, 7, 7])})
    yield Case("tiff short strips", strips[: len(strips) // 2], says=("damaged or cut",))
    yield Case("tiff palette without colours", tiff(gray, 8, 3), says=("palette are missing",))


def below(data: bytes) -> bytes:
    """A TIFF of two pages whose second one only tag 330 of the first leads to."""
    out = bytearray(data)
    (start,) = struct.unpack_from("<I", out, 4)
    (count,) = struct.unpack_from("<H", out, start)
    end = start + 2 + 12 * count
    for place in range(start + 2, end, 12):
        if struct.unpack_from("<H", out, place)[0] == 330:
            out[place + 8 : place + 12] = out[end : end + 4]
    out[end : end + 4] = bytes(4)
    return bytes(out)


def tiff_pages() -> Iterator[Case]:
    first, second = drawn(8, 3), drawn(8, 3)
    expected = first.astype(np.uint8)
    yield Case("tiff of 2 pages", tiff_of([page(first, 8, 2), page(second, 8, 2)]), expected, says=("one of 2 pages",))
    preview = page(second[:4, :5], 8, 2, tags={254: (4, 1)})
    for order, pages in (("first", [preview, page(first, 8, 2)]), ("last", [page(first, 8, 2), preview])):
        yield Case(f"tiff preview {order}", tiff_of(pages), expected)
    mask = page(drawn(1, 1), 1, 4, tags={254: (4, 4)})
    yield Case("tiff with a mask", tiff_of([page(first, 8, 2), mask]), expected)
    yield Case("tiff with layers", tiff(first, 8, 2, tags={37724: (7, b"Adobe Photoshop")}), expected, says=("layers",))
    broken = bytearray(tiff_of([page(first, 8, 2), page(second, 8, 2)]))
    yield Case("tiff cut in page 2", bytes(broken[:-60]), expected, says=("one of 2 pages",))
    behind = ("2457 bytes behind the picture",)
    yield Case("tiff of a stack in one page", tiff(first, 8, 2) + bytes(range(1, 40)) * 63, expected, says=behind)
    yield Case("tiff with padding", tiff(first, 8, 2) + bytes(999) + b"GDAL", expected, says=("1003 bytes behind",))
    yield Case("tiff with a few bytes", tiff(first, 8, 2) + b"trailer", expected)
    yield Case("tiff of slices", tiff(first, 8, 2, tags={32997: (4, 3)}), expected, says=("first of 3 slices",))
    for kind, said in ((0, ("1 further picture in directories below",)), (1, ())):
        other = page(second, 8, 2, tags={254: (4, kind)})
        data = below(tiff_of([page(first, 8, 2, tags={330: (4, 0)}), other]))
        yield Case(f"tiff of a picture below, of kind {kind}", data, expected, says=said)
    curve = (3, list(range(0, 256 * 200, 200)))
    yield Case("tiff curve", tiff(first, 8, 2, tags={301: curve}), expected, says=("transfer function",))
    fax = np.zeros((8, 16), bool)
    fax[:, 5:9] = True
    file = io.BytesIO()
    Image.fromarray(~fax).save(file, "TIFF", compression="group4")
    yield Case("tiff fax", file.getvalue(), three(np.where(fax, 0, 255)[:, :, None].astype(np.uint8)))
