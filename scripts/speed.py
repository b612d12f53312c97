"""Time and memory of one picture: the codec's parts, Pillow's AVIF and WebP in the same run, whole processes.

    python scripts/speed.py [PICTURE] [--model photo] [--threads 2] [--repeat 5]

Prints one JSON object. Times are medians in seconds; `in_process` has the model loaded; `whole_process` runs the
command line in fresh processes, next to `python -c "import torch"`, and gives the peak memory of each.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

PICTURE_SIZE = (768, 512)  # width and height of the picture that the figures are stated for


def median_times(actions: dict[str, Callable[[], Any]], repeat: int) -> dict[str, float]:
    """Median seconds of each action over `repeat` rounds, one action after the other, after a round not counted."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeat + 1):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def in_process(path: Path, model: str, threads: int, repeat: int) -> dict[str, Any]:
    """Seconds of the codec's parts with the model loaded, of Pillow's AVIF and WebP on the same picture, and ratios.

    Pillow's files are those of the quality whose size is nearest to the codec's; AVIF is 4:4:4 at speed 6, WebP method
    6. `floor` is the time that the decoder's multiply-accumulates take in one large product of matrices.
    """
    import torch
    from PIL import Image

    from gmvqzip.codec import Codec
    from gmvqzip.images.picture import read_picture
    from gmvqzip.models import registry
    from gmvqzip.models.cost import cost

    torch.set_num_threads(threads)
    info = registry.find(model)
    codec, picture = Codec(info, "cpu"), read_picture(path)
    done = codec.compress_picture(picture)
    image = Image.fromarray(picture.pixels)

    def saved(kind: str, quality: int) -> bytes:
        options: dict[str, Any] = {"method": 6} if kind == "WEBP" else {"subsampling": "4:4:4", "speed": 6}
        out = io.BytesIO()
        image.save(out, kind, quality=quality, **options)
        return out.getvalue()

    def load_and_decode() -> None:
        Codec(info, "cpu").decompress_picture(done.data)

    actions: dict[str, Callable[[], Any]] = {
        "load_and_decode": load_and_decode,
        "analysis_and_search": lambda: codec.encode_pictures([picture]),
        "encode": lambda: codec.compress_picture(picture),
        "range_decoder_and_context": lambda: codec.decode_codes(done.data),
        "decode": lambda: codec.decompress_picture(done.data),
    }
    bytes_of = {"gmvqzip": len(done.data)}
    for kind in ("AVIF", "WEBP"):
        files = {quality: saved(kind, quality) for quality in range(5, 100, 5)}
        quality = min(files, key=lambda quality: abs(len(files[quality]) - len(done.data)))
        bytes_of[kind.lower()] = len(files[quality])
        actions[f"{kind.lower()}_encode"] = partial(saved, kind, quality)
        actions[f"{kind.lower()}_decode"] = lambda data=files[quality]: Image.open(io.BytesIO(data)).load()
    square = torch.randn(2048, 2048)
    half = square.bfloat16()
    actions["product_float32"] = lambda: square @ square
    actions["product_bfloat16"] = lambda: half @ half
    seconds = median_times(actions, repeat)
    work = cost(info).decode_kmac * 1000 * picture.width * picture.height / 2048**3
    return {
        "bytes": bytes_of,
        "seconds": {name: round(value, 5) for name, value in seconds.items() if not name.startswith("product")},
        "ratio_to_pillow": {
            f"{way} / {kind} {way}": round(seconds[way] / seconds[f"{kind}_{way}"], 2)
            for way in ("decode", "encode")
            for kind in ("avif", "webp")
        },
        "floor_of_decode": {
            "float32": round(work * seconds["product_float32"], 5),
            "bfloat16": round(work * seconds["product_bfloat16"], 5),
        },
    }


def whole_process(path: Path, model: str, threads: int, repeat: int) -> dict[str, Any]:
    """Wall seconds and peak memory of fresh processes: import torch, compress, decompress."""
    with tempfile.TemporaryDirectory() as folder:
        packed, back = Path(folder) / "a.gmvq", Path(folder) / "a.png"
        program = [sys.executable, "-m", "gmvqzip"]
        options = ["-f", "--quiet", "-T", str(threads)]
        commands = {
            "import_torch": [sys.executable, "-c", "import torch"],
            "compress": [*program, "compress", str(path), "-o", str(packed), "-m", model, *options],
            "decompress": [*program, "decompress", str(packed), "-o", str(back), *options],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        memory = dict.fromkeys(commands, 0)
        for _ in range(repeat + 1):
            for name, command in commands.items():
                start = time.perf_counter()
                process = subprocess.Popen(command)
                _, status, usage = os.wait4(process.pid, 0)
                if status:
                    raise SystemExit(f"{' '.join(command)} failed")
                times[name].append(time.perf_counter() - start)
                memory[name] = max(memory[name], usage.ru_maxrss)
        median = {name: statistics.median(values[1:]) for name, values in times.items()}
        beyond = median["compress"] + median["decompress"] - 2 * median["import_torch"]
        return {
            "seconds": {name: round(value, 3) for name, value in median.items()},
            "seconds_beyond_two_imports_of_torch": round(beyond, 3),
            "ratio_to_import_torch": {
                name: round(median[name] / median["import_torch"], 2) for name in ("compress", "decompress")
            },
            "peak_memory_mib": {name: round(kib / 1024) for name, kib in memory.items()},
        }


def main() -> None:
    """Print the figures of one picture as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", type=Path, help="default: the repository's photograph at 768x512")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        path = options.picture
        if path is None:
            path = Path(folder) / "picture.png"
            source = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "otter.jpg"
            with Image.open(source) as image:
                image.convert("RGB").resize(PICTURE_SIZE, Image.Resampling.LANCZOS).save(path)
        with Image.open(path) as image:
            size = list(image.size)
        report = {
            "picture": str(options.picture or "docs/pictures/otter.jpg, resized"),
            "size": size,
            "threads": options.threads,
            "whole_process": whole_process(path, options.model, options.threads, options.repeat),
            "in_process": in_process(path, options.model, options.threads, options.repeat),
            "peak_memory_of_this_process_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
