"""EXIF, XMP and their kin: read from files, put right, and written where a format has a place for them."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from made_metadata import EXIF, GPS, IPTC, PIXELS, XMP, phone_exif, saved, tags, with_thumbnail
from PIL import Image, PngImagePlugin, TiffImagePlugin
from PIL.TiffImagePlugin import IFDRational

from gmvqzip.format import metadata as formats
from gmvqzip.format.metadata import Metadata, Text, iptc_resource
from gmvqzip.images import exif as exifs
from gmvqzip.images import metadata as module
from gmvqzip.images.metadata import exif_of
from gmvqzip.images.picture import read_picture
from gmvqzip.images.pixels import Picture, to_pil
from gmvqzip.images.writing import picture_bytes


class TestExif:
    @pytest.mark.parametrize("order", "<>")
    def test_thumbnail_and_orientation(self, order: str) -> None:
        block, thumbnail = with_thumbnail(order)
        tidy = exifs.tidied(block)
        exif = Image.Exif()
        exif.load(tidy)
        assert dict(exif) == {0x0112: 1, 0x010F: "ACME"}
        assert not exif.get_ifd(1)
        assert thumbnail not in tidy
        assert len(tidy) == 43  # what stands behind the last value is cut
        assert tidy[34:] == bytes(4) + b"ACME\0"  # where it was

    def test_a_thumbnail_that_overlaps_other_values_leaves_them(self) -> None:
        block = bytearray(with_thumbnail("<")[0])
        struct.pack_into("<I", block, 44 + 2 + 8, 0)  # the whole block is its thumbnail
        struct.pack_into("<I", block, 44 + 14 + 8, len(block))
        exif = Image.Exif()
        exif.load(exifs.tidied(bytes(block)))
        assert exif[0x010F] == "ACME"

    def test_a_block_that_says_nothing_is_dropped(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        exif.get_ifd(EXIF)[0xA002] = 4000
        assert exifs.tidied(exifs.bare(exif.tobytes())) == b""

    def test_every_cut_and_every_flip_ends(self) -> None:
        block, _ = with_thumbnail(">")
        for size in range(len(block)):
            with_error(block[:size])
        for place in range(90):
            for value in (0, 1, 0x7F, 0xFF):
                with_error(block[:place] + bytes([value]) + block[place + 1 :])

    def test_directories_that_point_to_each_other(self) -> None:
        loop = b"MM\0*" + struct.pack(">IHHHII", 8, 1, EXIF, 4, 1, 8) + bytes(4)
        assert exifs.tidied(loop) == b""

    def test_prefixes(self) -> None:
        assert exifs.bare(b"Exif\0\0" * 2 + b"II*\0") == b"II*\0"

    def test_sizes(self) -> None:
        block = exifs.resized(exifs.bare(phone_exif().tobytes()), 320, 200)
        sub = exif_of(Metadata(exif=block)).get_ifd(EXIF)
        assert (sub[0xA002], sub[0xA003]) == (320, 200)
        assert exifs.resized(b"nonsense", 1, 2) == b"nonsense"


def with_error(block: bytes) -> None:
    with suppress(ValueError):
        exifs.resized(exifs.tidied(block), 3, 4)


class TestReading:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
    def test_every_tag_is_kept_and_the_picture_stands_upright(self, kind: str) -> None:
        expected = tags(phone_exif())
        picture = read_picture(saved(kind, exif=phone_exif().tobytes()))
        assert picture.metadata is not None
        assert (picture.width, picture.height) == (6, 10)
        exif = exif_of(picture.metadata)
        assert tags(exif) == expected
        assert exif.get(0x0112, 1) == 1
        assert exif.get_ifd(EXIF)[0xA002] == 6
        again = read_picture(to_pil(picture))  # is not turned once more
        assert (again.width, again.height, again.metadata) == (6, 10, picture.metadata)

    def test_xmp(self) -> None:
        upright = XMP.replace(b'Orientation="6"', b'Orientation="1"')
        for kind in ("JPEG", "WEBP", "AVIF"):
            picture = read_picture(saved(kind, xmp=XMP))
            assert picture.metadata is not None and picture.metadata.xmp == upright
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", XMP.decode())
        picture = read_picture(saved("PNG", pnginfo=chunks))
        assert picture.metadata == Metadata(xmp=upright)
        assert picture.width == 6  # XMP's orientation is applied
        element = b"<tiff:Orientation>8</tiff:Orientation>"
        assert read_picture(saved("JPEG", xmp=element)).metadata == Metadata(xmp=element.replace(b"8", b"1"))

    def test_iptc_and_other_resources(self) -> None:
        blocks = (
            iptc_resource(IPTC) + formats.write_resource(0x040C, b"thumbnail") + formats.write_resource(0x040A, b"\1")
        )
        segment = b"Photoshop 3.0\0" + blocks
        data = saved("JPEG", extra=b"\xff\xed" + struct.pack(">H", 2 + len(segment)) + segment)
        metadata = read_picture(data).metadata
        assert metadata is not None and metadata.iptc == IPTC
        assert dict(formats.read_resources(metadata.resources)) == {0x0404: IPTC, 0x040A: b"\1"}
        info = TiffImagePlugin.ImageFileDirectory_v2()
        info[33723], info.tagtype[33723] = IPTC, 7
        assert read_picture(saved("TIFF", tiffinfo=info)).metadata == Metadata(resources=iptc_resource(IPTC))

    @pytest.mark.parametrize(
        ("kind", "expected"), [("JPEG", 300.0), ("PNG", 299.9994), ("TIFF", 300.0), ("BMP", 299.9992)]
    )
    def test_resolution(self, kind: str, expected: float) -> None:
        metadata = read_picture(saved(kind, dpi=(300, 300))).metadata
        assert metadata is not None and metadata.dpi == pytest.approx((expected, expected), abs=1e-3)
        assert read_picture(saved("JPEG")).metadata is None  # nothing is made up

    @pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 72), (float("inf"), 1), ("x", 1), 72, (-5, -5), (1e9, 1)])
    def test_impossible_resolutions_are_no_metadata(self, dpi: Any) -> None:
        image = Image.fromarray(PIXELS)
        image.info["dpi"] = dpi
        assert read_picture(image).metadata is None

    def test_texts_times_and_comments(self) -> None:
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("Title", "Lake")
        chunks.add_text("Creation Time", "6 May 2024", zip=True)
        chunks.add_itxt("Description", "湖", "zh", "說明")
        chunks.add(b"tIME", bytes([7, 232, 5, 6, 7, 8, 9]))
        texts = (Text("Title", "Lake"), Text("Creation Time", "6 May 2024"), Text("Description", "湖", "zh", "說明"))
        expected = Metadata(time=(2024, 5, 6, 7, 8, 9), texts=texts)
        data = saved("PNG", pnginfo=chunks)
        assert read_picture(data).metadata == expected
        assert read_picture(io.BytesIO(data)).metadata == expected
        assert read_picture(saved("JPEG", comment=b"hello")).metadata == Metadata(comment=b"hello")
        assert read_picture(saved("GIF", comment=b"hello")).metadata == Metadata(comment=b"hello")

    def test_strip_drops_all(self) -> None:
        data = saved("JPEG", exif=phone_exif(), xmp=XMP, dpi=(300, 300), comment=b"x")
        picture = read_picture(data, strip=True)
        assert picture.metadata is None
        assert picture.width == 6

    def test_damage_costs_the_block_and_not_the_picture(self) -> None:
        picture = read_picture(saved("JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff"))
        assert picture.metadata is None
        assert any("EXIF block is damaged" in line for line in picture.warnings)
        picture = read_picture(saved("PNG", exif=b"nonsense"))
        assert picture.metadata is None and picture.width == 10

    def test_what_is_not_kept_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_METADATA_BYTES", 1024 + 50)
        picture = read_picture(saved("JPEG", xmp=XMP))
        assert picture.metadata is None
        assert any("longer than" in line for line in picture.warnings)

    def test_imagemagick_s_profile_in_a_png(self) -> None:
        raw = phone_exif().tobytes()
        text = f"\nexif\n{len(raw):8}\n" + raw.hex()
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("Raw profile type exif", text, zip=True)
        picture = read_picture(saved("PNG", pnginfo=chunks))
        assert picture.metadata is not None
        assert picture.metadata.texts == ()
        assert picture.width == 6
        assert tags(exif_of(picture.metadata)) == tags(phone_exif())


EVERYTHING = Metadata(
    exif=exifs.tidied(exifs.bare(phone_exif().tobytes())),
    xmp=XMP.replace(b'"6"', b'"1"'),
    resources=iptc_resource(IPTC),
    dpi=(300.0, 300.0),
    time=(2024, 5, 6, 7, 8, 9),
    comment=b"hello",
    texts=(Text("Title", "Lake"), Text("Description", "湖", "zh", "說明")),
)
PLACES = {
    "png": ["exif", "xmp", "dpi", "time", "comment", "texts"],
    "jpg": ["exif", "xmp", "resources", "dpi", "comment"],
    "webp": ["exif", "xmp"],
    "avif": ["exif", "xmp"],
    "heic": ["exif", "xmp"],
    "tif": ["exif", "xmp", "resources", "dpi"],
    "bmp": ["dpi"],
    "ppm": [],
    "npy": [],
}


class TestWriting:
    @pytest.mark.parametrize("name", PLACES)
    def test_each_has_its_place_or_is_named(self, name: str) -> None:
        if name == "heic":
            pytest.importorskip("pillow_heif")
        data, notes = picture_bytes(Picture(PIXELS, metadata=EVERYTHING), name)
        named = notes[0] if notes else ""
        titles = {"exif": "EXIF", "xmp": "XMP", "resources": "IPTC", "dpi": "dpi", "time": "time of change"}
        titles |= {"comment": "comment", "texts": "texts"}
        assert all((title in named) == (part not in PLACES[name]) for part, title in titles.items())
        if name == "npy":
            return
        found = read_picture(data).metadata or Metadata()
        if "exif" in PLACES[name]:
            mine, theirs = tags(exif_of(EVERYTHING)), tags(exif_of(found))
            assert {tag: theirs[tag] for tag in mine} == mine
        for part in set(PLACES[name]) - {"exif", "dpi", "comment", "texts"}:
            assert getattr(found, part) == getattr(EVERYTHING, part), part
        if "dpi" in PLACES[name]:
            assert found.dpi == pytest.approx((300, 300), abs=1e-2)
        if name == "png":
            assert found.texts == (Text("Comment", "hello"), *EVERYTHING.texts)
        elif "comment" in PLACES[name]:
            assert found.comment == b"hello"

    def test_a_resolution_goes_into_exif_where_a_format_has_only_that(self) -> None:
        data, notes = picture_bytes(Picture(PIXELS, metadata=Metadata(dpi=(300, 200))), "webp")
        exif = Image.open(io.BytesIO(data)).getexif()
        assert (exif[0x011A], exif[0x011B], exif[0x0128], notes) == (300, 200, 2, [])

    def test_what_is_too_long_for_a_jpeg_is_named(self) -> None:
        long = Metadata(xmp=b"<x/>" * 20_000, comment=bytes(70_000), resources=iptc_resource(bytes(70_001)))
        data, notes = picture_bytes(Picture(PIXELS, metadata=long), "jpg")
        assert notes == ["jpg has no place for XMP, comment: left out"]
        found = read_picture(data).metadata
        assert found is not None and found.resources == long.resources

    def test_keywords_that_png_does_not_take_are_cut(self) -> None:
        texts = (Text("", "a"), Text("x" * 200, "b"), Text("湖", "c"))
        data, _ = picture_bytes(Picture(PIXELS, metadata=Metadata(texts=texts)), "png")
        found = read_picture(data).metadata
        assert found is not None
        assert [text.text for text in found.texts] == ["a", "b", "c"]

    def test_the_size_is_that_of_the_file(self) -> None:
        data, _ = picture_bytes(Picture(PIXELS, metadata=EVERYTHING), "jpg")
        assert Image.open(io.BytesIO(data)).getexif().get_ifd(EXIF)[0xA002] == 10


@pytest.mark.parametrize("value", [5, {"a": b"x"}, {-1: b"x"}, {70_000: b"x"}, {1: 5}], ids=repr)
def test_resources_that_no_file_can_have_are_left_out(value: object) -> None:
    image = Image.fromarray(PIXELS)
    image.info["photoshop"] = value
    assert read_picture(image).metadata is None


def test_an_image_has_what_pillow_s_own_have() -> None:
    image = to_pil(Picture(PIXELS, metadata=EVERYTHING))
    assert image.getexif()[0x010F] == "ACME"
    assert image.info["xmp"] == EVERYTHING.xmp
    assert image.info["dpi"] == (300, 300)
    assert image.info["photoshop"] == {0x0404: IPTC}
    assert image.text == {"Title": "Lake", "Description": "湖"}


PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 6.0.0">
   <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
      <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/">
         <xmp:CreatorTool>17.2</xmp:CreatorTool><xmp:CreateDate>2024-05-06T07:08:09</xmp:CreateDate>
      </rdf:Description>
   </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>""".encode()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("xmp", [b"", PACKET], ids=["EXIF", "EXIF and XMP"])
@pytest.mark.parametrize("note", [False, True], ids=["", "maker's note"])
def test_what_the_metadata_of_a_telephone_cost(order: str, xmp: bytes, note: bool) -> None:
    """At most 60 % of their size, the thumbnail not counted."""
    exif, some = Image.Exif(), np.random.default_rng(7)
    exif.endian = order
    exif[0x010F], exif[0x0110], exif[0x0112], exif[0x0131] = "Fairphone", "FP5", 6, "FP5.UT20.B.053"
    exif[0x0132], exif[0x0128], exif[0x0213] = "2024:05:06 07:08:09", 2, 1
    exif[0x011A], exif[0x011B] = IFDRational(72), IFDRational(72)
    part = exif.get_ifd(EXIF)
    for tag in (0x9003, 0x9004):
        part[tag] = "2024:05:06 07:08:09"
    for tag in (0x9010, 0x9011, 0x9012):
        part[tag] = "+02:00"
    for tag in (0x829A, 0x829D, 0x9201, 0x9202, 0x9203, 0x9204, 0x920A, 0xA404):
        part[tag] = IFDRational(int(some.integers(1, 5000)), int(some.integers(1, 5000)))
    for tag in (0x8822, 0x8827, 0x9207, 0x9209, 0xA001, 0xA402, 0xA403, 0xA405, 0xA406):
        part[tag] = int(some.integers(0, 200))
    if note:  # tables of floats, counters, some padding
        counters = struct.pack("<300I", *some.integers(0, 2000, 300).tolist())
        part[0x927C] = b"QCOM\0\0\1" + some.normal(0, 1, 200).astype("<f4").tobytes() + counters + bytes(900)
    part[0x9000], part[0x9101], part[0xA000] = b"0232", b"\1\2\3\0", b"0100"
    part[0xA002], part[0xA003], part[0x9291], part[0x9292] = 4096, 3072, "417", "417"
    where = exif.get_ifd(GPS)
    where[1], where[3], where[0x1D] = "N", "E", "2024:05:06"
    for tag in (2, 4, 7):
        where[tag] = tuple(IFDRational(int(some.integers(0, 6000)), 100) for _ in range(3))
    block = exif.tobytes()
    metadata = read_picture(saved("JPEG", exif=block, xmp=xmp)).metadata
    assert metadata is not None
    assert tags(exif_of(metadata)) == tags(exif_of(Metadata(exif=exifs.bare(block))))
    added = len(formats.write_metadata(metadata)) + 4  # type and length of the section, and the end of all
    assert added <= 0.6 * (len(block) + len(xmp)), added / (len(block) + len(xmp))
