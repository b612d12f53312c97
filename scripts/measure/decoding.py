"""How fast gmvqzip is, and how light: its command line beside plain imports, its library beside Pillow's AVIF and WebP,
and its effort 1 beside itself with torch's network.

    python scripts/measure/decoding.py FOLDER [--model photo] [--sizes 32x32 128x128 768x512 4000x3000] [--repeat 5]

FOLDER holds photographs, of which pictures of the wanted sizes are cut, or put together side by side. Prints tables of
median wall seconds, ratios, processor seconds and peak memory; what stands in one table was measured in turns, in one
run, after a round that is not counted. Bytecode is compiled first, as in an installed package, in a folder of its own.
AVIF and WebP are as Pillow writes them by default, at the quality whose size is nearest to gmvqzip's.
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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BASE = "plain imports"
BY_TORCH = "gmvqzip -e 1 by torch"  # its network, which else is NumPy's
CLI_SIZE = (768, 512)
PROGRAM = [sys.executable, "-m", "gmvqzip"]
LARGE = 1 << 22  # pixels: larger pictures are encoded once alone
CHILDREN = 200

Times = tuple[float, float, float]  # wall and processor seconds, peak MiB


def picture(folder: Path, width: int, height: int) -> Image.Image:
    """A picture of this size: the middle of a photograph, or photographs side by side."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    if not files:
        raise SystemExit(f"{folder}: no photographs")
    photographs = [Image.open(path).convert("RGB") for path in files[:12]]
    first = photographs[0]
    if width <= first.width and height <= first.height:
        left, top = (first.width - width) // 2, (first.height - height) // 2
        return first.crop((left, top, left + width, top + height))
    out, side, number = Image.new("RGB", (width, height)), max(width // 4, 512), 0
    for top in range(0, height, side):
        for left in range(0, width, side):
            chosen = photographs[number % len(photographs)]
            out.paste(chosen.resize((side, side), Image.Resampling.LANCZOS), (left, top))
            number += 1
    return out


def in_turns(actions: Mapping[str, Callable[[], Times]], repeat: int) -> dict[str, Times]:
    """Medians of each action's numbers; the most memory."""
    found: dict[str, list[Times]] = {name: [] for name in actions}
    for turn in range(repeat + 1):
        for name, action in actions.items():
            numbers = action()
            if turn:
                found[name].append(numbers)
    return {
        name: (statistics.median(n[0] for n in all_), statistics.median(n[1] for n in all_), max(n[2] for n in all_))
        for name, all_ in found.items()
    }


def process(command: Sequence[str], environment: Mapping[str, str]) -> Times:
    """The numbers of a fresh process, which must not fail."""
    start = time.perf_counter()
    child = subprocess.Popen(command, env=dict(environment), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def call(action: Callable[[], Any]) -> Times:
    """The numbers of a call in this process."""
    start, began = time.perf_counter(), time.process_time()
    action()
    wall, processor = time.perf_counter() - start, time.process_time() - began
    return wall, processor, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(title: str, found: Mapping[str, Times], bases: Sequence[str]) -> None:
    """Print numbers, and ratios of wall seconds to some of them."""
    print(f"\n| {title} | seconds | {''.join(f'/ {base} | ' for base in bases)}processor seconds | peak MiB |")
    print("|---|" + "---|" * (3 + len(bases)))
    for name, (wall, processor, memory) in found.items():
        ratios = "".join(f"{wall / found[base][0]:.2f} | " for base in bases)
        print(f"| {name} | {wall:.4f} | {ratios}{processor:.4f} | {memory:.0f} |", flush=True)


def command_line(folder: Path, model: str, repeat: int, scratch: Path) -> None:
    """Whole processes."""
    source, packed, back = scratch / "a.png", scratch / "a.gmvq", scratch / "b.png"
    picture(folder, *CLI_SIZE).save(source)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(scratch / "bytecode")
    compress = [*PROGRAM, "compress", "-f", "--quiet", "-m", model, str(source), "-o", str(packed)]
    commands = {
        BASE: [sys.executable, "-c", "import numpy, PIL.Image, typer, rich.progress"],
        "compress": compress,
        "compress -e 1": [*compress, "-e", "1"],
        "decompress": [*PROGRAM, "decompress", "-f", "--quiet", str(packed), "-o", str(back)],
        "info": [*PROGRAM, "info", str(packed)],
        "--help": [*PROGRAM, "--help"],
    }
    actions = {name: partial(process, command, environment) for name, command in commands.items()}
    table("command line, {}x{}".format(*CLI_SIZE), in_turns(actions, repeat), [BASE])


def nearest(image: Image.Image, kind: str, size: int) -> int:
    """The quality at which Pillow's file is nearest to a size in bytes."""

    def far(quality: int) -> int:
        out = io.BytesIO()
        image.save(out, kind, quality=quality)
        return abs(out.tell() - size)

    return min(range(10, 100, 10), key=far)


def library(file: Path, way: str, model: str, repeat: int) -> dict[str, Times]:
    """Decoding or encoding with the model loaded, in this process."""
    import gmvqzip

    image = Image.open(file)
    image.load()
    pixels = np.asarray(image)
    codec = gmvqzip.load(model, device="cpu")
    kept = file.with_suffix(".gmvq")
    if way == "encode" or not kept.exists():
        kept.write_bytes(codec.compress(pixels, effort=1))
    data = kept.read_bytes()

    def save(kind: str, quality: int) -> bytes:
        out = io.BytesIO()
        image.save(out, kind, quality=quality)
        return out.getvalue()

    actions: dict[str, Callable[[], Any]] = {}
    if way == "decode":
        actions["gmvqzip"] = lambda: codec.decompress(data)
    else:
        actions["gmvqzip -e 1"] = lambda: codec.compress(pixels, effort=1)
        by_torch = gmvqzip.Codec(codec.info, "cpu")
        by_torch.engine.network.needs_torch = lambda rounds: True  # type: ignore[method-assign]
        actions[BY_TORCH] = lambda: by_torch.compress(pixels, effort=1)
        if pixels.size < 3 * LARGE:
            actions["gmvqzip"] = lambda: codec.compress(pixels)
    for kind in ("AVIF", "WEBP"):
        quality = nearest(image, kind, len(data))
        if way == "decode":
            saved = save(kind, quality)
            actions[kind] = lambda saved=saved: Image.open(io.BytesIO(saved)).load()
        else:
            actions[kind] = partial(save, kind, quality)
    return in_turns({name: partial(call, action) for name, action in actions.items()}, repeat)


def library_tables(folder: Path, sizes: Sequence[str], model: str, repeat: int, scratch: Path) -> None:
    """Each size and way in a process of its own, so that memory is told apart."""
    for size in sizes:
        width, height = map(int, size.split("x"))
        file = scratch / f"{size}.png"
        picture(folder, width, height).save(file)
        for way in ("encode", "decode"):
            rounds = repeat if width * height < LARGE else min(repeat, 2)
            command = [sys.executable, __file__, "--library", str(file), way, model, str(rounds)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            found = {name: tuple(numbers) for name, numbers in json.loads(done.stdout).items()}
            megapixels = width * height / 1e6
            table(f"{way}, {size}", found, [BY_TORCH, "AVIF", "WEBP"] if way == "encode" else ["AVIF", "WEBP"])
            print("seconds per megapixel: " + ", ".join(f"{n} {t[0] / megapixels:.3f}" for n, t in found.items()))


def at_once(file: Path, model: str) -> None:
    """Forked children, and two processes at once."""
    import gmvqzip

    codec = gmvqzip.load(model, device="cpu")
    data = codec.compress(np.asarray(Image.open(file)), effort=1)
    small = codec.compress(np.asarray(Image.open(file).resize((64, 48))), effort=1)
    codec.decompress(small)

    def forked(count: int, action: Callable[[], Any]) -> float:
        start, children = time.perf_counter(), []
        for _ in range(count):
            if not (child := os.fork()):
                try:
                    action()
                except BaseException:
                    os._exit(1)
                os._exit(0)
            children.append(child)
        if any(os.waitpid(child, 0)[1] for child in children):
            raise SystemExit("a forked child failed")
        return time.perf_counter() - start

    for _ in range(CHILDREN):
        forked(1, lambda: codec.decompress(small))
    print(f"\n{CHILDREN} forked children have decoded after their parent did")

    def several() -> None:
        for _ in range(5):
            codec.decompress(data)

    ratios = [forked(2, several) / forked(1, several) for _ in range(5)]
    print(f"two processes at once take {statistics.median(ratios):.2f} times one's time to decode")


def targets(file: Path, model: str) -> None:
    """What targets cost, in encodings of the quality that comes out."""
    import gmvqzip
    from gmvqzip.errors import ModelError
    from gmvqzip.format.container import read_header

    codec, pixels = gmvqzip.load(model, device="cpu"), np.asarray(Image.open(file))
    codec.compress(pixels)
    size = pixels.size // 60
    found = codec.compress(pixels, target_size=size)
    quality = read_header(found)[0].quality

    def refused() -> None:
        try:
            codec.compress(pixels, target_psnr=99)
        except ModelError:
            return
        raise SystemExit("99 dB were reached")

    actions = {
        "one encoding": lambda: codec.compress(pixels, quality=quality),
        f"target_size={size}": lambda: codec.compress(pixels, target_size=size),
        "target_psnr=99, refused": refused,
    }
    table("targets", in_turns({n: partial(call, a) for n, a in actions.items()}, 2), ["one encoding"])


def main() -> None:
    """Print all tables."""
    if sys.argv[1:2] == ["--library"]:
        file, way, model, repeat = sys.argv[2:]
        print(json.dumps(library(Path(file), way, model, int(repeat))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--sizes", nargs="*", default=["32x32", "128x128", "768x512", "4000x3000"])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--parts", nargs="+", default=["cli", "library", "processes", "targets"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if "cli" in options.parts:
            command_line(options.folder, options.model, options.repeat, scratch)
        if "library" in options.parts:
            library_tables(options.folder, options.sizes, options.model, options.repeat, scratch)
        file = scratch / "a.png"
        picture(options.folder, *CLI_SIZE).save(file)
        if "processes" in options.parts:
            at_once(file, options.model)
        if "targets" in options.parts:
            targets(file, options.model)


if __name__ == "__main__":
    main()
