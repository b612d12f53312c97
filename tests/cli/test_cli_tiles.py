"""Tiled files on the command line: parts, scales, and what each command says of them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_hyperprior import smooth

import gmvqzip
import gmvqzip.pillow  # registers the format
from gmvqzip.codec import Codec

Cli = Callable[..., Any]


@pytest.fixture
def cli_hyper(cli: Cli, hyper_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line with the hyperprior model installed."""
    monkeypatch.setenv("GMVQZIP_MODELS", str(hyper_path.parent))
    return cli


@pytest.fixture
def file(hyper: Codec, tmp_path: Path) -> Path:
    path = tmp_path / "t.gmvq"
    planes = np.concatenate([smooth(200, 230), smooth(200, 230, 1)[:, :, :1]], 2)
    path.write_bytes(hyper.compress(planes, quality=63, effort=1, tile=64))
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


class TestParts:
    def test_region(self, cli_hyper: Cli, file: Path) -> None:
        assert cli_hyper("decompress", file).code == 0
        whole = pixels(file.with_suffix(".png"))
        done = cli_hyper("decompress", "--region", "100,30,65,70", "-o", file.with_name("part.png"), "-v", file)
        assert done.code == 0
        assert "230x200, region 100,30,65,70, " in done.err
        part = pixels(file.with_name("part.png"))
        assert part.shape == (70, 65, 4)
        assert np.abs(part - whole[30:100, 100:165]).max() <= 1

    @pytest.mark.parametrize(("scale", "factor"), [("1/2", 2), ("1/4", 4), ("1/8", 8)])
    @pytest.mark.parametrize("region", [(), ("--region", "8,16,123,101")])
    def test_scales(self, cli_hyper: Cli, file: Path, scale: str, factor: int, region: tuple[str, ...]) -> None:
        assert cli_hyper("decompress", "-f", "--scale", scale, *region, file).code == 0
        found = pixels(file.with_suffix(".png"))
        assert cli_hyper("decompress", "-f", *region, file).code == 0
        full = pixels(file.with_suffix(".png"))
        assert found.shape[:2] == (-(-full.shape[0] // factor), -(-full.shape[1] // factor))
        corner = full[: 3 * factor, :factor].reshape(3, factor, factor, 4).mean((1, 2))
        assert np.abs(found[:3, 0] - corner).max() <= 1

    def test_standard_input(self, cli_hyper: Cli, file: Path) -> None:
        done = cli_hyper("decompress", "--region", "3,4,5,6", "-o", "-", "-", stdin=file.read_bytes())
        assert done.code == 0
        with Image.open(io.BytesIO(done.out)) as image:
            assert image.size == (5, 6)

    def test_json(self, cli_hyper: Cli, file: Path) -> None:
        (info,) = map(json.loads, cli_hyper("info", "--json", file).out.splitlines())
        (fields,) = map(json.loads, cli_hyper("decompress", "--json", "--region", "3,4,5,6", file).out.splitlines())
        assert fields["region"] == [3, 4, 5, 6]
        same = ("width", "height", "in_bytes", "bpp", "quality", "header_bytes", "sections_bytes", "payload_bytes")
        assert {key: fields[key] for key in same} == {key: info[key] for key in same}

    @pytest.mark.parametrize("region", ["", "1,2,3", "1,2,3,4,5", "a,0,1,1", "-1,0,2,2", "1 ,2,3,4", "0,0,99999999,1"])
    def test_malformed_regions(self, cli_hyper: Cli, file: Path, region: str) -> None:
        done = cli_hyper("decompress", f"--region={region}", file)
        assert (done.code, done.out) == (2, b"")
        assert "give X,Y,W,H in pixels" in done.err

    @pytest.mark.parametrize("region", ["0,0,0,1", "230,0,1,1", "200,0,31,1", "0,0,231,200"])
    def test_regions_outside(self, cli_hyper: Cli, file: Path, region: str) -> None:
        done = cli_hyper("decompress", "--region", region, file)
        assert (done.code, done.out) == (1, b"")
        assert f"region {region} is not inside the picture of 230x200 pixels" in done.err
        assert not file.with_suffix(".png").exists()

    def test_other_scales(self, cli_hyper: Cli, file: Path) -> None:
        done = cli_hyper("decompress", "--scale", "1/3", file)
        assert done.code == 2


class TestOtherCommands:
    def test_info(self, cli_hyper: Cli, file: Path) -> None:
        text = cli_hyper("info", "-v", file).out.decode()
        assert "230x200, colour, transparency, tiles of 64x64\n" in text
        assert ", tiles " in next(line for line in text.splitlines() if line.startswith("  bytes:"))
        assert "part 1" in text
        assert json.loads(cli_hyper("info", "--json", file).out)["tile"] == 64
        assert gmvqzip.info(file).tile == 64

    def test_test(self, cli_hyper: Cli, file: Path) -> None:
        assert cli_hyper("test", file).code == 0
        data = bytearray(file.read_bytes())
        data[-40] ^= 1
        file.write_bytes(data)
        assert cli_hyper("test", file).code == 1

    def test_codes_there_and_back(self, cli_hyper: Cli, file: Path) -> None:
        before = file.read_bytes()
        assert cli_hyper("codes", file).code == 0
        assert cli_hyper("codes", "--pack", "-f", file.with_suffix(".npz")).code == 0
        assert file.read_bytes() == before

    def test_packs(self, cli_hyper: Cli, file: Path) -> None:
        pack = file.with_name("set.gmvqp")
        assert cli_hyper("pack", "--gmvq", file, "-o", pack).code == 0
        assert cli_hyper("test", pack).code == 0
        assert cli_hyper("unpack", pack, "t", "-o", file.with_name("back.gmvq")).code == 0
        assert file.with_name("back.gmvq").read_bytes() == file.read_bytes()
        assert cli_hyper("unpack", pack, "t", "-o", file.with_name("back.png")).code == 0
        assert cli_hyper("decompress", file).code == 0
        assert np.array_equal(pixels(file.with_name("back.png")), pixels(file.with_suffix(".png")))

    def test_view(self, cli_hyper: Cli, file: Path) -> None:
        assert cli_hyper("view", file).code == 0
        assert "part 1" in file.with_suffix(".html").read_text(encoding="utf-8")

    def test_pillow(self, cli_hyper: Cli, file: Path) -> None:
        assert cli_hyper("decompress", file).code == 0
        with Image.open(file) as image:
            assert (image.size, image.mode) == ((230, 200), "RGBA")
            assert np.array_equal(np.asarray(image), pixels(file.with_suffix(".png")))
