"""Memory, time and seams of a picture of many megapixels, and what a region of it costs.

    python scripts/measure/big_picture.py PICTURES... [--megapixels 100] [--model photo] [--quality 50] [--effort 4]
        [--threads 2] [--regions 9] [--seed 0]
    python scripts/measure/big_picture.py PICTURES... --megapixels 4 --sides 0,256,512,1024 [...]

The picture is a mosaic of the given photographs, enlarged, mirrored by turns, and not in step with the tiles. Prints
one JSON object:

    compress, decompress    the command line in fresh processes: seconds, and the peak memory of each in MiB
    whole_seconds           decoding all pixels in this process, model loaded
    region_seconds          of 512x512 at random places, likewise: mean and slowest
    times_faster            whole_seconds over these two
    region_bytes_share      the largest share of the file that a region read
    seam                    steps of the error of the decoded picture from a column of pixels to the next, at the
                            borders of tiles, over those at the other borders of cells of the latent: 1 is no seam

With --sides, what tiles cost instead: bytes and PSNR of the picture with tiles of each side, 0 for one piece.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from gmvqzip import inspection
from gmvqzip.bench.metrics import psnr
from gmvqzip.codec import Codec, load
from gmvqzip.engines.base import set_threads

Image.MAX_IMAGE_PIXELS = None  # what is read here was made here

PHOTOGRAPH = (1100, 730)  # pixels of a photograph in the mosaic
REGION = 512  # pixels
CELL_STRIDE = 16  # pixels, of the latent of the shipped models


class Counting(io.FileIO):
    """A file that counts the bytes read."""

    total = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """As `FileIO.read`."""
        data = super().read(size if size is not None else -1) or b""
        self.total += len(data)
        return data


def mosaic(paths: list[Path], side: int) -> Image.Image:
    """A square of photographs."""
    whole = Image.new("RGB", (side, side))
    number = 0
    for row, top in enumerate(range(0, side, PHOTOGRAPH[1])):
        for column, left in enumerate(range(0, side, PHOTOGRAPH[0])):
            with Image.open(paths[number % len(paths)]) as opened:
                cell = ImageOps.fit(opened.convert("RGB"), PHOTOGRAPH, Image.Resampling.LANCZOS)
            cell = ImageOps.mirror(cell) if column % 2 else cell
            whole.paste(ImageOps.flip(cell) if row % 2 else cell, (left, top))
            number += 1
    return whole


def command(*arguments: str) -> dict[str, float]:
    """Seconds and peak memory in MiB of a command line in a process of its own."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "gmvqzip", *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"gmvqzip {' '.join(arguments)} failed")
    return {"seconds": time.perf_counter() - start, "peak_mib": usage.ru_maxrss / 1024}


def seam(original: Path, decoded: Path, tile: int) -> float:
    """Mean step of the error across the borders between columns of tiles, over that across other cells' borders."""
    with Image.open(original) as first, Image.open(decoded) as second:
        steps = np.zeros(first.width - 1)
        for top in range(0, first.height, 256):
            box = (0, top, first.width, min(top + 256, first.height))
            one, other = (np.asarray(image.crop(box)).astype(np.float32) for image in (first, second))
            steps += np.abs(np.diff((one - other).mean(2), axis=1)).sum(0)
    places = np.arange(1, len(steps) + 1)
    borders = places % tile == 0
    cells = (places % CELL_STRIDE == 0) & ~borders
    return float(steps[borders].mean() / steps[cells].mean())


def regions(codec: Codec, path: Path, side: int, count: int, seed: int) -> dict[str, Any]:
    """Seconds of the whole and of regions with the model loaded, and how much of the file a region reads."""
    generator = random.Random(seed)
    seconds, shares = [], []
    for number in range(count + 1):
        x, y = (generator.randrange(side - REGION + 1) for _ in range(2))
        with Counting(path, "rb") as file:
            start = time.perf_counter()
            codec.decompress_picture(file, region=(x, y, REGION, REGION), max_pixels=side * side)
            if number:  # the first loads the model
                seconds.append(time.perf_counter() - start)
            shares.append(file.total / path.stat().st_size)
    start = time.perf_counter()
    codec.decompress_picture(path, max_pixels=side * side)
    whole = time.perf_counter() - start
    mean, slowest = sum(seconds) / len(seconds), max(seconds)
    return {
        "whole_seconds": whole,
        "region_seconds": {"mean": mean, "slowest": slowest},
        "times_faster": {"mean": whole / mean, "slowest": whole / slowest},
        "region_bytes_share": max(shares),
    }


def tile_costs(codec: Codec, image: Image.Image, sides: list[int], quality: int, effort: int) -> dict[str, Any]:
    """Bytes and PSNR (dB) of a picture with tiles of each side."""
    results = {}
    pixels = np.asarray(image)
    for side in sides:
        most = image.width * image.height
        data = codec.compress(pixels, quality=quality, effort=effort, tile=side, max_pixels=most)
        decoded = codec.decompress_picture(data, max_pixels=most).pixels
        results[str(side)] = {"bytes": len(data), "psnr": psnr(pixels, decoded)}
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--megapixels", type=float, default=100)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--quality", type=int, default=50)
    parser.add_argument("--effort", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--regions", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sides", type=lambda text: [int(part) for part in text.split(",")])
    options = parser.parse_args()
    side = math.isqrt(round(options.megapixels * 1e6))
    if side < REGION:
        parser.error(f"a picture smaller than {REGION}x{REGION} has no such region")
    set_threads(options.threads)
    codec = load(options.model, device="cpu")
    if options.sides:
        costs = tile_costs(codec, mosaic(options.pictures, side), options.sides, options.quality, options.effort)
        print(json.dumps(costs, indent=1))
        return
    with tempfile.TemporaryDirectory() as folder:
        original, packed, decoded = (Path(folder) / name for name in ("a.png", "a.gmvq", "b.png"))
        mosaic(options.pictures, side).save(original, compress_level=1)
        common = ("--threads", str(options.threads), "--device", "cpu", "--model", options.model)
        common += ("--max-pixels", str(side * side), "-o")
        rate = ("--quality", str(options.quality), "--effort", str(options.effort))
        results: dict[str, Any] = {"width": side, "height": side, "effort": options.effort}
        results["compress"] = command("compress", *rate, *common, str(packed), str(original))
        results["decompress"] = command("decompress", *common, str(decoded), str(packed))
        info = inspection.info(packed)
        results |= {"bytes": info.file_bytes, "bpp": info.bpp, "tile": info.tile}
        results |= regions(codec, packed, side, options.regions, options.seed)
        if info.tile:
            results["seam"] = seam(original, decoded, info.tile)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
