"""Train and measure every row of a comparison of quantisers, on one network and under one budget.

    python scripts/paper/reproduce.py table1 --set cifar10 --data DATA --seeds 0 1 --steps 12000
    python scripts/paper/reproduce.py table1 --set celeba128 --data DATA --rows gmvq vqvae+l2 --time-per-run 15m
    python scripts/paper/reproduce.py ablations --set cifar10 --data DATA --change quantizer.gamma=0.05

Experiments: table1 (the paper's rows, and what came after it), sweeps (settings of each row, measured on validation
pictures), entropy (the weight of the entropy, figure 4), ablations (of GM-VQ), masks (masked VQ beside VQ-VAE at 64
codes). DATA is the data set's folder, or one that holds
cifar-10-batches-py/, celeba128/ (cropped faces to train on) or celeba/ (aligned faces with their partitions); where the
former has no test part, celeba/ gives it.

Each run appends one JSON line to the results: row, seed, settings, hardware, times, and on the test part

    mse                   mean squared error of 8-bit reconstructions, pixels in [0, 1]; psnr_mean is the mean of the
                          pictures' PSNRs in dB, psnr_of_mean_mse that of the mean error
    perplexity_soft       exp(H(q_bar)) of the probabilities of 256 pictures, averaged over such batches: the paper's
    perplexity_hard       of the codes picked over the whole test part; utilisation: the fraction of codes ever used
    conditional_entropy   the mean over sites of H(q(c | x)), in nats
    bits_per_image        of real files, header included; ideal_bits_per_image: the codes alone under the model's table;
                          nominal_bits_per_image: sites times log2 K
    refined               of the first pictures: their error with the quantiser's own choice of codes (`mse_first`), as
                          in all other figures, and with codes refined at the default effort (`mse`), and bits likewise

A run that is in the file already is skipped, also where it says that it `failed`; delete its line to repeat it. One
that was interrupted goes on from its checkpoint when the same command is given again; Ctrl-C saves one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments import EXPERIMENTS, PRESETS, configured

from gmvqzip.cli.run import UsageError
from gmvqzip.cli.train import seconds_of
from gmvqzip.codec import Codec, Codes
from gmvqzip.errors import TrainingError
from gmvqzip.models import registry
from gmvqzip.models.config import NetworkConfig
from gmvqzip.setting import DEFAULT_EFFORT
from gmvqzip.training.checkpoint import checkpoints
from gmvqzip.training.config import TrainConfig
from gmvqzip.training.datasets import load_dataset
from gmvqzip.training.evaluation import soft_measures
from gmvqzip.training.presets import preset
from gmvqzip.training.run import RunCallbacks, train_model
from gmvqzip.training.splits import DataSplits
from gmvqzip.training.stopping import Stopping
from gmvqzip.training.trainer import Trainer

BOX_PICTURES = 1000  # at most, for the quantiles of their errors
REFINED_PIXELS = 1 << 19  # at most, of pictures whose codes are refined
FIRST_CHOICE = 1  # the effort at which codes are the quantiser's own choice
SOFT_BATCH = 256  # pictures over which the paper's perplexity is taken
MODEL = "model.safetensors"
_LINE_SECONDS = 60.0


def load_data(kind: str, data: Path) -> DataSplits:
    """The data set at `data`, with a test part. Raises TrainingError."""

    def load(name: str, place: Path) -> DataSplits:
        return load_dataset(name, place, crop=None, say=print)

    if kind == "cifar10":
        return load("cifar10", data)
    faces = next((place for place in (data / "celeba128", data / "celeba") if place.is_dir()), data)
    splits = load("celeba", faces)
    if splits.test is not None:
        return splits
    if not (data / "celeba").is_dir():
        raise TrainingError(f"{faces} has no test part: put the aligned faces with their partitions into {data}/celeba")
    other = load("celeba", data / "celeba")
    return replace(splits, test=other.test, description=f"{splits.description}; test: {other.description}")


def picture_error(codec: Codec, pixels: np.ndarray[Any, Any], codes: Codes) -> float:
    """Mean squared error in [0, 1] of a picture [H, W, 3] as it is decoded, a gray one in colour like all."""
    decoded = np.asarray(codec.decode(replace(codes, gray=False)), dtype=np.float64)
    return float(((decoded - pixels) ** 2).mean()) / 255**2


def refined(codec: Codec, pictures: list[np.ndarray[Any, Any]]) -> dict[str, float]:
    """Mean error and ideal bits of some pictures, with the first choice of codes and with refined ones."""
    values: dict[str, float] = {"pictures": len(pictures), "effort": DEFAULT_EFFORT}
    for suffix, effort in (("_first", FIRST_CHOICE), ("", DEFAULT_EFFORT)):
        found = codec.encode_batch(pictures, effort=effort)
        values["mse" + suffix] = float(
            np.mean([picture_error(codec, *pair) for pair in zip(pictures, found, strict=True)])
        )
        bits = [sum(codec.follow(codes).bits()) for codes in found]
        values["ideal_bits" + suffix] = float(np.mean(bits))
    return values


def file_bits(codec: Codec, pictures: Iterator[np.ndarray[Any, Any]]) -> float:
    """Mean bits of a picture's whole file; every file is read back and its checksum compared."""
    sizes = []
    for pixels in pictures:
        data = codec.compress(pixels, effort=FIRST_CHOICE)
        codec.decode_codes(data)
        sizes.append(8 * len(data))
    return float(np.mean(sizes))


def quartiles(values: Any) -> list[float]:
    """The 5, 25, 50, 75 and 95 % quantiles, for box plots."""
    return [float(value) for value in np.quantile(np.asarray(values), [0.05, 0.25, 0.5, 0.75, 0.95])]


def measure(
    trainer: Trainer, codec: Codec, data: DataSplits, card: dict[str, Any], files: int | None
) -> dict[str, Any]:
    """All measures of a finished run on the test part."""
    if data.test is None:
        raise TrainingError("the data set has no test part")
    network = trainer.exported
    perplexities, conditional = soft_measures(network, data.test.evaluation_batches(SOFT_BATCH), trainer.device)
    plain, pixels = codec.config, next(iter(data.test.all_images())).shape
    (grid,) = plain.stages() if isinstance(plain, NetworkConfig) else ()
    sites = math.prod(plain.stage_shapes(pixels[1], pixels[0])[0]) if isinstance(plain, NetworkConfig) else 0
    results = card["results"]["test"]
    count = len(data.test) if files is None else min(files, len(data.test))
    errors = [
        picture_error(codec, image, codec.encode(image, effort=FIRST_CHOICE))
        for image in islice(data.test.all_images(), min(count, BOX_PICTURES))
    ]
    few = list(islice(data.test.all_images(), max(1, min(count, REFINED_PIXELS // (pixels[0] * pixels[1])))))
    return {
        "mse": results["mse"],
        "psnr_mean": results["psnr_mean"],
        "psnr_of_mean_mse": results["psnr_of_mean_mse"],
        "perplexity_soft": float(np.mean(perplexities)),
        "perplexity_hard": results["perplexity_hard"][0],
        "utilisation": results["utilisation"][0],
        "conditional_entropy": conditional,
        "bits_per_image": file_bits(
            codec, (image for _, image in zip(range(count), data.test.all_images(), strict=False))
        ),
        "ideal_bits_per_image": results["bpp"] * pixels[0] * pixels[1],
        "nominal_bits_per_image": sites * math.log2(grid.codes),
        "codes": grid.codes,
        "sites": sites,
        "pictures": results["pictures"],
        "files": count,
        "refined": refined(codec, few),
        "quantiles": {"mse": quartiles(errors), "perplexity_soft": quartiles(perplexities)},
    }


def read_results(path: Path) -> list[dict[str, Any]]:
    """The records of a results file; a last line that was cut is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def append(path: Path, record: dict[str, Any]) -> None:
    """Add one record, on a line of its own even where the file's last line was cut."""
    cut = path.is_file() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * cut + json.dumps(record, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


def hardware(device: torch.device) -> dict[str, Any]:
    """What a run was made on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"device": device.type, "name": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


class Stop(Stopping):
    """Notes SIGINT and SIGTERM, so that a run saves a checkpoint; a second one ends the program at once."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.asked = True
        signal.signal(number, signal.SIG_DFL)


def trained(
    key: dict[str, Any],
    config: TrainConfig,
    data: DataSplits,
    folder: Path,
    device: str,
    stop: Stopping,
    *,
    files: int | None = None,
) -> dict[str, Any] | None:
    """Train in `folder`, from its last checkpoint where it has one; the record, or None where asked to stop.

    Without a test part what is known of validation pictures is measured alone. The model stays in the folder.
    """
    where, model, started = torch.device(device), folder / MODEL, time.monotonic()
    told = started

    def on_step(record: Any, trainer: Any) -> None:
        nonlocal told
        if time.monotonic() - told > _LINE_SECONDS:
            told = time.monotonic()
            print(f"  {record.progress:6.1%} step {record.step}, PSNR {record.values['psnr']:.2f} dB", flush=True)

    callbacks = RunCallbacks(print, on_step, lambda step, summary: None, stop)
    card = train_model(
        key["row"], config, data, output=model, folder=folder, device=where, resume=bool(checkpoints(folder)), note="",
        callbacks=callbacks,
    )  # fmt: skip
    if card is None:
        return None
    trainer = Trainer(config, data.train, folder, where)
    trainer.resume()
    codec = Codec(registry.read_info(model), device)
    record = key | {
        "settings": config.to_dict(),
        "hardware": hardware(where),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "steps_done": trainer.step,
        "epochs_done": trainer.step * config.batch_size / len(data.train),
        "seconds_trained": round(trainer.course.trained, 3),
        "data": data.description,
        "model_id": codec.model_id,
        "model_bytes": model.stat().st_size,
    }
    held_back = card["results"]["validation"]
    record["validation"] = {
        "pictures": held_back["pictures"],
        "mse": held_back["mse"],
        "perplexity_hard": held_back["perplexity_hard"][0],
        "utilisation": held_back["utilisation"][0],
    }
    if data.test is not None:
        record |= measure(trainer, codec, data, card, files)
    return record | {"seconds_in_all": round(time.monotonic() - started, 3)}


def run(key: dict[str, Any], config: TrainConfig, data: DataSplits, options: argparse.Namespace, stop: Stop) -> bool:
    """Train, measure and record one run. Returns False where it was asked to stop."""
    name = re.sub(r"[^A-Za-z0-9.+=-]+", "-", json.dumps(key, sort_keys=True)).strip("-")[:180]
    folder = options.results.with_suffix("") / name
    record = trained(key, config, data, folder, options.device, stop, files=options.files)
    if record is None:
        return False
    append(options.results, record)
    print(f"  {describe(record)}", flush=True)
    if not options.keep:
        shutil.rmtree(folder)
    return True


def describe(record: dict[str, Any]) -> str:
    """The measures of a run in one line."""
    return (
        f"{record['row']}, seed {record['seed']}: MSE {record['mse']:.3e} "
        f"({record['refined']['mse'] / record['refined']['mse_first'] - 1:+.1%} refined), "
        f"perplexity {record['perplexity_soft']:.1f} soft, {record['perplexity_hard']:.1f} hard, "
        f"used {record['utilisation']:.1%}, E H(q(c|x)) {record['conditional_entropy']:.2f}, "
        f"{record['bits_per_image']:.1f} bits ({record['nominal_bits_per_image']:.0f} nominal), "
        f"{record['steps_done']} steps in {record['seconds_trained']:.0f} s"
    )


def change(text: str) -> tuple[str, Any]:
    """FIELD=VALUE, the value in JSON or else a text."""
    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def duration(text: str) -> float:
    """Seconds of 90s, 15m or 1.5h."""
    try:
        return seconds_of(text)
    except UsageError:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 90s, 15m or 1.5h") from None


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("experiment", choices=[name for name in EXPERIMENTS if name != "paper"])
    parser.add_argument("--set", dest="kind", choices=PRESETS, default="cifar10")
    parser.add_argument("--data", type=Path, required=True, help="where the data lie")
    parser.add_argument("--rows", nargs="+", help="only these rows; --list shows them")
    parser.add_argument("--list", action="store_true", help="print the rows and end")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="length of each run; the preset's unless given")
    length.add_argument("--epochs", type=float)
    length.add_argument("--time-per-run", type=duration, help="15m, 1.5h")
    parser.add_argument("--change", type=change, nargs="+", default=[], metavar="FIELD=VALUE", help="for all rows")
    parser.add_argument("--files", type=int, help="test pictures that are written as files; all unless given")
    parser.add_argument("--results", type=Path, help="default: runs/EXPERIMENT-SET.jsonl")
    parser.add_argument("--keep", action="store_true", help="keep models and checkpoints, beside the results")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(words)
    unknown = sorted(set(options.rows or []) - set(EXPERIMENTS[options.experiment]))
    if unknown:
        parser.error(f"no row {', '.join(unknown)} in {options.experiment}; --list shows them")
    options.results = options.results or Path("runs") / f"{options.experiment}-{options.kind}.jsonl"
    return options


def main(words: list[str] | None = None) -> None:
    options = arguments(words)
    rows = EXPERIMENTS[options.experiment]
    if options.list:
        print("\n".join(rows))
        return
    if options.threads:
        torch.set_num_threads(options.threads)
    length: dict[str, Any] = {"steps": options.steps or preset(PRESETS[options.kind]).steps}
    if options.time_per_run:
        length = {"seconds": options.time_per_run}
    elif options.epochs:
        length = {"epochs": options.epochs}
    options.results.parent.mkdir(parents=True, exist_ok=True)
    changes, stop, data = dict(options.change), Stop(), None
    for seed in options.seeds:
        for row in options.rows or rows:
            key = {"experiment": options.experiment, "set": options.kind, "row": row, "seed": seed}
            key |= {"length": length, "changes": changes}
            if any(
                all(record.get(name) == value for name, value in key.items())
                for record in read_results(options.results)
            ):
                print(f"{row}, seed {seed}: is there already")
                continue
            config = configured(options.kind, rows[row], changes, seed, length)
            data = data or load_data(options.kind, options.data)
            if options.experiment == "sweeps":
                data = replace(data, test=data.validation)
            print(f"{row}, seed {seed}", flush=True)
            try:
                if not run(key, config, data, options, stop):
                    print("stopped; the same command goes on from the checkpoint")
                    return
            except TrainingError as error:  # a run that diverged must not keep the others from being made
                append(options.results, key | {"failed": str(error), "settings": config.to_dict()})
                print(f"  failed: {error}")


if __name__ == "__main__":
    try:
        main()
    except TrainingError as error:
        sys.exit(str(error))
