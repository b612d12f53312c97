"""What a file holds besides the picture is said; the kinds that no writer at hand makes are put together here."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, features

from gmvqzip.images import boxes
from gmvqzip.images.picture import read_picture


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def described(*properties: bytes, items: bytes = b"") -> boxes.Description:
    meta = (
        bytes(4)
        + box(b"iinf", bytes(6) + items)
        + box(b"iprp", box(b"ipco", b"".join(properties)) + box(b"ipma", bytes(8)))
    )
    file = io.BytesIO(box(b"ftyp", b"heic") + box(b"free", bytes(9)) + box(b"meta", meta) + box(b"mdat", bytes(50)))
    return boxes.describe(file)


def test_boxes():
    assert described() == boxes.Description()
    assert described(box(b"pixi", bytes(4) + b"\3\x0a\x0a\x0a")).depth == 10
    assert described(box(b"hvcC", bytes(17) + b"\xfa" + bytes(5))).depth == 10
    assert described(box(b"av1C", b"\x81\0\x40\0")).depth == 10
    assert described(box(b"av1C", b"\x81\0\x60\0")).depth == 12
    assert described(box(b"colr", b"nclx" + struct.pack(">HHHB", 12, 13, 6, 128))).code_points == (12, 13)
    aux = box(b"auxC", bytes(4) + b"urn:com:apple:photo:2020:aux:hdrgainmap\0")
    depth = box(b"auxC", bytes(4) + b"urn:mpeg:hevc:2015:auxid:2\0")
    alpha = box(b"auxC", bytes(4) + b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
    assert described(aux, depth, alpha).extras == ["gain map", "depth map"]
    assert described(items=box(b"infe", b"\2\0\0\0\0\1\0\0tmap\0")).extras == ["gain map"]


@pytest.mark.parametrize(
    "data", [b"", bytes(8), b"\xff" * 40, box(b"meta", b"\0"), box(b"meta", bytes(4) + b"\0\0\0\x09ip")]
)
def test_damaged_boxes_are_passed_over(data):
    assert boxes.describe(io.BytesIO(data)) == boxes.Description()


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
    deep = (pixels.astype(np.uint16) << 8).astype("<u2")
    out = io.BytesIO()
    heif.from_bytes(mode="RGB;16", size=(64, 64), data=deep.tobytes()).save(out, quality=95, chroma=444)
    picture = read_picture(out.getvalue())
    assert any("bits per channel reduced to 8" in line for line in picture.dropped)
    assert np.abs(picture.pixels.astype(int) - pixels).mean() < 4
