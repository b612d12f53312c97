"""What each encoder effort gains, and what it takes: BD-rate against effort 1, and time, on the same pictures.

    python scripts/measure/efforts.py PICTURES... [--efforts 1,4,9] [--qualities 15,40,65,90] [--threads 2]

Prints a Markdown table. Rate is of whole files, PSNR the mean over pictures; the decoder's time is no matter of effort.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from gmvqzip.bench.metrics import psnr
from gmvqzip.bench.rates import rate_difference
from gmvqzip.codec import Codec
from gmvqzip.images.picture import read_picture
from gmvqzip.models import registry
from gmvqzip.setting import EFFORTS


def curve(
    codec: Codec, paths: list[Path], qualities: list[int], effort: int
) -> tuple[list[tuple[float, float]], float]:
    """Mean bits per pixel and PSNR (dB) at each quality, and mean seconds to encode a picture."""
    points, seconds = [], 0.0
    for quality in qualities:
        rows = []
        for path in paths:
            picture = read_picture(path)
            start = time.perf_counter()
            done = codec.compress_picture(picture, quality=quality, effort=effort)
            seconds += time.perf_counter() - start
            decoded = codec.follow(done.codes).pixels().pixels
            rows.append((8 * len(done.data) / (picture.width * picture.height), psnr(picture.pixels, decoded)))
        rate, decibels = np.mean(rows, axis=0).tolist()
        points.append((rate, decibels))
    return points, seconds / (len(qualities) * len(paths))


def main() -> None:
    """Measure and print."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--efforts", default=",".join(map(str, EFFORTS)))
    parser.add_argument("--qualities", default="15,40,65,90", help="four or more")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    codec = Codec(registry.find(options.model), "cpu")
    qualities = [int(quality) for quality in options.qualities.split(",")]
    codec.compress_picture(read_picture(options.pictures[0]))  # loads, and warms up
    anchor, base = curve(codec, options.pictures, qualities, 1)
    print("| effort | BD-rate against effort 1 | encoding, seconds a picture | times effort 1 |\n|---|---|---|---|")
    for effort in map(int, options.efforts.split(",")):
        points, seconds = (anchor, base) if effort == 1 else curve(codec, options.pictures, qualities, effort)
        found = rate_difference(anchor, points)
        gain = found.note if found.percent is None else f"{found.percent:+.2f} %"
        print(f"| {effort} | {gain} | {seconds:.3f} | {seconds / base:.2f} |", flush=True)


if __name__ == "__main__":
    main()
