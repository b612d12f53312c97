"""compress with qualities, targets of size and PSNR, and efforts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rated_hyperprior import rated_model
from tiny_hyperprior import smooth

from gmvqzip.bench.metrics import psnr
from gmvqzip.cli.options import byte_count
from gmvqzip.codec import Codec, load
from gmvqzip.setting import DEFAULT_QUALITY

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def rated_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rated") / "rated.safetensors"
    path.write_bytes(rated_model("rated"))
    return path


@pytest.fixture
def rated(rated_path: Path) -> Codec:
    return load(rated_path)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    path = tmp_path / "scene.png"
    Image.fromarray(smooth(150, 203, seed=3)).save(path)
    return path


@pytest.fixture
def compress(cli: Cli, rated_path: Path) -> Cli:
    return lambda *arguments, **streams: cli("compress", "-m", rated_path, *arguments, **streams)


def test_quality_and_effort(compress: Cli, scene: Path, rated: Codec) -> None:
    sizes = []
    for quality in (1, 40, 100):
        done = compress(scene, "-c", "-q", quality, "-v")
        assert done.out == rated.compress(scene, quality=quality)
        assert "single rate" not in done.err
        sizes.append(len(done.out))
    assert sizes == sorted(set(sizes))
    assert compress(scene, "-c").out == rated.compress(scene, quality=DEFAULT_QUALITY)
    refined = compress(scene, "-c", "-q", 40, "--effort", 3).out
    assert refined == compress(scene, "-c", "-q", 40, "-e", 3).out == rated.compress(scene, quality=40, effort=3)


def test_each_of_many_files_keeps_its_ceiling(compress: Cli, tmp_path: Path) -> None:
    for name, (height, width) in {"a.png": (150, 203), "b.png": (96, 300), "sub/c.png": (203, 150)}.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(smooth(height, width, seed=len(name))).save(tmp_path / "in" / name)
    done = compress("-r", tmp_path / "in", "--output-dir", tmp_path / "out", "--target-size", "1.3k", "--json", "-j", 2)
    assert (done.code, done.err) == (0, "")
    records = [json.loads(line) for line in done.out.splitlines()]
    assert len(records) == 3
    for record in records:
        assert Path(record["output"]).stat().st_size == record["out_bytes"]
        assert 0.97 * 1300 <= record["out_bytes"] <= 1300
        assert record["bpp"] == 8 * record["out_bytes"] / (record["width"] * record["height"])
        assert 1 <= record["quality"] <= 100
        assert "psnr" not in record


def test_bits_per_pixel(compress: Cli, scene: Path, rated: Codec) -> None:
    (record,) = [
        json.loads(line) for line in compress(scene, "--target-bpp", "0.5", "-e", 2, "--json").out.splitlines()
    ]
    assert 0.97 * 0.5 <= record["bpp"] <= 0.5
    assert scene.with_suffix(".gmvq").read_bytes() == rated.compress(scene, target_bpp=0.5, effort=2)


def test_the_psnr_reached_is_told(compress: Cli, cli: Cli, scene: Path, rated_path: Path) -> None:
    target = 8
    (record,) = [json.loads(line) for line in compress(scene, "--target-psnr", target, "--json").out.splitlines()]
    packed = scene.with_suffix(".gmvq")
    assert cli("decompress", packed, "-m", rated_path, "-o", scene.parent / "back.png").code == 0
    with Image.open(scene) as original, Image.open(scene.parent / "back.png") as back:
        assert record["psnr"] == pytest.approx(psnr(np.asarray(original), np.asarray(back)), abs=0.02)
    assert record["psnr"] >= target
    line = compress(scene, "--target-psnr", target, "-f", "-v").err
    assert f"bits per pixel, quality {record['quality']}, PSNR {record['psnr']:.2f} dB\n" in line


def test_a_file_that_cannot_be_small_enough_fails_alone(compress: Cli, scene: Path) -> None:
    small = scene.parent / "small.png"
    Image.fromarray(smooth(64, 64)).save(small)
    with Image.open(scene) as image:  # transparency is never reduced
        noise = Image.effect_noise(image.size, 50)
        image.putalpha(noise)
        image.save(scene)
    done = compress(scene, small, "--target-size", "400", "--json")
    assert done.code == 1
    assert done.err.count("\n") == 2
    assert f"{scene}: the smallest file of this picture has " in done.err
    assert "above the target of 400 bytes" in done.err
    assert done.err.endswith("1 of 2 files failed\n")
    failed, fine = (json.loads(line) for line in done.out.splitlines())
    assert "the smallest file" in failed["error"]
    assert fine["out_bytes"] <= 400
    assert not scene.with_suffix(".gmvq").exists()
    one = compress(scene, "--target-psnr", 90)
    assert (one.code, one.err.count("\n")) == (1, 1)
    assert "the finest file of this picture has" in one.err


def test_a_single_rate(cli: Cli, picture: Path, tiny: Codec) -> None:
    data = tiny.compress(picture)
    assert cli("compress", picture, "-c", "--target-size", len(data)).out == data
    first = tiny.compress(picture, effort=1)  # refined codes may take a few bytes more, or fewer
    least = min(len(data), len(first))
    assert len(cli("compress", picture, "-c", "--target-size", least).out) == least
    done = cli("compress", picture, "-c", "--target-size", least - 1)
    assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)
    assert "single rate" in done.err
    other = cli("compress", picture, "-c", "-q", 5, "-v")
    assert other.out == data
    assert "single rate: --quality 5 changes nothing" in other.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-q", 50, "--target-bpp", 1], "--quality and --target-bpp contradict each other: give one"),
        (
            ["--target-bpp", 1, "--target-size", 9, "--target-psnr", 9],
            "--target-bpp and --target-size and --target-psnr",
        ),
        (["--target-bpp", 0], "--target-bpp 0 is out of range: give bits per pixel, more than 0"),
        (["--target-bpp", "nan"], "--target-bpp nan is out of range: give bits per pixel, more than 0"),
        (["--target-psnr", -3], "--target-psnr -3 is out of range: give dB, more than 0"),
        (["--target-psnr", 101], "--target-psnr 101 is out of range: give dB, more than 0 and at most 100"),
        (["--target-size", "20q"], "--target-size 20q: give bytes, such as 300, 20k, 20kB or 1.5M"),
        (["--target-size", "0.4"], "--target-size 0.4: give bytes"),
    ],
)
def test_bad_arguments_are_one_line(cli: Cli, picture: Path, arguments: list[object], message: str) -> None:
    done = cli("compress", picture, *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert message in done.err
    assert not picture.with_suffix(".gmvq").exists()


@pytest.mark.parametrize("arguments", [["--effort", 0], ["--effort", 10], ["-e", "much"], ["--target-bpp", "much"]])
def test_what_no_option_takes(cli: Cli, picture: Path, arguments: list[object]) -> None:
    assert cli("compress", picture, *arguments).code == 2


def test_sizes_in_bytes() -> None:
    sizes = {"300": 300, "20k": 20_000, "1.5M": 1_500_000, "4.35k": 4350, "0.0015k": 1, "0": 0}
    sizes |= {
        "20K": 20_000,
        "20kB": 20_000,
        "20 kB": 20_000,
        "1.5MB": 1_500_000,
        "300B": 300,
        "2KiB": 2048,
        "1GB": 10**9,
    }
    assert {text: byte_count(text) for text in sizes} == sizes
    assert all(byte_count(text) is None for text in ("", "k", "-3", "1e3", "20q", "3kk", ".5M", "3iB", "٣"))
