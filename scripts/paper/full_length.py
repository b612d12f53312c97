"""The paper's table at the paper's length: every row on one compact network, 100 epochs, its learning rate chosen.

    python scripts/paper/full_length.py --data DATA                               # CIFAR-10, one core
    nice -n 19 python scripts/paper/full_length.py --data DATA --jobs 2           # a row on each of two cores
    python scripts/paper/full_length.py --data DATA --device cuda --jobs 14 --sets cifar10 celeba128 --seeds 0 1 2 \\
        --best 0 --within 9m                                                      # a GPU that is lent for a while
    python scripts/paper/full_length.py --list

Presets compact-cifar10 and compact-celeba: AdamW, batches of 256, 100 epochs (10 of warm-up from a fifth of the rate,
90 of a cosine), 1024 codes of 64 dimensions, k-means start, tau from 2.0 to 0.1. Codebooks move at the network's rate.

Each row is first trained for a tenth of the length at each of three rates, of which that with the lowest error on
validation pictures is taken: ties and what diverged aside, for the whole length. After the table's rows the best of
them, by validation error, get further seeds; then come the rows of figure 4 and of single changes to GM-VQ, which take
over GM-VQ's rate. Rows are made in this order, one after another; --jobs makes so many at a time, each by a process
with one thread.

Every run leaves one JSON file under OUT/SET-EPOCHSepochs: NAME.json, as a line of reproduce.py, and
rates/NAME.json for the short ones, a run that diverged with `failed`. Stop it in any way and give the same command
again: what is finished is skipped, what was begun goes on from its checkpoint, one every five minutes. Ctrl-C, SIGTERM
and the end of --within save one. page.py makes tables of the records, and keeps them in docs/data; with --records
docs/data/paper-SET.jsonl a fresh folder goes on from those.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from experiments import COMPACT, EXPERIMENTS, configured
from reproduce import MODEL, Stop, duration, load_data, read_results, trained

from gmvqzip.errors import DivergedError, TrainingError
from gmvqzip.images.files import atomic_write
from gmvqzip.training.splits import DataSplits

try:
    import fcntl
except ImportError:  # on Windows two processes must not be started on one folder
    fcntl = None  # type: ignore[assignment]

RATES = (0.01, 0.003, 0.001)  # the first is the paper's for CIFAR-10
SHARE = 0.1  # of the length, for the choice of a rate
ROWS = EXPERIMENTS["paper"]
TABLE = tuple(name for name in ROWS if "," not in name)
ADDED = tuple(name for name in ROWS if name not in TABLE)
LENDER = {name: "gmvq" for name in ADDED if name.startswith("gmvq")}  # whose rate a row takes over
WAIT = 5.0  # seconds until a job looks again whether another one has finished what it needs

Record = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is to be made, and where: rows of a data set, in order."""

    folder: Path
    kind: str
    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    best: int  # rows that get further seeds
    best_seeds: tuple[int, ...]
    epochs: float
    rates: tuple[float, ...]
    share: float

    @property
    def place(self) -> Path:
        """The folder of its records."""
        return self.folder / f"{self.kind}-{self.epochs:g}epochs"

    def length(self, short: bool) -> dict[str, float]:
        """Of a whole run, or of a short one."""
        return {"epochs": self.epochs * (self.share if short else 1)}

    def take(self, records: list[Record]) -> None:
        """Write what other folders gave where this one has nothing yet."""
        for record in (record for record in records if record["set"] == self.kind):
            short = record["experiment"] != "paper"
            task = Task(self, record["row"], record["seed"], record["rate"] if short else None)
            if record["length"] == self.length(short) and task.record() is None:
                write(task, record)

    def choices(self, row: str) -> list[Task]:
        """The short runs that choose a row's rate."""
        row = LENDER.get(row, row)
        return [Task(self, row, min(self.seeds), rate) for rate in self.rates]

    def tasks(self) -> Iterator[Task]:
        """All that is known by now to be made, in order."""
        table = [row for row in self.rows if row in TABLE]
        for row in table:
            yield from self.choices(row)
            yield from (Task(self, row, seed) for seed in self.seeds)
        for row in self._winners(table):
            yield from (Task(self, row, seed) for seed in self.best_seeds if seed not in self.seeds)
        for row in self.rows:
            if row not in table:
                yield from self.choices(row)
                yield Task(self, row, min(self.seeds))

    def _winners(self, table: list[str]) -> list[str]:
        """The best rows of a finished table, by validation error; none before."""
        records = {row: Task(self, row, min(self.seeds)).record() for row in table}
        if any(record is None for record in records.values()):
            return []
        errors = {row: _error(record) for row, record in records.items()}
        return sorted((row for row in table if errors[row] < math.inf), key=lambda row: errors[row])[: self.best]


@dataclass(frozen=True)
class Task:
    """A run: a row of the table with a seed, or with a rate a short one for its choice."""

    plan: Plan
    row: str
    seed: int
    rate: float | None = None

    @property
    def name(self) -> str:
        """Its name in files."""
        end = f"seed{self.seed}" if self.rate is None else f"rate{self.rate:g}"
        return re.sub(r"[^A-Za-z0-9.+=]+", "-", f"{self.row} {end}")

    @property
    def path(self) -> Path:
        """Where its record is."""
        place = self.plan.place if self.rate is None else self.plan.place / "rates"
        return place / f"{self.name}.json"

    @property
    def work(self) -> Path:
        """Where its checkpoints are, until it is finished."""
        return self.plan.place / "work" / self.name

    def record(self) -> Record | None:
        """What it gave; None where it is not finished."""
        try:
            found: Record = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            return None
        return found

    def chosen(self) -> float | None:
        """The rate of a run of the whole length: the lowest error's, the first of equals; None before it is known.

        Raises DivergedError where no rate is left.
        """
        records = [task.record() for task in self.plan.choices(self.row)]
        if any(record is None for record in records):
            return None
        errors = [_error(record) for record in records]
        if min(errors) == math.inf:
            raise DivergedError(f"{self.row} diverged at all rates")
        return self.plan.rates[errors.index(min(errors))]


def _error(record: Record | None) -> float:
    """The validation error of a record, infinite where the run failed."""
    if record is None or "failed" in record or not math.isfinite(record["validation"]["mse"]):
        return math.inf
    return float(record["validation"]["mse"])


@contextmanager
def claimed(task: Task) -> Iterator[bool]:
    """Whether this process has the task for itself in this context; a process that ends in any way gives it back."""
    lock = task.plan.place / "work" / f"{task.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def make(task: Task, rate: float, data: DataSplits, options: argparse.Namespace, stop: Stop) -> bool:
    """Make and record a run. Returns False where it was asked to stop."""
    plan, short = task.plan, task.rate is not None
    length = plan.length(short)
    changes = {"adam_rate": rate, "codebook_rate": None}
    key = {
        "experiment": "paper, rates" if short else "paper",
        "set": plan.kind,
        "row": task.row,
        "seed": task.seed,
        "rate": rate,
        "length": length,
    }
    config = configured(plan.kind, ROWS[task.row], changes, task.seed, length, COMPACT)
    print(f"{plan.kind}: {task.row}, seed {task.seed}, rate {rate:g}, {length['epochs']:g} epochs", flush=True)
    record: Record | None
    try:
        known = replace(data, test=None) if short else data
        record = trained(key, config, known, task.work, options.device, stop, files=options.files)
    except DivergedError as error:
        record = key | {"failed": str(error), "settings": config.to_dict()}
    if record is None:
        return False
    if not short and "failed" not in record:
        shutil.copyfile(task.work / MODEL, task.path.with_suffix(".safetensors"))
    write(task, record)
    shutil.rmtree(task.work)
    return True


def write(task: Task, record: Record) -> None:
    """Write a record, and say what is in it."""
    task.path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(task.path, (json.dumps(record, sort_keys=True, indent=1) + "\n").encode(), force=True)
    what = record.get("failed") or ", ".join(f"{name} {value:.6g}" for name, value in record["validation"].items())
    print(f"  {what}", flush=True)


class Sets:
    """The data sets, each read when it is first needed."""

    def __init__(self, data: Path) -> None:
        self._data, self._read = data, dict[str, DataSplits]()

    def __getitem__(self, kind: str) -> DataSplits:
        if kind not in self._read:
            self._read[kind] = load_data(kind, self._data)
        return self._read[kind]


def step(plans: list[Plan], sets: Sets, options: argparse.Namespace, stop: Stop) -> bool | None:
    """Make the first run that can be made and that nobody else makes. Returns whether there was one; None where there
    is nothing left to wait for either."""
    waiting = False
    for plan in plans:
        for task in plan.tasks():
            if stop.asked:
                return None
            if task.record() is not None:
                continue
            waiting = True
            with claimed(task) as mine:
                if not mine or task.record() is not None:
                    continue
                try:
                    rate = task.rate or task.chosen()
                except DivergedError as error:
                    key = {"experiment": "paper", "set": plan.kind, "row": task.row, "seed": task.seed}
                    write(task, key | {"length": plan.length(False), "failed": str(error)})
                    return True
                if rate is not None:
                    return make(task, rate, sets[plan.kind], options, stop)
    return False if waiting else None


def work(plans: list[Plan], options: argparse.Namespace, stop: Stop) -> None:
    """Make runs until all are finished, or until asked to stop."""
    sets = Sets(options.data)
    while not stop.asked:
        made = step(plans, sets, options, stop)
        if made is None:
            break
        if not made and not stop.asked:
            time.sleep(WAIT)
    print("stopped; the same command goes on" if stop.asked else "all rows are finished", flush=True)


class Timed(Stop):
    """Asks to stop after a time, too; a second signal, which a job may get from two sides, changes nothing."""

    def __init__(self, seconds: float | None) -> None:
        self._end = math.inf if seconds is None else time.monotonic() + seconds
        super().__init__()

    @property
    def asked(self) -> bool:  # type: ignore[override]
        """Whether to stop."""
        return self._asked or time.monotonic() >= self._end

    @asked.setter
    def asked(self, value: bool) -> None:
        self._asked = value

    def _note(self, number: int, frame: Any) -> None:
        self.asked = True


def together(words: list[str], jobs: int) -> int:
    """Run the command in several processes, and pass on what stops this one. Returns their worst exit status."""
    processes = [subprocess.Popen([sys.executable, "-u", __file__, *words, "--jobs", "1"]) for _ in range(jobs)]

    def forward(number: int, frame: Any) -> None:
        for process in processes:
            process.send_signal(signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    return max(abs(process.wait()) for process in processes)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="where the data lie, as for reproduce.py")
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="where records and checkpoints go")
    parser.add_argument("--records", type=Path, nargs="+", default=[], help="docs/data's, to go on from")
    parser.add_argument("--sets", nargs="+", choices=COMPACT, default=["cifar10"])
    parser.add_argument("--rows", nargs="+", choices=ROWS, metavar="ROW", help="only these, in the order of --list")
    parser.add_argument("--list", action="store_true", help="print the rows and end")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of every row of the table")
    parser.add_argument("--best", type=int, default=2, help="how many rows get further seeds")
    parser.add_argument("--best-seeds", type=int, nargs="+", default=[1, 2], help="these")
    parser.add_argument("--epochs", type=float, default=100.0)
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), help="learning rates to choose from")
    parser.add_argument("--share", type=float, default=SHARE, help="of the length, for that choice")
    parser.add_argument("--files", type=int, default=1000, help="test pictures that are written as files")
    parser.add_argument("--within", type=duration, help="stop after this time, 9m, 1.5h")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with a row of its own")
    parser.add_argument("--threads", type=int, default=1, help="of each of them")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(words)
    if options.data is None and not options.list:
        parser.error("--data is needed")
    for path in options.records:
        if not path.is_file():
            parser.error(f"there are no records at {path}")
    return options


def plans_of(options: argparse.Namespace) -> list[Plan]:
    """What the command line asks for, a plan for each data set."""
    rows = tuple(row for row in ROWS if options.rows is None or row in options.rows)
    return [
        Plan(
            options.out, kind, rows, tuple(options.seeds), options.best, tuple(options.best_seeds), options.epochs,
            tuple(options.rates), options.share,
        )
        for kind in options.sets
    ]  # fmt: skip


def main(words: list[str] | None = None) -> None:
    options = arguments(words)
    if options.list:
        print("\n".join([*TABLE, *ADDED]))
        return
    for plan in plans_of(options):
        plan.take([record for path in options.records for record in read_results(path)])
    if options.jobs > 1:
        sys.exit(together(list(sys.argv[1:] if words is None else words), options.jobs))
    torch.set_num_threads(options.threads)
    try:
        work(plans_of(options), options, Timed(options.within))
    except TrainingError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
