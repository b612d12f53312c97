"""gmvqzip bench: tables, JSON, plot and page of real files; refusals before any work."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmvqzip.bench.codecs import Jpeg
from gmvqzip.bench.metrics import ms_ssim, psnr, ssimulacra2
from gmvqzip.bench.plot import WIDTH
from gmvqzip.codec import Codec

Cli = Callable[..., Any]
QUICK = ("--codecs", "jpeg", "--qualities", "10,30,60,90")


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """A photograph's part in two sizes, and the same as gray and with transparency."""
    with Image.open(Path(__file__).parents[2] / "docs" / "pictures" / "otter.jpg") as image:
        part = image.convert("RGB").crop((100, 100, 164, 148))
    veiled = part.convert("RGBA")
    veiled.putalpha(Image.linear_gradient("L").resize(part.size))
    made = {"a": part, "b": part.crop((0, 0, 40, 30)), "gray": part.convert("L"), "veil": veiled}
    paths = []
    for name, picture in made.items():
        paths.append(tmp_path / f"{name}.png")
        picture.save(paths[-1])
    return paths


class TestFigures:
    def test_json(self, cli: Cli, pictures: list[Path], tmp_path: Path, tiny: Codec) -> None:
        done = cli("bench", *pictures[:2], *QUICK, "--json", tmp_path / "out.json")
        assert (done.code, done.err) == (0, "")
        found = json.loads((tmp_path / "out.json").read_text())
        assert (found["model"], found["model_id"], found["threads"]) == ("photo", tiny.model_id, 1)
        assert found["codecs"] == {"gmvqzip": "gmvqzip photo", "jpeg": "JPEG 4:2:0"}
        assert [image["name"] for image in found["images"]] == [str(path) for path in pictures[:2]]
        for path, image in zip(pictures, found["images"], strict=False):
            pixels = np.asarray(Image.open(path))
            assert (image["height"], image["width"]) == pixels.shape[:2]
            assert [point["setting"] for point in image["points"]] == ["single rate", "q 10", "q 30", "q 60", "q 90"]
            ours = image["points"][0]
            data = tiny.compress(pixels)
            decoded = np.asarray(tiny.decompress(data))
            assert ours["file_bytes"] == len(data)
            assert ours["bpp"] == 8 * len(data) / pixels[..., 0].size
            assert ours["psnr"] == psnr(pixels, decoded)
            assert ours["ms_ssim"] == ms_ssim(pixels, decoded)
            assert ours["encode_seconds"] > 0 and ours["decode_seconds"] > 0
        for number, mean in enumerate(found["mean"]):
            for key in ("bpp", "psnr", "ms_ssim", "ms_ssim_db", "file_bytes"):
                parts = [image["points"][number][key] for image in found["images"]]
                assert mean[key] == pytest.approx(sum(parts) / 2)
        differences = {(one["anchor"], one["metric"]) for one in found["rate_differences"]}
        assert differences == {("jpeg", "psnr"), ("jpeg", "ms_ssim_db")}

    def test_tables(self, cli: Cli, pictures: list[Path], tmp_path: Path) -> None:
        done = cli("bench", pictures[0], *QUICK, "--json", tmp_path / "out.json", "--bpp", "0.1-2")
        text = done.out.decode()
        found = json.loads((tmp_path / "out.json").read_text())
        assert text.startswith("means over 1 picture\n")
        assert not any(line != line.rstrip() for line in text.splitlines())
        assert "from 0.1 to 2 bpp" in text
        for mean in found["mean"]:
            (row,) = [line for line in text.splitlines() if f"{mean['bpp']:.4f}" in line]
            assert f"{mean['psnr']:.3f}" in row and f"{mean['ms_ssim']:.5f}" in row and mean["setting"] in row
        assert text.count("JPEG 4:2:0") == 3

    def test_json_alone_on_standard_output(self, cli: Cli, pictures: list[Path]) -> None:
        done = cli("bench", pictures[0], *QUICK, "--json", "-")
        assert json.loads(done.out)["images"][0]["width"] == 64

    def test_quiet(self, cli: Cli, pictures: list[Path]) -> None:
        done = cli("bench", pictures[0], *QUICK, "--quiet")
        assert (done.code, done.out, done.err) == (0, b"", "")

    def test_standard_input(self, cli: Cli, pictures: list[Path]) -> None:
        done = cli("bench", "-", *QUICK, "--json", "-", stdin=pictures[1].read_bytes())
        assert [image["name"] for image in json.loads(done.out)["images"]] == ["-"]

    def test_gray_is_measured_as_rgb_and_transparency_over_white(
        self, cli: Cli, pictures: list[Path], tmp_path: Path
    ) -> None:
        same = tmp_path / "same"
        same.mkdir()
        for path in pictures[2:]:
            layer = Image.open(path).convert("RGBA")
            Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB").save(same / path.name)
        done = cli("bench", *pictures[2:], *sorted(same.iterdir()), *QUICK, "--json", "-")
        gray, veil, same_gray, same_veil = (
            [(point["file_bytes"], point["psnr"]) for point in image["points"]]
            for image in json.loads(done.out)["images"]
        )
        assert (gray, veil) == (same_gray, same_veil)
        assert gray != veil


class TestMissing:
    def test_a_missing_encoder_is_named(
        self, cli: Cli, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
        outputs = ("--json", tmp_path / "out.json", "--html", tmp_path / "out.html")
        done = cli("bench", pictures[1], "--codecs", "jxl,jpeg", "--qualities", "20", *outputs)
        reason = "imagecodecs is not installed: pip install imagecodecs"
        assert done.code == 0
        assert f"not measured: jxl: {reason}" in done.out.decode()
        assert json.loads((tmp_path / "out.json").read_text())["missing"]["jxl"] == reason
        assert "Not measured: jxl: imagecodecs is not installed" in (tmp_path / "out.html").read_text()


class TestSsimulacra2:
    """Of pictures large enough; the package may be missing."""

    QUICK = ("--codecs", "jpeg", "--qualities", "10,30,60,90")

    @pytest.fixture
    def large(self, tmp_path: Path) -> Path:
        with Image.open(Path(__file__).parents[2] / "docs" / "pictures" / "otter.jpg") as image:
            image.convert("RGB").crop((100, 100, 340, 326)).save(tmp_path / "large.png")
        return tmp_path / "large.png"

    @pytest.fixture
    def outputs(self, tmp_path: Path) -> tuple[object, ...]:
        names = {"--json": "out.json", "--html": "out.html", "--plot": "out.png"}
        return tuple(part for option, name in names.items() for part in (option, tmp_path / name))

    def test_everywhere(
        self,
        cli: Cli,
        pictures: list[Path],
        large: Path,
        outputs: tuple[object, ...],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for package in ("ssimulacra2", "bjontegaard"):
            pytest.importorskip(package)
        monkeypatch.setattr("gmvqzip.codec.load", lambda model, *, device: Rated())
        done = cli("bench", large, pictures[0], *self.QUICK, *outputs, "--ssimulacra2", "20-70", "--bpp", "0.2-9")
        assert done.code == 0
        found, text = json.loads((tmp_path / "out.json").read_text()), done.out.decode()
        whole, small = (image["points"] for image in found["images"])
        pixels = np.asarray(Image.open(large))
        for point in whole[4:]:  # of JPEG
            decoded = Jpeg().decode(Jpeg().encode(pixels, point["quality"]))
            assert point["ssimulacra2"] == ssimulacra2(pixels, decoded)
        assert [point["ssimulacra2"] for point in small] == [None] * 8
        assert [mean["ssimulacra2"] for mean in found["mean"]] == [point["ssimulacra2"] for point in whole]
        assert all(f" {point['ssimulacra2']:.2f} " in text for point in whole)
        assert found["ssimulacra2_range"] == [20, 70]
        (difference,) = [one for one in found["rate_differences"] if one["metric"] == "ssimulacra2"]
        assert difference["percent"] == pytest.approx(100)
        assert 20 <= difference["low"] < difference["high"] <= 70
        assert "% of 20 to 70" in text and "PSNR and MS-SSIM from 0.2 to 9 bpp" in text
        line = "of 1 of 2 pictures: 64x48 is too small for SSIMULACRA2: a side must have 225 pixels"
        assert found["missing"] == {"ssimulacra2": line}
        assert f"not measured: ssimulacra2: {line}" in text
        page = (tmp_path / "out.html").read_text()
        assert f"SSIMULACRA2 {found['images'][0]['equal_size'][1]['ssimulacra2']:.2f}" in page
        assert page.count("<td>-</td>") == 2  # the small picture's
        with Image.open(tmp_path / "out.png") as image:
            assert image.width == 3 * WIDTH

    def test_without_the_package(
        self,
        cli: Cli,
        large: Path,
        outputs: tuple[object, ...],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(sys.modules, "ssimulacra2", None)
        done = cli("bench", large, *self.QUICK, *outputs)
        reason = "ssimulacra2 is not installed: pip install ssimulacra2"
        found, text = json.loads((tmp_path / "out.json").read_text()), done.out.decode()
        assert (done.code, found["missing"]) == (0, {"ssimulacra2": reason})
        assert text.splitlines()[-1] == f"not measured: ssimulacra2: {reason}"
        assert "SSIMULACRA2" not in text
        assert {one["metric"] for one in found["rate_differences"]} == {"psnr", "ms_ssim_db"}
        assert f"Not measured: ssimulacra2: {reason}" in (tmp_path / "out.html").read_text()
        with Image.open(tmp_path / "out.png") as image:
            assert image.width == 2 * WIDTH


class Rated:
    """A model with a hundred qualities whose files are JPEG files, twice as long with zeros."""

    name, model_id, qualities = "rated", "00" * 32, range(1, 101)

    def compress(self, image: np.ndarray, *, quality: int | None = None) -> bytes:
        assert quality in self.qualities
        data = Jpeg().encode(image, quality)
        return data + bytes(len(data))

    def decompress(self, data: bytes) -> Image.Image:
        return Image.fromarray(Jpeg().decode(data))


class TestSeveralRates:
    @pytest.fixture
    def found(
        self, cli: Cli, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> tuple[str, dict[str, Any]]:
        monkeypatch.setattr("gmvqzip.codec.load", lambda model, *, device: Rated())
        outputs = ("--json", tmp_path / "out.json", "--html", tmp_path / "out.html")
        done = cli("bench", *pictures[:2], *QUICK, "--bpp", "2-8", *outputs)
        assert (done.code, done.err) == (0, "")
        return done.out.decode(), json.loads((tmp_path / "out.json").read_text())

    def test_twice_the_rate_is_plus_100_percent(self, found: tuple[str, dict[str, Any]]) -> None:
        pytest.importorskip("bjontegaard")
        text, values = found
        for difference in values["rate_differences"]:
            assert difference["percent"] == pytest.approx(100)
            assert difference["low"] < difference["high"]
        assert text.count("+100.00 %") == 2

    def test_the_page_s_size_is_that_of_quality_50(
        self, found: tuple[str, dict[str, Any]], pictures: list[Path]
    ) -> None:
        for path, image in zip(pictures, found[1]["images"], strict=False):
            codec, pixels = Jpeg(), np.asarray(Image.open(path))
            assert image["limit_bytes"] == 2 * len(codec.encode(pixels, 50))
            ours, jpeg = image["equal_size"]
            assert ours["file_bytes"] == image["limit_bytes"]
            assert jpeg["file_bytes"] <= image["limit_bytes"]
            assert jpeg["psnr"] > ours["psnr"]


class TestOutputs:
    def test_plot(self, cli: Cli, pictures: list[Path], tmp_path: Path) -> None:
        assert cli("bench", pictures[0], *QUICK, "--plot", tmp_path / "rd.png").code == 0
        with Image.open(tmp_path / "rd.png") as image:
            assert image.format == "PNG"

    @pytest.mark.parametrize(("at", "limits"), [("1k", [1000, 1000]), ("600", [600, 600]), ("2bpp", [768, 300])])
    def test_a_page_at_a_size(self, cli: Cli, pictures: list[Path], tmp_path: Path, at: str, limits: list[int]) -> None:
        outputs = ("--html", tmp_path / "out.html", "--json", tmp_path / "out.json")
        assert cli("bench", *pictures[:2], *QUICK, *outputs, "--at", at).code == 0
        images = json.loads((tmp_path / "out.json").read_text())["images"]
        assert [image["limit_bytes"] for image in images] == limits
        page = (tmp_path / "out.html").read_text()
        assert page.count('class="picture"') == 2
        for image in images:
            for point in image["equal_size"]:
                assert point["fits"] == (point["file_bytes"] <= image["limit_bytes"])
                assert f"{point['file_bytes']:,} bytes" in page
            assert [point["codec"] for point in image["equal_size"]] == ["gmvqzip", "jpeg"]

    def test_a_page_at_our_own_size(self, cli: Cli, pictures: list[Path], tmp_path: Path) -> None:
        outputs = ("--html", tmp_path / "out.html", "--html-pictures", "1", "--json", tmp_path / "out.json")
        assert cli("bench", *pictures[:2], *QUICK, *outputs).code == 0
        first, second = json.loads((tmp_path / "out.json").read_text())["images"]
        assert first["limit_bytes"] == first["points"][0]["file_bytes"] == first["equal_size"][0]["file_bytes"]
        assert first["equal_size"][0]["fits"]
        assert (second["limit_bytes"], second["equal_size"]) == (None, [])
        assert (tmp_path / "out.html").read_text().count('class="picture"') == 1

    def test_an_output_is_kept_unless_forced(self, cli: Cli, pictures: list[Path], tmp_path: Path) -> None:
        for option, name in (("--json", "x.json"), ("--plot", "x.png"), ("--html", "x.html")):
            output = tmp_path / name
            output.write_text("kept")
            done = cli("bench", pictures[1], *QUICK, option, output)
            assert (done.code, done.out) == (1, b"")
            assert done.err == f"gmvqzip: output {output} exists: skipped; -f overwrites it\n"
            assert output.read_text() == "kept"
            assert cli("bench", pictures[1], *QUICK, option, output, "-f").code == 0
            assert output.read_bytes() != b"kept"


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--codecs", "jpeg,gif"], "--codecs gif: choose jpeg, jpegli, webp, avif, avif-iq, avif-420, jxl"),
            (["--qualities", "10,x"], "--qualities 10,x: give numbers from 1 to 100"),
            (["--qualities", "0"], "--qualities 0: give numbers"),
            (["--qualities", "101"], "--qualities 101: give numbers"),
            (["--qualities", ""], "--qualities : give numbers"),
            (["--bpp", "0.5"], "--bpp 0.5: give a range"),
            (["--bpp", "0.5-0.1"], "--bpp 0.5-0.1: give a range"),
            (["--ssimulacra2", "30"], "--ssimulacra2 30: give a range within 0 to 100"),
            (["--ssimulacra2", "80-30"], "--ssimulacra2 80-30: give a range"),
            (["--ssimulacra2", "50-101"], "--ssimulacra2 50-101: give a range"),
            (["--ssimulacra2=-10-30"], "--ssimulacra2 -10-30: give a range"),
            (["--at", "1k"], "--at is the size for --html"),
            (["--html", "x.html", "--at", "1q"], "--at 1q: give bytes or bits per pixel"),
            (["--html", "x.html", "--at", "0bpp"], "--at 0bpp: give bytes or bits per pixel"),
            (["--plot", "x.jpg"], "--plot x.jpg: the name must end in .png"),
            (["--html", "x"], "--html x: the name must end in .html"),
            (["--json", "x.png"], "figures would be written to x.png: give a name that ends in .json"),
            (["--json", "x/"], "output x/ is a directory: name a file in it"),
            (["--json", "x.html", "--html", "./x.html"], "two outputs have one name"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_usage(
        self,
        cli: Cli,
        pictures: list[Path],
        tmp_path: Path,
        arguments: list[str],
        message: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        before = sorted(tmp_path.iterdir())
        done = cli("bench", pictures[1], *arguments)
        assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
        assert done.err.startswith(f"gmvqzip: {message}")
        assert sorted(tmp_path.iterdir()) == before

    def test_an_output_is_never_a_picture(self, cli: Cli, pictures: list[Path]) -> None:
        before = pictures[0].read_bytes()
        done = cli("bench", *pictures[:2], *QUICK, "--plot", pictures[0], "-f")
        assert (done.code, done.out) == (2, b"")
        assert "is one of the pictures" in done.err
        assert pictures[0].read_bytes() == before

    def test_bad_pictures_do_not_stop_the_others(self, cli: Cli, pictures: list[Path], tmp_path: Path) -> None:
        broken, small = tmp_path / "broken.png", tmp_path / "small.png"
        broken.write_bytes(pictures[0].read_bytes()[:200])
        Image.new("RGB", (50, 10)).save(small)
        done = cli("bench", broken, small, pictures[1], tmp_path / "none.png", *QUICK, "--json", "-")
        assert done.code == 1
        lines = done.err.splitlines()
        assert [line.split(": ")[1] for line in lines] == [
            str(tmp_path / "none.png"),
            str(broken),
            str(small),
            "3 of 4 files failed",
        ]
        assert "50x10 is too small to be measured" in lines[2]
        assert [image["name"] for image in json.loads(done.out)["images"]] == [str(pictures[1])]

    def test_nothing_is_written_where_no_picture_was_measured(self, cli: Cli, tmp_path: Path) -> None:
        done = cli("bench", tmp_path / "none.png", *QUICK, "--json", tmp_path / "out.json")
        assert (done.code, done.out) == (1, b"")
        assert done.err == f"gmvqzip: {tmp_path / 'none.png'}: no such file\n"
        assert not (tmp_path / "out.json").exists()

    def test_an_unknown_model(self, cli: Cli, pictures: list[Path]) -> None:
        done = cli("bench", pictures[1], *QUICK, "--model", "nothing")
        assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)
        assert "nothing" in done.err
