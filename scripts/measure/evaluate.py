"""Measure a model on a part of a data set: every picture is compressed, decompressed and compared.

    python scripts/measure/evaluate.py MODEL --dataset cifar10|celeba|folder --data PATH [--split test]

Prints one JSON object. MSE is in [0, 1] units. `psnr_mean` is the mean of the pictures' PSNRs, `psnr_of_mean_mse` the
PSNR of their mean error. `bpp` counts all bytes of the files; perplexity and `codes_used` are of each stage. Beside
other codecs: `gmvqzip bench`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from gmvqzip.codec import Codec
from gmvqzip.engines.files import Compressed
from gmvqzip.images.picture import read_picture
from gmvqzip.models import registry
from gmvqzip.setting import DEFAULT_EFFORT
from gmvqzip.training.datasets import load_dataset

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
BATCH = 64  # pictures in memory


def pictures(options: argparse.Namespace) -> Iterator[tuple[str, Pixels]]:
    """Name and pixels [H, W, 3] of each picture asked for, in a fixed order."""
    splits = load_dataset(options.dataset, options.data, crop=None, say=lambda line: None)
    chosen = getattr(splits, options.split)
    if chosen is None:
        raise SystemExit(f"{options.data} has no {options.split} pictures")
    for number, pixels in enumerate(islice(chosen.all_images(), options.count)):
        yield f"{options.split} {number}", pixels


def error_of(decoded: Pixels, original: Pixels) -> float:
    """Mean squared error in [0, 1] units."""
    return float(((decoded.astype(np.float64) - original) ** 2).mean()) / 255**2


def psnr(error: float) -> float:
    """PSNR in dB of a mean squared error in [0, 1] units."""
    return -10 * math.log10(max(error, 1e-10))


def compressed(codec: Codec, options: argparse.Namespace) -> Iterator[tuple[str, Pixels, Compressed]]:
    """Name, pixels and file of each picture, made in batches."""
    source = pictures(options)
    while batch := list(islice(source, BATCH)):
        files = codec.compress_pictures([read_picture(pixels) for _, pixels in batch], effort=options.effort)
        yield from ((name, pixels, file) for (name, pixels), file in zip(batch, files, strict=True))


def measure(codec: Codec, options: argparse.Namespace) -> dict[str, Any]:
    """All figures over all pictures."""
    rows = []
    counts: list[Counter[int]] = [Counter() for _ in codec.config.stages()]
    started = time.perf_counter()
    for name, pixels, result in compressed(codec, options):
        decoded = codec.decompress_picture(result.data).pixels
        for count, stage in zip(counts, result.codes.stages, strict=True):
            count.update(stage.ravel().tolist())
        row = {
            "name": name,
            "bytes": len(result.data),
            "payload_bytes": result.payload_bytes,
            "bpp": result.bpp,
            "mse": error_of(decoded, pixels),
        }
        row["psnr"] = psnr(row["mse"])
        rows.append(row)
    mean = {key: float(np.mean([row[key] for row in rows])) for key in ("bytes", "payload_bytes", "bpp", "mse", "psnr")}
    report: dict[str, Any] = {
        "model": codec.name,
        "model_id": codec.model_id,
        "effort": options.effort,
        "pictures": len(rows),
        "bytes": mean["bytes"],
        "payload_bytes": mean["payload_bytes"],
        "bpp": mean["bpp"],
        "mse": mean["mse"],
        "psnr_mean": mean["psnr"],
        "psnr_of_mean_mse": psnr(mean["mse"]),
        "perplexity_hard": [_perplexity(count) for count in counts],
        "codes_used": [len(count) for count in counts],
        "seconds": round(time.perf_counter() - started, 1),
    }
    if options.each:
        report["each"] = rows
    return report


def _perplexity(count: Counter[int]) -> float:
    p = np.array(list(count.values())) / count.total()
    return float(np.exp(-(p * np.log(p)).sum()))


def main() -> None:
    """Measure one model and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name or path")
    parser.add_argument("--dataset", choices=("cifar10", "celeba", "folder"), required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--count", type=int, help="the first pictures alone")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument("--effort", type=int, default=DEFAULT_EFFORT, help="1 to 9; 1 is the quantiser's own choice")
    parser.add_argument("--each", action="store_true", help="also print each picture's figures")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(json.dumps(measure(Codec(registry.find(options.model), options.device), options), indent=2))


if __name__ == "__main__":
    main()
