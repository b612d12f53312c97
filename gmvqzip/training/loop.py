"""What every training loop shares: position, length, evaluation and checkpoint times, exact resumption."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from gmvqzip.errors import TrainingError
from gmvqzip.models.precision import training_precision
from gmvqzip.quantizers import ranks
from gmvqzip.training import distributed
from gmvqzip.training.checkpoint import load_checkpoint, save_checkpoint
from gmvqzip.training.config import TrainConfig, config_from_dict
from gmvqzip.training.evaluation import to_tensor

CHECKPOINT_SECONDS = 300.0
# What may change where a run is resumed: a longer run goes on from a shorter one, lower rates after a divergence, and
# another precision on another machine.
_MAY_DIFFER = {"steps", "epochs", "seconds", "muon_rate", "adam_rate", "clip", "precision"}


class PictureSet(Protocol):
    """What a loop needs of a set of pictures (`gmvqzip.training.imagesets.ImageSet`)."""

    def __len__(self) -> int: ...

    def batch(
        self, step: int, batch_size: int, crop: int | None, seed: int, *, part: slice = slice(None)
    ) -> np.ndarray[Any, Any]: ...


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

    def __init__(self, config: TrainConfig, pictures: PictureSet, folder: Path, device: torch.device) -> None:
        distributed.check_batch(config.batch_size)
        self.config, self.pictures, self.folder, self.device = config, pictures, folder, device
        # Of the first process, for all: what Muon makes of a gradient must be the same on each.
        self.precision = distributed.from_writer(lambda: training_precision(config.precision, device))
        torch.manual_seed(config.seed)
        self.step, self.elapsed = 0, 0.0

    @property
    def steps(self) -> int | None:
        """Length of the run in steps, None for a run of a given time."""
        if self.config.epochs is not None:
            return max(1, round(self.config.epochs * len(self.pictures) / self.config.batch_size))
        return self.config.steps

    @property
    def progress(self) -> float:
        """Done fraction of the run, from 0 to 1."""
        if self.steps is not None:
            return min(1.0, self.step / self.steps)
        return min(1.0, self.elapsed / (self.config.seconds or 1.0))

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

    def run(
        self, *, on_step: Callable[[StepRecord], None], on_evaluation: Callable[[], None], stop: Callable[[], bool]
    ) -> bool:
        """Train to the end of the run. Returns False where `stop` asked for an early end; a checkpoint is written then.

        Raises TrainingError where the loss stops being finite; the last checkpoint is from before that.
        """
        saved = time.monotonic()
        while True:
            self.elapsed, stopping = distributed.agree(self.elapsed, stop(), self.device)
            if self.progress >= 1:
                break
            if stopping:
                self.save()
                return False
            started = time.monotonic()
            with ranks.shared_batch():
                record = self._train_step()
            self.elapsed += time.monotonic() - started
            on_step(record)
            if self.step % self.config.evaluate_every == 0 and self.progress < 1:
                on_evaluation()
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()
        return True

    def save(self) -> None:
        """Write a checkpoint of the whole state, where this process is the one that writes."""
        if not distributed.writes():
            return
        state = {
            "config": self.config.to_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
            "generator": torch.get_rng_state(),
            "cuda_generators": [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else [],
        }
        save_checkpoint(self.folder, self.step, state | self._state())

    def resume(self) -> None:
        """Continue from the newest checkpoint, which rank 0 reads for all. Raises TrainingError where it is of another
        configuration."""
        state = distributed.from_writer(lambda: load_checkpoint(self.folder))
        mine, theirs = self.config.to_dict(), config_from_dict(state["config"]).to_dict()
        differing = sorted(k for k in mine if k not in _MAY_DIFFER and mine[k] != theirs[k])
        if differing:
            raise TrainingError(f"the checkpoint in {self.folder} was made with other settings: {', '.join(differing)}")
        self.step, self.elapsed = int(state["step"]), float(state["elapsed"])
        self._restore(state)
        torch.set_rng_state(state["generator"])
        if state["cuda_generators"] and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_generators"][0], self.device)

    def _autocast(self) -> torch.autocast:
        """The network's forward pass in the run's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision.convolutions)

    def _share(self, step: int, alignment: int) -> torch.Tensor:
        """This process's share [B, 3, H, W] of batch `step`. Raises TrainingError where the network cannot take it."""
        config = self.config
        part = ranks.share(config.batch_size)
        image = to_tensor(
            self.pictures.batch(step, config.batch_size, config.crop, config.seed, part=part), self.device
        )
        check_size(image, alignment)
        return image


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
