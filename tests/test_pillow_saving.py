"""Saving `.gmvq` files through Pillow, and their metadata."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin, UnidentifiedImageError
from tiny_hyperprior import smooth

import gmvqzip
from gmvqzip.codec import Codec

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(autouse=True)
def installed(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model is the default."""
    monkeypatch.setenv("GMVQZIP_MODELS", str(tiny_path.parent))


class TestSaving:
    def test_by_name(self, tmp_path: Path, tiny: Codec, pixels: np.ndarray) -> None:
        Image.fromarray(pixels).save(tmp_path / "x.gmvq")
        assert (tmp_path / "x.gmvq").read_bytes() == tiny.compress(pixels)

    @pytest.mark.parametrize(
        "options",
        [
            {"quality": 80},
            {"quality": 80, "effort": 3},
            {"target_size": 600},
            {"target_bpp": 1.5},
            {"target_psnr": 8.0},
        ],
        ids=str,
    )
    def test_options_are_those_of_compress(self, hyper: Codec, hyper_path: Path, options: dict[str, float]) -> None:
        file, picture = io.BytesIO(), smooth(64, 96)
        Image.fromarray(picture).save(file, "GMVQ", model=hyper_path, device="cpu", optimize=True, **options)
        assert file.getvalue() == hyper.compress(picture, **options)

    @pytest.fixture
    def profiled(self) -> Image.Image:
        image = Image.fromarray(smooth(23, 37))
        image.info["icc_profile"] = SRGB
        return image

    def test_the_profile_is_kept_replaced_dropped(self, profiled: Image.Image) -> None:
        other = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        other = other[:16] + b"RGB " + other[20:]
        found = []
        for options in ({}, {"icc_profile": other}, {"icc_profile": None}, {"icc_profile": b""}, {"strip": True}):
            file = io.BytesIO()
            profiled.save(file, "GMVQ", **options)
            with Image.open(file) as image:
                found.append(image.info.get("icc_profile"))
        assert found == [SRGB, other, None, None, None]
        assert profiled.info["icc_profile"] == SRGB

    def test_over_the_file_that_was_opened(self, packed: Path, tiny: Codec) -> None:
        expected = tiny.compress(tiny.decompress(packed))
        with Image.open(packed) as image:
            image.save(packed)
        assert packed.read_bytes() == expected

    def test_orientation_is_applied(self, pixels: np.ndarray, tiny: Codec) -> None:
        jpeg, file = io.BytesIO(), io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(jpeg, "JPEG", exif=exif)
        with Image.open(jpeg) as image:
            image.save(file, "GMVQ")
        with Image.open(file) as image:
            assert image.size == (23, 37)
        assert file.getvalue() == tiny.compress(jpeg.getvalue())

    @pytest.mark.parametrize(
        ("options", "line"),
        [
            ({"quality": 0}, "quality 0 is out of range"),
            ({"quality": "high"}, "quality 'high' is no whole number"),
            ({"effort": 10}, "effort 10 is out of range"),
            ({"target_size": -5}, "target_size -5 is out of range"),
            ({"quality": 50, "target_size": 500}, "contradict each other"),
            ({"icc_profile": "sRGB"}, "icc_profile 'sRGB' cannot be stored: give bytes"),
            ({"exif": {271: "ACME"}}, "exif .* cannot be stored: give bytes or a PIL.Image.Exif"),
            ({"xmp": 5}, "xmp 5 cannot be stored: give bytes or a text"),
            ({"comment": ["a"]}, "comment .* cannot be stored"),
            ({"dpi": 300}, "dpi 300 cannot be stored: give a pair of numbers"),
            ({"dpi": (300, 300, 300)}, "dpi .* cannot be stored"),
            ({"dpi": "72"}, "dpi '72' cannot be stored"),
            ({"text": {"Title": 5}}, "text .* cannot be stored: give a dict of strings"),
            ({"text": "Lake"}, "text 'Lake' cannot be stored"),
        ],
        ids=str,
    )
    def test_bad_options(self, tmp_path: Path, options: dict[str, object], line: str) -> None:
        with pytest.raises(ValueError, match=line):
            Image.new("RGB", (8, 8)).save(tmp_path / "x.gmvq", **options)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("options", "line"),
        [
            ({"model": "gone"}, "no model named 'gone'"),
            ({"max_pixels": 63}, "more than the limit of 63 pixels"),
            ({"device": "abacus"}, "unknown device"),
        ],
        ids=str,
    )
    def test_what_cannot_be_made(self, tmp_path: Path, options: dict[str, object], line: str) -> None:
        with pytest.raises(OSError, match=line):
            Image.new("RGB", (8, 8)).save(tmp_path / "x.gmvq", **options)
        assert not list(tmp_path.iterdir())

    def test_several_frames_are_no_option(self) -> None:
        with pytest.raises(KeyError):
            Image.new("RGB", (8, 8)).save(io.BytesIO(), "GMVQ", save_all=True)


class TestMetadata:
    @pytest.fixture
    def known(self, pixels: np.ndarray) -> bytes:
        """A JPEG with EXIF, XMP, a resolution and a comment."""
        exif, file = Image.Exif(), io.BytesIO()
        exif[0x010F] = "ACME"
        Image.fromarray(pixels).save(file, "JPEG", exif=exif, xmp=b"<x/>", dpi=(300, 300), comment=b"hello")
        return file.getvalue()

    def test_opening(self, known: bytes, tiny: Codec) -> None:
        data = tiny.compress(known)
        for image in (Image.open(io.BytesIO(data)), tiny.decompress(data), gmvqzip.decompress(data)):
            assert image.getexif()[0x010F] == "ACME"
            assert (image.info["xmp"], image.info["dpi"], image.info["comment"]) == (b"<x/>", (300, 300), b"hello")
            assert image.text == {}

    def test_texts(self, tiny: Codec, pixels: np.ndarray) -> None:
        chunks, file = PngImagePlugin.PngInfo(), io.BytesIO()
        chunks.add_text("Title", "Lake")
        Image.fromarray(pixels).save(file, "PNG", pnginfo=chunks)
        with Image.open(io.BytesIO(tiny.compress(file.getvalue()))) as image:
            assert image.text == {"Title": "Lake"}
            assert image.info["Title"] == "Lake"

    def test_saving_keeps_what_was_opened(self, known: bytes, tiny: Codec) -> None:
        file, again = io.BytesIO(), io.BytesIO()
        with Image.open(io.BytesIO(known)) as image:
            image.save(file, "GMVQ")
        assert file.getvalue() == tiny.compress(known)
        with Image.open(file) as image:
            image.save(again, "GMVQ")
            metadata = gmvqzip.info(again.getvalue()).metadata
        assert metadata == gmvqzip.info(file.getvalue()).metadata is not None

    def test_options_replace_and_drop(self, known: bytes) -> None:
        exif, file = Image.Exif(), io.BytesIO()
        exif[0x0110] = "Phone 3"
        with Image.open(io.BytesIO(known)) as image:
            image.save(file, "GMVQ", exif=exif, xmp=None, dpi=(72, 96), comment=b"", text={"Title": "Lake"})
            assert image.info["comment"] == b"hello"
        with Image.open(file) as image:
            assert dict(image.getexif()) == {0x0110: "Phone 3"}
            assert image.info["dpi"] == (72, 96)
            assert image.text == {"Title": "Lake"}
            assert not {"xmp", "comment"} & set(image.info)
            image.save(file := io.BytesIO(), "GMVQ", exif="", dpi=None, text=None, icc_profile="")
        assert gmvqzip.info(file.getvalue()).metadata is None

    def test_a_given_orientation_is_applied(self, pixels: np.ndarray) -> None:
        exif, file = Image.Exif(), io.BytesIO()
        exif[0x0112], exif[0x010F] = 6, "ACME"
        for given in (exif, exif.tobytes()):
            Image.fromarray(pixels).save(file := io.BytesIO(), "GMVQ", exif=given)
            with Image.open(file) as image:
                assert image.size == (23, 37)
                assert image.getexif().get(0x0112) == 1

    def test_strip(self, known: bytes) -> None:
        with Image.open(io.BytesIO(known)) as image:
            image.save(file := io.BytesIO(), "GMVQ", strip=True)
        assert gmvqzip.info(file.getvalue()).metadata is None

    def test_damage(self, tiny: Codec, pixels: np.ndarray) -> None:
        data = tiny.pack_codes(tiny.encode(pixels), {65: b"\1nonsense"}).data
        with pytest.raises(UnidentifiedImageError, match="metadata are damaged"):
            Image.open(io.BytesIO(data))
