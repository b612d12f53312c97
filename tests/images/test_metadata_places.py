"""Metadata in places that Pillow passes over, and parts of a file without a place of their own."""

from __future__ import annotations

import io
import struct

import pytest
from leftover_cases import bitmaps, kept_parts, psd
from made_files import matrix_profile
from made_metadata import IPTC, PIXELS, XMP, phone_exif, saved
from PIL import Image, PngImagePlugin

from gmvqzip.format import metadata as formats
from gmvqzip.format.metadata import Metadata, Part, iptc_resource
from gmvqzip.images import describing
from gmvqzip.images import exif as exifs
from gmvqzip.images.picture import read_picture
from gmvqzip.images.pixels import Picture, to_pil
from gmvqzip.images.writing import picture_bytes


@pytest.mark.parametrize(("name", "data", "parts"), list(kept_parts()), ids=["png", "jpg"])
def test_parts_without_a_place_of_their_own_are_kept(name: str, data: bytes, parts: tuple[Part, ...]) -> None:
    picture = read_picture(data)
    assert picture.metadata is not None and picture.metadata.parts == parts
    assert read_picture(to_pil(picture)).metadata == picture.metadata  # by way of Pillow, too
    again, notes = picture_bytes(picture, name)
    assert notes == [] and read_picture(again).metadata == picture.metadata
    for other in {"png", "jpg", "webp", "tif"} - {name}:
        assert "has no place for" in picture_bytes(picture, other)[1][0]
    assert any(title.startswith("kept ") for title, _ in describing.lines(picture.metadata))


def test_texts_of_one_keyword() -> None:
    chunks = PngImagePlugin.PngInfo()
    for text in ("one", "two", "one"):
        chunks.add_text("Comment", text)
    chunks.add_itxt("comment", "größer", "de", "Bemerkung")
    chunks.add_text("xmp", "no packet")
    metadata = read_picture(saved("PNG", pnginfo=chunks)).metadata
    assert metadata is not None
    expected = [("Comment", "one"), ("Comment", "two"), ("Comment", "one"), ("comment", "größer"), ("xmp", "no packet")]
    assert [(text.keyword, text.text) for text in metadata.texts] == expected
    assert (metadata.comment, metadata.xmp) == (b"", b"")
    again = read_picture(picture_bytes(Picture(PIXELS, metadata=metadata), "png")[0])
    assert again.metadata == metadata


@pytest.mark.parametrize("dpi", [(254_000, 254_000), (0.25, 0.25), (300, 0.01)])
def test_a_resolution_that_jpeg_cannot_state_goes_into_exif(dpi: tuple[float, float]) -> None:
    data, notes = picture_bytes(Picture(PIXELS, metadata=Metadata(dpi=dpi)), "jpg")
    found = Image.open(io.BytesIO(data))
    assert (notes, found.info["jfif_unit"]) == ([], 0)
    assert [found.getexif()[tag] for tag in (exifs.X_RESOLUTION, exifs.Y_RESOLUTION)] == pytest.approx(list(dpi))
    known = Image.Exif()
    known[0x010F] = "Maker"
    metadata = Metadata(exif=exifs.bare(known.tobytes()), dpi=dpi)
    assert picture_bytes(Picture(PIXELS, metadata=metadata), "jpg")[1] == ["jpg has no place for dpi: left out"]


def test_letters_of_other_encodings_are_not_replaced() -> None:
    old = saved("JPEG", comment="Größe".encode("latin-1"))
    data, notes = picture_bytes(read_picture(old), "png")
    assert (notes, Image.open(io.BytesIO(data)).info["Comment"]) == ([], "Größe")
    wide = Picture(PIXELS, metadata=Metadata(xmp="\ufeff<x:xmpmeta/>".encode("utf-16")))
    data, notes = picture_bytes(wide, "png")
    assert notes == ["png has no place for XMP: left out"] and read_picture(data).metadata is None
    assert read_picture(picture_bytes(wide, "webp")[0]).metadata == wide.metadata


def test_a_resolution_below_a_pixel_per_metre() -> None:
    metadata = Metadata(dpi=(0.01, 0.01))
    assert picture_bytes(Picture(PIXELS, metadata=metadata), "bmp")[1] == ["bmp has no place for dpi: left out"]
    again = Image.open(io.BytesIO(picture_bytes(Picture(PIXELS, metadata=metadata), "png")[0]))
    assert again.getexif()[exifs.X_RESOLUTION] == pytest.approx(0.01)


class TestPlacesThatPillowPassesOver:
    def test_gif(self) -> None:
        gif = saved("GIF", comment=b"first")
        packet = b"\x21\xff\x0bXMP DataXMP" + XMP + b"\1" + bytes(range(255, -1, -1)) + b"\0"
        metadata = read_picture(gif[:-1] + packet + b"\x21\xfe\5later\0;").metadata
        assert metadata == Metadata(xmp=XMP.replace(b'"6"', b'"1"'), comment=b"first\nlater")

    def test_jpeg_2000(self) -> None:
        exif = exifs.tidied(exifs.bare(phone_exif().tobytes()))
        uuids = {
            "be7acfcb97a942e89c71999491e3afac": XMP,
            b"JpgTiffExif->JP2".hex(): exif,
            "33c7a4d2b81d4723a0baf1a3e097ad38": IPTC,
        }
        data = saved("JPEG2000", irreversible=False)
        for name, content in uuids.items():
            data += struct.pack(">I", 24 + len(content)) + b"uuid" + bytes.fromhex(name) + content
        metadata = read_picture(data).metadata
        assert metadata is not None
        assert (metadata.exif, metadata.xmp, metadata.iptc) == (exif, XMP.replace(b'"6"', b'"1"'), IPTC)

    def test_photoshop(self) -> None:
        exif = exifs.tidied(exifs.bare(phone_exif().tobytes()))
        dpi = struct.pack(">IHHIHH", 300 << 16, 1, 1, 150 << 16, 1, 1)
        named = b"8BIM\x07\xd0\4path\0" + bytes((0, 0, 0, 2)) + b"xy"
        blocks = iptc_resource(IPTC) + named
        taken = ((0x03ED, dpi), (0x0422, exif), (0x0424, XMP), (0x040C, b"thumbnail"))
        resources = blocks + b"".join(formats.write_resource(kind, content) for kind, content in taken)
        metadata = read_picture(psd(PIXELS, resources=resources)).metadata
        assert metadata == Metadata(exif, XMP.replace(b'"6"', b'"1"'), blocks, (300, 150))

    def test_names_of_tga_and_sgi(self) -> None:
        assert read_picture(saved("TGA", id_section=b"a name")).metadata == Metadata(comment=b"a name")
        sgi = bytearray(saved("SGI"))
        sgi[24:33] = b"the beach"
        assert read_picture(bytes(sgi)).metadata == Metadata(comment=b"the beach")

    def test_pnm(self) -> None:
        data = b"P6\n# by hand\n10 6 # wide\n255\n" + PIXELS.tobytes()
        assert read_picture(data).metadata == Metadata(comment=b"by hand\nwide")

    def test_profiles(self) -> None:
        wide = matrix_profile(2.2, "p3")
        jp2 = saved("JPEG2000", irreversible=False)
        start = jp2.index(b"colr") - 4
        colr = struct.pack(">I", 11 + len(wide)) + b"colr\2\0\0" + wide
        head = jp2.index(b"jp2h") - 4
        size = struct.unpack_from(">I", jp2, head)[0] - 15 + len(colr)
        data = jp2[:head] + struct.pack(">I", size) + jp2[head + 4 : start] + colr + jp2[start + 15 :]
        assert read_picture(data).icc == wide
        assert read_picture(next(bitmaps(PIXELS)).data).icc == wide
