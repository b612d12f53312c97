"""What a file holds besides the picture is said; the kinds that no writer at hand makes are put together here."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from gmvqzip.images import boxes, jxl
from gmvqzip.images.notes import Notes
from gmvqzip.images.picture import read_picture


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def described(*properties: bytes, items: bytes = b"") -> dict[str, Any]:
    meta = (
        bytes(4)
        + box(b"iinf", bytes(6) + items)
        + box(b"iprp", box(b"ipco", b"".join(properties)) + box(b"ipma", bytes(8)))
    )
    file = io.BytesIO(box(b"ftyp", b"heic") + box(b"free", bytes(9)) + box(b"meta", meta) + box(b"mdat", bytes(50)))
    return found_in(file.getvalue())


def found_in(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    assert all(part.end <= len(data) for part in boxes.boxed_ranges(io.BytesIO(data), found))
    return found


def test_boxes():
    assert described() == {}
    assert described(box(b"pixi", bytes(4) + b"\3\x0a\x0a\x0a"))["depth"] == 10
    assert described(box(b"hvcC", bytes(17) + b"\xfa" + bytes(5)))["depth"] == 10
    assert described(box(b"av1C", b"\x81\0\x40\0"))["depth"] == 10
    assert described(box(b"av1C", b"\x81\0\x60\0"))["depth"] == 12
    assert described(box(b"colr", b"nclx" + struct.pack(">HHHB", 12, 13, 6, 128)))["code_points"] == (12, 13)
    aux = box(b"auxC", bytes(4) + b"urn:com:apple:photo:2020:aux:hdrgainmap\0")
    depth = box(b"auxC", bytes(4) + b"urn:mpeg:hevc:2015:auxid:2\0")
    alpha = box(b"auxC", bytes(4) + b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
    assert described(aux, depth, alpha)["extras"] == ["gain map", "depth map"]
    assert described(items=box(b"infe", b"\2\0\0\0\0\1\0\0tmap\0"))["extras"] == ["gain map"]


@pytest.mark.parametrize(
    "data", [b"", bytes(8), b"\xff" * 40, box(b"meta", b"\0"), box(b"meta", bytes(4) + b"\0\0\0\x09ip")]
)
def test_damaged_boxes_are_passed_over(data):
    assert found_in(data) == {}


@pytest.mark.skipif(not features.check("avif"), reason="Pillow reads no AVIF here")
def test_an_avif_with_more_than_its_picture(scene):
    file = io.BytesIO()
    frames = [Image.fromarray(scene(32, 32, seed)) for seed in range(2)]
    frames[0].save(file, "AVIF", save_all=True, append_images=frames[1:])
    assert "only one of 2 frames is kept" in read_picture(file.getvalue()).dropped[0]


def test_heic(scene, encoded):
    heif = pytest.importorskip("pillow_heif")
    pixels = scene(64, 64)
    file = heif.from_bytes(mode="RGB", size=(64, 64), data=pixels.tobytes())
    file.add_frombytes(mode="RGB", size=(64, 64), data=pixels[::-1].copy().tobytes())
    out = io.BytesIO()
    file.save(out, quality=95, chroma=444)
    picture = read_picture(out.getvalue())
    assert np.abs(picture.pixels.astype(int) - pixels).mean() < 4
    assert any("only one of 2 frames" in line for line in picture.dropped)
    sequence = read_picture(out.getvalue() + box(b"moov", b"a burst"))
    assert "bytes of a box 'moov' are not kept" in sequence.dropped[0]
    deep = (pixels.astype(np.uint16) << 8).astype("<u2")
    out = io.BytesIO()
    heif.from_bytes(mode="RGB;16", size=(64, 64), data=deep.tobytes()).save(out, quality=95, chroma=444)
    picture = read_picture(out.getvalue())
    assert any("bits per channel reduced to 8" in line for line in picture.dropped)
    assert np.abs(picture.pixels.astype(int) - pixels).mean() < 4


def jxl_head(*fields: tuple[int, int]) -> bytes:
    """A codestream's head of numbers, each with its bits, the lowest first."""
    number = place = 0
    for value, bits in ((0x0AFF, 16), (1, 1), (0, 5), (1, 3), *fields):
        number |= value << place
        place += bits
    return number.to_bytes(-(-place // 8), "little") + bytes(8)


ORIENTED = ((0, 1), (1, 1), (5, 3), (0, 1), (0, 1), (0, 1))  # not as usual; orientation 6, no other sizes, no animation
ANIMATED = ((0, 1), (1, 1), (0, 3), (0, 1), (0, 1), (1, 1), (0, 2), (0, 2), (0, 2), (0, 1))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (((1, 1),), jxl.CodestreamHead()),
        ((*ORIENTED, (0, 1), (0, 2), (1, 1), (0, 2)), jxl.CodestreamHead(orientation=6)),
        ((*ANIMATED, (0, 1), (1, 2), (1, 1), (0, 2)), jxl.CodestreamHead(animated=True, bits=10)),
        (((0, 1), (0, 1), (0, 1), (3, 2), (15, 6), (0, 1), (0, 2)), jxl.CodestreamHead(bits=16)),
        (((0, 1), (0, 1), (1, 1), (0, 2), (7, 4), (0, 1), (0, 2)), jxl.CodestreamHead(bits=32, is_float=True)),
        (((0, 1), (0, 1), (0, 1), (0, 2), (1, 1), (1, 2), (1, 1)), jxl.CodestreamHead()),  # alpha
        (((0, 1), (0, 1), (0, 1), (0, 2), (1, 1), (2, 2), (0, 4), (1, 1)), jxl.CodestreamHead(further_channels=1)),
        (((0, 1), (0, 1), (0, 1), (0, 2), (1, 1), (1, 2), (0, 1), (1, 2)), jxl.CodestreamHead(further_channels=1)),
    ],
)
def test_heads_of_jpeg_xl(fields, expected):
    head = jxl_head(*fields)
    assert jxl.read_codestream_head(io.BytesIO(head)) == expected
    whole = box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl ") + box(b"jxlc", head)
    assert jxl.read_codestream_head(io.BytesIO(whole)) == expected
    parts = box(b"JXL ", b"\r\n\x87\n") + box(b"jxlp", bytes(4) + head)
    assert jxl.read_codestream_head(io.BytesIO(parts)) == expected
    with pytest.raises(ValueError, match="cut"):
        jxl.read_codestream_head(io.BytesIO(head[:3]))
    notes = Notes()
    jxl.note_codestream(expected, notes)
    assert bool(notes.dropped) == (replace(expected, orientation=1) != jxl.CodestreamHead())


def test_jpeg_xl(scene, encoded):
    pytest.importorskip("pillow_jxl")
    pixels = scene(64, 48)
    image, xmp = Image.fromarray(pixels), b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    naked = encoded(image, "JXL", lossless=True)
    assert not read_picture(naked).dropped
    assert read_picture(naked + b"more").dropped == ["bytes behind the picture are not kept"]
    boxed = encoded(image, "JXL", lossless=True, use_container=True, xmp=xmp)
    picture = read_picture(boxed)
    assert np.array_equal(picture.pixels, pixels) and not picture.dropped
    assert picture.metadata is not None and picture.metadata.xmp == xmp
    assert "a box 'jumb'" in read_picture(boxed + box(b"jumb", b"abc")).dropped[0]
    assert "behind the picture" in read_picture(boxed + b"abc").dropped[0]


def test_items_of_heif():
    def item(kind: bytes, more: bytes = b"\0") -> bytes:
        return box(b"infe", b"\2\0\0\0\0\1\0\0" + kind + more)

    known = item(b"hvc1") + item(b"grid") + item(b"Exif") + item(b"mime", b"\0application/rdf+xml\0")
    assert "extras" not in described(items=known)
    assert described(items=known + item(b"mime", b"\0text/plain\0") + item(b"rgan"))["extras"] == [
        "item 'mime'",
        "item 'rgan'",
    ]
