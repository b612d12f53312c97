"""The script for a flagship's bars: what is kept between runs, the bars, and the report of a whole run."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fakes import Quantiser, scene
from PIL import Image

from gmvqzip.bench.codecs import Avif, Jpeg
from gmvqzip.bench.measure import Point
from gmvqzip.bench.results import PictureResult, Results
from gmvqzip.setting import DEFAULT_QUALITY

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure" / "flagship.py"


@pytest.fixture(scope="module")
def flagship() -> ModuleType:
    spec = importlib.util.spec_from_file_location("script_flagship", SCRIPT)
    assert spec is not None and spec.loader is not None
    sys.path.append(str(SCRIPT.parent))  # it has a neighbour
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class TestKept:
    def test_nothing_is_measured_twice(self, flagship: ModuleType, tmp_path: Path) -> None:
        codec, picture, path = Quantiser(lambda quality: int(quality)), scene(20, 30), tmp_path / "kept.json"
        first = flagship.Kept(path).measured(codec, "key", picture, [10, 20.5])
        assert codec.tried == [10, 20.5]
        again = flagship.Kept(path).measured(codec, "key", picture, [10, 20.5])
        assert codec.tried == [10, 20.5]
        assert again == first
        more = flagship.Kept(path).measured(codec, "key", picture, [5, 10])
        assert codec.tried == [10, 20.5, 5]
        assert [point.quality for point in more] == [5, 10]

    @pytest.mark.parametrize("change", ["picture", "shape", "key"])
    def test_what_is_measured_anew(self, flagship: ModuleType, tmp_path: Path, change: str) -> None:
        codec, picture, path = Quantiser(lambda quality: 9), scene(20, 30), tmp_path / "kept.json"
        flagship.Kept(path).measured(codec, "key", picture, [10])
        other = {"picture": scene(20, 30, seed=1), "shape": picture.reshape(30, 20, 3), "key": picture}[change]
        flagship.Kept(path).measured(codec, "other" if change == "key" else "key", other, [10])
        assert codec.tried == [10, 10]

    def test_without_a_file(self, flagship: ModuleType) -> None:
        codec = Quantiser(lambda quality: 9)
        assert len(flagship.Kept(None).measured(codec, "key", scene(20, 30), [10])) == 1

    def test_the_key_holds_settings_and_versions(self, flagship: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        def key(speed: int) -> str:
            return str(flagship.setting_key(Avif("avif", "AVIF", 1, speed=speed)))

        keys = [key(6), key(7)]
        monkeypatch.setattr(flagship, "libraries", lambda: {"pillow": "0"})
        assert len({*keys, key(6)}) == 3


def line(codec: str, rate: float, scores: list[float], *, level: float = 20) -> list[Point]:
    """A curve on which 50 points of SSIMULACRA2, or 10 dB, are ten times the rate."""
    return [
        Point(codec, number, 1000 * 10 ** (s / 50), rate * 10 ** (s / 50 - 1), level + s / 5, 0.9, 10, s, 1, 1)
        for number, s in zip((1, 25, DEFAULT_QUALITY, 75, 100), scores, strict=True)
    ]


class TestBars:
    @pytest.fixture
    def results(self, flagship: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Results:
        monkeypatch.setattr(flagship, "MOST_RATE", {("jpeg", "ssimulacra2"): -10.0, ("jpeg", "psnr"): -40.0})
        points = [*line("fake", 0.7, [0, 30, 72, 80, 100]), *line("jpeg", 1, [-10, 20, 50, 75, 98])]
        return Results([Quantiser(lambda quality: 1), Jpeg()], {}, [PictureResult("a", 300, 300, points)])

    def bars(self, flagship: ModuleType, results: Results) -> dict[str, Any]:
        return {bar.name: bar for bar in flagship.bars_of(results, flagship.steps_of(results))}

    def test_each(self, flagship: ModuleType, results: Results) -> None:
        pytest.importorskip("bjontegaard")
        bars = self.bars(flagship, results)
        assert {name: bar.verdict for name, bar in bars.items()} == {
            "bpp at the lowest quality": "met",  # 0.07
            "SSIMULACRA2 at the highest quality": "met",
            "PSNR at the highest quality": "met",
            f"SSIMULACRA2 at the default quality, {DEFAULT_QUALITY}": "met",
            "rate against jpeg at equal SSIMULACRA2, %": "met",
            "rate against jpeg at equal PSNR, %": "missed",  # -30
            "steps in which the mean file_bytes falls": "met",
            "steps in which the mean psnr falls": "met",
            "steps in which the mean ssimulacra2 falls": "met",
        }
        assert bars["rate against jpeg at equal SSIMULACRA2, %"].figure == pytest.approx(-30)
        assert bars[f"SSIMULACRA2 at the default quality, {DEFAULT_QUALITY}"].bounds == ">= 70, <= 75"

    def test_a_part_of_the_range_is_not_the_range(self, flagship: ModuleType, results: Results) -> None:
        pytest.importorskip("bjontegaard")
        points = [*line("fake", 0.7, [0, 15, 30, 45, 60]), *line("jpeg", 1, [-10, 20, 50, 75, 98])]
        bars = self.bars(flagship, replace(results, pictures=[PictureResult("a", 300, 300, points)]))
        bar = bars["rate against jpeg at equal SSIMULACRA2, %"]
        assert (bar.figure, bar.verdict) == (pytest.approx(-30), "of 60% of the range only")
        assert bars["SSIMULACRA2 at the highest quality"].verdict == "missed"

    def test_falls(self, flagship: ModuleType, results: Results) -> None:
        fall, rise = line("fake", 0.7, [0, 30, 29, 80, 70]), line("fake", 0.7, [0, 30, 40, 80, 100])
        pictures = [PictureResult("a", 300, 300, points) for points in (fall, rise)]
        steps = flagship.steps_of(replace(results, pictures=pictures))
        assert steps["ssimulacra2"] == {
            "mean_falls": 0,
            "picture_falls": 2,
            "picture_steps": 8,
            "largest_fall": pytest.approx(10),
        }
        assert steps["file_bytes"]["largest_fall"] == pytest.approx(1 - 10**-0.2)
        assert flagship.steps_of(replace(results, pictures=pictures[:1]))["psnr"]["mean_falls"] == 2

    def test_without_ssimulacra2(self, flagship: ModuleType, results: Results) -> None:
        points = [replace(point, ssimulacra2=None) for point in results.pictures[0].points]
        bars = self.bars(flagship, replace(results, pictures=[PictureResult("a", 300, 300, points)]))
        assert bars["SSIMULACRA2 at the highest quality"].verdict == "not measured"
        assert bars["rate against jpeg at equal SSIMULACRA2, %"].verdict == "not measured"


class Halved:
    """A model whose files are JPEG files without their second half, which it remembers."""

    name, model_id, qualities = "halved", "00" * 32, range(1, 101)

    def __init__(self, path: object, device: str) -> None:
        self.ends: dict[bytes, bytes] = {}

    def compress(self, image: np.ndarray, *, quality: int | None = None, effort: int = 0) -> bytes:
        assert quality is not None and effort == 4
        data = Jpeg().encode(image, quality)
        half = data[: len(data) // 2]
        self.ends[half] = data[len(data) // 2 :]
        return half

    def decompress(self, data: bytes) -> Image.Image:
        return Image.fromarray(Jpeg().decode(data + self.ends[data]))


def test_a_whole_run(
    flagship: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flagship, "RIVALS", {"jpeg": (10, 40, 70, 90)})
    monkeypatch.setattr(flagship, "MOST_RATE", {("jpeg", "psnr"): -40.0})
    monkeypatch.setattr(flagship, "PSNR_WINDOW", (1, 9))
    monkeypatch.setattr("gmvqzip.codec.Codec", Halved)
    monkeypatch.setattr("gmvqzip.models.registry.find", lambda name: Path(name))
    (tmp_path / "set").mkdir()
    for seed in range(2):
        Image.fromarray(scene(48, 64, seed)).save(tmp_path / "set" / f"{seed}.png")
    words = ["--pictures", str(tmp_path / "set"), "--rivals", str(tmp_path / "rivals.json")]
    flagship.main(words)
    alone = capsys.readouterr().out
    assert "| JPEG 4:2:0 | q 40 |" in alone and "asked for" not in alone
    before = (tmp_path / "rivals.json").read_bytes()
    words += ["--own", str(tmp_path / "own.json"), "--every", "33", "--json", str(tmp_path / "out.json")]
    flagship.main(["halved", *words])
    report, found = capsys.readouterr().out, json.loads((tmp_path / "out.json").read_text())
    assert (tmp_path / "rivals.json").read_bytes() == before
    assert [mean["quality"] for mean in found["mean"][:5]] == [1, 34, DEFAULT_QUALITY, 67, 100]
    assert all(f"| {mean['bpp']:.4f} | {mean['psnr']:.2f} |" in report for mean in found["mean"])
    bars = {bar["name"]: bar for bar in found["bars"]}
    assert bars["bpp at the lowest quality"]["figure"] == found["mean"][0]["bpp"]
    assert "| bpp at the lowest quality |" in report
    assert "not measured: ssimulacra2: 64x48 is too small" in report or "ssimulacra2 is not installed" in report
    if importlib.util.find_spec("bjontegaard"):
        assert bars["rate against jpeg at equal PSNR, %"]["figure"] == pytest.approx(-50, abs=3)
        assert bars["rate against jpeg at equal PSNR, %"]["verdict"] == "met"

    def refuse(*_: object, **__: object) -> bytes:
        raise AssertionError("measured twice")

    monkeypatch.setattr(Halved, "compress", refuse)
    monkeypatch.setattr(Jpeg, "encode", refuse)
    monkeypatch.setattr(flagship, "why_missing", lambda codec: None)
    flagship.main(["halved", *words])
    assert capsys.readouterr().out == report


def test_documents(
    flagship: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From figures written before, as from measuring: blocks, plot and figures below another root."""
    points = [*line("fake", 0.7, [0, 30, 72, 80, 100]), *line("jpeg", 1, [-10, 20, 50, 75, 98])]

    def write(model: str) -> None:
        run = {"effort": 4, "threads": 1, "model": {"name": model, "id": "ab" * 32}}
        pictures = [PictureResult(f"{name}.png", 300, 300, points) for name in ("a", "b")]
        results = Results([Quantiser(lambda quality: 1), Jpeg()], {}, pictures, (0.1, 0.5), run=run)
        (tmp_path / "found.json").write_text(results.to_json())

    write("photo")
    marks = "before\n<!-- {0}: written by scripts/measure/flagship.py -->\n<!-- {0}: end -->\nafter\n"
    for folder in ("docs/data", "docs/pictures"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "README.md").write_text(marks.format("comparison"))
    (tmp_path / "docs" / "results.md").write_text(marks.format("photo"))
    flagship.main(["--from", str(tmp_path / "found.json"), "--update", "--root", str(tmp_path)])
    assert "Means over 2 pictures" in capsys.readouterr().out
    readme, page = (tmp_path / "README.md").read_text(), (tmp_path / "docs" / "results.md").read_text()
    assert "Quality 1 to 100: " in readme and f"{DEFAULT_QUALITY}, the default, has 72.0 at " in readme
    assert f"Model `{'ab' * 8}`, 2 Kodak pictures, a to b, effort 4." in page and page.endswith("end -->\nafter\n")
    if importlib.util.find_spec("bjontegaard"):
        assert "| JPEG by libjpeg-turbo | -30.0 % |" in readme and "| -30.0 % | 30.0 to 80.0 |" in page
    with Image.open(tmp_path / "docs" / "pictures" / "kodak.png") as picture:
        assert picture.width == 2 * 720
    kept = json.loads((tmp_path / "docs" / "data" / "kodak.json").read_text())
    assert kept["images"] == ["a.png", "b.png"] and "encode_seconds" not in kept["mean"][0]
    (tmp_path / "README.md").write_text(marks.format("psnr"))
    (tmp_path / "docs" / "results.md").write_text(marks.format("photo-psnr"))
    write("photo-psnr")
    flagship.main(["--from", str(tmp_path / "found.json"), "--update", "--root", str(tmp_path)])
    assert "| bytes of `photo-psnr` beside |" in (tmp_path / "README.md").read_text()
    assert "| quality | bpp |" in (tmp_path / "docs" / "results.md").read_text()
    assert (tmp_path / "docs" / "data" / "kodak-psnr.json").exists()
    write("other")
    with pytest.raises(ValueError, match="photo and photo-psnr, not other"):
        flagship.main(["--from", str(tmp_path / "found.json"), "--update", "--root", str(tmp_path)])
    monkeypatch.setattr("sys.stderr", sys.stdout)
    for words in (["--update"], [], ["--pictures", "a.png", "--from", "found.json"]):
        with pytest.raises(SystemExit):
            flagship.main(words)
