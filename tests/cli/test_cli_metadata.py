"""Metadata through the command line: kept, shown, written, dropped."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmvqzip.codec import Codec
from gmvqzip.pack import PackReader

Cli = Callable[..., Any]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


@pytest.fixture
def photo(tmp_path: Path, pixels: np.ndarray) -> Path:
    """A JPEG that lies on its side, with EXIF, XMP, a resolution and a comment."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x8298] = "ACME", 6, "(c) Jane Roe"
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    path = tmp_path / "p.jpg"
    Image.fromarray(pixels).save(path, exif=exif, xmp=XMP, dpi=(300, 300), comment=b"hello", quality=95)
    return path


def fields(done: Any) -> dict[str, Any]:
    return json.loads(done.out)


def test_there_and_back(cli: Cli, photo: Path) -> None:
    assert cli("compress", photo).err == ""
    packed = photo.with_suffix(".gmvq")
    done = cli("decompress", packed, "-o", photo.with_name("back.jpg"))
    assert (done.code, done.err) == (0, "")
    with Image.open(photo.with_name("back.jpg")) as image:
        assert image.size == (23, 37)
        exif = image.getexif()
        assert (exif[0x010F], exif[0x0112], exif[0x8298]) == ("ACME", 1, "(c) Jane Roe")
        assert exif.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"
        assert (image.info["dpi"], image.info["xmp"], image.info["comment"]) == ((300, 300), XMP, b"hello")
    done = cli("decompress", packed, "-o", photo.with_name("back.ppm"))
    assert done.err == f"gmvqzip: {packed}: warning: ppm has no place for EXIF, XMP, dpi, comment: left out\n"
    kept = cli("decompress", packed, "-o", photo.with_name("back.bmp"), "--rm")
    assert packed.is_file()
    assert "the source is not removed: bmp has no place for EXIF, XMP, comment: left out" in kept.err


def test_strip(cli: Cli, photo: Path) -> None:
    assert cli("compress", photo, "--strip").code == 0
    packed = photo.with_suffix(".gmvq")
    assert fields(cli("info", "--json", packed))["sections_bytes"] == 0
    assert cli("decompress", packed, "--rm").code == 0
    with Image.open(photo.with_suffix(".png")) as image:
        assert image.size == (23, 37)
        assert not image.getexif()
    assert not packed.exists()


def test_info(cli: Cli, photo: Path, packed: Path) -> None:
    cli("compress", photo)
    file = photo.with_suffix(".gmvq")
    text = cli("info", "-v", file).out.decode()
    for line in (
        "EXIF Make: ",
        "ACME",
        "EXIF DateTimeOriginal: ",
        "xmp: ",
        f"{len(XMP)} bytes",
        "dpi: ",
        "300, 300",
        "hello",
    ):
        assert line in text
    assert "EXIF" not in cli("info", file).out.decode()
    found = fields(cli("info", "-v", "--json", file))["metadata"]
    assert found["exif"] == {
        "Make": "ACME", "Orientation": 1, "Copyright": "(c) Jane Roe", "DateTimeOriginal": "2024:05:06 07:08:09"
    }  # fmt: skip
    assert (found["xmp"], found["dpi"], found["comment"]) == (XMP.decode(), [300, 300], "hello")
    assert fields(cli("info", "--json", file))["metadata"] is True
    assert fields(cli("info", "-v", "--json", packed))["metadata"] is False
    assert fields(cli("compress", "-f", "--json", photo))["metadata"] is True
    assert fields(cli("test", "--json", file))["metadata"] is True


def test_codes_and_packs_keep_them(cli: Cli, photo: Path, tiny: Codec) -> None:
    cli("compress", photo)
    file = photo.with_suffix(".gmvq")
    assert cli("codes", file).code == 0
    assert cli("codes", "--pack", photo.with_suffix(".npz"), "-o", photo.with_name("again.gmvq")).code == 0
    assert photo.with_name("again.gmvq").read_bytes() == file.read_bytes()
    pack = photo.with_name("set.gmvqp")
    assert cli("pack", photo, "-o", pack).code == 0
    with PackReader(pack) as reader:
        assert reader.image("p").getexif()[0x010F] == "ACME"
        assert reader.gmvq("p") == file.read_bytes()
    assert cli("unpack", pack, "p", "-o", photo.with_name("p.webp")).code == 0
    with Image.open(photo.with_name("p.webp")) as image:
        assert image.getexif()[0x010F] == "ACME"


def test_a_damaged_section_is_found(cli: Cli, tmp_path: Path, tiny: Codec, pixels: np.ndarray) -> None:
    path = tmp_path / "a.gmvq"
    path.write_bytes(tiny.pack_codes(tiny.encode(pixels), {65: b"\1nonsense"}).data)
    for arguments in (("test", path), ("decompress", path), ("info", path)):
        done = cli(*arguments)
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert "metadata are damaged" in done.err


def test_a_target_counts_them_and_says_what_would_help(
    hyper: Codec, hyper_path: Path, cli: Cli, tmp_path: Path
) -> None:
    noise = np.random.default_rng(1).integers(0, 256, 2000, dtype=np.uint8).tobytes()
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG", comment=noise)
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    done = cli("compress", tmp_path / "a.jpg", "-m", hyper_path, "--target-size", 1000)
    assert done.code == 1
    assert "metadata take 20" in done.err
    assert "--strip drops them" in done.err
