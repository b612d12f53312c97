"""A whole run: data, loop, reports, and the model at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gmvqzip.errors import OutputError, TrainingError
from gmvqzip.images.files import atomic_write
from gmvqzip.models.hyperconfig import HyperpriorConfig
from gmvqzip.training import distributed
from gmvqzip.training.checkpoint import checkpoints
from gmvqzip.training.config import TrainConfig
from gmvqzip.training.evaluation import first_pictures
from gmvqzip.training.export import export_model
from gmvqzip.training.hyperexport import export_hyperprior
from gmvqzip.training.hyperprior import HyperpriorTrainer
from gmvqzip.training.loop import StepRecord, TrainingLoop
from gmvqzip.training.report import RunLog, plot_curves, save_sheet
from gmvqzip.training.splits import DataSplits
from gmvqzip.training.trainer import Trainer

_SHEET_PICTURES = 8


@dataclass
class RunCallbacks:
    """Where a run tells what happens: a line of text, a step, an evaluation, the end of the loop; and where it asks
    whether to stop early. After `on_trained` it asks no more: what is left can be interrupted, and done by resuming."""

    say: Callable[[str], None]
    on_step: Callable[[StepRecord, TrainingLoop], None]
    on_evaluation: Callable[[int, dict[str, Any]], None]
    on_trained: Callable[[], None]
    stop: Callable[[], bool]


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
) -> dict[str, Any] | None:
    """Train, or go on training, and write the model file `output`.

    folder: holds checkpoints, log and pictures of the run. Returns the model's card, or None where the run was asked to
    stop before its end. Of several processes, all but the one that writes share the steps and return an empty card.
    Raises TrainingError; OutputError where the model cannot be written.
    """
    kind = HyperpriorTrainer if isinstance(config.network, HyperpriorConfig) else Trainer
    if not distributed.writes():
        trainer = kind(config, data.train, folder, device)
        if resume:
            trainer.resume()
        if not trainer.run(on_step=lambda record: None, on_evaluation=lambda: None, stop=callbacks.stop):
            return None
        callbacks.on_trained()
        return {}
    if checkpoints(folder) and not resume:
        raise TrainingError(f"{folder} holds a run already: continue it with --resume, or choose another --run-dir")
    if output.is_dir():
        raise OutputError(f"{output} is a directory: name a file in it")
    for needed in (folder, output.parent):
        try:
            needed.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"cannot make the folder {needed}: {error.strerror}") from None
    trainer = kind(config, data.train, folder, device)
    callbacks.say(f"precision: {trainer.precision}{' (the faster here)' if config.precision == 'auto' else ''}")
    if resume:
        trainer.resume()
        callbacks.say(f"resumed at step {trainer.step}")
    log = RunLog(folder, trainer.step)
    sample = _sample(data, config)

    def on_step(record: StepRecord) -> None:
        log.write("step", record.step, {"progress": record.progress, **record.values})
        callbacks.on_step(record, trainer)

    def on_evaluation() -> None:
        summary = trainer.evaluate(_validation(data, config))
        log.write("evaluation", trainer.step, summary)
        save_sheet(folder, trainer.step, trainer.sheet(sample))
        plot_curves(folder)
        callbacks.on_evaluation(trainer.step, summary)

    try:
        finished = trainer.run(on_step=on_step, on_evaluation=on_evaluation, stop=callbacks.stop)
        if not finished:
            return None
        callbacks.on_trained()
        if not trainer.ready:
            raise TrainingError(f"{trainer.step} steps are too few: the codebooks are not even started; train longer")
        on_evaluation()
        history = {
            "steps_done": trainer.step,
            "seconds_trained": round(trainer.elapsed, 1),
            "precision_used": str(trainer.precision),
        }
        say = callbacks.say
        if isinstance(trainer, HyperpriorTrainer):
            blob, card = export_hyperprior(name, trainer.exported, config, data, history=history, note=note, say=say)
        else:
            blob, card = export_model(name, trainer.exported, config, data, device, history=history, note=note, say=say)
        atomic_write(output, blob, force=True)
        log.write("end", trainer.step, {"results": card["results"]})
        return card
    except OSError as error:
        raise TrainingError(f"cannot write into {folder}: {error.strerror}; the last checkpoint is kept") from None
    finally:
        log.close()


def _crop_for_validation(data: DataSplits, config: TrainConfig) -> int | None:
    return None if data.validation.array is not None and config.crop is None else config.crop


def _validation(data: DataSplits, config: TrainConfig) -> Any:
    count = config.evaluate_images
    batches = data.validation.evaluation_batches(min(32, count), _crop_for_validation(data, config))
    return first_pictures(batches, count)


def _sample(data: DataSplits, config: TrainConfig) -> np.ndarray[Any, Any]:
    batches = data.validation.evaluation_batches(_SHEET_PICTURES, _crop_for_validation(data, config))
    first: np.ndarray[Any, Any] = next(iter(batches))
    return first
