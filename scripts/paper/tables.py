"""The lines that reproduce.py wrote, as Markdown tables: means over seeds, the paper's figures beside them.

    python scripts/paper/tables.py runs/table1-cifar10.jsonl [--short]

Published are the figures of table 1 of arXiv 2410.10180, MSE x 1000 / perplexity; its network and its grids are not
stated, so they are no targets of this network and this budget.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from experiments import EXPERIMENTS
from reproduce import read_results

PUBLISHED = {
    "cifar10": {
        "vqvae": (5.65, 14.0), "vqvae+l2": (3.21, 57.0), "vqvae+replace": (4.07, 109.8),
        "vqvae+l2+replace": (3.24, 115.6), "vqvae+affine": (5.15, 69.5), "vqvae+opt": (4.73, 15.5),
        "vqvae+affine+opt": (4.00, 79.3), "sqvae": (3.36, 769.3), "gumbel": (6.16, 20.3), "gmvq": (3.13, 731.9),
        "gmvq+entropy": (3.11, 878.7),
    },
    "celeba128": {
        "vqvae": (10.02, 16.2), "vqvae+l2": (6.49, 188.7), "vqvae+replace": (4.77, 676.4),
        "vqvae+l2+replace": (4.93, 861.7), "vqvae+affine": (7.47, 112.6), "vqvae+opt": (7.78, 30.5),
        "vqvae+affine+opt": (6.60, 186.6), "sqvae": (9.17, 769.1), "gumbel": (7.34, 96.7), "gmvq": (1.38, 338.6),
        "gmvq+entropy": (0.97, 831.0),
    },
}  # fmt: skip

Run = dict[str, Any]
Column = tuple[str, Callable[[Run], float | None], str]


def refined(run: Run) -> float | None:
    """The error of all pictures, changed as refinement changes that of some."""
    part = run.get("refined")
    return 1000 * float(run["mse"] * part["mse"] / part["mse_first"]) if part else None


COLUMNS: tuple[Column, ...] = (
    ("MSE x 1000", lambda run: 1000 * run["mse"], ".3f"),
    ("refined", refined, ".3f"),
    ("PSNR, mean", lambda run: run["psnr_mean"], ".2f"),
    ("perplexity, soft", lambda run: run["perplexity_soft"], ".1f"),
    ("hard", lambda run: run["perplexity_hard"], ".1f"),
    ("codes used", lambda run: 100 * run["utilisation"], ".1f"),
    ("E H(q(c\\|x))", lambda run: run["conditional_entropy"], ".2f"),
    ("bits, coded", lambda run: run.get("ideal_bits_per_image"), ".1f"),
    ("bits, files", lambda run: run["bits_per_image"], ".1f"),
    ("nominal", lambda run: run["nominal_bits_per_image"], ".0f"),
)


SHORT = ("MSE x 1000", "refined", "perplexity, soft", "codes used")


def means(done: Sequence[Run], columns: Sequence[Column]) -> list[str]:
    """A cell of each column, mean over finished runs; in the first, the error's, their range besides."""
    cells = []
    for _, value, form in columns:
        values = [found for run in done if (found := value(run)) is not None]
        cells.append(format(mean(values), form) if values else "-")
    if len(done) > 1:
        errors = [1000 * run["mse"] for run in done]
        cells[0] += f" ({min(errors):.3f} to {max(errors):.3f})"
    return cells


def row_of(
    name: str, runs: list[Run], published: dict[str, tuple[float, float]] | None, columns: Sequence[Column]
) -> str:
    """A row of the table. runs: those of the row that were finished or failed."""
    done = [run for run in runs if "failed" not in run]
    cells = [name, *means(done, columns)]
    cells.append(f"{mean(run['seconds_trained'] for run in done):.0f}" if done else f"failed: {runs[0]['failed']}")
    if published is not None:
        cells.append("{} / {}".format(*published[name]) if name in published else "-")
    return "| " + " | ".join(cells) + " |"


def table(records: list[Run], columns: Sequence[Column] = COLUMNS) -> str:
    """The Markdown of one experiment's records."""
    published = PUBLISHED[records[0]["set"]] if records[0]["experiment"] == "table1" else None
    rows: dict[str, list[Run]] = {name: [] for name in EXPERIMENTS[records[0]["experiment"]]}
    for record in records:
        rows.setdefault(record["row"], []).append(record)
    heads = ["", *(head for head, _, _ in columns), "s"] + ["published"] * (published is not None)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *(row_of(name, runs, published, columns) for name, runs in rows.items() if runs)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--short", action="store_true", help="few columns")
    options = parser.parse_args()
    columns = [column for column in COLUMNS if not options.short or column[0] in SHORT]
    for path in options.results:
        groups: dict[str, list[Run]] = {}
        for record in read_results(path):
            title = f"{record['experiment']}, {record['set']}, length {record['length']}, changes {record['changes']}"
            groups.setdefault(title, []).append(record)
        for title, records in groups.items():
            print(f"{title}\n\n{table(records, columns)}\n")


if __name__ == "__main__":
    main()
