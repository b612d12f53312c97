"""The page of the paper's table, from made-up records, whole and not."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from test_reproduction import loaded

ROOT = Path(__file__).parents[2]


@pytest.fixture
def page() -> ModuleType:
    return loaded("page")


def run(row: str, mse: float, soft: float, seed: int = 0, **more: Any) -> dict[str, Any]:
    boxes = {
        "mse": [mse * part for part in (0.5, 0.8, 1, 1.5, 2)],
        "perplexity_soft": [soft - 2, soft, soft, soft, soft],
    }
    return {
        "experiment": "paper",
        "set": "cifar10",
        "row": row,
        "seed": seed,
        "rate": 0.003,
        "length": {"epochs": 100.0},
        "mse": mse,
        "psnr_mean": 25.0,
        "perplexity_soft": soft,
        "perplexity_hard": soft - 1,
        "utilisation": 0.5,
        "conditional_entropy": 0.3,
        "refined": {"mse": 0.9 * mse, "mse_first": mse},
        "quantiles": boxes,
        "settings": {"quantizer": {"gamma": more.pop("gamma", 0.0)}},
        "hardware": {"name": "x86_64", "threads": 1},
        "seconds_trained": 1800.0,
        "steps_done": 19140,
        "epochs_done": 99.98,
        "validation": {"mse": mse},
    } | more


def short(row: str, rate: float, mse: float | None) -> dict[str, Any]:
    end = {"failed": "the loss is not finite at step 7"} if mse is None else {"validation": {"mse": mse}}
    key = {"experiment": "paper, rates", "set": "cifar10", "row": row, "seed": 0, "length": {"epochs": 10.0}}
    return key | {"rate": rate} | end


SOME = [
    run("vqvae", 3e-3, 700.0),
    run("vqvae", 3.2e-3, 720.0, seed=1),
    run("gmvq", 2.9e-3, 800.0, gamma=0.02),
    run("sqvae", 2.899e-3, 750.0),
    {
        "experiment": "paper",
        "set": "cifar10",
        "row": "gumbel",
        "seed": 0,
        "length": {"epochs": 100.0},
        "failed": "gone",
    },
    run("mvq", 9e-3, 9.0, length={"epochs": 2.0}),  # of another length
    short("vqvae", 0.01, None),
    short("vqvae", 0.003, 0.004),
    short("vqvae", 0.001, 0.005),
]


def test_measured_beside_published_and_what_is_missing(page: ModuleType) -> None:
    made = page.block([page.sorted_out("cifar10", SOME), page.sorted_out("celeba128", SOME)])
    assert "| vqvae | 0.003 | 2 | 3.100 (3.000 to 3.200) | 2.790 | 25.00 | 710.0 |" in made
    assert "| 30 | 5.65 / 14.0 |" in made
    assert "| gumbel | - | - | failed: gone |" in made
    assert "| mvq | - | - | not yet run |" in made
    assert (
        "3 of 10 rows are finished; failed: gumbel; not yet run: gmvq+entropy, vqvae+replace, vqvae+l2, gmvq+identity"
        in made
    )
    assert "; on x86_64, 1 thread." in made
    assert "| vqvae | the loss is not finite at step 7 | **4.000** | 5.000 |" in made
    assert "The largest rate is the best of 0 of 1 rows" in made
    larger = page.rate_table(
        page.sorted_out("cifar10", [*SOME, short("gmvq", 0.01, 0.004), short("gmvq", 0.003, 0.005)])
    )
    assert "The largest rate is the best of 1 of 2 rows" in larger
    assert "CelebA-128, 10,240 bits a picture\n\nNot yet run." in made
    assert len({line.count("|") for line in made.splitlines() if line.startswith("| vqvae+l2 ")}) == 1


@pytest.mark.parametrize(
    ("lower", "verdict"),
    [
        (("gmvq", "vqvae"), "found: 2.900 against 3.100"),
        (("vqvae", "gmvq"), "not found: 3.100 against 2.900"),
        (("gmvq", "sqvae"), "level: 2.900 against 2.899"),
        (("gmvq", "gumbel"), "not yet run"),
    ],
)
def test_claims(page: ModuleType, lower: tuple[str, str], verdict: str) -> None:
    results = page.sorted_out("cifar10", SOME)
    assert page.compared(results, lower, "mse") == verdict
    assert "| GM-VQ uses its codes more evenly than VQ-VAE | found: 710.0 against 800.0 |" in page.claims(results)


def test_a_claim_of_soft_perplexity_is_judged_by_the_codes_besides(page: ModuleType) -> None:
    """GM-VQ's soft perplexity is the higher one here, for its posteriors are soft; its codes are used less evenly."""
    pair = [run("vqvae", 3e-3, 750.0, perplexity_hard=790.0), run("gmvq", 3e-3, 760.0, perplexity_hard=700.0)]
    lines = page.claims(page.sorted_out("cifar10", pair)).splitlines()
    first = next(number for number, line in enumerate(lines) if "more evenly than VQ-VAE" in line)
    assert lines[first].endswith("| found: 750.0 against 760.0 |")
    assert lines[first + 1].endswith("of the codes that are picked | not found: 790.0 against 700.0 |")


def test_the_trend_over_weights(page: ModuleType) -> None:
    weights = {"gmvq, gamma 0": 0.0, "gmvq": 0.02, "gmvq+entropy": 0.1}

    def results(errors: list[float], count: int = 3) -> Any:
        made = [run(row, e, 900.0, gamma=g) for (row, g), e in zip(weights.items(), errors, strict=True)]
        return page.sorted_out("cifar10", made[:count])

    assert page.trend(results([3e-3, 2.9e-3, 2.8e-3]), "mse", -1).startswith("found, 100 epochs: 3.000 at 0,")
    assert page.trend(results([3e-3, 3.1e-3, 2.8e-3]), "mse", -1).startswith("found from end to end, not at every step")
    assert page.trend(results([3e-3, 2e-3, 2.99e-3]), "mse", -1).startswith("not found")
    assert page.trend(results([3e-3, 2e-3, 1e-3], 2), "mse", -1) == "not yet run"


def test_the_trend_is_of_the_longest_runs_that_make_one(page: ModuleType) -> None:
    """Two weights at full length and three at a tenth: the tenth's, until a third one is there."""
    tenth = {"length": {"epochs": 10.0}}
    weights = {"gmvq, gamma 0": 0.0, "gmvq": 0.02, "gmvq+entropy": 0.1}
    short_runs = [run(row, 4e-3 - g / 100, 900.0, gamma=g, **tenth) for row, g in weights.items()]
    whole = [run(row, 3e-3 - g / 100, 900.0, gamma=g) for row, g in weights.items()]
    some = page.sorted_out("cifar10", [*short_runs, run("vqvae", 4e-3, 700.0, **tenth), *whole[1:]])
    assert page.trend(some, "mse", -1) == "found, 10 epochs: 4.000 at 0, 3.800 at 0.02, 3.000 at 0.1"
    assert some.records() == [*whole[1:], *short_runs] and "weight of the entropy, 10 epochs]" in page.section(some)
    every = page.sorted_out("cifar10", [*short_runs, *whole])
    assert page.trend(every, "mse", -1).startswith("found, 100 epochs: 3.000 at 0, 2.800")
    assert "| gmvq, gamma 0 | - | - | not yet run |" in page.section(some)


def test_an_update_writes_page_records_and_picture(page: ModuleType, tmp_path: Path) -> None:
    for name in ("docs/experiments", "docs/data", "docs/pictures"):
        (tmp_path / name).mkdir(parents=True)
    before = (ROOT / page.PAGE).read_text(encoding="utf-8")
    (tmp_path / page.PAGE).write_text(before, encoding="utf-8")
    records = [*SOME, run("gmvq+entropy", 2.8e-3, 900.0, gamma=0.1)]
    folder = tmp_path / "work" / "runs" / "cifar10-100epochs"  # below a folder of the name that checkpoints have
    (folder / "work" / "a").mkdir(parents=True)
    for number, record in enumerate(records):
        (folder / f"{number}.json").write_text(json.dumps(record))
    found = page.read(tmp_path / "work" / "runs")
    page.update(tmp_path, found)
    after = (tmp_path / page.PAGE).read_text(encoding="utf-8")
    assert page.block(found) in after and after.partition(page.BEGIN)[0] == before.partition(page.BEGIN)[0]
    kept = page.read_results(tmp_path / page.DATA.format("cifar10"))
    assert page.block([page.sorted_out(kind, kept) for kind in ("cifar10", "celeba128")]) == page.block(found)
    picture = (tmp_path / page.PICTURE.format("cifar10")).read_bytes()
    assert Image.open(io.BytesIO(picture)).size == (1280, 480)
    assert not (tmp_path / page.DATA.format("celeba128")).exists()
    with pytest.raises(ValueError, match="lacks a mark"):
        page.with_block("nothing", "x")
    again = tmp_path / "again"  # a folder that begins anew
    again.mkdir()
    (again / "a.json").write_text(json.dumps(records[0] | {"mse": 9.0}))
    (again / "b.json").write_text(json.dumps(run("mvq", 3.5e-3, 500.0)))
    page.update(tmp_path, page.read(again, tmp_path))
    more = page.read_results(tmp_path / page.DATA.format("cifar10"))
    assert len(more) == len(kept) + 1
    assert [record.get("mse") for record in more].count(9.0) == 1


def test_the_page_is_what_the_script_writes(page: ModuleType) -> None:
    text = (ROOT / page.PAGE).read_text(encoding="utf-8")
    assert page.with_block(text, page.block(page.read(None, ROOT))) == text
