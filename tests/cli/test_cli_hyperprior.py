"""The command line with a hyperprior model: models list and show, info, and a picture there and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmvqzip.codec import Codec

Cli = Callable[..., Any]


@pytest.fixture
def cli_hyper(cli: Cli, hyper_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line with the hyperprior model installed."""
    monkeypatch.setenv("GMVQZIP_MODELS", str(hyper_path.parent))
    return cli


@pytest.fixture
def file(hyper: Codec, tmp_path: Path, pixels: np.ndarray) -> Path:
    path = tmp_path / "h.gmvq"
    path.write_bytes(hyper.compress(pixels, quality=63))
    return path


def test_list(cli_hyper: Cli, hyper: Codec) -> None:
    lines = cli_hyper("models").out.decode().splitlines()
    (line,) = [line for line in lines if line.startswith("hyper ")]
    assert line.split()[1] == hyper.model_id[:8]
    assert line.endswith("2 x 16 codes at 1/32, 4 x 32 codes at 1/16, 8 x 16 codes at 1/16")


def test_show(cli_hyper: Cli) -> None:
    text = cli_hyper("models", "show", "hyper").out.decode()
    assert "  hyper: 2 groups of 4 dimensions, 16 codes at 1/32\n" in text
    assert "  part 0: 4 groups of 4 dimensions, 32 codes at 1/16\n" in text
    assert "  part 1: 8 groups of 2 dimensions, 16 codes at 1/16\n" in text
    assert "random weights, for tests" in text
    fields = json.loads(cli_hyper("models", "show", "--json", "hyper").out)
    assert fields["config"]["kind"] == "hyperprior"
    assert fields["grids"][1] == {"part": "part 0", "stride": 16, "stages": 4, "codes": 32, "dimensions": 4}
    assert fields["max_bpp"] == pytest.approx(2 * 4 / 32**2 + (4 * 5 + 8 * 4) / 16**2)
    assert 0 < fields["decode_kmac_per_pixel"] < fields["encode_kmac_per_pixel"]


def test_verify(cli_hyper: Cli, hyper_path: Path, tmp_path: Path) -> None:
    assert cli_hyper("models", "verify", "hyper").out.startswith(b"hyper: ok")
    bad = tmp_path / "bad.safetensors"
    data = bytearray(hyper_path.read_bytes())
    data[-1] ^= 1
    bad.write_bytes(data)
    done = cli_hyper("models", "verify", bad)
    assert (done.code, done.err.count("\n")) == (1, 1)


def test_info(cli_hyper: Cli, file: Path) -> None:
    text = cli_hyper("info", file).out.decode()
    assert "quality:     63" in text
    assert "model:       hyper (" in text
    assert "part 0" not in text


def test_info_of_the_parts(cli_hyper: Cli, hyper: Codec, file: Path) -> None:
    lines = cli_hyper("info", "-v", file).out.decode().splitlines()
    bits = hyper.follow(hyper.decode_codes(file.read_bytes())).bits()
    sums = [sum(bits[:2]), sum(bits[2:6]), sum(bits[6:])]
    assert lines[-3:] == [
        f"  hyper:       2x1 of 16, 2 groups of 4 dimensions, {sums[0]:.1f} bits",
        f"  part 0:      4x2 of 32, 4 groups of 4 dimensions, {sums[1]:.1f} bits",
        f"  part 1:      4x2 of 16, 8 groups of 2 dimensions, {sums[2]:.1f} bits",
    ]
    fields = json.loads(cli_hyper("info", "-v", "--json", file).out.splitlines()[0])
    assert [stage["part"] for stage in fields["stages"]] == ["hyper", "part 0", "part 1"]
    assert [stage["groups"] for stage in fields["stages"]] == [2, 4, 8]
    assert [stage["bits"] for stage in fields["stages"]] == pytest.approx(sums)
    assert fields["quality"] == 63


def test_info_of_a_staged_model_names_each_stage(cli: Cli, packed: Path) -> None:
    lines = cli("info", "-v", packed).out.decode().splitlines()[-3:]
    assert [line.split()[:2] for line in lines] == [["stage", "0"], ["stage", "1"], ["stage", "2"]]
    assert lines[2].startswith("  stage 2      10x6 of 32, ")


def test_a_picture_there_and_back(cli_hyper: Cli, hyper: Codec, picture: Path, pixels: np.ndarray) -> None:
    packed, back = picture.with_suffix(".gmvq"), picture.with_name("back.png")
    assert cli_hyper("compress", "--model", "hyper", "-q", "20", picture).code == 0
    assert packed.read_bytes() == hyper.compress(pixels, quality=20)
    assert cli_hyper("test", packed).code == 0
    assert cli_hyper("decompress", packed, "-o", back).code == 0
    assert np.array_equal(np.asarray(Image.open(back)), np.asarray(hyper.decompress(packed.read_bytes())))
