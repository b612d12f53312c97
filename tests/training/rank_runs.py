"""Tiny runs by several processes. As a program, one of them: `python rank_runs.py FOLDER NAME[:STEPS]...`."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_runs import HYPERPRIOR, RATED, TINY, Recorder, splits, train

from gmvqzip.errors import TrainingError
from gmvqzip.quantizers import GMVQSettings
from gmvqzip.torchrun import end_at_once
from gmvqzip.training import distributed
from gmvqzip.training.config import TrainConfig
from gmvqzip.training.methods import with_quantizer
from gmvqzip.training.report import LOG_NAME, read_log

RIVALS = (
    "vqvae+ema+replace",
    "vqvae+l2+affine+opt",
    "sqvae",
    "gumbel",
    "wasserstein",
    "mvq",
    "fsq",
    "simvq",
    "lfq",
    "vqvae+rotation",
)
# These runs do not amplify rounding. With the usual precision and rate the tiny GM-VQ does: two runs of one process
# whose weights differ by 1e-7 have losses that differ by 1e-2 after 26 steps; with these by 2e-7.
CALM = {"sharpness": 0.1, "adam_rate": 5e-4, "optimizer": "adamw", "evaluate_every": 9}
CONFIGS: dict[str, TrainConfig] = {
    "entropy": replace(TINY, quantizer=GMVQSettings(gamma=0.1), steps=26, **CALM),
    "rated": replace(RATED, steps=26, **CALM),
    "hyperprior": replace(HYPERPRIOR, steps=26, **{key: CALM[key] for key in CALM if key != "sharpness"}),
    "endless": replace(TINY, steps=1_000_000),
    "odd": replace(TINY, batch_size=5),
    **{name: replace(with_quantizer(TINY, name), steps=12, **CALM) for name in RIVALS},
}
"""Runs by name: GM-VQ with its entropy term, all that the rate-aware recipe adds, a hyperprior, the rivals."""
ORDER = "order.txt"  # ranks, as they came through `first_of_machine`


def log_of(folder: Path, name: str) -> list[dict[str, Any]]:
    """The steps in the log of the run of that name in `folder`."""
    return [line for line in read_log(folder / name / "run" / LOG_NAME) if line["kind"] == "step"]


def run(folder: Path, given: str) -> None:
    """A run into `folder`/NAME, gone on with where it was begun; of NAME:STEPS, no more than so many steps now."""
    name, _, limit = given.partition(":")
    recorder = Recorder(stop_at=int(limit) if limit else None)
    resume = bool(distributed.from_writer((folder / name).exists))
    train(folder / name, CONFIGS[name], splits(test=False), recorder=recorder, resume=resume)


def start(folder: Path, names: Sequence[str], count: int = 2) -> list[subprocess.Popen[str]]:
    """Start `count` processes of these runs, one after the other; that of rank R has `folder`/R for its files."""
    folder.mkdir(exist_ok=True)
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    shared["PYTHONFAULTHANDLER"] = "1"  # a process that aborts says where, on standard error
    return [
        subprocess.Popen(
            [sys.executable, __file__, str(folder / str(rank)), *names],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and standard error of each process, once all have ended."""
    try:
        errors = [process.communicate()[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


if __name__ == "__main__":
    try:
        with distributed.joined("cpu"):
            with distributed.first_of_machine(), Path(sys.argv[1]).with_name(ORDER).open("a") as file:
                file.write(os.environ["RANK"])
            for wanted in sys.argv[2:]:
                run(Path(sys.argv[1]), wanted)
        end_at_once(0)
    except TrainingError as error:
        print(f"TrainingError: {error}", file=sys.stderr)
        end_at_once(1)  # as the command line does; the interpreter's own end may abort where a process is gone
        sys.exit(1)
