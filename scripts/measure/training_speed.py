"""Pictures per second of training steps, and what each part of a step takes; on request beside another checkout.

    python scripts/measure/training_speed.py [--preset photo] [--data DIR] [--steps 30] [--precision auto] [--threads 2]
    python scripts/measure/training_speed.py --preset compact-cifar10 --quantizer vqvae     # a row of the paper's table
    python scripts/measure/training_speed.py --against ../before        # steps of that tree, by turns with this one's

Steps are those of the middle of a run, from random weights, the running average included; those of a hyperprior
model once under scalar rounding, once with its codes. Without --data the pictures are made up. Prints one JSON object:
for each kind of step pictures/s (of the median step), and the parts' shares of the time, `rest` being all others.

With --against, blocks of steps are taken by turns, and `times_faster` is the median over pairs of blocks. The other
tree gets the precision that `auto` means for convolutions here; --precision fp32 or bf16 fixes it. With --threads 1 it
is the time on the processor that counts, which other programs' load hardly disturbs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

BLOCK = 5  # steps of a turn
WARM_UP = 3  # steps before any that counts


class Parts:
    """The time within a step, by part: what is wrapped here counts for its part alone, not for one around it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._clock = clock
        self._inner = [0.0]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of this context, but for what is wrapped within, for a part."""
        self._inner.append(0.0)
        start = self._clock()
        try:
            yield
        finally:
            taken = self._clock() - start
            self.seconds[name] += taken - self._inner.pop()
            self._inner[-1] += taken

    def wrap(self, name: str, owner: Any, *methods: str) -> None:
        """Count calls of an object's methods, or of a module's functions, for a part."""
        for method in methods:
            call = getattr(owner, method)

            def counted(*args: Any, call: Callable[..., Any] = call, **options: Any) -> Any:
                with self.part(name):
                    return call(*args, **options)

            setattr(owner, method, counted)


def watch(trainer: Any, parts: Parts) -> None:
    """Wrap the parts of a trainer's step."""
    import torch

    from gmvqzip.models.hyperprior import HyperpriorModel

    parts.wrap("data", trainer, "_share")
    network = getattr(trainer, "model", None) or trainer.network
    if isinstance(network, HyperpriorModel):
        parts.wrap("transform", network.transform, "analyse", "synthesise")
        for module in (network.hyper_decoder, *network.steps()):
            parts.wrap("contexts", module, "forward")
        parts.wrap("quantiser and rate", network, "_hyper", "_latent")
    else:
        parts.wrap("transform", network, "forward")
        for quantizer in network.quantizers():
            parts.wrap("quantiser and rate", quantizer, "forward")
    parts.wrap("backward", torch.Tensor, "backward")
    parts.wrap("clipping", torch.nn.utils, "clip_grad_norm_")
    for optimizer in trainer.optimizers:
        parts.wrap(type(optimizer).__name__, optimizer, "step")
    parts.wrap("average", trainer, "_follow")


def made_trainer(options: argparse.Namespace, folder: Path) -> Any:
    """A trainer in the middle of its run."""
    import numpy as np
    import torch

    from gmvqzip.models.hyperconfig import HyperpriorConfig
    from gmvqzip.training.datasets import load_dataset
    from gmvqzip.training.hyperprior import HyperpriorTrainer
    from gmvqzip.training.imagesets import UniformSet
    from gmvqzip.training.methods import with_quantizer
    from gmvqzip.training.presets import preset
    from gmvqzip.training.trainer import Trainer

    config = preset(options.preset).with_length(steps=20_000, epochs=None, seconds=None)
    config = with_quantizer(config, options.quantizer) if options.quantizer else config
    config = replace(config, precision=options.precision, batch_size=options.batch_size or config.batch_size)
    config = replace(
        config, muon_rate=1e-6, adam_rate=1e-6
    )  # such weights would run away at the rates of a run's middle
    if options.data:
        dataset = "folder" if config.crop else config.dataset
        pictures: Any = load_dataset(dataset, options.data, crop=config.crop, say=lambda line: None).train
    else:
        side = config.crop or 32
        coarse = np.random.default_rng(0).integers(0, 256, (64, side // 8, side // 8, 3), dtype=np.uint8)
        pictures = UniformSet("made up", coarse.repeat(8, 1).repeat(8, 2))
    kind = HyperpriorTrainer if isinstance(config.network, HyperpriorConfig) else Trainer
    trainer = kind(config, pictures, folder, torch.device(options.device))
    trainer.step = 10_000
    return trainer


def to_codes(trainer: Any) -> None:
    """From the scalar form to the end of the run, where there are codes; the codebooks stay as they are."""
    trainer.model.set_rounding(True)
    trainer.phase = trainer.phases[-1]
    trainer.step, trainer._typical = 19_000, 0.0  # the loss of such codebooks is no outlier


def work(options: argparse.Namespace) -> None:
    """Take as many steps as each line of standard input says, and answer with their times, as JSON."""
    import torch

    torch.set_num_threads(options.threads)

    def clock() -> float:
        if options.device == "cuda":
            torch.cuda.synchronize()
        return time.thread_time() if options.threads == 1 and options.device == "cpu" else time.perf_counter()

    parts = Parts(clock)
    with tempfile.TemporaryDirectory() as folder:
        trainer = made_trainer(options, Path(folder))
        watch(trainer, parts)
        for line in sys.stdin:
            if line.strip() == "codes":
                to_codes(trainer)
                continue
            steps = []
            for _ in range(int(line)):
                start = clock()
                with parts.part("rest"):
                    trainer._train_step()
                steps.append(clock() - start)
            answer = {"steps": steps, "parts": dict(parts.seconds)}
            print(json.dumps(answer | {"batch_size": trainer.config.batch_size}), flush=True)
            parts.seconds.clear()


class Worker:
    """Another process that takes steps of one tree."""

    def __init__(self, tree: Path, options: argparse.Namespace) -> None:
        command = [sys.executable, __file__, "--worker", "--preset", options.preset, "--precision", options.precision]
        command += ["--device", options.device, "--threads", str(options.threads)]
        command += ["--batch-size", str(options.batch_size)] if options.batch_size else []
        command += ["--data", str(options.data)] if options.data else []
        command += ["--quantizer", options.quantizer] if options.quantizer else []
        environment = os.environ | {"PYTHONPATH": str(tree)}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def steps(self, count: int) -> dict[str, Any]:
        """Take steps; what they took."""
        self.tell(str(count))
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("the steps of one of the trees have failed")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Let the process end."""
        self._process.communicate()


def measured(workers: dict[str, Worker], count: int) -> dict[str, Any]:
    """What `count` steps of each worker take, in blocks by turns."""
    for worker in workers.values():
        worker.steps(WARM_UP)
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    for _ in range(max(1, count // BLOCK)):
        for name, worker in workers.items():
            turns[name].append(worker.steps(BLOCK))
    result: dict[str, Any] = {}
    for name, blocks in turns.items():
        parts: dict[str, float] = defaultdict(float)
        for block in blocks:
            for part, seconds in block["parts"].items():
                parts[part] += seconds
        whole = sum(parts.values())
        median = statistics.median(seconds for block in blocks for seconds in block["steps"])
        result[name] = {
            "pictures_per_second": round(blocks[0]["batch_size"] / median, 1),
            "step_milliseconds": round(1000 * median, 1),
            "shares": {part: round(seconds / whole, 3) for part, seconds in sorted(parts.items(), key=_by_size)},
        }
    if len(turns) == 2:
        mine, other = ([sum(block["steps"]) for block in blocks] for blocks in turns.values())
        result["times_faster"] = round(statistics.median(b / a for a, b in zip(mine, other, strict=True)), 3)
    return result


def _by_size(item: tuple[str, float]) -> float:
    return -item[1]


def main() -> None:
    """Measure one preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="photo")
    parser.add_argument("--quantizer", help="in the place of the preset's, as `gmvqzip train` takes it")
    parser.add_argument("--data", type=Path, help="pictures: a folder, or what the preset's data set wants")
    parser.add_argument("--steps", type=int, default=30, help="of each kind")
    parser.add_argument("--batch-size", type=int, help="in the place of the preset's")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--against", type=Path, metavar="TREE", help="another checkout")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options)
        return
    here = Path(__file__).resolve().parents[2]
    sys.path.insert(0, str(here))
    import torch

    from gmvqzip.models.hyperconfig import HyperpriorConfig
    from gmvqzip.training.precision import training_precision
    from gmvqzip.training.presets import preset

    chosen = training_precision(options.precision, torch.device(options.device))
    workers = {"this": Worker(here, options)}
    if options.against:
        if options.precision == "auto":
            options.precision = "bf16" if chosen.convolutions else "fp32"
        workers["other"] = Worker(options.against.resolve(), options)
    report: dict[str, Any] = {"preset": options.preset, "device": options.device, "threads": options.threads}
    report |= {"quantizer": options.quantizer, "precision": str(chosen)}
    hyperprior = isinstance(preset(options.preset).network, HyperpriorConfig)
    report["scalar" if hyperprior else "codes"] = measured(workers, options.steps)
    if hyperprior:
        for worker in workers.values():
            worker.tell("codes")
        report["codes"] = measured(workers, options.steps)
    for worker in workers.values():
        worker.end()
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
