"""Train and measure every row of a comparison of quantisers, on one network and under one budget.

    python scripts/reproduce.py table1 --set cifar10 --data DATA --seeds 0 1 --steps 12000
    python scripts/reproduce.py table1 --set celeba128 --data DATA --rows gmvq vqvae+l2 --time-per-run 15m
    python scripts/reproduce.py ablations --set cifar10 --data DATA --change quantizer.gamma=0.05

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
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gmvqzip.cli.train import seconds_of
from gmvqzip.codec import Codec
from gmvqzip.errors import TrainingError
from gmvqzip.models import registry
from gmvqzip.models.config import NetworkConfig
from gmvqzip.training.checkpoint import checkpoints
from gmvqzip.training.config import TrainConfig, preset
from gmvqzip.training.datasets import load_dataset
from gmvqzip.training.evaluation import soft_measures
from gmvqzip.training.methods import with_quantizer
from gmvqzip.training.run import RunCallbacks, train_model
from gmvqzip.training.splits import DataSplits
from gmvqzip.training.trainer import Trainer

PRESETS = {"cifar10": "paper-cifar10", "celeba128": "paper-celeba"}
BOX_PICTURES = 1000  # at most, for the quantiles of their errors
SOFT_BATCH = 256  # pictures over which the paper's perplexity is taken
_LINE_SECONDS = 60.0


@dataclass(frozen=True)
class Row:
    """A run: quantiser by name, codes of the grid (the network's own if 0), fields that differ from its settings."""

    quantizer: str
    codes: int = 0
    changes: dict[str, Any] = field(default_factory=dict)


def _named(*names: str) -> dict[str, Row]:
    return {name: Row(name) for name in names}


def _gmvq(**changes: Any) -> Row:
    return Row("gmvq", changes={name.replace("__", "."): value for name, value in changes.items()})


def _sweep(quantizer: str, *changes: dict[str, Any]) -> dict[str, Row]:
    """The method as it comes, then with each of the changes to its settings, or to the run's where there is a dot."""
    rows = {quantizer: Row(quantizer)}
    for change in changes:
        fields = {name.lstrip(".") if name[0] == "." else f"quantizer.{name}": value for name, value in change.items()}
        rows[", ".join([quantizer, *(f"{name.lstrip('.')} {value}" for name, value in change.items())])] = Row(
            quantizer, changes=fields
        )
    return rows


# The weights of eq. (3) are in the run's units: 6.33 is 1 beside an error over the variance of the data.
SWEEPS = (
    _sweep("vqvae", {"commitment": 0.4}, {"commitment": 6.33}, {"kmeans": False})
    | _sweep("vqvae+l2", {"commitment": 6.33}, {"commitment": 6.33, "codebook": 25.0})
    | _sweep("vqvae+replace", {"replace_after": 20}, {"replace_after": 100})
    | _sweep("vqvae+affine", {"affine": 10.0})
    | _sweep("vqvae+opt", {"inner_rate": 10.0}, {"commitment": 1.58}, {"commitment": 6.33})
    | _sweep("vqvae+ema", {"commitment": 6.33}, {"ema": 0.95})
    | _sweep(
        "sqvae", {"start_variance": 5.0}, {"start_variance": 1.0}, {"kmeans": True}, {"variance": "site"},
        {".temperature_end": 0.5},
    )
    | _sweep("gumbel", {"kl": 0.0}, {"kl": 0.02}, {".temperature_end": 0.5})
    | _sweep(
        "wasserstein", {"matching": 3.0}, {"commitment": 1.58}, {".codebook_rate": None}, {"kmeans": True},
        {"kmeans": True, "codebook": 6.33, "commitment": 1.58},
    )
    | _sweep("mvq", {"commitment": 6.33}, {"share": 0.9})
    | _sweep(
        "gmvq", {"gamma": 0.05}, {"beta": 0.3}, {"beta": 0.03}, {".temperature_start": 1.0, ".temperature_end": 0.5},
        {".hard_after": 0.6},
    )
)  # fmt: skip
EXPERIMENTS: dict[str, dict[str, Row]] = {
    "table1": _named(
        "vqvae", "vqvae+l2", "vqvae+replace", "vqvae+l2+replace", "vqvae+affine", "vqvae+opt", "vqvae+affine+opt",
        "sqvae", "gumbel", "gmvq", "gmvq+entropy", "vqvae+ema", "wasserstein", "mvq", "fsq",
    ),
    "sweeps": SWEEPS,
    "entropy": {
        f"gamma={weight:g}": _gmvq(quantizer__gamma=weight) for weight in (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
    },
    "masks": {
        "vqvae, 64 codes": Row("vqvae", codes=64),
        "mvq, 64 codes x 15 masks": Row("mvq", codes=960),
        "vqvae, 960 codes": Row("vqvae", codes=960),
    },
    "ablations": {
        "as it is": _gmvq(),
        "noise of eq. 18": _gmvq(quantizer__noise=True),
        "noise of eq. 18, s^2 = 2": _gmvq(quantizer__noise=True, quantizer__noise_scale=2.0),
        "one weight a site": _gmvq(network__weight_per_dimension=False),
        "weights not learned": _gmvq(quantizer__learned_weights=False),
        "distance summed over dimensions": _gmvq(quantizer__beta=6.4),  # 0.1 * 64
        "no distance": _gmvq(quantizer__beta=0.0),
        "tau 2 to 0.1 over the whole run": _gmvq(temperature_until=1.0, hard_after=1.0),
        "tau 1 to 0.5": _gmvq(temperature_start=1.0, temperature_end=0.5),
        "tau 1": _gmvq(temperature_start=1.0, temperature_end=1.0),
        "tau 0.5": _gmvq(temperature_start=0.5, temperature_end=0.5),
        "straight-through from 30 %": _gmvq(hard_after=0.3),
        "no entropy": _gmvq(quantizer__gamma=0.0),
        "plain ELBO": _gmvq(quantizer__gamma=0.0, quantizer__conditional=0.02),
        "plain ELBO + entropy": _gmvq(quantizer__conditional=0.02),
        "batch 16": _gmvq(batch_size=16),
        "batch 256": _gmvq(batch_size=256),
        "batch 16, q_bar over 16 steps": _gmvq(batch_size=16, quantizer__posterior_decay=15 / 16),
        "q_bar over 16 steps": _gmvq(quantizer__posterior_decay=15 / 16),
    },
}  # fmt: skip


def configured(kind: str, row: Row, changes: dict[str, Any], seed: int, length: dict[str, Any]) -> TrainConfig:
    """The configuration of a run. Raises TrainingError for an unknown field, or a value that does not fit."""
    base = preset(PRESETS[kind])
    if not isinstance(base.network, NetworkConfig):
        raise TrainingError(f"preset {PRESETS[kind]} is not of a staged network")
    if row.codes:
        grids = tuple(replace(grid, codes=row.codes) for grid in base.network.grids)
        base = replace(base, network=replace(base.network, grids=grids))
    config = with_quantizer(base, row.quantizer)
    for name, value in (row.changes | changes).items():
        part, _, last = name.rpartition(".")
        try:
            target = replace(getattr(config, part), **{last: value}) if part else value
            config = replace(config, **{part or name: target})
        except (TypeError, AttributeError) as error:
            raise TrainingError(f"there is no field {name!r} to change: {error}") from None
    every = config.steps or 10**9  # no evaluations on the way: they would count in no budget, and nobody reads them
    lengths: dict[str, Any] = {"steps": None, "epochs": None, "seconds": None} | length
    return replace(config, seed=seed, **lengths, evaluate_every=max(every, length.get("steps", every)))


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


def picture_error(codec: Codec, pixels: np.ndarray[Any, Any]) -> float:
    """Mean squared error in [0, 1] of a picture as it is decoded."""
    decoded = np.asarray(codec.decode(codec.encode(pixels)), dtype=np.float64)
    return float(((decoded - pixels) ** 2).mean()) / 255**2


def file_bits(codec: Codec, pictures: Iterator[np.ndarray[Any, Any]]) -> float:
    """Mean bits of a picture's whole file; every file is read back and its checksum compared."""
    sizes = []
    for pixels in pictures:
        data = codec.compress(pixels)
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
    errors = [picture_error(codec, image) for image in islice(data.test.all_images(), min(count, BOX_PICTURES))]
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


class Stop:
    """Notes SIGINT and SIGTERM, so that a run saves a checkpoint; a second one ends the program at once."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.asked = True
        signal.signal(number, signal.SIG_DFL)


def run(key: dict[str, Any], config: TrainConfig, data: DataSplits, options: argparse.Namespace, stop: Stop) -> bool:
    """Train, measure and record one run. Returns False where it was asked to stop."""
    device = torch.device(options.device)
    name = re.sub(r"[^A-Za-z0-9.+=-]+", "-", json.dumps(key, sort_keys=True)).strip("-")[:180]
    folder = options.results.with_suffix("") / name
    model = folder / "model.safetensors"
    told, started = time.monotonic(), time.monotonic()

    def on_step(record: Any, trainer: Any) -> None:
        nonlocal told
        if time.monotonic() - told > _LINE_SECONDS:
            told = time.monotonic()
            print(f"  {record.progress:6.1%} step {record.step}, PSNR {record.values['psnr']:.2f} dB", flush=True)

    callbacks = RunCallbacks(print, on_step, lambda step, summary: None, lambda: None, lambda: stop.asked)
    card = train_model(
        key["row"], config, data, output=model, folder=folder, device=device, resume=bool(checkpoints(folder)), note="",
        callbacks=callbacks,
    )  # fmt: skip
    if card is None:
        return False
    trainer = Trainer(config, data.train, folder, device)
    trainer.resume()
    codec = Codec(registry.read_info(model), options.device)
    record = key | {
        "settings": config.to_dict(),
        "hardware": hardware(device),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "steps_done": trainer.step,
        "epochs_done": trainer.step * config.batch_size / len(data.train),
        "seconds_trained": round(trainer.elapsed, 3),
        "data": data.description,
        "model_id": codec.model_id,
        "model_bytes": model.stat().st_size,
    }
    record |= measure(trainer, codec, data, card, options.files)
    append(options.results, record | {"seconds_in_all": round(time.monotonic() - started, 3)})
    print(f"  {describe(record)}", flush=True)
    if not options.keep:
        shutil.rmtree(folder)
    return True


def describe(record: dict[str, Any]) -> str:
    """The measures of a run in one line."""
    return (
        f"{record['row']}, seed {record['seed']}: MSE {record['mse']:.3e}, perplexity {record['perplexity_soft']:.1f} "
        f"soft, {record['perplexity_hard']:.1f} hard, used {record['utilisation']:.1%}, E H(q(c|x)) "
        f"{record['conditional_entropy']:.2f}, {record['bits_per_image']:.1f} bits "
        f"({record['nominal_bits_per_image']:.0f} nominal), {record['steps_done']} steps in "
        f"{record['seconds_trained']:.0f} s"
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


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--set", dest="kind", choices=PRESETS, default="cifar10")
    parser.add_argument("--data", type=Path, required=True, help="where the data lie")
    parser.add_argument("--rows", nargs="+", help="only these rows; --list shows them")
    parser.add_argument("--list", action="store_true", help="print the rows and end")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="length of each run; the preset's unless given")
    length.add_argument("--epochs", type=float)
    length.add_argument("--time-per-run", help="15m, 1.5h")
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
        length = {"seconds": seconds_of(options.time_per_run)}
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
    main()
