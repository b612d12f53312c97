"""Time and memory of one picture, by stage: model load, analysis, quantisation, range coder, synthesis.

    python scripts/speed.py [PICTURE] [--model photo] [--threads 2] [--repeat 5]

Prints one JSON object. Times are medians in seconds; throughputs are megapixels per second; `whole_process` runs the
command line in fresh processes, next to `python -c "import torch"`, and gives the peak memory of each; `start_up` is
the time of `--help` and `info` next to the import of the libraries that a command line needs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PICTURE_SIZE = (768, 512)  # width and height of the picture that the figures are stated for


def median_time(action: Callable[[], Any], repeat: int) -> float:
    """Median seconds of `action` over `repeat` calls, after one that is not counted."""
    action()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def stages(path: Path, model: str, threads: int, repeat: int) -> dict[str, Any]:
    """Seconds and megapixels per second of each stage, inside one process."""
    import torch

    from gmvqzip.codec import Codec
    from gmvqzip.entropy import coder
    from gmvqzip.images.picture import read_picture
    from gmvqzip.models import registry
    from gmvqzip.models.store import load_network

    torch.set_num_threads(threads)
    info = registry.find(model)
    codec = Codec(info, "cpu")
    picture = read_picture(path)
    height, width = picture.pixels.shape[:2]
    loading = median_time(lambda: (load_network(info), Codec(info, "cpu").engine.tables()), repeat)
    codes = codec.encode_picture(picture)
    network = load_network(info)
    padded = np.pad(
        picture.pixels, ((0, -height % codec.config.alignment), (0, -width % codec.config.alignment), (0, 0)), "edge"
    )
    image = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255
    proposals: list[tuple[Any, torch.Tensor, torch.Tensor]] = []
    for stage in network.ordered_stages():
        original = stage.propose

        def keep(features: Any, state: Any, stage: Any = stage, original: Any = original) -> Any:
            result = original(features, state)
            proposals.append((stage.quantizer, *result))
            return result

        stage.propose = keep  # type: ignore[method-assign]
    parts = [(array.ravel(), table) for array, table in zip(codes.stages, codec.engine.tables(), strict=True)]
    counts = [(len(symbols), table) for symbols, table in parts]
    payload = coder.encode(parts)
    indices = [torch.from_numpy(array.astype(np.int64))[None] for array in codes.stages]
    with torch.inference_mode():
        network.encode(image)
        kept = list(proposals)
        quantisation = median_time(lambda: [q.assign(proxy, raw) for q, proxy, raw in kept], repeat)

        def encode() -> None:
            proposals.clear()
            network.encode(image)

        analysis = median_time(encode, repeat) - quantisation
        synthesis = median_time(lambda: network.decode(indices), repeat)
    seconds = {
        "model_load": loading,
        "analysis": analysis,
        "quantisation": quantisation,
        "range_encoder": median_time(lambda: coder.encode(parts), repeat),
        "range_decoder": median_time(lambda: coder.decode(payload, counts), repeat),
        "synthesis": synthesis,
    }
    megapixels = width * height / 1e6
    return {
        "seconds": {name: round(value, 5) for name, value in seconds.items()},
        "megapixels_per_second": {
            name: round(megapixels / value, 2) for name, value in seconds.items() if name != "model_load"
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


def start_up(path: Path, model: str, repeat: int) -> dict[str, Any]:
    """Median wall seconds of fresh processes, in turn, and their ratio to importing Typer and Rich's progress bar."""
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "a.gmvq"
        program = [sys.executable, "-m", "gmvqzip"]
        subprocess.run([*program, "compress", "--quiet", str(path), "-o", str(packed), "-m", model], check=True)
        commands = {
            "base": [sys.executable, "-c", "import typer, rich.progress"],
            "help": [*program, "--help"],
            "info": [*program, "info", str(packed)],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(repeat + 1):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values[1:]) for name, values in times.items()}
    return {
        "seconds": {name: round(value, 3) for name, value in median.items()},
        "ratio_to_base": {name: round(median[name] / median["base"], 2) for name in ("help", "info")},
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
            "start_up": start_up(path, options.model, options.repeat),
            "whole_process": whole_process(path, options.model, options.threads, options.repeat),
            "stages": stages(path, options.model, options.threads, options.repeat),
            "peak_memory_of_this_process_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
