"""A whole run: data, loop, reports, and the model at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gmvqzip.errors import TrainingError
from gmvqzip.images.files import NewFile, atomic_write
from gmvqzip.models.kinds import KINDS, named
from gmvqzip.training import distributed
from gmvqzip.training.checkpoint import checkpoints
from gmvqzip.training.config import TrainConfig, is_checkpoint
from gmvqzip.training.course import TRIAL, Course
from gmvqzip.training.export import Origin
from gmvqzip.training.loop import StepRecord, TrainingLoop
from gmvqzip.training.patience import Patience
from gmvqzip.training.report import RunLog, plot_curves, save_sheet
from gmvqzip.training.splits import DataSplits
from gmvqzip.training.start import find_start
from gmvqzip.training.stopping import EXPORTING, Stopped, Stopping
from gmvqzip.training.verdict import Verdict

if TYPE_CHECKING:
    from gmvqzip.training.hyperprior import HyperpriorTrainer
    from gmvqzip.training.trainer import Trainer

_SHEET_PICTURES = 8


@dataclass
class RunCallbacks:
    """Where a run tells what happens: a line of text, a step, an evaluation; and where it asks whether to stop."""

    say: Callable[[str], None]
    on_step: Callable[[StepRecord, TrainingLoop], None]
    on_evaluation: Callable[[int, dict[str, Any]], None]
    stopping: Stopping = field(default_factory=Stopping)


def train_model(
    name: str,
    config: TrainConfig,
    data: DataSplits,
    *,
    output: Path,
    folder: Path,
    device: torch.device,
    resume: bool,
    note: str,
    callbacks: RunCallbacks,
    began: float | None = None,
) -> dict[str, Any] | None:
    """Train, or go on training, and write the model file `output`.

    folder: holds checkpoints, log and pictures of the run; began: when the time of the run began, by `time.monotonic`,
    for a run of a given time, now where it is None. Returns the model's card, or None where the run was asked to
    stop before its end. Of several processes, all but the one that writes share the steps and return an empty card.
    Raises TrainingError; OutputError where the model cannot be written.
    """
    began = time.monotonic() if began is None else began
    if not distributed.writes():
        trainer = _made(config, data, folder, device, resume, callbacks, began)
        finished = trainer.run(on_step=lambda record: None, on_evaluation=lambda: None)
        return {} if finished else None
    _prepare(output, folder, resume)
    trainer = _made(config, data, folder, device, resume, callbacks, began)
    _announce(trainer, resume, callbacks.say)
    log = RunLog(folder, trainer.step)
    sample = _sample(data, config)

    def on_step(record: StepRecord) -> None:
        log.write("step", record.step, {"progress": record.progress, **record.values})
        callbacks.on_step(record, trainer)

    def on_evaluation() -> None:
        summary = trainer.evaluate(_validation(data, config, _count(trainer, data)))
        log.write("evaluation", trainer.step, summary)
        save_sheet(folder, trainer.step, trainer.sheet(sample))
        plot_curves(folder)
        callbacks.on_evaluation(trainer.step, summary)

    try:
        if not trainer.run(on_step=on_step, on_evaluation=on_evaluation):
            return None
        if not trainer.ready:
            raise TrainingError(f"{trainer.step} steps are too few: the codebooks are not even started; train longer")
        with callbacks.stopping.phase(EXPORTING):
            on_evaluation()
            return _written(name, trainer, data, output, note, log, callbacks.say)
    except Stopped:  # the loop's last checkpoint has all that the rest needs
        return None
    except OSError as error:
        raise TrainingError(f"cannot write into {folder}: {error.strerror}; the last checkpoint is kept") from None
    finally:
        log.close()


def _made(
    config: TrainConfig,
    data: DataSplits,
    folder: Path,
    device: torch.device,
    resume: bool,
    callbacks: RunCallbacks,
    began: float,
) -> HyperpriorTrainer | Trainer:
    """The loop of this configuration, at its beginning or at the newest checkpoint."""
    kind = named(KINDS[config.network.kind].trainer)
    trainer: HyperpriorTrainer | Trainer = kind(config, data.train, folder, device, find_start(config))
    trainer.stopping = callbacks.stopping
    trainer.course = Course(config.seconds, began, config.evaluate_every)
    trainer.check_length()
    if resume:
        trainer.resume()
    elif is_checkpoint(config.start):
        trainer.branch()
    return trainer


def _prepare(output: Path, folder: Path, resume: bool) -> None:
    """Refuse, before any work, places that cannot be written into."""
    if checkpoints(folder) and not resume:
        raise TrainingError(f"{folder} holds a run already: continue it with --resume, or choose another --run-dir")
    for needed in (folder, output.parent):
        try:
            needed.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"cannot make the folder {needed}: {error.strerror}") from None
    NewFile(output, force=True).discard()


def _announce(trainer: HyperpriorTrainer | Trainer, resume: bool, say: Callable[[str], None]) -> None:
    crop = trainer.config.crop
    if crop and {(group.rows, group.columns) for group in trainer.layout.groups} != {(crop, crop)}:
        say(f"crops: {trainer.layout.describe()}")
    say(f"precision: {trainer.precision}{' (the faster here)' if trainer.config.precision == 'auto' else ''}")
    if resume:
        say(f"resumed at step {trainer.step}")


def _written(
    name: str,
    trainer: HyperpriorTrainer | Trainer,
    data: DataSplits,
    output: Path,
    note: str,
    log: RunLog,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Write the model file, or its start again where that is better; returns the card."""
    blob, card, verdict = _exported(name, trainer, data, note, say)
    log.write("end", trainer.step, {"results": card["results"], "verdict": card["verdict"]})
    for line in verdict.lines():
        say(line)
    start = trainer.start
    if start is not None and verdict.worse:
        say(f"kept {start.name}: {output} is a copy of it, and the run's checkpoint has what was trained")
        blob, card = start.path.read_bytes(), start.card
    atomic_write(output, blob, force=True)
    return card


def _exported(
    name: str, trainer: HyperpriorTrainer | Trainer, data: DataSplits, note: str, say: Callable[[str], None]
) -> tuple[bytes, dict[str, Any], Verdict]:
    """The bytes of the model file of a finished run, its card with measured results, and what it is worth."""
    history = {
        "steps_done": trainer.step,
        "passes": round(trainer.step / trainer.layout.steps_per_epoch, 2),
        "seconds_trained": round(trainer.course.trained, 1),
        "precision_used": str(trainer.precision),
    }
    origin = Origin(name, trainer.config, trainer.start, history, note, Patience(trainer.course.export_end()))
    export = named(KINDS[trainer.config.network.kind].exporter)
    made: tuple[bytes, dict[str, Any], Verdict] = export(origin, trainer.exported, data, say=say)
    return made


def _count(trainer: HyperpriorTrainer | Trainer, data: DataSplits) -> int:
    """How many validation pictures an evaluation has: all that may be, or as many as its time allows."""
    config, course = trainer.config, trainer.course
    if config.evaluate_every is not None:
        return config.evaluate_images
    if course.pictures is None:
        started, trial = time.monotonic(), min(TRIAL, len(data.validation))
        trainer.evaluate(_validation(data, config, trial))
        return course.pictures_for(time.monotonic() - started, trial, config.evaluate_images)
    return course.pictures


def _validation(data: DataSplits, config: TrainConfig, count: int) -> Iterator[np.ndarray[Any, Any]]:
    """The first validation pictures, at most as large as the crops."""
    return data.validation.evaluation_batches(min(32, count), config.crop, count)


def _sample(data: DataSplits, config: TrainConfig) -> np.ndarray[Any, Any]:
    """Some validation pictures of one shape, for a sheet. Raises TrainingError where none can be read."""
    found = next(data.validation.evaluation_batches(_SHEET_PICTURES, config.crop, _SHEET_PICTURES), None)
    if found is None:
        raise TrainingError(f"{data.validation.name}: not one picture can be read")
    return found
