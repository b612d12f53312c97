"""The Pillow plugin: opening without weights, pixels when they are asked for, saving with options, Pillow's errors."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, PngImagePlugin, UnidentifiedImageError
from tiny_hyperprior import smooth

import gmvqzip
from gmvqzip import pillow
from gmvqzip.codec import Codec
from gmvqzip.format import container
from gmvqzip.format.limits import MAX_HEADER_BYTES

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(autouse=True)
def installed(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model is the default."""
    monkeypatch.setenv("GMVQZIP_MODELS", str(tiny_path.parent))


class Remote(io.RawIOBase):
    """A file object of read, seek and tell alone, without a name; it counts what is read."""

    def __init__(self, data: bytes) -> None:
        self.inner, self.taken = io.BytesIO(data), 0

    def read(self, size: int = -1) -> bytes:
        data = self.inner.read(size)
        self.taken += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.inner.seek(offset, whence)

    def tell(self) -> int:
        return self.inner.tell()


class Pipe:
    """A file object that can only be read."""

    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read


class TestOpening:
    def test_a_path(self, packed: Path, tiny: Codec) -> None:
        with Image.open(packed) as image:
            assert (image.format, image.size, image.mode) == ("GMVQ", (37, 23), "RGB")
            assert image.get_format_mimetype() == "image/x-gmvq" == pillow.MIME
            assert np.array_equal(np.asarray(image), np.asarray(tiny.decompress(packed)))

    @pytest.mark.parametrize("kind", [io.BytesIO, Remote, Pipe])
    def test_file_objects(self, packed: Path, tiny: Codec, kind: type) -> None:
        with Image.open(kind(packed.read_bytes())) as image:
            assert image.size == (37, 23)
            assert image.tobytes() == tiny.decompress(packed).tobytes()

    def test_only_the_header_is_read_at_first(self, tiny: Codec) -> None:
        file = Remote(tiny.compress(smooth(300, 500)))
        with Image.open(file) as image:
            assert image.size == (500, 300)
            assert file.taken <= 16 + MAX_HEADER_BYTES < len(file.inner.getvalue())
            image.load()

    @pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
    def test_modes_and_profiles(self, tiny: Codec, mode: str) -> None:
        picture = Image.fromarray(smooth(23, 37)).convert(mode)
        if "A" in mode:
            picture.putalpha(77)
        if mode.startswith("RGB"):
            picture.info["icc_profile"] = SRGB
        data = tiny.compress(picture)
        expected = tiny.decompress(data)
        with Image.open(io.BytesIO(data)) as image:
            assert image.mode == mode == expected.mode
            assert image.info.get("icc_profile") == (SRGB if mode.startswith("RGB") else None)
            assert image.tobytes() == expected.tobytes()
            assert image.info == expected.info

    def test_it_goes_on_like_any_picture(self, packed: Path, tiny: Codec, tmp_path: Path) -> None:
        with Image.open(packed) as image:
            image.save(tmp_path / "out.png")
            assert image.resize((5, 4)).size == (5, 4)
        with Image.open(tmp_path / "out.png") as image:
            assert image.tobytes() == tiny.decompress(packed).tobytes()

    def test_neither_weights_nor_torch_are_loaded(self, packed: Path) -> None:
        script = (
            "import gmvqzip.pillow, json, sys; from PIL import Image; image = Image.open(sys.argv[1]); "
            "print(json.dumps([*image.size, image.mode, *({'torch', 'numpy', 'safetensors'} & set(sys.modules))]))"
        )
        environment = {**os.environ, "GMVQZIP_MODELS": "/nowhere"}
        command = [sys.executable, "-c", script, str(packed)]
        done = subprocess.run(command, capture_output=True, check=True, env=environment)
        assert json.loads(done.stdout) == [37, 23, "RGB"]

    def test_an_unregistered_process_does_not_know_the_format(self, packed: Path) -> None:
        script = "import sys, PIL.Image as P; P.init(); print('.gmvq' in P.registered_extensions())"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
        assert done.stdout.strip() == b"False"
        assert Image.registered_extensions()[".gmvq"] == "GMVQ"


class TestDamage:
    def test_every_cut_is_refused(self, packed: Path) -> None:
        data = packed.read_bytes()
        for length in range(len(data)):
            with pytest.raises(OSError) as caught, Image.open(io.BytesIO(data[:length])) as image:
                image.load()
            assert isinstance(caught.value, UnidentifiedImageError) == (length < 12)
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("place", [2, 4, 11])
    def test_a_damaged_header_is_told_by_our_line(self, packed: Path, place: int) -> None:
        data = bytearray(packed.read_bytes())
        data[place] ^= 0x41
        with pytest.raises(gmvqzip.FormatError) as ours:
            gmvqzip.info(data)
        with pytest.raises(UnidentifiedImageError) as theirs:
            Image.open(io.BytesIO(data))
        assert str(theirs.value) == str(ours.value)

    def test_a_newer_version(self, packed: Path) -> None:
        data = bytearray(packed.read_bytes())
        data[2] += 0x20
        with pytest.raises(UnidentifiedImageError, match=r"version 2; .* use a newer one"):
            Image.open(io.BytesIO(data))

    def test_a_damaged_payload_is_found_when_loading_and_by_verify(self, packed: Path) -> None:
        data = bytearray(packed.read_bytes())
        data[-1] ^= 1
        with Image.open(io.BytesIO(data)) as image, pytest.raises(OSError, match="the file is damaged"):
            image.load()
        with Image.open(io.BytesIO(data)) as image, pytest.raises(OSError, match="the file is damaged"):
            image.verify()

    def test_verify_accepts_what_is_whole(self, packed: Path) -> None:
        with Image.open(packed) as image:
            image.verify()

    def test_a_damaged_profile(self, tiny: Codec, pixels: np.ndarray) -> None:
        codes = tiny.encode(pixels)
        data = tiny.pack_codes(codes, {container.SECTION_ICC: b"no zlib stream"}).data
        with pytest.raises(UnidentifiedImageError, match="colour profile is damaged"):
            Image.open(io.BytesIO(data))

    def test_a_model_that_is_not_installed(self, other_path: Path) -> None:
        data = gmvqzip.compress(smooth(8, 8), model=other_path)
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (8, 8)
            with pytest.raises(OSError, match="is not installed: get its"):
                image.load()

    def test_the_limit_of_pillow(self, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 37 * 23 // 2 - 1)
        with pytest.raises(Image.DecompressionBombError):
            Image.open(packed)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 37 * 23 - 1)
        with pytest.warns(Image.DecompressionBombWarning), Image.open(packed) as image:
            image.load()


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
            image.save(file := io.BytesIO(), "GMVQ", exif=None, dpi=None, text=None)
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


class TestParser:
    """`ImageFile.Parser`, which is fed as a download comes in."""

    @pytest.mark.parametrize("piece", [1, 7, 10_000])
    @pytest.mark.parametrize("alpha", [False, True])
    def test_piece_by_piece(self, tiny: Codec, pixels: np.ndarray, piece: int, alpha: bool) -> None:
        data = tiny.compress(np.dstack([pixels, pixels[:, :, 1] | 1]) if alpha else pixels)
        parser = ImageFile.Parser()
        for start in range(0, len(data), piece):
            parser.feed(data[start : start + piece])
        image = parser.close()
        assert image.tobytes() == tiny.decompress(data).tobytes()
        assert image.mode == ("RGBA" if alpha else "RGB")

    def test_cut(self, packed: Path) -> None:
        data = packed.read_bytes()
        for size in (0, 5, 20, len(data) - 1):
            parser = ImageFile.Parser()
            parser.feed(data[:size])
            with pytest.raises(OSError):
                parser.close()


class TestFileObjectsOfTheLibrary:
    @pytest.fixture(params=[bytes, bytearray, memoryview, io.BytesIO, Remote, Pipe, Path, str])
    def source(self, request: pytest.FixtureRequest, packed: Path) -> Iterator[object]:
        kind = request.param
        yield kind(packed if kind in (Path, str) else packed.read_bytes())

    def test_decompress(self, source: object, packed: Path, tiny: Codec) -> None:
        expected = tiny.decompress(packed.read_bytes())
        assert gmvqzip.decompress(source).tobytes() == expected.tobytes()

    def test_info(self, source: object, packed: Path) -> None:
        assert gmvqzip.info(source) == gmvqzip.info(packed)

    @pytest.mark.parametrize("kind", [Remote, Pipe])
    def test_compress(self, kind: type, picture: Path, tiny: Codec) -> None:
        assert gmvqzip.compress(kind(picture.read_bytes())) == tiny.compress(picture)

    @pytest.mark.parametrize("source", [io.StringIO("text"), None, 7])
    def test_others(self, source: object) -> None:
        with pytest.raises(gmvqzip.FormatError, match=r"binary"):
            gmvqzip.decompress(source)


def test_torchvision(tiny: Codec, tmp_path: Path, pixels: np.ndarray) -> None:
    """As docs/library.md has it: a folder of classes, and one file as `decode_image` would give it."""
    try:
        from torchvision import datasets
        from torchvision.transforms.v2 import functional
    except (ImportError, RuntimeError) as error:  # of a build that does not go with this torch
        pytest.skip(f"torchvision: {error}")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.gmvq").write_bytes(tiny.compress(pixels))
    found = datasets.DatasetFolder(tmp_path, datasets.folder.pil_loader, extensions=(".gmvq",))
    image, label = found[0]
    assert (image.size, label, found.classes) == ((37, 23), 0, ["cat"])
    tensor = functional.pil_to_tensor(gmvqzip.decompress((tmp_path / "cat" / "a.gmvq").read_bytes()))
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), np.asarray(image))


def test_datasets(packed: Path, tiny: Codec) -> None:
    """The Image feature of Hugging Face's datasets decodes bytes and paths."""
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    rows = {"image": [str(packed), {"bytes": packed.read_bytes(), "path": None}]}
    table = datasets.Dataset.from_dict(rows, features=datasets.Features({"image": datasets.Image()}))
    expected = np.asarray(tiny.decompress(packed))
    assert all(np.array_equal(np.asarray(row["image"]), expected) for row in table)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves its shard to the collector
def test_webdataset(packed: Path, tiny: Codec, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", exc_type=ImportError)
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(packed, "000.gmvq")

    def decode(key: str, data: bytes) -> Image.Image | None:
        return gmvqzip.decompress(data) if key.endswith(".gmvq") else None

    shards = webdataset.WebDataset(str(tmp_path / "shard.tar"), shardshuffle=False)
    (row,) = shards.decode(decode).to_tuple("gmvq")
    assert np.array_equal(np.asarray(row[0]), np.asarray(tiny.decompress(packed)))


def test_fsspec(packed: Path, tiny: Codec) -> None:
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    with files.open("/in.gmvq", "wb") as file:
        file.write(packed.read_bytes())
    with files.open("/in.gmvq", "rb") as file, Image.open(file) as image:
        assert image.tobytes() == tiny.decompress(packed).tobytes()
        with files.open("/out.gmvq", "wb") as other:
            image.save(other, "GMVQ")
    with files.open("/out.gmvq", "rb") as file:
        assert gmvqzip.info(file).width == 37


def test_imageio(packed: Path, tmp_path: Path, tiny: Codec) -> None:
    imageio = pytest.importorskip("imageio.v3")
    expected = np.asarray(tiny.decompress(packed))
    assert np.array_equal(imageio.imread(packed, plugin="pillow"), expected)
    assert np.array_equal(imageio.imread(packed.read_bytes(), plugin="pillow", extension=".gmvq"), expected)
    assert imageio.improps(packed, plugin="pillow").shape == (23, 37, 3)
    imageio.imwrite(tmp_path / "out.gmvq", expected, plugin="pillow", quality=40)
    assert (tmp_path / "out.gmvq").read_bytes() == tiny.compress(expected)
