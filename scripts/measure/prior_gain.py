"""What a hyperprior model's contexts save: bits of the same codes under them, and under one table for each group.

    python scripts/measure/prior_gain.py KODAK/*.png --model photo --qualities 20 50 85 --effort 1

The order-0 tables are counted on these very codes, all pictures of a quality together: no other table could do
better. So the pictures should be many, above all where groups share a codebook, whose codes are far more. Prints, for
each quality, the bits per pixel of both for the hyper-latent and for each part of the latent, the saving, and what the
payloads take beyond the ideal code length.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from gmvqzip.codec import load
from gmvqzip.images.picture import read_picture
from gmvqzip.models.hyperconfig import HyperpriorConfig


def order_zero(codes: np.ndarray) -> float:
    """Bits of codes under the table that fits them best."""
    used = np.unique(codes, return_counts=True)[1].astype(np.float64)
    return float(-(used * np.log2(used / used.sum())).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--qualities", nargs="+", type=int, default=[20, 50, 85])
    parser.add_argument("--effort", type=int, default=1)
    options = parser.parse_args()
    codec = load(options.model, device="cpu")
    config = codec.config
    if not isinstance(config, HyperpriorConfig):
        sys.exit(f"model {options.model} has no contexts")
    parts = [title for title, count in config.parts() for _ in range(count)]
    pictures = [read_picture(path) for path in options.pictures]
    for quality in options.qualities:
        codes: list[list[np.ndarray]] = [[] for _ in parts]
        ideal = np.zeros(len(parts))
        payload, pixels = 0, 0
        for picture in pictures:
            done = codec.compress_picture(picture, quality=quality, effort=options.effort)
            ideal += done.stage_bits
            payload += 8 * done.payload_bytes
            pixels += picture.width * picture.height
            for found, stage in zip(codes, done.codes.stages, strict=True):
                found.append(stage.ravel())
        table: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for title, found, bits in zip(parts, codes, ideal, strict=True):
            for name in (title, "all"):
                table[name][0] += order_zero(np.concatenate(found))
                table[name][1] += bits
        print(f"quality {quality}: payloads {100 * (payload / ideal.sum() - 1):+.3f} % over the ideal length")
        for name, (plain, conditional) in table.items():
            rates = f"order 0 {plain / pixels:.4f} bpp, contexts {conditional / pixels:.4f} bpp"
            gain = f"{100 * (conditional / plain - 1):+.1f} %" if plain else "one code alone"
            print(f"  {name:24s} {rates}, {gain}", flush=True)


if __name__ == "__main__":
    main()
