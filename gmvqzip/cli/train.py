"""`gmvqzip train`: trains a model and writes it as one .safetensors file."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gmvqzip.cli.options import Device, DeviceOption, Force, NoProgress, Quiet, Threads, Verbose
from gmvqzip.cli.report import is_watched, to_stderr
from gmvqzip.cli.run import UsageError
from gmvqzip.cli.stopping import SignalStop
from gmvqzip.torchrun import place
from gmvqzip.training.stopping import Stopped, Stopping

if TYPE_CHECKING:
    from gmvqzip.cli.progress import TrainingDisplay
    from gmvqzip.training.config import TrainConfig

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smh]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_DEFAULT_PRESETS = {"cifar10": "cifar10", "celeba": "celeba", "folder": "photo"}
# Where a quantiser is chosen by name: networks that all of them can have, and GM-VQ's own settings.
_QUANTIZER_PRESETS = {"cifar10": "paper-cifar10", "celeba": "paper-celeba", "folder": "small"}


def seconds_of(text: str) -> float:
    """Seconds of a duration such as 90, 90s, 10m or 1.5h. Raises UsageError."""
    match = _DURATION.fullmatch(text.strip())
    if not match or float(match[1]) <= 0:
        raise UsageError(f"--time {text}: give a duration such as 90s, 10m or 1.5h")
    return float(match[1]) * _UNITS[match[2]]


@dataclass(frozen=True)
class RunOptions:
    """What is trained, how long, and into which file."""

    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="cifar10, celeba, those with paper- or compact- before them, photo, photo-psnr, faces, trunk, staged "
            "or small.",
            metavar="NAME",
        ),
    ] = None
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE.toml", help="Settings; may name a preset to start from.")
    ] = None
    start: Annotated[
        str | None,
        typer.Option(
            "--start",
            metavar="MODEL",
            help="A model to go on from, by name or path, a run's checkpoint (.pt), or none. "
            "Default: photo, for preset photo; photo-psnr, for presets photo-psnr and faces.",
        ),
    ] = None
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The model file. Default: DATASET.safetensors.")
    ] = None
    quantizer: Annotated[
        str | None,
        typer.Option(
            "--quantizer",
            metavar="NAME",
            help="gmvq, gmvq+entropy, gmvq+identity, vqvae (with +l2, +replace, +affine, +opt, +ema, +rotation), "
            "sqvae, gumbel, wasserstein, mvq, fsq, simvq or lfq, with settings of its own, in the place of the "
            "preset's.",
        ),
    ] = None
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Length of the run in steps.")] = None
    epochs: Annotated[float | None, typer.Option("--epochs", help="Length in passes over the training set.")] = None
    time: Annotated[
        str | None, typer.Option("--time", metavar="10m", help="Length in time, all included: 90s, 10m, 1.5h.")
    ] = None
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Pictures a step.")] = None
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything random.")] = None

    def settings(self, dataset: str, say: Callable[[str], None] = to_stderr) -> TrainConfig:
        """The run's configuration: preset or file, then the options that replace single fields. Raises UsageError."""
        from gmvqzip.training.choice import choose
        from gmvqzip.training.methods import with_quantizer

        if self.preset and self.config:
            raise UsageError("--preset and --config exclude each other; a file may say preset = NAME itself")
        length = {"steps": self.steps, "epochs": self.epochs, "seconds": self.time}
        if sum(value is not None for value in length.values()) > 1:
            raise UsageError("--steps, --epochs and --time exclude each other")
        if self.epochs is not None and self.epochs <= 0:
            raise UsageError("--epochs must be positive")
        if dataset not in _DEFAULT_PRESETS:
            raise UsageError(f"--dataset {dataset}: choose {', '.join(_DEFAULT_PRESETS)}")
        defaults = _QUANTIZER_PRESETS if self.quantizer else _DEFAULT_PRESETS
        settings = choose(self.preset, self.config, self.start, defaults[dataset], say)
        changes: dict[str, Any] = {"dataset": dataset, "batch_size": self.batch_size, "seed": self.seed}
        settings = replace(settings, **{name: value for name, value in changes.items() if value is not None})
        if any(value is not None for value in length.values()):
            seconds = seconds_of(self.time) if self.time is not None else None
            settings = settings.with_length(steps=self.steps, epochs=self.epochs, seconds=seconds)
        return with_quantizer(settings, self.quantizer) if self.quantizer else settings

    def output(self, dataset: str, *, overwriting: bool) -> Path:
        """The model file. Raises UsageError where it may not be written."""
        output = self.out or Path(f"{dataset}.safetensors")
        if output.suffix != ".safetensors":
            raise UsageError(f"--out {output}: a model file must end in .safetensors")
        if output.exists() and not overwriting:
            raise UsageError(f"{output} exists; -f overwrites it")
        return output


def train(
    dataset: Annotated[str, typer.Option("--dataset", help="cifar10, celeba, or folder (any tree of pictures).")],
    data: Annotated[Path | None, typer.Option("--data", metavar="PATH", help="Where the data set lies.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch CIFAR-10 where it is missing.")] = False,
    *,
    run: RunOptions,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")] = False,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", metavar="DIR", help="Checkpoints, log, samples. Default: runs/MODEL.")
    ] = None,
    note: Annotated[
        str, typer.Option("--note", help="A line for the model's card: licence of the data, permitted use.")
    ] = "",
    device: DeviceOption = Device.AUTO,
    threads: Threads = None,
    force: Force = False,
    verbose: Verbose = 0,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> int:
    """Train a model on a data set and write it as one .safetensors file.

    The run ends with the model: averaged weights, the aggregated prior frozen into integer tables, a card with measured
    results. Use it with `--model FILE`. Ctrl-C saves a checkpoint; `--resume` goes on exactly there.
    """
    began = time.monotonic()

    from gmvqzip.cli.progress import TrainingDisplay

    quiet = quiet or place().rank > 0
    display = TrainingDisplay(enabled=is_watched() and not no_progress and not quiet, quiet=quiet)
    stop = SignalStop(display.say, display.leave, display.on_phase)
    try:
        with stop:
            settings = run.settings(dataset, display.say)
            output = run.output(dataset, overwriting=force or resume)
            name = _device(device, threads)
            with display:
                card = _train(
                    settings,
                    name,
                    data,
                    output=output,
                    folder=run_dir or Path("runs") / output.stem,
                    download=download,
                    resume=resume,
                    note=note,
                    display=display,
                    stopping=stop,
                    began=began,
                )
    except Stopped:
        card = None
    if card is None:
        display.say(stop.outcome())
        return stop.exit_code
    if card:
        display.results(output, card)
    return 0


def _train(
    settings: TrainConfig,
    device: str,
    data: Path | None,
    *,
    output: Path,
    folder: Path,
    download: bool,
    resume: bool,
    note: str,
    display: TrainingDisplay,
    stopping: Stopping,
    began: float,
) -> dict[str, Any] | None:
    """Read the data and train, as one of torchrun's processes or alone; returns as `train_model`."""
    from gmvqzip.training import distributed
    from gmvqzip.training.datasets import load_dataset
    from gmvqzip.training.run import RunCallbacks, train_model

    with distributed.joined(device) as chosen:
        distributed.check_batch(settings.batch_size)
        with distributed.first_of_machine() if download else nullcontext():
            splits = load_dataset(
                settings.dataset, data, crop=settings.crop, seed=settings.seed, download=download, say=display.say
            )
        display.say(splits.description)
        return train_model(
            output.stem,
            settings,
            splits,
            output=output,
            folder=folder,
            device=chosen,
            resume=resume,
            note=note,
            callbacks=RunCallbacks(display.say, display.on_step, display.on_evaluation, stopping),
            began=began,
        )


def _device(device: Device, threads: int | None) -> str:
    from gmvqzip.engines.base import set_threads, torch_device

    if threads:
        set_threads(threads)
    return torch_device(device.value).type
