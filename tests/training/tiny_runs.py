"""What the tests of training share: a tiny two-stage configuration, pictures that can be learned, a whole run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.hyperconfig import GroupsConfig, HyperpriorConfig
from gmvqzip.quantizers import GMVQSettings
from gmvqzip.training.config import HyperpriorTraining, StagedTraining, TrainConfig
from gmvqzip.training.imagesets import Pixels, UniformSet
from gmvqzip.training.loop import StepRecord
from gmvqzip.training.run import RunCallbacks, train_model
from gmvqzip.training.splits import DataSplits
from gmvqzip.training.stopping import Stopping
from gmvqzip.training.trainer import Trainer

SIDE = 16
CPU = torch.device("cpu")

# Stages open at steps 0 and 3, quantise from steps 3 and 6; the running average begins at step 8.
TINY = StagedTraining(
    network=NetworkConfig(
        strides=(4,),
        channels=(16,),
        encoder_blocks=(1,),
        decoder_blocks=(1,),
        grids=(GridConfig(stride=4, stages=2, codes=8, dimensions=4),),
    ),
    batch_size=4,
    steps=16,
    precision="fp32",
    open_steps=3,
    ema_decay=0.9,
    evaluate_every=100,
)
# All that the rate-aware recipe adds: running posterior, learned prior, re-seeding, hard codes, falling entropy weight.
RATED = replace(
    TINY,
    quantizer=GMVQSettings(gamma=0.02, posterior_decay=0.9),
    hard_after=0.6,
    entropy_until=0.7,
    rate_weight=1.0,
    rate_from=0.3,
    rate_full=0.8,
    reseed_every=2,
)
HYPERPRIOR = HyperpriorTraining(
    network=HyperpriorConfig(
        strides=(4, 8),
        channels=(16, 16),
        encoder_blocks=(1, 1),
        decoder_blocks=(1, 1),
        quarter=(GroupsConfig(1, 8, 2), GroupsConfig(1, 8, 4)),
        hyper=(GroupsConfig(2, 8, 2),),
        context_width=16,
        linear=True,
    ),
    crop=16,
    batch_size=4,
    steps=12,
    precision="fp32",
    scalar_until=0.5,
    prior_until=0.7,
    evaluate_every=6,
)


def pictures(count: int, seed: int = 0, side: int = SIDE) -> Pixels:
    """[count, side, side, 3] uint8: colour gradients of random direction."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:side, 0:side] / side
    base, slopes = generator.uniform(0, 255, (count, 1, 1, 3)), generator.uniform(-200, 200, (2, count, 1, 1, 3))
    ramps = base + slopes[0] * rows[:, :, None] + slopes[1] * columns[:, :, None]
    drawn: Pixels = np.clip(ramps, 0, 255).astype(np.uint8)
    return drawn


def splits(*, test: bool = True) -> DataSplits:
    """20 pictures to train on, 4 for validation, 5 of another size for the test."""
    parts = UniformSet("train", pictures(20)), UniformSet("validation", pictures(4, 1))
    return DataSplits(*parts, UniformSet("test", pictures(5, 2, 18)) if test else None, "gradients: 20 pictures")


class StopAfter(Stopping):
    """Asks to stop once `steps` has so many."""

    def __init__(self, steps: list[StepRecord], count: int | None) -> None:
        self.steps, self.count = steps, count

    @property
    def asked(self) -> bool:  # type: ignore[override]
        return self.count is not None and len(self.steps) >= self.count


@dataclass
class Recorder:
    """Callbacks that keep what they are told."""

    stop_at: int | None = None
    lines: list[str] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
    evaluations: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def callbacks(self, on_step: Callable[[StepRecord, Trainer], None] | None = None) -> RunCallbacks:
        """What `train_model` wants; `on_step` comes after the recording."""

        def step(record: StepRecord, trainer: Trainer) -> None:
            self.steps.append(record)
            if on_step:
                on_step(record, trainer)

        return RunCallbacks(
            say=self.lines.append,
            on_step=step,
            on_evaluation=lambda number, summary: self.evaluations.append((number, summary)),
            stopping=StopAfter(self.steps, self.stop_at),
        )


def train(
    folder: Path,
    config: TrainConfig = TINY,
    data: DataSplits | None = None,
    *,
    recorder: Recorder | None = None,
    on_step: Callable[[StepRecord, Trainer], None] | None = None,
    **options: Any,
) -> dict[str, Any] | None:
    """A whole run into `folder`/run and `folder`/tiny.safetensors; returns the card."""
    wanted: dict[str, Any] = {
        "output": folder / "tiny.safetensors",
        "folder": folder / "run",
        "device": CPU,
        "resume": False,
        "note": "made up",
        "callbacks": (recorder or Recorder()).callbacks(on_step),
    }
    return train_model("tiny", config, data or splits(), **wanted | options)
