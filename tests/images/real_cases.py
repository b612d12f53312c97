"""More than 200 odd files of real formats, each with what a reader expects of it, known without reading it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import made_files as made
import numpy as np
from made_files import DEFLATE, FLOAT, LZW, PACKBITS, SIGNED, page, png, tiff, tiff_of
from PIL import Image

HEIGHT, WIDTH = 13, 21
RNG = np.random.default_rng(20)


@dataclass
class Case:
    """A file and its meaning: right pixels (and alpha), or a refusal; and words of what must be said."""

    name: str
    data: bytes
    pixels: np.ndarray | None = None  # [H, W, 3]; None: refused
    alpha: np.ndarray | None = None
    within: float = 0  # levels
    says: tuple[str, ...] = ()  # words of the refusal, or of one note each
    quiet: bool = field(default=True)  # nothing else is said


def levels(samples: np.ndarray, most: float) -> np.ndarray:
    """0 to most -> 0 to 255, rounded to the nearest."""
    return np.floor(samples.astype(np.float64) * 255 / most + 0.5).astype(np.uint8)


def three(plane: np.ndarray) -> np.ndarray:
    return np.repeat(plane[:, :, :1], 3, axis=2)


def drawn(bits: int, channels: int) -> np.ndarray:
    """Random samples with both ends of the range among them."""
    samples = RNG.integers(0, 1 << bits, (HEIGHT, WIDTH, channels), dtype=np.uint64)
    samples[0, 0], samples[0, 1] = 0, (1 << bits) - 1
    return samples


def depth_note(bits: int) -> tuple[str, ...]:
    return (f"{bits} bits per channel reduced",) if bits > 8 else ()


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


def png_kinds() -> Iterator[Case]:
    for colour, channels, depths in ((0, 1, (1, 2, 4, 8, 16)), (2, 3, (8, 16)), (4, 2, (8, 16)), (6, 4, (8, 16))):
        for depth in depths:
            for interlaced in (False, True):
                samples, most = drawn(depth, channels), (1 << depth) - 1
                plain = levels(samples, most)
                pixels = plain[:, :, :3] if channels > 2 else three(plain)
                alpha = plain[:, :, -1] if colour & 4 else None
                name = f"png {colour} of {depth} bits{' interlaced' * interlaced}"
                yield Case(
                    name, png(samples, depth, colour, interlaced=interlaced), pixels, alpha, says=depth_note(depth)
                )
                if colour & 4:
                    continue
                for place in ((0, 1), (6, 7)):
                    key = samples[place].astype(int)
                    hit = (samples == key).all(axis=2)
                    keyed = struct.pack(f">{channels}H", *key)
                    data = png(samples, depth, colour, before=[(b"tRNS", keyed)], interlaced=interlaced)
                    shown = np.where(hit, 0, 255).astype(np.uint8)
                    yield Case(f"{name} tRNS {place}", data, pixels, shown, says=depth_note(depth))
    near = np.full((HEIGHT, WIDTH, 3), 0x1234, np.uint64)
    near[:, 5:] = 0x1235  # the same high byte
    data = png(near, 16, 2, before=[(b"tRNS", struct.pack(">3H", *[0x1234] * 3))])
    alpha = np.where(np.arange(WIDTH) < 5, 0, 255).astype(np.uint8)[None].repeat(HEIGHT, 0)
    yield Case("png rgb 16 tRNS of a low byte", data, levels(near, 65535), alpha, says=depth_note(16))
    for depth in (1, 2, 4, 8):
        count = min(1 << depth, 40)
        table = RNG.integers(0, 256, (count, 3), dtype=np.uint8)
        samples = RNG.integers(0, count, (HEIGHT, WIDTH, 1), dtype=np.uint64)
        places = samples[:, :, 0].astype(int)
        for seen in ((), (0,), tuple(range(200, 200 + count))):
            opacity = np.full(count, 255, np.uint8)
            opacity[: len(seen)] = seen
            before = [(b"PLTE", table.tobytes())] + ([(b"tRNS", bytes(seen))] if seen else [])
            alpha = opacity[places] if (opacity[places] < 255).any() else None
            yield Case(f"png palette {depth} {len(seen)}", png(samples, depth, 3, before=before), table[places], alpha)


def _light(samples: np.ndarray, gamma: float) -> np.ndarray:
    light = (samples / 255.0) ** gamma
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-12) ** (1 / 2.4) - 0.055)
    return np.floor(shown * 255 + 0.5).astype(np.uint8)


def png_spaces() -> Iterator[Case]:
    rgb = drawn(8, 3)
    pixels = rgb.astype(np.uint8)
    linear, usual, p3 = struct.pack(">I", 100_000), struct.pack(">I", 45_455), b"\x0c\x0d\0\1"
    srgb_points = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    p3_points = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    said = ("converted to sRGB",)
    yield Case("png gAMA 1", png(rgb, 8, 2, before=[(b"gAMA", linear)]), _light(pixels, 1.0), says=said)
    yield Case(
        "png gAMA 1/1.8",
        png(rgb, 8, 2, before=[(b"gAMA", struct.pack(">I", 55_556))]),
        _light(pixels, 1.8),
        within=1,
        says=said,
    )
    gray = drawn(8, 1)
    data = png(gray, 8, 0, before=[(b"gAMA", linear)])
    yield Case("png gray gAMA 1", data, three(_light(gray, 1.0)), says=said)
    yield Case("png gAMA of sRGB", png(rgb, 8, 2, before=[(b"gAMA", usual)]), pixels)
    data = png(rgb, 8, 2, before=[(b"gAMA", usual), (b"cHRM", srgb_points)])
    yield Case("png gAMA and cHRM of sRGB", data, pixels)
    data = png(rgb, 8, 2, before=[(b"sRGB", b"\0"), (b"gAMA", linear), (b"cHRM", p3_points)])
    yield Case("png sRGB overrules", data, pixels)
    data = png(rgb, 8, 2, before=[(b"gAMA", struct.pack(">I", 50_000)), (b"cHRM", p3_points)])
    yield Case("png cHRM of P3", data, from_p3(pixels, 2.0), within=1, says=("colours converted to sRGB",))
    yield Case("png cICP of P3", png(rgb, 8, 2, before=[(b"cICP", p3)]), from_p3(pixels), within=1, says=("clipped",))
    data = png(rgb, 8, 2, before=[(b"cICP", b"\1\x0d\0\1"), (b"gAMA", linear)])
    yield Case("png cICP overrules", data, pixels)
    for transfer, name in ((16, "PQ"), (18, "HLG")):
        data = png(rgb, 8, 2, before=[(b"cICP", bytes([9, transfer, 0, 1]))])
        yield Case(f"png {name}", data, pixels, says=(f"high dynamic range ({name})",))
    narrow = np.clip((pixels.astype(float) - 16) / 219, 0, 1)
    data = png(rgb, 8, 2, before=[(b"cICP", b"\1\x0d\0\0")])
    yield Case("png narrow range", data, np.rint(narrow * 255).astype(np.uint8), within=1, says=said)
    data = png(rgb, 8, 2, before=[(b"cICP", b"\xc8\xc8\0\1")])
    yield Case("png unknown cICP", data, pixels, says=("not converted",))
    icc = (b"iCCP", b"x\0\0" + zlib.compress(made.matrix_profile(2.2)))
    yield Case("png iCCP overrules gAMA", png(rgb, 8, 2, before=[icc, (b"gAMA", linear)]), pixels)
    yield Case("png gAMA 0", png(rgb, 8, 2, before=[(b"gAMA", bytes(4))]), pixels)
    yield Case("png cHRM of nothing", png(rgb, 8, 2, before=[(b"cHRM", bytes(32))]), pixels)
    deep = drawn(16, 3)
    data = png(deep, 16, 2, before=[(b"gAMA", linear)])
    expected = _light(deep.astype(np.float64) / 257, 1.0)
    yield Case("png deep gAMA 1", data, expected, says=(*depth_note(16), *said))
    big = (b"iCCP", b"x\0\0" + zlib.compress(made.matrix_profile(2.2) + bytes(3 << 20)))
    yield Case("png of a profile of 3 MiB", png(rgb, 8, 2, before=[big]), pixels)
    for kind, content in (
        (b"zTXt", b"a\0\0" + zlib.compress(bytes(17 << 20))),
        (b"iCCP", b"x\0\0" + zlib.compress(bytes(17 << 20))),
        (b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(17 << 20))),
    ):
        for where in ("before", "after"):
            if (kind, where) != (b"iCCP", "after"):
                data = png(rgb, 8, 2, **{where: [(kind, content)]})
                yield Case(f"png {kind.decode()} of 17 MiB {where}", data, pixels, says=("more than 16777216 bytes",))
    data = png(rgb, 8, 2, before=[(b"zTXt", b"a\0\0" + zlib.compress(bytes(3 << 20)))])
    yield Case("png of a text of 3 MiB", data, pixels, quiet=False)
    yield Case("png and more", png(rgb, 8, 2) + b"a video" * 9, pixels, says=("63 bytes behind the picture",))
    yield Case("png and padding", png(rgb, 8, 2) + bytes(99), pixels)


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    if "append_images" in options:
        options["append_images"] = [other.copy() for other in options["append_images"]]
    image.copy().save(file, file_format, **options)  # a copy: Pillow keeps options of one format for the next
    return file.getvalue()


def other_formats() -> Iterator[Case]:
    pixels = drawn(8, 3).astype(np.uint8)
    image, other = Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())
    jpeg = saved(image, "JPEG", quality=90)
    shown = np.asarray(Image.open(io.BytesIO(jpeg)))
    for name, options in (
        ("baseline", {}),
        ("progressive", {"progressive": True}),
        ("restarts", {"restart_marker_rows": 1}),
    ):
        data = saved(image, "JPEG", quality=90, **options)
        yield Case(f"jpeg {name}", data, shown, within=2)
        yield Case(f"jpeg {name} with padding", data + bytes(50), shown, within=2)
        yield Case(
            f"jpeg {name} with a video",
            data + b"\0\0\0\x18ftypmp42" + bytes(40),
            shown,
            within=2,
            says=("behind the picture",),
        )
    yield Case("jpeg with a gain map", jpeg + jpeg, shown, says=("behind the picture",))
    both = saved(image, "MPO", save_all=True, append_images=[other], quality=90)
    yield Case("mpo", both, shown, within=2, says=("one of 2 pictures",))
    inks = image.convert("CMYK")
    data = saved(inks, "JPEG", quality=98, subsampling=0)
    yield Case("jpeg of cmyk", data, pixels, within=60, says=("CMYK converted",))
    for file_format, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        data = saved(image, file_format, save_all=True, append_images=[other], **options)
        yield Case(f"{file_format} animated", data, pixels, says=("only one of 2",))
    flat = Image.new("RGB", (WIDTH, HEIGHT), (10, 200, 30))
    data = saved(flat, "GIF", save_all=True, append_images=[Image.new("RGB", flat.size, (9, 9, 9))])
    yield Case("gif animated", data, np.asarray(flat), says=("only one of 2 frames",))
    large = Image.new("RGBA", (64, 64), (10, 200, 30, 255))
    data = saved(large, "ICO", sizes=[(16, 16), (32, 32), (64, 64)])
    yield Case("ico of 3 sizes", data, np.asarray(large)[:, :, :3], says=("one of 3 sizes",))
    yield Case("ico of one size", saved(large, "ICO", sizes=[(64, 64)]), np.asarray(large)[:, :, :3])
    large = large.resize((1024, 1024))
    yield Case("icns", saved(large, "ICNS"), np.asarray(large)[:, :, :3], says=("sizes",))
    for most in (1, 31, 255, 1000, 65535):
        samples = RNG.integers(0, most + 1, (HEIGHT, WIDTH, 3))
        body = samples.astype(">u2" if most > 255 else np.uint8).tobytes()
        data = b"P6\n# a comment\n%d %d %d\n" % (WIDTH, HEIGHT, most) + body
        said = depth_note(most.bit_length())
        yield Case(f"ppm up to {most}", data, levels(samples, most), within=most > 255, says=said)
        body = samples[:, :, :1].astype(">u2" if most > 255 else np.uint8).tobytes()
        data = b"P5 %d %d %d\n" % (WIDTH, HEIGHT, most) + body
        yield Case(f"pgm up to {most}", data, three(levels(samples[:, :, :1], most)), within=most > 255, says=said)
    whole = b"P6 %d %d 255\n" % (WIDTH, HEIGHT) + pixels.tobytes()
    yield Case("two ppm", whole + whole, pixels, says=("behind the picture",))
    deep = Image.fromarray(drawn(16, 1)[:, :, 0].astype(np.uint16))
    data = saved(deep, "JPEG2000", irreversible=False)
    yield Case(
        "jpeg 2000 of 16 bits", data, three(levels(np.asarray(deep)[:, :, None], 65535)), within=1, says=depth_note(16)
    )
    for file_format, options in (
        ("BMP", {}),
        ("TGA", {}),
        ("SGI", {}),
        ("PCX", {}),
        ("QOI", {}),
        ("JPEG2000", {}),
        ("DIB", {}),
    ):
        yield Case(file_format, saved(image, file_format, **options), pixels)
    yield from boxed(pixels)


def boxed(pixels: np.ndarray) -> Iterator[Case]:
    from PIL import features

    image = Image.fromarray(np.kron(pixels[:8, :8], np.ones((8, 8, 1), np.uint8)))
    if features.check("avif"):
        data = saved(image, "AVIF", quality=100, subsampling="4:4:4")
        plain = np.asarray(Image.open(io.BytesIO(data)))
        yield Case("avif", data, plain)
        place = data.index(b"nclx") + 4
        wide = data[:place] + struct.pack(">HH", 12, 13) + data[place + 4 :]
        moved = np.asarray(Image.open(io.BytesIO(wide)))
        yield Case("avif of P3", wide, from_p3(moved), within=1, says=("clipped",))
        bright = data[:place] + struct.pack(">HH", 9, 16) + data[place + 4 :]
        yield Case("avif of PQ", bright, np.asarray(Image.open(io.BytesIO(bright))), says=("high dynamic range (PQ)",))


def from_p3(pixels: np.ndarray, gamma: float | None = None) -> np.ndarray:
    """From Display P3 to sRGB, by the matrix of its standard; gamma: of samples that do not have the curve of sRGB."""
    values = pixels / 255
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    if gamma is not None:
        light = values**gamma
    matrix = np.array([[1.2249402, -0.2249402, 0], [-0.0420570, 1.0420570, 0], [-0.0196376, -0.0786361, 1.0982736]])
    light = np.clip(light @ matrix.T, 0, 1)
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-12) ** (1 / 2.4) - 0.055)
    return np.rint(shown * 255).astype(np.uint8)


PARTS = (tiff_gray, tiff_colours, tiff_others, tiff_refused, tiff_pages, png_kinds, png_spaces, other_formats)


def all_cases() -> list[Case]:
    return [case for part in PARTS for case in part()]
