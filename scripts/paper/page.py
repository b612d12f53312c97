"""Tables, claims and figure 4 of docs/experiments/paper.md, from the records that full_length.py left.

    python scripts/paper/page.py runs/paper                # prints the Markdown
    python scripts/paper/page.py runs/paper --update       # writes it into the page, the records to docs/data

Rows that are not finished are said to be not yet run; so the page can be written at any time. --update adds the
records to docs/data/paper-SET.jsonl, from which the page is written where no folder is named. A claim is found where
the figures differ in its sense by more than half a percent, level where they do not differ by that.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from experiments import COMPACT
from figures import draw_entropy
from full_length import ADDED, LENDER, TABLE
from reproduce import read_results
from tables import COLUMNS, PUBLISHED, means

from gmvqzip.images.files import atomic_write
from gmvqzip.models.config import NetworkConfig
from gmvqzip.training.presets import preset

ROOT = Path(__file__).resolve().parents[2]
PAGE, DATA, PICTURE = "docs/experiments/paper.md", "docs/data/paper-{}.jsonl", "docs/pictures/entropy-{}.png"
BEGIN, END = "<!-- paper: written by scripts/paper/page.py -->\n", "<!-- paper: end -->"
TITLES = {"cifar10": "CIFAR-10, 640 bits a picture", "celeba128": "CelebA-128, 10,240 bits a picture"}
SHOWN = tuple(column for column in COLUMNS if column[0] not in ("bits, files", "nominal"))
TIE = 0.005  # of the larger figure
NOT_YET = "not yet run"
SWEPT = ("gmvq", "gmvq+entropy", *(name for name in ADDED if name.startswith("gmvq, gamma")))  # figure 4
POINTS = 3  # weights that make a trend

Record = dict[str, Any]


@dataclass
class Results:
    """The records of a data set and one length: whole runs of each row, and short ones by row and rate. `shorter` are
    whole runs of figure 4's rows of other lengths."""

    kind: str
    runs: dict[str, list[Record]] = field(default_factory=dict)
    rates: dict[str, dict[float, Record]] = field(default_factory=dict)
    shorter: list[Record] = field(default_factory=list)

    def finished(self, row: str) -> list[Record]:
        """The runs of a row that did not fail."""
        return [run for run in self.runs.get(row, []) if "failed" not in run]

    def value(self, row: str, name: str) -> float | None:
        """The mean of a measure over the seeds of a row."""
        found = [float(run[name]) for run in self.finished(row)]
        return mean(found) if found else None

    def records(self) -> list[Record]:
        """All of them."""
        short = [record for rates in self.rates.values() for record in rates.values()]
        return [record for runs in self.runs.values() for record in runs] + self.shorter + short


def sorted_out(kind: str, records: Iterable[Record]) -> Results:
    """The records of a data set, the longest runs of each kind alone, and of figure 4's rows all."""
    own = sorted((record for record in records if record["set"] == kind), key=lambda record: int(record["seed"]))
    results = Results(kind)
    for whole in (True, False):
        some = [record for record in own if (record["experiment"] == "paper") == whole]
        longest = max((record["length"]["epochs"] for record in some), default=0)
        for record in some:
            if record["length"]["epochs"] < longest:
                if whole and record["row"] in SWEPT and "failed" not in record:
                    results.shorter.append(record)
                continue
            if whole:
                results.runs.setdefault(record["row"], []).append(record)
            else:
                results.rates.setdefault(record["row"], {})[record["rate"]] = record
    return results


def read(folder: Path | None, root: Path | None = None) -> list[Results]:
    """Of each data set what is in a folder of full_length.py, and of the rest what `root`/docs/data has; each may be
    left out."""
    records = [] if root is None else [record for kind in COMPACT for record in read_results(root / DATA.format(kind))]
    if folder is not None:
        files = sorted(path for path in folder.rglob("*.json") if "work" not in path.relative_to(folder).parts)
        own = [json.loads(path.read_text(encoding="utf-8")) for path in files]
        made = {_run(record) for record in own}
        records = own + [record for record in records if _run(record) not in made]
    return [sorted_out(kind, records) for kind in COMPACT]


def _run(record: Record) -> tuple[Any, ...]:
    """What tells a run from others."""
    return *(record.get(name) for name in ("set", "experiment", "row", "seed", "rate")), record["length"]["epochs"]


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def layer_table() -> str:
    """The network, layer by layer, with its products."""
    config = preset(COMPACT["cifar10"]).network
    assert isinstance(config, NetworkConfig)
    layers = list(config.layers())
    rows = [
        [
            f"`{one.name}`", f"{one.inputs} -> {one.outputs}", f"{one.kernel}x{one.kernel}", str(one.stride),
            "encoder" * one.encodes + ", " * (one.encodes and one.decodes) + "decoder" * one.decodes, f"{one.work:.0f}",
        ]
        for one in layers
    ]  # fmt: skip
    encode, decode = (sum(one.work for one in layers if getattr(one, name)) for name in ("encodes", "decodes"))
    rows.append(["together", "", "", "", f"encoder {encode:.0f}, decoder {decode:.0f}", f"{encode + decode:.0f}"])
    return markdown(["layer", "channels", "kernel", "stride", "", "MAC a pixel"], rows)


def main_table(results: Results, rows: Sequence[str]) -> str:
    """Measured beside published, means over seeds, a row for each of `rows`."""
    heads = ["", "rate", "seeds", *(head for head, _, _ in SHOWN), "minutes", "published"]
    return markdown(heads, [_row(results, name, len(heads)) for name in rows])


def _row(results: Results, name: str, columns: int) -> list[str]:
    published = PUBLISHED[results.kind].get(name)
    end = "{} / {}".format(*published) if published else "-"
    runs, all_runs = results.finished(name), results.runs.get(name, [])
    if not runs:
        said = f"failed: {all_runs[0]['failed']}" if all_runs else NOT_YET
        return [name, *["-"] * 2, said, *["-"] * (columns - 5), end]
    cells = [name, f"{runs[0]['rate']:g}", str(len(runs)), *means(runs, SHOWN)]
    return [*cells, f"{mean(run['seconds_trained'] for run in runs) / 60:.0f}", end]


def rate_table(results: Results) -> str:
    """Validation errors of the short runs, of several the least in bold type, and how often the largest rate has it."""
    rates = sorted({rate for found in results.rates.values() for rate in found}, reverse=True)
    rows, largest, chosen = [], 0, 0
    for name in [*TABLE, *ADDED]:
        if name in LENDER or name not in results.rates:
            continue
        found = results.rates[name]
        errors = {rate: record["validation"]["mse"] for rate, record in found.items() if "failed" not in record}
        cells = [name]
        for rate in rates:
            if rate in errors:
                bold = "**" * (len(found) > 1 and errors[rate] == min(errors.values()))
                cells.append(f"{bold}{1000 * errors[rate]:.3f}{bold}")
            else:
                cells.append(found[rate]["failed"] if rate in found else NOT_YET)
        rows.append(cells)
        largest += cells[1].startswith("**")
        chosen += len(found) > 1
    table = markdown(["", *(f"{rate:g}" for rate in rates)], rows)
    return f"{table}\n\nThe largest rate is the best of {largest} of {chosen} rows; a larger one was not tried."


def sweep(results: Results) -> dict[float, list[Record]]:
    """The runs of figure 4 by the weight of the entropy, ascending: the longest that make a trend, or the longest."""
    lengths: dict[float, dict[float, list[Record]]] = {}
    for run in (*(run for row in SWEPT for run in results.finished(row)), *results.shorter):
        weights = lengths.setdefault(run["length"]["epochs"], {})
        weights.setdefault(float(run["settings"]["quantizer"]["gamma"]), []).append(run)
    found = max(lengths.items(), key=lambda one: (len(one[1]) >= POINTS, one[0]), default=(0, {}))[1]
    return dict(sorted(found.items()))


def _epochs(results: Results) -> float:
    """The length of the runs of figure 4."""
    return float(next(run["length"]["epochs"] for runs in sweep(results).values() for run in runs))


def compared(results: Results, lower: tuple[str, str], name: str) -> str:
    """Whether a measure of the first row is below that of the second, with both figures."""
    first, second = (results.value(row, name) for row in lower)
    if first is None or second is None:
        return NOT_YET
    factor, form = (1000, ".3f") if name == "mse" else (1, ".1f")
    verdict = "found" if first < second else "not found"
    if abs(first - second) <= TIE * max(first, second):
        verdict = "level"
    return f"{verdict}: {factor * first:{form}} against {factor * second:{form}}"


def trend(results: Results, name: str, sign: int) -> str:
    """Whether a measure rises (sign 1) or falls (-1) with the weight of the entropy, from the lowest to the highest."""
    points = {gamma: mean(float(run[name]) for run in runs) for gamma, runs in sweep(results).items()}
    if len(points) < POINTS:
        return NOT_YET
    factor, form = (1000, ".3f") if name == "mse" else (1, ".1f")
    first, *_, last = points.values()
    steps = [sign * (b - a) for a, b in zip(list(points.values()), list(points.values())[1:], strict=False)]
    verdict = "found" if sign * (last - first) > TIE * max(first, last) else "not found"
    if verdict == "found" and min(steps) < 0:
        verdict = "found from end to end, not at every step"
    return f"{verdict}, {_epochs(results):g} epochs: " + ", ".join(
        f"{factor * value:{form}} at {gamma:g}" for gamma, value in points.items()
    )


def claims(results: Results) -> str:
    """The paper's claims, each found or not; those of perplexity, in the paper of q(c|x), by the codes besides:
    a soft perplexity counts what a soft method leaves open at a site, of which VQ-VAE has nothing."""
    soft, hard, picked = "perplexity_soft", "perplexity_hard", "the same of the codes that are picked"
    rows = [
        ("GM-VQ uses its codes more evenly than VQ-VAE", compared(results, ("vqvae", "gmvq"), soft)),
        (picked, compared(results, ("vqvae", "gmvq"), hard)),
        ("GM-VQ's error is below VQ-VAE's", compared(results, ("gmvq", "vqvae"), "mse")),
        ("GM-VQ's error is below VQ-VAE + replace's", compared(results, ("gmvq", "vqvae+replace"), "mse")),
        ("GM-VQ's error is below SQ-VAE's", compared(results, ("gmvq", "sqvae"), "mse")),
        ("+ Entropy uses the codes more evenly", compared(results, ("gmvq", "gmvq+entropy"), soft)),
        (picked, compared(results, ("gmvq", "gmvq+entropy"), hard)),
        ("+ Entropy has the lower error", compared(results, ("gmvq+entropy", "gmvq"), "mse")),
        ("figure 4: the perplexity rises with the entropy's weight", trend(results, soft, 1)),
        (picked, trend(results, hard, 1)),
        ("figure 4: the error falls with it", trend(results, "mse", -1)),
        ("the noise of eq. (18) lowers the error", compared(results, ("gmvq, noise of eq. 18", "gmvq"), "mse")),
        ("ALBO has a lower error than the plain ELBO", compared(results, ("gmvq", "gmvq, plain ELBO"), "mse")),
    ]
    return markdown(["claim", "here"], rows)


def section(results: Results) -> str:
    """What is known of one data set."""
    done = [name for name in TABLE if results.finished(name)]
    failed = [name for name in TABLE if name in results.runs and name not in done]
    missing = [name for name in TABLE if name not in results.runs]
    parts = [f"### {TITLES[results.kind]}"]
    if not results.records():
        return "\n\n".join([*parts, f"{NOT_YET.capitalize()}."])
    state = f"{len(done)} of {len(TABLE)} rows are finished"
    if failed:
        state += f"; failed: {', '.join(failed)}"
    parts.append(f"{state}; {NOT_YET}: {', '.join(missing)}." if missing else f"{state}.")
    runs = [run for found in results.runs.values() for run in found if "settings" in run and "failed" not in run]
    if runs:
        machines = sorted({_machine(**run["hardware"]) for run in runs})
        parts.append(f"{runs[0]['epochs_done']:.0f} epochs, {runs[0]['steps_done']} steps; on {'; '.join(machines)}.")
    parts.append(main_table(results, TABLE))
    if results.rates:
        parts += [
            "Errors x 1000 on validation pictures by learning rate, after a tenth of the length:",
            rate_table(results),
        ]
    parts += ["Changes to GM-VQ, and VQ-VAE as published:", main_table(results, ADDED), claims(results)]
    if len(sweep(results)) > 1:
        name = Path(PICTURE.format(results.kind)).name
        what = f"error and perplexity over the weight of the entropy, {_epochs(results):g} epochs"
        parts.append(f"![{what}](../pictures/{name})")
    return "\n\n".join(parts)


def _machine(name: str, threads: int, **_: Any) -> str:
    return f"{name}, {threads} thread{'s' * (threads != 1)}"


def block(all_results: Sequence[Results]) -> str:
    """All that stands between the marks."""
    return "\n\n".join([layer_table(), *(section(results) for results in all_results)]) + "\n"


def with_block(text: str, made: str) -> str:
    """A page with what is between the marks replaced. Raises ValueError where a mark is missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} lacks a mark: {BEGIN.strip() if not begin else END}")
    return before + BEGIN + made + END + after


def update(root: Path, all_results: Sequence[Results]) -> None:
    """Write page, records and pictures."""
    page = root / PAGE
    text = with_block(page.read_text(encoding="utf-8"), block(all_results))
    for results in all_results:
        records = results.records()
        if records:
            lines = "".join(json.dumps(record, sort_keys=True) + "\n" for record in records)
            atomic_write(root / DATA.format(results.kind), lines.encode(), force=True)
        if len(sweep(results)) > 1:
            atomic_write(root / PICTURE.format(results.kind), draw_entropy(sweep(results)), force=True)
    atomic_write(page, text.encode(), force=True)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="of full_length.py; docs/data unless given")
    parser.add_argument("--update", action="store_true", help="write page, records and pictures")
    options = parser.parse_args(words)
    found = read(options.folder, ROOT if options.update or options.folder is None else None)
    if options.update:
        update(ROOT, found)
    else:
        print(block(found), end="")


if __name__ == "__main__":
    main()
