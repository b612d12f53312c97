"""Files per second over many pictures: one `compress -r`, one process for each file, and Pillow's WebP in a loop.

    python scripts/measure/many_files.py [--pictures PATH ...] [--sizes 32x32=10000 128x128=576 768x512=24]
        [--model photo]

PATH is a folder of pictures, cut into tiles of the wanted sizes, or a .npy of uint8 [N, H, W, 3], taken for its own
size; where neither has any of a size, smooth random pictures are made. The pictures are PNG files in a temporary
folder (--folder names one on another disk). Of each size:

many       one `gmvqzip compress -r --jobs JOBS` over all files: start, model, and syncing every output included
processes  the same, as JOBS commands of one job with a share of the files each
single     one command for each file of a sample, JOBS at once, each with its share of the processor's threads
webp       Pillow in a loop of this process: open, encode at quality 80, write; no sync, no start

`same` counts the files of the sample that `many` made byte for byte as `single` did.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
SIZES = ["32x32=10000", "128x128=576", "768x512=24"]
WEBP_QUALITY = 80
GMVQZIP = [sys.executable, "-m", "gmvqzip", "compress", "--quiet"]


def found(paths: Sequence[Path], width: int, height: int) -> Iterator[Pixels]:
    """Pictures of a size: arrays of that size, else tiles of the pictures in folders."""
    for path in paths:
        if path.suffix == ".npy":
            pictures = np.load(path, mmap_mode="r")
            if pictures.shape[1:] == (height, width, 3):
                yield from (np.array(picture) for picture in pictures)
            continue
        for file in sorted(path.iterdir()):
            with Image.open(file) as image:
                pixels = np.asarray(image.convert("RGB"))
            if pixels.shape[:2] == (width, height):
                pixels = pixels.transpose(1, 0, 2)
            rows, columns = pixels.shape[0] // height, pixels.shape[1] // width
            for row, column in itertools.product(range(rows), range(columns)):
                yield pixels[row * height :, column * width :][:height, :width]


def made(width: int, height: int) -> Iterator[Pixels]:
    """Smooth random pictures without end."""
    generator = np.random.default_rng(0)
    while True:
        coarse = generator.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
        yield np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def write_pictures(folder: Path, paths: Sequence[Path], width: int, height: int, count: int) -> tuple[list[Path], str]:
    """At most `count` PNG files, and where they come from."""
    source = "given"
    pictures = list(itertools.islice(found(paths, width, height), count))
    if not pictures:
        source, pictures = "made", list(itertools.islice(made(width, height), count))
    files = [folder / f"{number:06}.png" for number in range(len(pictures))]
    for file, pixels in zip(files, pictures, strict=True):
        Image.fromarray(pixels).save(file)
    return files, source


def run(*arguments: object) -> None:
    """A command that must not fail."""
    subprocess.run([*GMVQZIP, *map(str, arguments)], check=True)


def seconds(action: Any) -> float:
    """Wall seconds of an action."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measure(files: Sequence[Path], folder: Path, model: str, effort: int, jobs: int, sample: int) -> dict[str, Any]:
    """Files per second of each way, and ratios."""
    many, single = folder / "many", folder / "single"
    single.mkdir()
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    chosen = files[:: max(1, len(files) // sample)][:sample]
    common = ("-m", model, "--effort", effort)

    def with_processes() -> None:
        with ThreadPoolExecutor(jobs) as pool:
            options = ("--output-dir", folder / "processes", *common, "-T", threads)
            list(pool.map(lambda number: run(*files[number::jobs], *options), range(jobs)))

    def one_by_one() -> None:
        def one(file: Path) -> None:
            run(file, "-o", single / f"{file.stem}.gmvq", *common, "-T", threads)

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(one, chosen))

    def webp() -> None:
        for file in files:
            with Image.open(file) as image:
                image.save(folder / "x.webp", quality=WEBP_QUALITY)

    speeds = {
        "many": len(files) / seconds(lambda: run("-r", files[0].parent, "--output-dir", many, *common, "-j", jobs)),
        "processes": len(files) / seconds(with_processes),
        "single": len(chosen) / seconds(one_by_one),
        "webp": len(files) / seconds(webp),
    }
    names = [f"{file.stem}.gmvq" for file in chosen]
    return {
        "files": len(files),
        "files_per_second": {way: round(speed, 2) for way, speed in speeds.items()},
        "many_to": {way: round(speeds["many"] / speed, 3) for way, speed in speeds.items() if way != "many"},
        "sample": len(chosen),
        "same": sum((many / name).read_bytes() == (single / name).read_bytes() for name in names),
        "bytes": sum(path.stat().st_size for path in many.iterdir()),
    }


def main() -> None:
    """Print the figures of each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", nargs="+", type=Path, default=[], metavar="PATH")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WxH=COUNT")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--effort", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--sample", type=int, default=20, help="files that get a process each")
    parser.add_argument("--folder", type=Path, help="where the files are written")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    results = {}
    for entry in options.sizes:
        size, count = entry.split("=")
        width, height = map(int, size.split("x"))
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            source = Path(name) / "in"
            source.mkdir()
            files, origin = write_pictures(source, options.pictures, width, height, int(count))
            results[size] = {"pictures": origin} | measure(
                files, Path(name), options.model, options.effort, options.jobs, options.sample
            )
        if not options.json:
            result = results[size]
            speeds, ratios = result["files_per_second"], result["many_to"]
            print(f"{size}: {result['files']} pictures ({origin}), {result['bytes']:,} bytes, model {options.model}")
            for way, speed in speeds.items():
                ratio = f", many / {way} = {ratios[way]:.2f}" if way in ratios else ""
                print(f"  {way:10s} {speed:9.2f} files/s{ratio}")
            print(f"  {result['same']} of {result['sample']} files are the same in one batch and alone", flush=True)
    if options.json:
        print(
            json.dumps(
                {"model": options.model, "effort": options.effort, "jobs": options.jobs, "sizes": results}, indent=2
            )
        )


if __name__ == "__main__":
    main()
