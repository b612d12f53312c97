"""The scripts of the paper's table and figures, on a tiny network and tiny pictures."""

from __future__ import annotations

import importlib.util
import io
import json
import runpy
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_runs import CPU, TINY, pictures, splits, train
from torch import nn

from gmvqzip.errors import TrainingError
from gmvqzip.models.config import GridConfig
from gmvqzip.models.network import StagedAutoencoder
from gmvqzip.training.config import TrainConfig
from gmvqzip.training.evaluation import soft_measures, to_tensor
from gmvqzip.training.imagesets import UniformSet
from gmvqzip.training.splits import DataSplits
from gmvqzip.training.stopping import Stopping

SCRIPTS = Path(__file__).parents[2] / "scripts" / "paper"
ONE = replace(
    TINY,
    network=replace(TINY.network, grids=(GridConfig(stride=4, codes=16, dimensions=4),)),  # type: ignore[type-var]
)


def loaded(name: str) -> ModuleType:
    """A script as a module, without running it."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    if str(SCRIPTS) not in sys.path:
        sys.path.append(str(SCRIPTS))  # scripts share modules
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def reproduce(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """The script with a tiny preset and data set; signal handlers are put back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    module = loaded("reproduce")
    arrays = [pictures(count, seed) for seed, count in enumerate((20, 4, 6))]
    arrays[2][0] = arrays[2][0, ..., :1]  # a gray test picture, whose file is one of a single channel
    parts = [UniformSet(name, array) for name, array in zip("abc", arrays, strict=True)]
    monkeypatch.setattr(module, "preset", lambda name: ONE)
    monkeypatch.setattr("experiments.preset", lambda name: ONE)
    monkeypatch.setattr(module, "load_data", lambda kind, data: DataSplits(*parts, "gradients"))  # type: ignore[arg-type]
    monkeypatch.setattr("gmvqzip.training.report._tensorboard", lambda folder: None)
    monkeypatch.chdir(tmp_path)
    yield module
    for number, handler in before.items():
        signal.signal(number, handler)


def command(*more: str, experiment: str = "table1") -> list[str]:
    return [experiment, "--data", "x", "--device", "cpu", "--results", "r.jsonl", "--steps", "12", *more]


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]


class TestRuns:
    def test_each_run_is_a_line_of_measures(self, reproduce: ModuleType) -> None:
        reproduce.main(command("--rows", "gmvq", "fsq", "--seeds", "0", "3"))
        found = lines()
        assert [(line["row"], line["seed"]) for line in found] == [("gmvq", 0), ("fsq", 0), ("gmvq", 3), ("fsq", 3)]
        for line in found:
            assert (line["experiment"], line["set"], line["steps_done"]) == ("table1", "cifar10", 12)
            assert (line["sites"], line["codes"], line["nominal_bits_per_image"]) == (16, 16, 64)
            assert line["ideal_bits_per_image"] < line["bits_per_image"] < 64 + 8 * 20
            assert line["bits_per_image"] * line["files"] % 8 == 0 and line["files"] == line["pictures"] == 6
            assert 1 <= line["perplexity_hard"] <= 16 and 1 <= line["perplexity_soft"] <= 16.001
            assert 0 < line["mse"] < 0.3
            assert line["quantiles"]["mse"] == sorted(line["quantiles"]["mse"])
            assert line["refined"]["mse"] <= line["refined"]["mse_first"] == pytest.approx(line["mse"], rel=1e-4)
            assert (line["refined"]["pictures"], line["refined"]["effort"]) == (6, 4)
            assert line["settings"]["seed"] == line["seed"]
            assert line["hardware"]["device"] == "cpu" and line["seconds_in_all"] >= line["seconds_trained"] > 0
        assert found[0]["conditional_entropy"] > 0.01 and found[1]["conditional_entropy"] == 0
        assert found[0]["model_id"] != found[2]["model_id"]
        assert not list(Path("r").iterdir())  # checkpoints and models are gone

    def test_what_is_there_is_not_made_again(self, reproduce: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
        reproduce.main(command("--rows", "fsq"))
        first = Path("r.jsonl").read_bytes()
        reproduce.main(command("--rows", "fsq"))
        assert Path("r.jsonl").read_bytes() == first
        assert "is there already" in capsys.readouterr().out
        reproduce.main(command("--rows", "fsq", "--change", "adam_rate=0.001"))
        assert [line["changes"] for line in lines()] == [{}, {"adam_rate": 0.001}]
        assert lines()[1]["settings"]["adam_rate"] == 0.001

    def test_what_is_wrong_is_said_in_a_line(
        self, reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            reproduce.main(command("--time-per-run", "5x"))
        assert "'5x' is no duration such as 90s, 15m or 1.5h" in capsys.readouterr().err
        assert reproduce.arguments(["table1", "--data", ".", "--time-per-run", "1.5m"]).time_per_run == 90
        monkeypatch.setattr(sys, "argv", ["reproduce.py", "table1", "--data", "nowhere", "--results", "r.jsonl"])
        with pytest.raises(SystemExit, match="CIFAR-10 not found"):
            runpy.run_path(str(SCRIPTS / "reproduce.py"), run_name="__main__")

    def test_an_interrupted_run_goes_on(self, reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stopped after a few steps it leaves a checkpoint and no line; going on, it gives what a whole run gives."""

        class Soon(Stopping):
            calls = 0

            @property
            def asked(self) -> bool:  # type: ignore[override]
                self.calls += 1
                return self.calls > 7

        with monkeypatch.context() as patch:
            patch.setattr(reproduce, "Stop", Soon)
            reproduce.main(command("--rows", "sqvae"))
        assert not Path("r.jsonl").exists()
        assert len(list(Path("r").rglob("checkpoint-00000007.pt"))) == 1
        reproduce.main(command("--rows", "sqvae", "--keep"))
        assert len(list(Path("r").rglob("model.safetensors"))) == 1
        Path("r.jsonl").rename("first.jsonl")
        reproduce.main(command("--rows", "sqvae"))
        whole, parts = lines()[0], json.loads(Path("first.jsonl").read_text())
        assert whole["model_id"] == parts["model_id"]
        assert whole["mse"] == parts["mse"] and whole["perplexity_soft"] == parts["perplexity_soft"]

    def test_a_run_that_fails_is_recorded_and_the_next_is_made(self, reproduce: ModuleType) -> None:
        Path("r.jsonl").write_text('{"cut')
        reproduce.main(command("--rows", "gmvq", "--steps", "2"))  # the codebook is not even started
        assert "too few" in lines_after_cut()[0]["failed"]
        reproduce.main(command("--rows", "gmvq", "fsq"))
        assert [line["row"] for line in lines_after_cut()] == ["gmvq", "gmvq", "fsq"]


def lines_after_cut() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()[1:]]


class TestRows:
    @pytest.mark.parametrize("experiment", ["table1", "sweeps", "entropy", "ablations", "masks"])
    def test_every_row_is_a_configuration_of_its_own(self, experiment: str) -> None:
        module = loaded("reproduce")
        made = [
            module.configured("cifar10", row, {}, 5, {"steps": 77}) for row in module.EXPERIMENTS[experiment].values()
        ]
        assert all(isinstance(config, TrainConfig) and (config.seed, config.steps) == (5, 77) for config in made)
        assert all(a != b for number, a in enumerate(made) for b in made[:number])

    def test_codes_and_changes(self) -> None:
        module = loaded("reproduce")
        masked = module.configured(
            "celeba128", module.EXPERIMENTS["masks"]["mvq, 64 codes x 15 masks"], {}, 0, {"epochs": 2}
        )
        assert (masked.network.grids[0].codes, masked.epochs, masked.steps) == (960, 2, None)
        strong = module.EXPERIMENTS["ablations"]["beta 100"]
        config = module.configured("cifar10", strong, {"quantizer.gamma": 0.5}, 0, {"seconds": 9.0})
        assert (config.quantizer.beta, config.quantizer.gamma) == (100.0, 0.5)
        with pytest.raises(TrainingError, match=r"no field 'quantizer\.colour'"):
            module.configured("cifar10", strong, {"quantizer.colour": 1}, 0, {"steps": 9})

    def test_refusals(self, capsys: pytest.CaptureFixture[str]) -> None:
        module = loaded("reproduce")
        with pytest.raises(SystemExit):
            module.arguments(command("--rows", "magic"))
        assert "no row magic in table1" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            module.arguments(command("--change", "colour"))

    def test_celeba_takes_its_test_part_from_the_aligned_faces(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = loaded("reproduce")
        sets = {name: UniformSet(name, pictures(3)) for name in ("celeba128", "celeba", "test")}

        def load(kind: str, place: Path, **options: Any) -> DataSplits:
            test = sets["test"] if place.name == "celeba" else None
            return DataSplits(sets[place.name], sets[place.name], test, place.name)

        monkeypatch.setattr(module, "load_dataset", load)
        (tmp_path / "celeba128").mkdir()
        with pytest.raises(TrainingError, match="has no test part"):
            module.load_data("celeba128", tmp_path)
        (tmp_path / "celeba").mkdir()
        splits = module.load_data("celeba128", tmp_path)
        assert (splits.train, splits.test) == (sets["celeba128"], sets["test"])


def test_soft_measures() -> None:
    """Batches of 4, 4 and 2: the last has no perplexity; entropies are weighted by pictures."""
    torch.manual_seed(0)
    network = StagedAutoencoder(ONE.network)  # type: ignore[arg-type]
    batches = [pictures(4, 0), pictures(4, 1), pictures(2, 2)]
    perplexities, conditional = soft_measures(network.train(), batches, CPU)
    assert network.training
    network.eval()
    with torch.no_grad():
        stages = [network(to_tensor(batch, CPU)).stages[0] for batch in batches]
    assert perplexities == [float(stage.perplexity_soft) for stage in stages[:2]]
    entropies = [float(stage.terms["conditional_entropy"]) for stage in stages]
    assert conditional == pytest.approx((4 * entropies[0] + 4 * entropies[1] + 2 * entropies[2]) / 10)


class TestLatents:
    def test_the_triple_of_each_method(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        train(tmp_path, ONE)
        latents = loaded("latents")
        monkeypatch.setattr(latents, "load_dataset", lambda *a, **k: splits())
        monkeypatch.setattr(latents, "proxies", lambda network, pictures, count: torch.randn(200, 4) + 3)
        words = [
            tmp_path / "tiny.safetensors",
            "--data",
            "x",
            "--codes",
            "16",
            "--steps",
            "150",
            "--sites",
            "64",
            "--rate",
            "0.2",
        ]
        latents.main([*map(str, words), "--results", str(tmp_path / "l.json")])
        found = {record["method"]: record for record in json.loads((tmp_path / "l.json").read_text())["methods"]}
        assert set(found) == set(latents.METHODS)
        # k-means settles; matching alone keeps more codes in use than nearest codes that start at one place
        assert found["vqvae, k-means"]["quantisation_error"] < 0.8 * 4
        assert found["wasserstein, matching alone"]["utilisation"] > found["vqvae"]["utilisation"]
        assert all(1 <= record["perplexity"] <= 16 for record in found.values())

    def test_proxies_are_what_the_encoder_codes(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        network = StagedAutoencoder(ONE.network).eval()  # type: ignore[arg-type]
        pixels = pictures(3)
        found = loaded("latents").proxies(network, UniformSet("tiny", pixels), 3)
        assert found.shape == (3 * 16, 4)
        network.ordered_stages()[0].quantizer.settings = replace(ONE.quantizer, learned_weights=False)  # type: ignore[type-var]
        indices = network.ordered_stages()[0].quantizer.assign(found, torch.zeros(48, 4))
        with torch.no_grad():
            (stage,) = network(to_tensor(pixels, CPU)).stages
        assert torch.equal(indices, stage.indices)


class TestFigures:
    def test_gradients_against_finite_differences(self) -> None:
        figures = loaded("figures")
        function = figures.network(torch.Generator().manual_seed(1)).double()
        logits = torch.randn(10, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        torch.set_default_dtype(torch.float64)
        try:
            exact = figures.exact_gradient(function, logits)
            values = function(torch.eye(10))[:, 0]
        finally:
            torch.set_default_dtype(torch.float32)
        for place in range(10):
            step = torch.zeros(10, dtype=torch.float64)
            step[place] = 1e-5
            slope = ((logits + step).softmax(0) - (logits - step).softmax(0)) @ values / 2e-5
            assert float(exact[place]) == pytest.approx(float(slope), abs=1e-8)

    def test_a_linear_function_has_no_bias_at_a_low_temperature(self) -> None:
        """As tau falls the estimate of a linear function's gradient tends to the exact one; at tau = 5 it does not."""
        figures = loaded("figures")
        torch.manual_seed(0)
        function = nn.Linear(10, 1).requires_grad_(False)
        logits = torch.randn(10)
        exact = figures.exact_gradient(function, logits)

        def difference(tau: float) -> float:
            generator = torch.Generator().manual_seed(0)
            estimate = figures.gumbel_gradient(function, logits, tau, 200_000, generator)
            return float((estimate - exact).norm() / exact.norm())

        assert difference(0.1) < 0.1 < 0.4 < difference(5.0)

    def test_bias_is_measured_once_and_drawn(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        figures = loaded("figures")
        monkeypatch.setattr(figures, "MANY_RUNS", 100)
        words = ["bias", "--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "a.png"), "--networks", "2"]
        figures.main(words)
        data = json.loads((tmp_path / "a.json").read_text())
        assert data["entropy"] == sorted(data["entropy"], reverse=True)
        assert len(data["difference"]["50"]) == len(data["tau"])
        first = (tmp_path / "a.png").read_bytes()
        assert Image.open(io.BytesIO(first)).size == (1280, 480)
        (tmp_path / "a.json").write_text(json.dumps(data | {"exact": [2 * value for value in data["exact"]]}))
        figures.main(words)
        assert (tmp_path / "a.png").read_bytes() != first

    def test_the_sweep_is_drawn_from_finished_runs(self, tmp_path: Path) -> None:
        figures = loaded("figures")
        path = tmp_path / "r.jsonl"

        def record(gamma: float, error: float) -> dict[str, Any]:
            boxes = {"mse": [error * part for part in (0.5, 0.8, 1, 1.5, 2)], "perplexity_soft": [3, 4, 5, 6, 7]}
            settings = {"quantizer": {"gamma": gamma}}
            return {
                "experiment": "entropy",
                "settings": settings,
                "mse": error,
                "perplexity_soft": 5,
                "quantiles": boxes,
            }

        failed = {"experiment": "entropy", "settings": {"quantizer": {"gamma": 9.0}}, "failed": "diverged"}
        records = [
            record(0.1, 2e-3),
            record(0.0, 3e-3),
            record(0.1, 4e-3),
            failed,
            record(0.2, 1e-3) | {"experiment": "a"},
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in records) + '{"cut')
        sweep = figures.read_sweep(path)
        assert {gamma: len(runs) for gamma, runs in sweep.items()} == {0.0: 1, 0.1: 2}
        assert list(sweep) == [0.0, 0.1]
        figures.main(["entropy", "--json", str(path), "--plot", str(tmp_path / "e.png")])
        with Image.open(tmp_path / "e.png") as picture:
            assert picture.size == (1280, 480)
            assert len(picture.getcolors(1 << 20) or []) > 20

    def test_no_runs_to_draw(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "r.jsonl"
        path.write_text("")
        with pytest.raises(SystemExit):
            loaded("figures").main(["entropy", "--json", str(path), "--plot", str(tmp_path / "e.png")])
        assert "holds no finished run" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("low", "high", "decades", "wanted"),
        [(0.0, 1.0, False, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0.03, 4.0, True, [0.05, 0.1, 0.2, 0.5, 1, 2])],
    )
    def test_marks(self, low: float, high: float, decades: bool, wanted: list[float]) -> None:
        assert loaded("figures").marks(low, high, decades=decades) == wanted


def test_tables_have_means_over_seeds_beside_the_published_figures(
    reproduce: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reproduce.main(command("--rows", "gmvq", "--seeds", "0", "3"))
    reproduce.main(command("--rows", "fsq", "--steps", "12"))
    reproduce.main(command("--rows", "gmvq", "--steps", "2"))
    capsys.readouterr()
    tables = loaded("tables")
    monkeypatch.setattr(sys, "argv", ["tables.py", "r.jsonl"])
    tables.main()
    shown = capsys.readouterr().out
    first, second = (float(1000 * line["mse"]) for line in lines()[:2])
    assert shown.count("| published |") == 2  # two lengths, so two tables
    assert f"| gmvq | {(first + second) / 2:.3f} ({min(first, second):.3f} to {max(first, second):.3f}) |" in shown
    assert "| 3.13 / 731.9 |" in shown
    assert next(row for row in shown.splitlines() if row.startswith("| fsq ")).endswith("| - |")
    assert "failed: 2 steps are too few" in shown
