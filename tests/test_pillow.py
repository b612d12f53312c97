"""The Pillow plugin: opening without weights, pixels when they are asked for, Pillow's errors."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError
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
