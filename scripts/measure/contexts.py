"""The contexts and the range coder of a hyperprior model, alone and beside another checkout, on one picture.

    python scripts/measure/contexts.py MODEL PICTURE [--quality 20 50 100] [--against CHECKOUT OTHER_MODEL]

MODEL and OTHER_MODEL are names or paths; OTHER_MODEL is one that the other checkout reads. Prints for each quality the
median processor seconds of: packing known codes, unpacking, and choosing codes of known latents (effort 1 without the
network), in turns with the other checkout, and the ratios of the two.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ("pack", "unpack", "choose")


def serve(model: str, picture: str, qualities: list[int]) -> None:
    """Answer each line of the input by the seconds of each work at each quality, as a line of JSON."""
    import time

    import numpy as np
    from PIL import Image

    from gmvqzip.codec import load

    pixels = np.asarray(Image.open(picture).convert("RGB"))
    codec = load(model, device="cpu")
    engine = codec.engine
    network: Any = engine.network
    coded = {}
    for quality in qualities:
        codes = codec.encode(pixels, quality=quality, effort=1)
        coded[quality] = codes, codec.follow(codes).payload()
    latents: list[Any] = []
    whole = network._choose

    def noted(*arguments: Any) -> Any:
        latents.append(arguments)
        return whole(*arguments)

    network._choose = noted
    for quality in qualities:
        codec.encode(pixels, quality=quality, effort=1)
    for _ in sys.stdin:
        seconds = {}
        for quality, arguments in zip(qualities, latents, strict=True):
            codes, payload = coded[quality]
            works = {
                "pack": lambda codes=codes, quality=quality: codec.follow(codes).payload(),
                "unpack": lambda payload=payload, codes=codes, quality=quality: engine.prior.read(
                    payload, *engine.grid(*codes.coded_size), quality
                ),
                "choose": lambda arguments=arguments: whole(*arguments),
            }
            for name, work in works.items():
                start = time.process_time()
                work()
                seconds[f"{name} {quality}"] = time.process_time() - start
        print(json.dumps(seconds), flush=True)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("picture")
    parser.add_argument("--quality", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--against", nargs=2, metavar=("CHECKOUT", "OTHER_MODEL"))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.model, options.picture, options.quality)
        return
    sides = [(ROOT, options.model)] + ([tuple(options.against)] if options.against else [])
    servers = []
    for checkout, model in sides:
        command = [sys.executable, __file__, str(model), options.picture, "--serve", "--quality"]
        environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        servers.append(
            subprocess.Popen(
                [*command, *map(str, options.quality)], env=environment, stdin=pipe, stdout=pipe, text=True
            )
        )
    rounds: list[list[dict[str, float]]] = [[] for _ in servers]
    for _ in range(options.repeat + 1):
        for server, found in zip(servers, rounds, strict=True):
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write("\n")
            server.stdin.flush()
            found.append(json.loads(server.stdout.readline()))
    for server in servers:
        server.communicate()
    median = [{name: statistics.median(one[name] for one in found[1:]) for name in found[0]} for found in rounds]
    report: dict[str, Any] = {"seconds": [{name: round(value, 4) for name, value in own.items()} for own in median]}
    if len(median) == 2:
        report["ratio"] = {name: round(median[0][name] / median[1][name], 3) for name in median[0]}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
