"""What every training loop shares: position, length, evaluation and checkpoint times, exact resumption."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from gmvqzip.errors import TrainingError
from gmvqzip.models.registry import ModelInfo
from gmvqzip.quantizers import ranks
from gmvqzip.training import distributed
from gmvqzip.training.checkpoint import load_checkpoint, save_checkpoint
from gmvqzip.training.config import TrainConfig, config_from_dict
from gmvqzip.training.course import Course
from gmvqzip.training.crops import Layout
from gmvqzip.training.evaluation import to_tensor
from gmvqzip.training.imagesets import Batch
from gmvqzip.training.memory import keep_freed_memory
from gmvqzip.training.precision import training_precision
from gmvqzip.training.stopping import CODEBOOKS, EVALUATING, STEPS, Stopped, Stopping

CHECKPOINT_SECONDS = 300.0
FIRST_CHECKPOINT_SECONDS = 60.0
# What may change where a run is resumed: a longer run goes on from a shorter one, lower rates after a divergence, and
# another precision on another machine.
_MAY_DIFFER = {"steps", "epochs", "seconds", "muon_rate", "adam_rate", "clip", "precision", "evaluate_every"}


class PictureSet(Protocol):
    """What a loop needs of a set of pictures (`gmvqzip.training.imagesets.ImageSet`)."""

    def __len__(self) -> int: ...

    def layout(self, batch_size: int, crop: int | None, alignment: int | None) -> Layout: ...

    def drawn(
        self,
        step: int,
        batch_size: int,
        crop: int | None,
        seed: int,
        *,
        share: Callable[[int], slice] = ...,
        alignment: int | None = None,
    ) -> Batch: ...


@dataclass
class StepRecord:
    """What is told of one step: floats by name, as they go to the log."""

    step: int
    progress: float
    values: dict[str, float]


class TrainingLoop(ABC):
    """One run: its position, and what is done at every step, evaluation and checkpoint.

    Everything random in a step derives from the seed and the step or is stored in checkpoints, so a resumed run of
    fixed length gives the same losses as an uninterrupted one. Several processes share each batch (`ranks`), and all
    hold the same state: what is random or decided is the same on each, and only rank 0 writes checkpoints.
    """

    def __init__(
        self,
        config: TrainConfig,
        pictures: PictureSet,
        folder: Path,
        device: torch.device,
        start: ModelInfo | None = None,
    ) -> None:
        """start: the model that the run goes on from, which is that of `config.start`."""
        distributed.check_batch(config.batch_size)
        keep_freed_memory()
        self.config, self.pictures, self.folder, self.device = config, pictures, folder, device
        self.start = start
        # Of the first process, for all: what Muon makes of a gradient must be the same on each.
        self.precision = distributed.from_writer(lambda: training_precision(config.precision, device))
        torch.manual_seed(config.seed)
        self.step = 0
        self.course = Course(config.seconds, every=config.evaluate_every)
        self._shown: torch.Tensor | None = None  # of the present batch, where some of it is padding
        self._between = 0.0  # seconds of a step that belong to no step
        self.stopping = Stopping()
        self.saved: int | None = None  # step of the last checkpoint

    @property
    def layout(self) -> Layout:
        """Which pictures share batches."""
        return self.pictures.layout(self.config.batch_size, self.config.crop, self.config.network.alignment)

    @property
    def steps(self) -> int | None:
        """Length of the run in steps, None for a run of a given time."""
        if self.config.epochs is not None:
            return max(1, round(self.config.epochs * self.layout.steps_per_epoch))
        return self.config.steps

    @property
    def progress(self) -> float:
        """Done fraction of the run, from 0 to 1."""
        if self.steps is not None:
            return min(1.0, self.step / self.steps)
        return self.course.progress

    @property
    def seconds_left(self) -> float | None:
        """Until the end of the run, as far as that can be said; None before the first step."""
        return self.course.seconds_left(max(0, (self.steps or 0) - self.step))

    @property
    def awaited_steps(self) -> float:
        """How many steps the work between steps that is still to come takes as long as, roughly."""
        return 0.0

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether there is something to export."""

    @abstractmethod
    def evaluate(self, batches: Iterable[np.ndarray[Any, Any]]) -> dict[str, Any]:
        """Measure what would be shipped on batches of pictures [B, H, W, 3]; figures by name, JSON-ready."""

    @abstractmethod
    def sheet(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Originals [B, H, W, 3] above their reconstructions, [2H, B*W, 3]."""

    @abstractmethod
    def _train_step(self) -> StepRecord:
        """One step; adds one to `step`."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds besides configuration, position and generators."""

    @abstractmethod
    def _restore(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's `_state`."""

    @property
    @abstractmethod
    def least_steps(self) -> int:
        """The fewest steps after which there is something to export."""

    def check_length(self) -> None:
        """Raise TrainingError where the run's number of steps is below the fewest possible."""
        if self.steps is not None and self.steps < self.least_steps:
            raise TrainingError(
                f"{self.steps} steps are too few for the phases of this training, which need {self.least_steps} at the "
                f"very least: give --steps {self.least_steps} or more"
            )

    def run(
        self,
        *,
        on_step: Callable[[StepRecord], None],
        on_evaluation: Callable[[], None],
        stop: Callable[[], bool] | None = None,
    ) -> bool:
        """Train to the end of the run. Returns False where `stop`, by default `stopping`, asked for an early end; a
        checkpoint is written then.

        Raises TrainingError where the loss stops being finite; the last checkpoint is from before that.
        """
        try:
            with self.stopping.phase(STEPS):
                return self._steps(on_step, on_evaluation, stop or (lambda: self.stopping.asked))
        except Stopped:  # in work that began with a checkpoint
            return False

    def _steps(
        self, on_step: Callable[[StepRecord], None], on_evaluation: Callable[[], None], stop: Callable[[], bool]
    ) -> bool:
        saved, patience = time.monotonic(), min(FIRST_CHECKPOINT_SECONDS, CHECKPOINT_SECONDS)
        while True:
            self.course.progress, stopping = distributed.agree(self.course.progress, stop(), self.device)
            if self.progress >= 1:
                break
            if stopping:
                self.save()
                return False
            record = self._timed_step()
            on_step(record)
            if self.course.evaluation_due(self.step) and self.progress < 1:
                started = time.monotonic()
                with suppress(Stopped), self.stopping.phase(EVALUATING):
                    on_evaluation()
                self.course.evaluation_done(time.monotonic() - started)
            if time.monotonic() - saved > patience:
                self.save()
                saved, patience = time.monotonic(), CHECKPOINT_SECONDS
        self.save()
        return True

    def _timed_step(self) -> StepRecord:
        """One step, its time, and what follows from that."""
        started, self._between = time.monotonic(), 0.0
        with ranks.shared_batch():
            record = self._train_step()
        seconds = time.monotonic() - started - self._between
        self.course.awaited = self.awaited_steps * seconds
        self.course.step_done(seconds)
        self.course.check_speed(self.step, self.least_steps)
        self.stopping.at(self.step, self.saved)
        return record

    @contextmanager
    def _long_work(self) -> Iterator[None]:
        """For work inside a step that takes much longer than a step: a checkpoint is written before, and where one
        process trains, it may be left by Stopped. Its time is none of the step's."""
        started = time.monotonic()
        self.save()
        with self.stopping.phase(STEPS if ranks.world() > 1 else CODEBOOKS):
            yield
        self._between = time.monotonic() - started

    def save(self) -> None:
        """Write a checkpoint of the whole state, where this process is the one that writes."""
        if not distributed.writes():
            return
        state = {
            "config": self.config.to_dict(),
            "step": self.step,
            "elapsed": self.course.elapsed,
            "trained": self.course.trained,
            "progress": self.course.progress,
            "pictures": self.course.pictures,
            "start": self.start and self.start.model_id,
            "generator": torch.get_rng_state(),
            "cuda_generators": [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else [],
        }
        save_checkpoint(self.folder, self.step, state | self._state())
        self.saved = self.step
        self.stopping.at(self.step, self.saved)

    def branch(self) -> None:
        """Begin with the weights of the checkpoint that `config.start` names. Raises TrainingError."""
        raise TrainingError("a staged model starts from a model, not from a checkpoint: name one, or --start none")

    def resume(self) -> None:
        """Continue from the newest checkpoint, which rank 0 reads for all. Raises TrainingError where it is of another
        configuration."""
        state = distributed.from_writer(lambda: load_checkpoint(self.folder))
        mine, theirs = self.config.to_dict(), config_from_dict(state["config"], stored=True).to_dict()
        # Kinds of models have fields of their own; of another kind the network differs, too, and says enough.
        differing = sorted(k for k in mine.keys() & theirs.keys() - _MAY_DIFFER if mine[k] != theirs[k])
        if differing:
            raise TrainingError(f"the checkpoint in {self.folder} was made with other settings: {', '.join(differing)}")
        if state.get("start") != (self.start and self.start.model_id):
            raise TrainingError(
                f"the run in {self.folder} started from another model than the present {self.config.start}"
            )
        self.step, elapsed = int(state["step"]), float(state["elapsed"])
        same = mine["seconds"] == theirs["seconds"]
        self.course.resumed(elapsed, float(state.get("trained", elapsed)), state.get("progress") if same else None)
        self.course.pictures = state.get("pictures")
        self._restore(state)
        torch.set_rng_state(state["generator"])
        if state["cuda_generators"] and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_generators"][0], self.device)
        self.saved = self.step
        self.stopping.at(self.step, self.saved)

    def _autocast(self) -> torch.autocast:
        """The network's forward pass in the run's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision.convolutions)

    def _share(self, step: int, alignment: int) -> torch.Tensor:
        """This process's share [B, 3, H, W] of batch `step`. Raises TrainingError where the network cannot take it."""
        config = self.config
        batch = self.pictures.drawn(
            step, config.batch_size, config.crop, config.seed, share=ranks.share, alignment=alignment
        )
        image = to_tensor(batch.pixels, self.device)
        check_size(image, alignment)
        self._shown = shown_pixels(batch, self.device) if batch.padded else None
        return image

    def _errors(self, reconstruction: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Mean squared error [B] over the pixels that show the pictures [B, 3, H, W] of `_share`: padding is none."""
        squares: torch.Tensor = (reconstruction - image).square()
        if self._shown is None:
            return squares.mean((1, 2, 3))
        return (squares * self._shown).sum((1, 2, 3)) / (3 * self._shown.sum((1, 2, 3)))

    def _seen(self, reconstruction: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """The reconstruction [B, 3, H, W], without an error where the picture is padded."""
        return reconstruction if self._shown is None else torch.where(self._shown > 0, reconstruction, image)

    def _pixels(self, image: torch.Tensor) -> torch.Tensor | int:
        """How many pixels of each of them show the picture, [B] or the same for all."""
        return image.shape[2] * image.shape[3] if self._shown is None else self._shown.sum((1, 2, 3))


def shown_pixels(batch: Batch, device: torch.device) -> torch.Tensor:
    """1 where the pixels of a batch show a picture, 0 where they pad it, [B, 1, H, W]."""
    height, width = batch.pixels.shape[1:3]
    rows, columns = torch.from_numpy(batch.extents).to(device).t()
    down = torch.arange(height, device=device) < rows[:, None]
    right = torch.arange(width, device=device) < columns[:, None]
    shown: torch.Tensor = down[:, None, :, None] & right[:, None, None, :]
    return shown.float()


def restore_optimizers(optimizers: list[torch.optim.Optimizer], states: list[dict[str, Any]]) -> None:
    """Take over the optimisers' states; the peak rates stay those of the present configuration."""
    for optimizer, values in zip(optimizers, states, strict=True):
        peaks = [group["peak"] for group in optimizer.param_groups]
        optimizer.load_state_dict(values)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["peak"] = peak


def check_size(image: torch.Tensor, alignment: int) -> None:
    """Raise TrainingError unless pictures [B, 3, H, W] have sides that are multiples of `alignment`."""
    height, width = image.shape[2:]
    if height % alignment or width % alignment:
        raise TrainingError(
            f"training pictures of {width}x{height} do not fit the network: sides must be multiples of "
            f"{alignment} pixels; set crop"
        )
