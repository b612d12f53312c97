"""Pictures per second of the data alone, and of training steps: the loader must never be the bottleneck.

    python scripts/training_speed.py --dataset folder --data DIR [--preset photo] [--batches 30]

Prints one JSON object; `loader_share` is the part of a step that loading takes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from gmvqzip.training.config import TrainConfig, preset
from gmvqzip.training.datasets import load_dataset
from gmvqzip.training.imagesets import ImageSet
from gmvqzip.training.trainer import Trainer


def seconds_per_step(config: TrainConfig, pictures: ImageSet, device: str) -> float:
    """Mean seconds of the steps of a short run, from a fresh network."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, pictures, Path(folder), torch.device(device))
        trainer.run(on_step=lambda record: None, on_evaluation=lambda network: None, stop=lambda: False)
    return trainer.elapsed / trainer.step


def main() -> None:
    """Measure one preset on one data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=("cifar10", "celeba", "folder"), required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--preset", default="photo")
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    config = preset(options.preset).with_length(steps=options.batches, epochs=None, seconds=None)
    config = replace(config, open_steps=1, evaluate_every=10**9)
    data = load_dataset(options.dataset, options.data, crop=config.crop, say=print)
    start = time.perf_counter()
    for step in range(options.batches):
        data.train.batch(step, config.batch_size, config.crop, config.seed)
    loading = (time.perf_counter() - start) / options.batches
    seconds_per_step(config, data.train, options.device)  # not counted: the libraries warm up
    step_seconds = seconds_per_step(config, data.train, options.device)
    print(
        json.dumps(
            {
                "preset": options.preset,
                "batch_size": config.batch_size,
                "device": options.device,
                "pictures_per_second": {
                    "loading_alone": round(config.batch_size / loading, 1),
                    "training": round(config.batch_size / step_seconds, 1),
                },
                "loader_share": round(loading / step_seconds, 4),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
