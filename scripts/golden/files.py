"""Make the golden files in tests/golden/files: whole `.gmvq` files that must decode to the same codes for ever.

python scripts/golden/files.py           add the files that are missing
python scripts/golden/files.py --check   only compare; exit 1 if a file is missing or would differ

The codes are random and do not come out of a network, so that the files are the same on every machine. A file that
exists is never changed: a new version of the format adds files of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from gmvqzip.codec import Codec
from gmvqzip.entropy.codes import Codes
from gmvqzip.entropy.tables import frequencies
from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.registry import read_info
from gmvqzip.models.store import model_identity

FILES = Path(__file__).resolve().parents[2] / "tests" / "golden" / "files"
MODEL = "tables-1.safetensors"  # a model of tables alone: decoding codes takes no more
EXPECTED = "expected.json"
CONFIG = NetworkConfig(
    strides=(4, 8, 16),
    channels=(4, 4, 4),
    encoder_blocks=(0, 0, 0),
    decoder_blocks=(0, 0, 0),
    grids=(GridConfig(16, 2, 64, 4), GridConfig(8, 1, 1024, 4), GridConfig(4, 1, 3, 2)),
)
METADATA = bytes.fromhex("01639482b31991531b3833b01ce8ddcec8cacefe0254f572b2f384803a7340091f600b1d00")
"""A section of EXIF, resolution, time and a text, written out: deflate streams of equal content may differ."""
PARTS = bytes.fromhex(
    "0163632b4e4dcecf4b61e775cecf05b5f981c2c06a1c995b529ecfc1cef82f2db3a8b8844390f18d4b69727625"
    "0324b506000de163ca77732b866649760600"
)
"""A section of a comment, two texts of one keyword, two segments of JPEG and a chunk of PNG."""
# Name, width, height, gray, contents of sections: each form of the header, each flag.
UNIFORM = {"rgb-1": 21}  # files whose codes NumPy drew, all alike, and its seed
CASES = (
    ("short-1", 100, 61, False, {}),
    ("long-1", 300, 200, False, {}),
    ("gray-1", 33, 70, True, {}),
    ("pixel-1", 1, 1, False, {}),
    ("sections-1", 37, 23, False, {1: b"transparency", 2: b"profile", 64: b"unknown"}),
    ("metadata-1", 40, 30, False, {65: METADATA}),
    ("rgb-1", 50, 20, True, {66: b""}),
    ("parts-1", 20, 45, False, {65: PARTS}),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    check = parser.parse_args().check
    wrong = []
    for path, content in golden_files():
        if path.exists() and path.name != EXPECTED:
            if path.name != MODEL and path.read_bytes() != content:
                wrong.append(f"{path.name} would change")
        elif path.exists() and check:
            wrong += [f"{path.name} would change"] * (path.read_bytes() != content)
        elif check:
            wrong.append(f"{path.name} is missing")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    print("\n".join(wrong) or "golden files agree")
    return 1 if wrong else 0


def golden_files() -> Iterator[tuple[Path, bytes]]:
    """Each file with its content: the model first, since the others are made with it."""
    yield FILES / MODEL, model_bytes()
    codec = Codec(read_info(FILES / MODEL))
    expected = {}
    for number, (name, width, height, gray, sections) in enumerate(CASES):
        seed = UNIFORM.get(name)
        drawn = random_codes if seed is None else uniform_codes
        codes = drawn(codec, width, height, gray, seed=number if seed is None else seed)
        yield FILES / f"{name}.gmvq", codec.pack_codes(codes, sections).data
        expected[name] = {
            "width": width,
            "height": height,
            "gray": gray,
            "codes_crc32": f"{codes.crc32():08x}",
            "first": [int(stage[0, 0]) for stage in codes.stages],
        }
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(fields)}" for name, fields in expected.items())
    yield FILES / EXPECTED, f"{{\n{lines}\n}}\n".encode()


def model_bytes() -> bytes:
    """A model file with the tables of `CONFIG` and no network. Its JSON header has no fixed order: never made again."""
    tensors = {}
    for number, grid in enumerate(CONFIG.stages()):
        counts = 1000 // (1 + np.arange(grid.codes)) + number
        tensors[f"table.{number}"] = frequencies(counts).astype(np.int32)
    metadata = {
        "gmvqzip": "1",
        "name": "tables-1",
        "model_id": model_identity(CONFIG.to_dict(), tensors),
        "config": json.dumps(CONFIG.to_dict(), sort_keys=True, separators=(",", ":")),
        "card": "{}",
    }
    return save(tensors, metadata)


def random_codes(codec: Codec, width: int, height: int, gray: bool, seed: int) -> Codes:
    """Codes drawn from the model's tables by a generator that is written out here, the same for ever."""
    state, stages = seed + 1, []
    shapes = codec.config.stage_shapes(width, height)
    for table, (rows, columns) in zip(codec.engine.prior.tables, shapes, strict=True):
        draws = []
        for _ in range(rows * columns):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            draws.append(state >> 40)  # 24 bits
        indices = np.searchsorted(np.cumsum(table), draws, side="right")
        stages.append(indices.reshape(rows, columns))
    return Codes(tuple(stages), width, height, codec.model_id, 0, gray)


def uniform_codes(codec: Codec, width: int, height: int, gray: bool, seed: int) -> Codes:
    """Codes that are all alike, drawn by NumPy."""
    generator = np.random.default_rng(seed)
    stages = zip(codec.config.stage_shapes(width, height), codec.config.index_ends(), strict=True)
    drawn = tuple(generator.integers(0, end, shape) for shape, end in stages)
    return Codes(drawn, width, height, codec.model_id, 0, gray)


if __name__ == "__main__":
    sys.exit(main())
