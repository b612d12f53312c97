"""Files that hold more than their picture, of each format: what is kept of it, and what must be said to be lost."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from made_files import matrix_profile, png
from odd_cases import HEIGHT, WIDTH, Case, drawn, levels, three
from PIL import Image
from real_cases import from_p3, saved

from gmvqzip.format.metadata import JPEG_SEGMENT, PNG_CHUNK, Part

BEHIND = ("bytes behind the picture",)
KEPT_CHUNK = (b"oFFs", struct.pack(">iiB", 5, -7, 0))
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF/></x:xmpmeta>"


def jpeg_with(image: Image.Image, *segments: tuple[int, bytes]) -> bytes:
    extra = b"".join(b"\xff" + bytes([kind]) + struct.pack(">H", 2 + len(data)) + data for kind, data in segments)
    return saved(image, "JPEG", quality=95, extra=extra)


def riff(data: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A WebP file with further chunks."""
    width, height = WIDTH - 1, HEIGHT - 1
    head = bytes(4) + struct.pack("<I", width)[:3] + struct.pack("<I", height)[:3]
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + head + data[12:]
    for kind, content in more:
        body += kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def blocks(*contents: bytes) -> bytes:
    """Blocks of an extension of GIF."""
    return b"".join(bytes([len(content)]) + content for content in contents) + b"\0"


def chunk_kinds() -> Iterator[Case]:
    rgb = drawn(8, 3)
    pixels = rgb.astype(np.uint8)
    for kind in (b"oFFs", b"vpAg", b"abCd", b"gIFx"):
        for where in ("before", "after"):
            yield Case(f"png {kind!r} {where}", png(rgb, 8, 2, **{where: [(kind, b"12345678")]}), pixels)
    for kind in (b"sTER", b"mkBT", b"caBX", b"dSIG", b"LLLL", b"prVW"):
        data = png(rgb, 8, 2, before=[(kind, b"layers" * 9)])
        yield Case(f"png {kind!r}", data, pixels, says=(f"bytes of a chunk '{kind.decode()}' are not kept",))
    data = png(rgb, 8, 2, before=[(b"vpAg", bytes(range(1, 256)) * 1200)])
    yield Case("png of a long chunk", data, pixels, says=("bytes of a chunk 'vpAg'",))
    yield Case("png of a damaged profile", png(rgb, 8, 2, before=[(b"iCCP", b"x\0\0junk")]), pixels, says=("damaged",))
    data = png(rgb, 8, 2, after=[(b"zTXt", b"Title\0\0junk")])
    yield Case("png of a damaged text", data, pixels, says=("bytes of a chunk 'zTXt'",))
    shape = struct.pack(">IIB", 2, 1, 0)
    yield Case("png of wide pixels", png(rgb, 8, 2, before=[(b"pHYs", shape)]), pixels)
    data = png(rgb, 8, 2)
    yield Case("png that is cut behind its pixels", data[:-12], pixels, quiet=False)
    control = struct.pack(">IIIIIHHBB", 0, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0)
    data = png(rgb, 8, 2, after=[(b"fcTL", control), (b"fdAT", struct.pack(">I", 1) + zlib.compress(bytes(3)))])
    yield Case("png of frames that nobody shows", data, pixels, says=("animation",))


def animated_pngs() -> Iterator[Case]:
    control = struct.pack(">IIIIIHHBB", 0, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0)
    chunks = [(b"acTL", struct.pack(">II", 1, 0)), (b"fcTL", control)]
    gray = drawn(2, 1)
    gray[0, :2] = [[0], [3]]
    data = png(gray, 2, 0, before=[*chunks, (b"tRNS", b"\0\3")])
    alpha = np.where(gray[..., 0] == 3, 0, 255).astype(np.uint8)
    yield Case("apng gray tRNS", data, three(levels(gray, 3)), alpha)
    deep = drawn(16, 3)
    data = png(deep, 16, 2, before=chunks)
    yield Case("apng of 16 bits", data, levels(deep, 65535), says=("16 bits per channel reduced",))
    rgb = drawn(8, 3)
    linear = (b"gAMA", struct.pack(">I", 100_000))
    expected = np.rint(255 * _shown(rgb / 255)).astype(np.uint8)
    data = png(rgb, 8, 2, before=[linear, *chunks])
    yield Case("apng gAMA 1", data, expected, within=1, says=("converted to sRGB",))
    second = struct.pack(">IIIIIHHBB", 1, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0)
    raw = zlib.compress(b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in rgb[::-1]))
    after = [(b"fcTL", second), (b"fdAT", struct.pack(">I", 2) + raw)]
    data = png(rgb, 8, 2, before=[(b"acTL", struct.pack(">II", 2, 0)), linear, chunks[1]], after=after)
    yield Case("apng of two, gAMA 1", data, expected, within=1, says=("one of 2 frames", "converted to sRGB"))


def _shown(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-12) ** (1 / 2.4) - 0.055)


def png_code_points() -> Iterator[Case]:
    rgb = drawn(8, 3)
    pixels = rgb.astype(np.uint8)
    p3, srgb, pq = (b"cICP", b"\x0c\x0d\0\1"), (b"cICP", b"\1\x0d\0\1"), (b"cICP", b"\x09\x10\0\1")
    usual, wide = ((b"iCCP", b"x\0\0" + zlib.compress(matrix_profile(2.2, primaries))) for primaries in ("srgb", "p3"))
    yield Case("png cICP beside the same profile", png(rgb, 8, 2, before=[srgb, usual]), pixels, within=0)
    says = ("contradicts", "clipped")
    yield Case(
        "png cICP beside another profile", png(rgb, 8, 2, before=[p3, usual]), from_p3(pixels), within=1, says=says
    )
    data = png(rgb, 8, 2, before=[srgb, wide])
    yield Case("png cICP of sRGB beside another profile", data, pixels, says=("contradicts",))
    yield Case("png PQ with a profile", png(rgb, 8, 2, before=[pq, usual]), pixels, says=("high dynamic range (PQ)",))


def segment_kinds() -> Iterator[Case]:
    image = Image.fromarray(drawn(8, 3).astype(np.uint8))
    shown = np.asarray(Image.open(io.BytesIO(jpeg_with(image))))
    quiet = {
        "FLIR": (0xE1, b"FLIR\0\1\0\0" + bytes(range(200))),
        "JPS": (0xE3, b"_JPSJPS_" + bytes(20)),
        "Ducky": (0xEC, b"Ducky\0\1\0\4\0\0\0P\0\0"),
        "FPXR": (0xE2, b"FPXR\0\0\1\0\0"),
        "Adobe_CM": (0xED, b"Adobe_CM\0\1"),
        "unnamed": (0xEF, b"\1\2\3"),
        "extended XMP": (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 32 + bytes(8) + b"<x/>"),
    }
    for name, segment in quiet.items():
        yield Case(f"jpeg {name}", jpeg_with(image, segment), shown, within=2)
    yield Case("jpeg of MPF alone", jpeg_with(image, (0xE2, b"MPF\0II*\0\x08\0\0\0\0\0")), shown, within=2)
    yield Case("jpeg of two comments", jpeg_with(image, (0xFE, b"one"), (0xFE, b"two")), shown, within=2)
    data = jpeg_with(image, (0xEB, b"JP\0\1\0\0\0\1\0\0\0\x20jumb" + bytes(30)))
    yield Case("jpeg of credentials", data, shown, within=2, says=("bytes of JUMBF",))
    long = [(0xE4, bytes(60_000)) for _ in range(5)]
    yield Case("jpeg of long segments", jpeg_with(image, *long), shown, within=2, says=("further segments (APP4)",))
    data = jpeg_with(image, (0xE2, b"ICC_PROFILE\0\1\2" + bytes(200)))
    yield Case("jpeg of half a profile", data, shown, within=2, says=("profile is damaged",))
    data = jpeg_with(image, (0xED, b"Photoshop 3.0\0MeSa" + b"\1" * 40))
    yield Case("jpeg of other resources", data, shown, within=2, says=("bytes of image resources",))
    plain = saved(image, "JPEG", quality=95)
    place = plain.index(b"JFIF\0") + 7
    data = plain[:place] + struct.pack(">BHH", 0, 2, 1) + plain[place + 5 :]
    yield Case("jpeg of wide pixels", data, shown, within=2, says=("shape of the pixels (2:1)",))
    progressive = saved(image, "JPEG", quality=95, progressive=True)
    place = progressive.rindex(b"\xff\xda")
    data = progressive[:place] + b"\xff\xe5\0\x08inside" + progressive[place:]
    yield Case("jpeg of a segment inside", data, shown, within=2, says=("segment between the scans",))


def trailers() -> Iterator[Case]:
    pixels = drawn(8, 3).astype(np.uint8)
    image = Image.fromarray(pixels)
    few = Image.fromarray(np.asarray(image.quantize(16).convert("RGB")))
    binary = image.convert("1")
    kinds: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("WEBP", image, {"lossless": True}),
        ("GIF", few, {}),
        ("BMP", image, {}),
        ("DIB", image, {}),
        ("DIB", few.quantize(16), {}),
        ("TGA", image, {}),
        ("TGA", image, {"compression": "tga_rle"}),
        ("SGI", image, {}),
        ("PCX", image, {}),
        ("QOI", image, {}),
        ("JPEG2000", image, {}),
        ("JPEG2000", image, {"no_jp2": True}),
        ("XBM", binary, {}),
        ("ICNS", image.resize((1024, 1024)), {}),
        ("PPM", binary, {}),
    ]
    for number, (kind, picture, options) in enumerate(kinds):
        data = saved(picture, kind, **options)
        shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        more = ("sizes",) if kind == "ICNS" else ()
        name = f"{kind} {number}"
        yield Case(f"{name} and padding", data + bytes(40), shown, says=more)
        yield Case(f"{name} and more", data + b"a video" * 9, shown, says=(*BEHIND, *more))
    palette = saved(few.quantize(16), "PCX")
    yield Case("pcx of a palette", palette, np.asarray(few.quantize(16).convert("RGB")))
    yield Case("pcx of a palette and more", palette + b"more", says=(f"cut it to {len(palette)} bytes",))
    for head, body in ((b"P3", pixels), (b"P2", pixels[..., :1]), (b"P1", pixels[..., :1] > 99)):
        text = " ".join(str(int(value)) for value in body.ravel()).encode()
        data = b"%s %d %d%s\n%s\n" % (head, WIDTH, HEIGHT, b"" if head == b"P1" else b" 255", text)
        shown = np.where(body, 0, 255).astype(np.uint8) if head == b"P1" else body
        shown = three(shown) if shown.shape[2] == 1 else shown
        yield Case(f"{head!r}", data, shown)
        yield Case(f"{head!r} and more", data + b" 1 0 1 1", shown, says=BEHIND)
    xpm = b'/* XPM */\nstatic char *a[] = {\n"2 1 2 1",\n"a c #000000",\n"b c #ffffff",\n"ab"\n};\n'
    shown = np.array([[[0] * 3, [255] * 3]], np.uint8)
    yield Case("xpm", xpm, shown)
    yield Case("xpm and more", xpm + b"secret", shown, says=BEHIND)


def inside() -> Iterator[Case]:
    """Things between the parts of a file."""
    pixels = drawn(8, 3).astype(np.uint8)
    image = Image.fromarray(pixels)
    webp = saved(image, "WEBP", lossless=True)
    yield Case("webp", riff(webp), pixels)
    yield Case("webp of a chunk", riff(webp, (b"C2PA", b"abc" * 9)), pixels, says=("bytes of a chunk C2PA",))
    few = image.quantize(16)
    gif = saved(few, "GIF")
    shown = np.asarray(few.convert("RGB"))
    packet = b"\x21\xff\x0bXMP DataXMP" + XMP + b"\1" + bytes(range(255, -1, -1)) + b"\0"
    yield Case("gif of XMP", gif[:-1] + packet + b";", shown)
    yield Case("gif of a late comment", gif[:-1] + b"\x21\xfe" + blocks(b"late") + b";", shown)
    profile = b"\x21\xff" + blocks(b"ICCRGBG1012", b"profile")
    yield Case("gif of a profile", gif[:-1] + profile + b";", shown, says=("an extension ICCRGBG1012",))
    tga = saved(image, "TGA", id_section=b"a name")
    yield Case("tga of a text", tga, pixels)
    area = struct.pack("<H", 495) + b"Jane Roe".ljust(493, b"\0")
    bare = tga[:-26] if b"TRUEVISION" in tga[-26:] else tga
    footer = struct.pack("<II", len(bare), 0) + b"TRUEVISION-XFILE.\0"
    yield Case("tga of an author", bare + area + footer, pixels, says=("extension or developer area",))
    sgi = bytearray(saved(image, "SGI"))
    sgi[24:33] = b"the beach"
    yield Case("sgi of a name", bytes(sgi), pixels)
    deep = np.moveaxis(drawn(16, 3).astype(np.uint16), 2, 0)
    head = b"\x01\xda\0\2\0\3" + struct.pack(">HHHII", WIDTH, HEIGHT, 3, 0, 65535) + bytes(84) + bytes(408)
    data = head + deep[:, ::-1].astype(">u2").tobytes()
    yield Case("sgi of 16 bits", data, np.moveaxis(deep >> 8, 0, 2).astype(np.uint8), says=("16 bits per channel",))
    yield from bitmaps(pixels)
    yield from photoshop(pixels)
    yield from boxed_files(image, pixels)


def bitmaps(pixels: np.ndarray) -> Iterator[Case]:
    wide = matrix_profile(2.2, "p3")
    stored = pixels[::-1, :, ::-1]
    rows = b"".join(row.tobytes().ljust(-(-WIDTH * 3 // 4) * 4, b"\0") for row in stored)
    info = struct.pack("<IiiHHIIiiII", 124, WIDTH, HEIGHT, 1, 24, 0, len(rows), 2835, 2835, 0, 0)
    info += bytes(16) + b"DEBM" + bytes(48) + struct.pack("<IIII", 4, 124 + len(rows), len(wide), 0)
    start = 14 + len(info)
    data = b"BM" + struct.pack("<IHHI", start + len(rows) + len(wide), 0, 0, start) + info + rows + wide
    yield Case("bmp of a profile", data, pixels)
    packed = (pixels.astype(np.uint16) >> 3) @ np.array([1 << 11, 1 << 6, 1], np.uint16)
    rows = b"".join(row.astype("<u2").tobytes().ljust(-(-WIDTH * 2 // 4) * 4, b"\0") for row in packed[::-1])
    info = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 16, 3, len(rows), 0, 0, 0, 0)
    info += struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    data = b"BM" + struct.pack("<IHHI", 14 + len(info) + len(rows), 0, 0, 14 + len(info)) + info + rows
    yield Case("bmp of 5, 6 and 5 bits", data, pixels, within=8)


def psd(pixels: np.ndarray, bits: int = 8, resources: bytes = b"", layers: bytes = b"", mode: int = 3) -> bytes:
    """A PSD of the channels of pixels [H, W, channels]."""
    height, width, channels = pixels.shape
    head = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", channels, height, width, bits, mode)
    parts = bytes(4) + struct.pack(">I", len(resources)) + resources + struct.pack(">I", len(layers)) + layers
    return head + parts + b"\0\0" + np.moveaxis(pixels, 2, 0).tobytes()


def photoshop(pixels: np.ndarray) -> Iterator[Case]:
    yield Case("psd", psd(pixels), pixels)
    yield Case("psd and more", psd(pixels) + b"more", pixels, says=BEHIND)
    patterns = struct.pack(">I", 0) + struct.pack(">I", 0) + b"8BIMPatt" + struct.pack(">I", 4) + b"abcd"
    yield Case("psd of patterns", psd(pixels, layers=patterns), pixels, says=("layers, masks and patterns",))
    five = np.concatenate([pixels, pixels[..., :2]], axis=2)
    yield Case("psd of five channels", psd(five), pixels, says=("2 further channels",))
    yield Case("psd of 16 bits", psd(pixels.astype(">u2"), bits=16), says=("16 bits per channel",))


def boxed_files(image: Image.Image, pixels: np.ndarray) -> Iterator[Case]:
    data = saved(image, "JPEG2000", irreversible=False)
    xmp = bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + XMP
    yield Case("jp2 of XMP", data + box(b"uuid", xmp), pixels)
    yield Case("jp2 of XML", data + box(b"xml ", b"<gml/>"), pixels, says=("a box 'xml '",))
    yield Case("jp2 of a box", data + box(b"uuid", b"x" * 40), pixels, says=("a box 'uuid'",))
    yield Case(
        "jp2 of two pictures", data + box(b"jp2c", b"\xff\x4f\xff\x51 and so on"), pixels, says=("a box 'jp2c'",)
    )
    from PIL import features

    if features.check("avif"):
        data = saved(image.resize((64, 64)), "AVIF", quality=90)
        shown = np.asarray(Image.open(io.BytesIO(data)))
        yield Case("avif and more", data + b"MotionPhoto_Data" * 9, shown, says=BEHIND)
        yield Case("avif of a video", data + box(b"mpvd", bytes(range(99))), shown, says=("a box 'mpvd'",))


LEFTOVERS = (chunk_kinds, animated_pngs, png_code_points, segment_kinds, trailers, inside)


def kept_parts() -> Iterator[tuple[str, bytes, tuple[Part, ...]]]:
    """(ending, file, what is kept of it as it is) of files whose format can have that again."""
    image = Image.fromarray(drawn(8, 3).astype(np.uint8))
    shape = struct.pack(">IIB", 2, 1, 0)
    data = png(drawn(8, 3), 8, 2, before=[KEPT_CHUNK, (b"mkBT", b"x"), (b"pHYs", shape)], after=[(b"teSt", b"1")])
    chunks = (b"oFFs" + KEPT_CHUNK[1], b"teSt1", b"pHYs" + shape)
    yield "png", data, tuple(Part(PNG_CHUNK, each) for each in chunks)
    extended = b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 32 + bytes(8) + b"<x/>" * 9000
    segments = [(0xFE, b"one"), (0xE1, extended), (0xE1, extended), (0xEC, b"Ducky\0\1"), (0xFE, b"two")]
    parts = tuple(Part(JPEG_SEGMENT, bytes([kind]) + content) for kind, content in segments[:-1])
    yield "jpg", jpeg_with(image, *segments), parts
