"""Files, pictures and models that are not what they should be: one clear line each, and nothing is written."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmvqzip import FormatError, GmvqError
from gmvqzip.codec import Codec
from gmvqzip.format import container

Cli = Callable[..., Any]


def refused(done: Any, message: str) -> None:
    """Exit code 1, nothing on standard output, one line that says what is wrong."""
    assert (done.code, done.out) == (1, b"")
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith("gmvqzip: ")
    assert message in done.err


@pytest.fixture(scope="module")
def short_file(tiny: Codec) -> bytes:
    """A file in the short form, with a few bytes of payload."""
    return tiny.compress(np.random.default_rng(3).integers(0, 256, (9, 10, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def long_file(tiny: Codec) -> bytes:
    """A file in the long form, with both sections."""
    pixels = np.random.default_rng(4).integers(0, 256, (1, 260, 3), dtype=np.uint8)
    alpha = np.zeros((1, 260), np.uint8)
    alpha[0, ::50] = 9
    file = io.BytesIO()
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()[:200]
    profile = len(profile).to_bytes(4, "big") + profile[4:]
    Image.fromarray(np.dstack([pixels, alpha])).save(file, "PNG", icc_profile=profile)
    return tiny.compress(file.getvalue())


@pytest.mark.parametrize("which", ["short_file", "long_file"])
class TestEveryByte:
    def test_every_flip_of_a_byte_is_detected(self, tiny: Codec, which: str, request: pytest.FixtureRequest) -> None:
        data = request.getfixturevalue(which)
        tiny.decode_codes(data)
        missed = []
        for position in range(len(data)):
            for change in range(1, 256) if which == "short_file" else (1, 2, 4, 8, 16, 32, 64, 128, 85, 255):
                damaged = bytearray(data)
                damaged[position] ^= change
                try:
                    tiny.decode_codes(bytes(damaged))
                except GmvqError:
                    continue
                missed.append((position, change))
        assert not missed

    def test_every_cut_is_detected(self, tiny: Codec, which: str, request: pytest.FixtureRequest) -> None:
        data = request.getfixturevalue(which)
        for length in range(len(data)):
            with pytest.raises(FormatError):
                tiny.decode_codes(data[:length])

    def test_trailing_bytes_are_detected(self, tiny: Codec, which: str, request: pytest.FixtureRequest) -> None:
        data = request.getfixturevalue(which)
        for tail in (b"\0", b"\xff", b"\0" * 100, data):
            with pytest.raises(FormatError):
                tiny.decode_codes(data + tail)

    def test_each_command_refuses_them(
        self, cli: Cli, tmp_path: Path, which: str, request: pytest.FixtureRequest
    ) -> None:
        data = request.getfixturevalue(which)
        path = tmp_path / "a.gmvq"
        damaged = [data[:1], data[:7], data[:-1], data + b"\0"]
        damaged += [data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :] for at in (0, 2, 3, 5, len(data) - 1)]
        for content in damaged:
            path.write_bytes(content)
            for command in ("decompress", "info"):
                refused(cli(command, path), str(path))
        for command in ("test", "codes"):
            refused(cli(command, path), str(path))
        assert list(tmp_path.iterdir()) == [path]


class TestForeignFiles:
    def test_the_kinds(self, cli: Cli, tmp_path: Path, short_file: bytes, picture: Path) -> None:
        flags = short_file[2]
        cases = {
            b"": "empty",
            b"plain text": "not a .gmvq file",
            picture.read_bytes(): "not a .gmvq file",
            short_file[:2] + bytes([flags + 0x20]) + short_file[3:]: "version 2",
            short_file[:2] + bytes([flags & 0x1F]) + short_file[3:]: "version 0",
            short_file[:2] + bytes([flags | 1]) + short_file[3:]: "reserved bits",
        }
        path = tmp_path / "a.gmvq"
        for content, message in cases.items():
            path.write_bytes(content)
            refused(cli("test", path), message)
            refused(cli("info", "-", stdin=content), message)

    def test_beyond_the_limits(self, cli: Cli, tmp_path: Path, tiny: Codec, short_file: bytes) -> None:
        path = tmp_path / "a.gmvq"
        path.write_bytes(short_file)
        for command in ("decompress", "test", "codes"):
            refused(cli(command, path, "--max-pixels", 89), "--max-pixels")
            assert cli(command, path, "--max-pixels", 90).code == 0

    def test_a_claim_of_many_pixels_allocates_nothing(self, cli: Cli, tmp_path: Path, tiny: Codec) -> None:
        import tracemalloc

        huge = container.pack(
            width=2**21,
            height=2**21,
            model_id=bytes.fromhex(tiny.model_id),
            quality=0,
            gray=False,
            codes_crc32=0,
            payload=b"\1",
        )
        path = tmp_path / "a.gmvq"
        path.write_bytes(huge)
        tracemalloc.start()
        try:
            for command in ("decompress", "test", "codes"):
                refused(cli(command, path), "2097152x2097152 pixels")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 20e6
        assert b"2097152x2097152" in cli("info", path).out

    def test_more_codes_than_the_payload_can_hold(self, cli: Cli, tmp_path: Path, tiny: Codec) -> None:
        path = tmp_path / "a.gmvq"
        path.write_bytes(
            container.pack(
                width=1000,
                height=1000,
                model_id=bytes.fromhex(tiny.model_id),
                quality=0,
                gray=False,
                codes_crc32=0,
                payload=b"",
            )
        )
        refused(cli("test", path), "damaged")

    def test_a_model_that_is_not_installed(
        self, cli: Cli, tmp_path: Path, short_file: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GMVQZIP_MODELS", str(tmp_path))
        path = tmp_path / "a.gmvq"
        path.write_bytes(short_file)
        identity = container.read_header(short_file)[0].model_id.hex()
        for command in ("decompress", "test", "codes"):
            done = cli(command, path)
            refused(done, f"made with model {identity}")
            assert "--model" in done.err

    def test_unknown_names_of_models(self, cli: Cli, picture: Path) -> None:
        refused(cli("compress", "-m", "nonesuch", picture), "no model named 'nonesuch'")
        refused(cli("compress", "-m", "", picture), "no model named ''")
        refused(cli("compress", "-m", "/nonesuch/x.safetensors", picture), "no model file")

    def test_tracebacks_only_on_demand(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "a.gmvq").write_bytes(b"foreign")
        assert "Traceback" not in cli("test", "-v", tmp_path / "a.gmvq").err
        assert "Traceback" in cli("test", "-vv", tmp_path / "a.gmvq").err


class TestPictures:
    """Every kind of picture goes through the command line; the reader's own tests are in tests/images."""

    @pytest.fixture
    def convert(self, cli: Cli, tmp_path: Path) -> Callable[..., tuple[Any, Image.Image | None]]:
        def run(content: bytes, *options: object) -> tuple[Any, Image.Image | None]:
            source, packed, back = (tmp_path / f"x.{ending}" for ending in ("png", "gmvq", "out.png"))
            source.write_bytes(content)
            done = cli("compress", "-f", source, "-e", 1, *options)
            if done.code:
                assert not packed.exists()
                return done, None
            assert cli("decompress", "-f", packed, "-o", back).code == 0
            with Image.open(back) as image:
                image.load()
            return done, image

        return run

    @staticmethod
    def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    def test_refused(self, convert: Any, picture: Path) -> None:
        good = picture.read_bytes()
        assert "empty" in convert(b"")[0].err
        assert "not a picture" in convert(b"plain text")[0].err
        for length in (10, 60, len(good) // 2, len(good) - 40):
            done, _ = convert(good[:length])
            assert (done.code, done.err.count("\n")) == (1, 1)
        done, _ = convert(good, "--max-pixels", 850)
        assert done.code == 1
        assert "--max-pixels" in done.err

    def test_a_decompression_bomb(self, convert: Any) -> None:
        import struct
        import zlib

        def chunk(name: bytes, content: bytes) -> bytes:
            return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

        header = struct.pack(">IIBBBBB", 400_000, 400_000, 1, 0, 0, 0, 0)
        lines = zlib.compress(bytes(50_001) * 10)
        bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")
        done, _ = convert(bomb)
        assert done.code == 1
        assert "more than the limit" in done.err
        assert "--max-pixels" in done.err

    @pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 10_000), (20_000, 3)])
    def test_extreme_shapes(self, convert: Any, width: int, height: int) -> None:
        done, image = convert(self.saved(Image.new("RGB", (width, height), "teal")))
        assert done.code == 0
        assert image.size == (width, height)

    def test_modes(self, convert: Any, pixels: np.ndarray) -> None:
        rgb = Image.fromarray(pixels)
        palette = rgb.quantize(16)
        for content, mode in (
            (self.saved(rgb.convert("CMYK"), "TIFF"), "RGB"),
            (self.saved(rgb.convert("L")), "L"),
            (self.saved(rgb.convert("1")), "L"),
            (self.saved(rgb.convert("LA")), "L"),
            (self.saved(palette), "RGB"),
            (self.saved(palette, transparency=3), "RGBA"),
            (self.saved(Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)), "L"),
        ):
            done, image = convert(content)
            assert done.code == 0
            assert (image.mode, image.size) == (mode, rgb.size)

    def test_what_is_lost_is_said(self, convert: Any, pixels: np.ndarray) -> None:
        frames = [Image.fromarray(pixels), Image.fromarray(255 - pixels)]
        done, _ = convert(self.saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
        assert done.code == 0
        assert "warning: only" in done.err
        done, _ = convert(self.saved(Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)))
        assert "16 bits per channel reduced to 8" in done.err

    def test_orientation(self, convert: Any, pixels: np.ndarray) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        _, image = convert(self.saved(Image.fromarray(pixels), "JPEG", exif=exif))
        assert image.size == (23, 37)

    def test_a_file_that_is_compressed_already(self, cli: Cli, packed: Path) -> None:
        refused(cli("compress", packed), ".gmvq file already")


class TestModels:
    def test_files_that_are_no_models(self, cli: Cli, tmp_path: Path, tiny_path: Path, picture: Path) -> None:
        import pickle

        good = tiny_path.read_bytes()
        path = tmp_path / "bad.safetensors"
        for content in (b"", good[:5], good[:100], pickle.dumps({"weights": [1.0]}), b"\xff" * 64):
            path.write_bytes(content)
            refused(cli("compress", "-m", path, picture), "is not a gmvqzip model")
            refused(cli("models", "show", path), "is not a gmvqzip model")
        path.write_bytes(good[:-100])
        refused(cli("compress", "-m", path, picture), "damaged or cut")
        assert not picture.with_suffix(".gmvq").exists()

    def test_a_pickle_is_never_run(self, cli: Cli, tmp_path: Path, picture: Path) -> None:
        import pickle

        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (tmp_path / "sprung",))

        path = tmp_path / "bad.safetensors"
        path.write_bytes(pickle.dumps(Trap()))
        assert cli("compress", "-m", path, picture).code == 1
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("nan", "not finite"),
            ("shape", "wrong tensor"),
            ("missing", "lacks tensor"),
            ("sum", "sums to"),
            ("zero", "outside 1"),
            ("version", "version 99"),
            ("config", "version 99"),
        ],
    )
    def test_models_that_do_not_hold_together(
        self, cli: Cli, tmp_path: Path, tiny_path: Path, picture: Path, change: str, message: str
    ) -> None:
        path = tmp_path / "bad.safetensors"
        path.write_bytes(altered(tiny_path, change))
        refused(cli("compress", "-m", path, picture), message)
        assert not picture.with_suffix(".gmvq").exists()
        done = cli("models", "verify", path)
        assert done.code == 1
        assert message in done.err


def altered(path: Path, change: str) -> bytes:
    """The model file with one thing wrong."""
    import json

    from safetensors import safe_open
    from safetensors.numpy import load_file, save

    tensors = load_file(path)
    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
    weight = next(name for name in sorted(tensors) if name.startswith("network.") and tensors[name].ndim == 4)
    if change == "nan":
        tensors[weight] = np.full_like(tensors[weight], np.nan)
    elif change == "shape":
        tensors[weight] = tensors[weight][:, :1].copy()
    elif change == "missing":
        del tensors[weight]
    elif change == "sum":
        tensors["table.0"] = tensors["table.0"] + 1
    elif change == "zero":
        table = tensors["table.0"].copy()
        table[:2] = 0, table[0] + table[1]
        tensors["table.0"] = table
    elif change == "version":
        metadata["gmvqzip"] = "99"
    elif change == "config":
        metadata["config"] = json.dumps(json.loads(metadata["config"]) | {"version": 99})
    return save(tensors, metadata)
