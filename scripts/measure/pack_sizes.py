"""Bytes per picture: a pack against loose .gmvq files, a zip of JPEGs and a tar of WebPs; and the time to decode one.

    python scripts/measure/pack_sizes.py MODEL --dataset cifar10|celeba --data PATH [--count N] [--threads 1]
    python scripts/measure/pack_sizes.py MODEL --pictures FILE.npy

Works on the test part of the data set, or on a uint8 array [N, H, W, 3]. JPEG (optimised) and WebP (method 6) are coded
at the lowest quality, one for all pictures, whose mean PSNR is not below the model's, or at the lowest that there is;
so the table states every PSNR. The zip is deflated at level 9; the tar, whose blocks of 512 bytes weigh on small files,
is stated plain and as tar.gz. Names are 00000, 00001, ... with an ending. Prints one JSON object; decode times are of
pictures in random order, alone, with the model loaded.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import statistics
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gmvqzip.pack import PackReader, PackWriter

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
BATCH = 256  # pictures
TIMED = 500  # pictures, each decoded alone


def load(options: argparse.Namespace) -> list[Pixels]:
    """The pictures [H, W, 3]."""
    if options.pictures is not None:
        return list(np.load(options.pictures)[: options.count])
    from gmvqzip.training.datasets import load_dataset

    splits = load_dataset(options.dataset, options.data, crop=None, say=lambda line: None)
    if splits.test is None:
        raise SystemExit(f"{options.data} has no test pictures")
    return list(splits.test.all_images())[: options.count]


def psnr(decoded: Pixels, original: Pixels) -> float:
    """PSNR in dB over RGB."""
    error = float(((decoded.astype(np.float64) - original) ** 2).mean())
    return 10 * math.log10(255**2 / max(error, 1e-6))


def code(pictures: Sequence[Pixels], kind: str, quality: int) -> tuple[list[bytes], float]:
    """The files of all pictures, and their mean PSNR."""
    files, values = [], []
    for pixels in pictures:
        buffer = io.BytesIO()
        settings: dict[str, Any] = {"optimize": True} if kind == "JPEG" else {"method": 6}
        Image.fromarray(pixels).save(buffer, kind, quality=quality, **settings)
        files.append(buffer.getvalue())
        values.append(psnr(np.asarray(Image.open(buffer).convert("RGB")), pixels))
    return files, statistics.fmean(values)


def rival(pictures: Sequence[Pixels], kind: str, target: float) -> tuple[int, list[bytes], float]:
    """The lowest quality whose mean PSNR reaches the target, its files and that PSNR."""
    low, high = 0 if kind == "WEBP" else 1, 100
    while low < high:
        middle = (low + high) // 2
        if code(pictures, kind, middle)[1] >= target:
            high = middle
        else:
            low = middle + 1
    return low, *code(pictures, kind, low)


def zipped(files: Sequence[bytes], ending: str) -> int:
    """Bytes of a zip of the files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for number, data in enumerate(files):
            archive.writestr(f"{number:05d}.{ending}", data)
    return len(buffer.getvalue())


def tarred(files: Sequence[bytes], ending: str, mode: Any) -> int:
    """Bytes of a tar of the files; mode w or w:gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for number, data in enumerate(files):
            member = tarfile.TarInfo(f"{number:05d}.{ending}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return len(buffer.getvalue())


def decode_times(image: Callable[[int], Any], count: int) -> dict[str, float]:
    """Milliseconds to decode one picture: median, mean and the slowest of a hundred."""
    order = np.random.default_rng(0).permutation(count)[:TIMED]
    image(0)  # the first one loads the model
    times = []
    for number in order.tolist():
        start = time.perf_counter()
        image(number)
        times.append(1000 * (time.perf_counter() - start))
    return {"median": statistics.median(times), "mean": statistics.fmean(times), "p99": float(np.quantile(times, 0.99))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--dataset", choices=["cifar10", "celeba"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--pictures", type=Path, help="a .npy file")
    parser.add_argument("--count", type=int, help="only the first pictures")
    parser.add_argument("--quality", type=int)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if (options.dataset is None) == (options.pictures is None):
        parser.error("give --dataset or --pictures")

    import torch

    torch.set_num_threads(options.threads)
    pictures = load(options)
    count = len(pictures)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.gmvqp"
        start = time.perf_counter()
        with PackWriter(path, model=options.model, device="cpu") as writer:
            for first in range(0, count, BATCH):
                batch = enumerate(pictures[first : first + BATCH], first)
                writer.add_all([(f"{number:05d}", pixels) for number, pixels in batch], quality=options.quality)
        packing = time.perf_counter() - start
        with PackReader(path, model=options.model, device="cpu") as reader:
            target = statistics.fmean(psnr(reader.picture(n).pixels, pictures[n]) for n in range(count))
            loose = sum(len(reader.gmvq(number)) for number in range(count))
            size, index = path.stat().st_size, reader.index_bytes
            times = decode_times(reader.image, count)
    table = {
        "pack": {"bytes": size / count, "psnr": target},
        "loose gmvq": {"bytes": loose / count, "psnr": target},
    }
    for kind, archives in (
        ("JPEG", {"zip of JPEG": lambda files: zipped(files, "jpg")}),
        (
            "WEBP",
            {
                "tar of WebP": lambda files: tarred(files, "webp", "w"),
                "tar.gz of WebP": lambda files: tarred(files, "webp", "w:gz"),
            },
        ),
    ):
        quality, files, reached = rival(pictures, kind, target)
        table[f"loose {kind}"] = {"bytes": sum(map(len, files)) / count, "psnr": reached, "quality": quality}
        for title, archive in archives.items():
            table[title] = {"bytes": archive(files) / count, "psnr": reached, "quality": quality}
    print(
        json.dumps(
            {
                "model": options.model,
                "pictures": count,
                "bytes_per_picture": table,
                "smaller_than_loose": 1 - size / loose,
                "index_bytes_per_picture": index / count,
                "pack_ms_per_picture": 1000 * packing / count,
                "decode_ms": times,
                "threads": options.threads,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
