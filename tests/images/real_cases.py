"""More than 200 odd files of real formats, each with what a reader expects of it, known without reading it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import made_files as made
import numpy as np
from made_files import png
from odd_cases import HEIGHT, RNG, WIDTH, Case, depth_note, drawn, levels, three
from PIL import Image
from tiff_cases import tiff_colours, tiff_gray, tiff_others, tiff_pages, tiff_refused


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
