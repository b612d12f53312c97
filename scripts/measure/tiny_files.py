"""Previews of a few hundred bytes, beside other codecs: mean PSNR at a ceiling for the whole file.

    python scripts/measure/tiny_files.py KODAK/*.png --sizes 200 300 500 1000 2000
    python scripts/measure/tiny_files.py docs/pictures/otter.jpg --sizes 300 --sheet otter-300.png

gmvqzip gets `target_size` alone. Of every other codec the best of many files is taken: the picture at 1, 1/2, 1/4, ...
of its size, the largest file at each that is not above the ceiling, enlarged again with the same filter, and of these
the one of the highest PSNR. Where not even that fits, it says so. --sheet writes the pictures of the last size side by
side: the original, gmvqzip, then the others.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from gmvqzip.bench.codecs import BenchCodec, rivals, why_missing
from gmvqzip.bench.measure import fit
from gmvqzip.bench.metrics import Pixels, psnr
from gmvqzip.codec import load
from gmvqzip.format.size import coded_size, most_halvings
from gmvqzip.images.picture import read_picture
from gmvqzip.images.scaling import resize

SMALLEST = 32  # pixels: pictures are halved until they lie within so many; the measures need 11


def best(codec: BenchCodec, pixels: Pixels, limit: int) -> Pixels | None:
    """The decoded and enlarged picture of the best file of at most `limit` bytes."""
    height, width = pixels.shape[:2]
    found: Pixels | None = None
    for halvings in range(most_halvings(width, height, SMALLEST) + 1):
        small = resize(pixels, *coded_size(width, height, halvings)) if halvings else pixels
        made = fit(codec, small, limit)
        if made.fits:
            decoded = resize(made.pixels, width, height)
            if found is None or psnr(pixels, decoded) > psnr(pixels, found):
                found = decoded
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--sizes", nargs="+", type=int, default=[200, 300, 500, 1000, 2000], help="bytes")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--codecs", nargs="+", default=["jpeg", "webp", "avif", "jxl"])
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    gmvq = load(options.model, device="cpu")
    others = {name: codec for name, codec in rivals(1).items() if name in options.codecs}
    for name, codec in list(others.items()):
        if (reason := why_missing(codec)) is not None:
            print(f"{name} is left out: {reason}")
            del others[name]
    table: dict[int, dict[str, float | None]] = {}
    sheet: list[Pixels] = []
    for limit in options.sizes:
        decibels: dict[str, list[float | None]] = {name: [] for name in ("gmvqzip", *others)}
        for path in options.pictures:
            pixels = read_picture(path).pixels
            data = gmvq.compress(pixels, target_size=limit)
            assert len(data) <= limit
            shown: list[Pixels | None] = [np.asarray(gmvq.decompress(data).convert("RGB"))]
            shown += [best(codec, pixels, limit) for codec in others.values()]
            for name, picture in zip(decibels, shown, strict=True):
                decibels[name].append(None if picture is None else psnr(pixels, picture))
            sheet = [pixels, *(np.zeros_like(pixels) if picture is None else picture for picture in shown)]
        means = {}
        for name, values in decibels.items():
            known = [value for value in values if value is not None]
            means[name] = float(np.mean(known)) if len(known) == len(values) else None
            missing = len(values) - len(known)
            text = f"{means[name]:.2f} dB" if means[name] is not None else f"{missing} of {len(values)} do not fit"
            print(f"{limit:6d} bytes  {name:8s} {text}", flush=True)
        table[limit] = means
    if options.json is not None:
        options.json.write_text(json.dumps({"pictures": len(options.pictures), "psnr": table}, indent=1) + "\n")
    if options.sheet is not None:
        Image.fromarray(np.concatenate(sheet, axis=1)).save(options.sheet)


if __name__ == "__main__":
    main()
