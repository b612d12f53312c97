"""A short run from a trained model under changed settings, and what it is worth on pictures of another folder.

    python scripts/measure/fine_tuning.py TRAIN TEST --steps 150 --set batch_size=16 crop=64 muon_rate=0.002

Prints one JSON object: percent of bytes of the tuned model beside the model started from, and beside WebP, at equal
PSNR over qualities 20 to 95; processor seconds of the steps; both curves. Files are made without refinement of codes,
unless --effort says otherwise. Fields are those of a configuration file, as JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gmvqzip.images.picture import read_picture
from gmvqzip.models.hyperstore import dump_hyperprior
from gmvqzip.models.registry import read_info
from gmvqzip.setting import rounds_of
from gmvqzip.training.folder import list_pictures, load_folder
from gmvqzip.training.hyperprior import HyperpriorTrainer
from gmvqzip.training.presets import preset
from gmvqzip.training.start import find_start
from gmvqzip.training.verdict import byte_difference, model_curve, rival_curves


def main() -> None:
    """Train and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="folder of pictures to train on")
    parser.add_argument("test", type=Path, help="folder of pictures to measure")
    parser.add_argument("--start", default="photo")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="of the configuration")
    parser.add_argument("--pictures", type=int, default=100, help="measured at most")
    parser.add_argument("--effort", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    fields: dict[str, Any] = {name: _value(text) for name, text in (pair.split("=", 1) for pair in options.set)}
    config = replace(preset("photo").started(options.start), **{"steps": options.steps} | fields)
    start = find_start(config)
    if start is None:
        parser.error("--start must name a model")
    held = [read_picture(path).pixels for path in list_pictures(options.test)[: options.pictures]]
    pictures = load_folder(options.train, crop=config.crop or 64, say=print).train
    rounds = rounds_of(options.effort)
    with tempfile.TemporaryDirectory() as folder:
        trainer = HyperpriorTrainer(config, pictures, Path(folder), torch.device("cpu"), start)
        losses: list[float] = []
        began = time.process_time()
        trainer.run(on_step=lambda record: losses.append(record.values["loss"]), on_evaluation=lambda: None)
        seconds = time.process_time() - began
        path = Path(folder) / "tuned.safetensors"
        path.write_bytes(dump_hyperprior("tuned", trainer.exported, {}))
        tuned = model_curve(read_info(path), held, rounds)
    before, webp = model_curve(start, held, rounds), rival_curves(held)["WebP"]
    report = {
        "set": options.train.name,
        "steps": options.steps,
        "fields": fields,
        "processor_seconds": round(seconds, 1),
        "last_loss": round(float(np.mean(losses[-50:])), 4),
        "percent_of_start": byte_difference(before, tuned),
        "percent_of_webp": byte_difference(webp, tuned),
        "start_percent_of_webp": byte_difference(webp, before),
        "curves": {"start": asdict(before), "tuned": asdict(tuned)},
    }
    print(json.dumps(report))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


if __name__ == "__main__":
    main()
