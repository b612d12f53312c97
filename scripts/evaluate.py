"""Measure a model on whole files: every picture is compressed, decompressed and compared.

    python scripts/evaluate.py MODEL --pictures FILE_OR_FOLDER... [--jpeg]
    python scripts/evaluate.py MODEL --dataset cifar10|celeba --data PATH [--split test]

Prints one JSON object. MSE is in [0, 1] units. `psnr_mean` is the mean of the pictures' PSNRs, `psnr_of_mean_mse` the
PSNR of their mean error. `bpp` counts all bytes of the files. With --jpeg each picture is also coded as JPEG
(optimised, progressive): its PSNR at exactly the same file size is interpolated, linearly in the logarithm of the size,
between the two neighbouring qualities; where even quality 1 is larger than our file, that JPEG counts as it is.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gmvqzip.codec import Codec
from gmvqzip.engines.files import Compressed
from gmvqzip.images.picture import read_picture
from gmvqzip.models import registry
from gmvqzip.setting import DEFAULT_EFFORT

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
BATCH = 64  # pictures in memory


def pictures(options: argparse.Namespace) -> Iterator[tuple[str, Pixels]]:
    """Name and pixels [H, W, 3] of each picture asked for, in a fixed order."""
    if options.dataset:
        from gmvqzip.training.datasets import load_dataset

        splits = load_dataset(options.dataset, options.data, crop=None, say=lambda line: None)
        chosen = getattr(splits, options.split)
        if chosen is None:
            raise SystemExit(f"{options.data} has no {options.split} pictures")
        for number, pixels in enumerate(chosen.all_images()):
            yield f"{options.split} {number}", pixels
    for path in options.pictures or []:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            yield str(file), read_picture(file).pixels


def error_of(decoded: Pixels, original: Pixels) -> float:
    """Mean squared error in [0, 1] units."""
    return float(((decoded.astype(np.float64) - original) ** 2).mean()) / 255**2


def psnr(error: float) -> float:
    """PSNR in dB of a mean squared error in [0, 1] units."""
    return -10 * math.log10(max(error, 1e-10))


def jpeg_at(pixels: Pixels, size: int) -> tuple[float, bool]:
    """PSNR in dB of JPEG at `size` bytes, and whether JPEG can be that small."""
    image = Image.fromarray(pixels)

    def code(quality: int) -> tuple[int, float]:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
        return len(buffer.getvalue()), psnr(error_of(np.asarray(Image.open(buffer)), pixels))

    below = code(1)
    if below[0] > size:
        return below[1], False
    for quality in range(2, 101):
        above = code(quality)
        if above[0] > size:
            part = math.log(size / below[0]) / math.log(above[0] / below[0])
            return below[1] + part * (above[1] - below[1]), True
        below = above
    return below[1], True


def compressed(codec: Codec, options: argparse.Namespace) -> Iterator[tuple[str, Pixels, Compressed]]:
    """Name, pixels and file of each picture, made in batches."""
    source = pictures(options)
    while batch := list(islice(source, BATCH)):
        files = codec.compress_pictures([read_picture(pixels) for _, pixels in batch], effort=options.effort)
        yield from ((name, pixels, file) for (name, pixels), file in zip(batch, files, strict=True))


def measure(codec: Codec, options: argparse.Namespace) -> dict[str, Any]:
    """All figures over all pictures."""
    rows = []
    counts = [np.zeros(grid.codes, dtype=np.int64) for grid in codec.config.stages()]
    started = time.perf_counter()
    for name, pixels, result in compressed(codec, options):
        decoded = codec.decompress_picture(result.data).pixels
        for count, stage in zip(counts, result.codes.stages, strict=True):
            count += np.bincount(stage.ravel(), minlength=len(count))
        row = {
            "name": name,
            "bytes": len(result.data),
            "payload_bytes": result.payload_bytes,
            "bpp": result.bpp,
            "mse": error_of(decoded, pixels),
        }
        row["psnr"] = psnr(row["mse"])
        if options.jpeg:
            row["jpeg_psnr"], row["jpeg_reaches_size"] = jpeg_at(pixels, len(result.data))
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
        "utilisation": [float((count > 0).mean()) for count in counts],
        "seconds": round(time.perf_counter() - started, 1),
    }
    if options.jpeg:
        report["jpeg_psnr_mean"] = float(np.mean([row["jpeg_psnr"] for row in rows]))
        report["gain_over_jpeg"] = report["psnr_mean"] - report["jpeg_psnr_mean"]
        report["smallest_gain_over_jpeg"] = min(row["psnr"] - row["jpeg_psnr"] for row in rows)
        report["pictures_that_jpeg_cannot_make_so_small"] = sum(not row["jpeg_reaches_size"] for row in rows)
    if options.each:
        report["each"] = rows
    return report


def _perplexity(count: Any) -> float:
    p = count[count > 0] / count.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def main() -> None:
    """Measure one model and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name or path")
    parser.add_argument("--pictures", nargs="+", type=Path)
    parser.add_argument("--dataset", choices=("cifar10", "celeba"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument("--effort", type=int, default=DEFAULT_EFFORT, help="1 to 9; 1 is the quantiser's own choice")
    parser.add_argument("--jpeg", action="store_true", help="compare with JPEG at equal file sizes")
    parser.add_argument("--each", action="store_true", help="also print each picture's figures")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if not options.pictures and not options.dataset:
        parser.error("give --pictures or --dataset")
    print(json.dumps(measure(Codec(registry.find(options.model), options.device), options), indent=2))


if __name__ == "__main__":
    main()
