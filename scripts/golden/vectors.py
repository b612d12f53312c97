"""Make the golden vectors in tests/golden: what a version of the format wrote must be read, and written, for ever.

python scripts/golden/vectors.py           add the vectors that are missing
python scripts/golden/vectors.py --check   only compare; exit 1 if a vector is missing or would differ

A vector that exists is never changed: if the code would write other bytes, the format has changed, and that takes a
new version.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gmvqzip.entropy import coder
from gmvqzip.entropy.codes import codes_crc32
from gmvqzip.format import container

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
TOTAL = 2**24

Runs = list[list[int]]  # a table as [entry, times] pairs
Vector = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    check = parser.parse_args().check
    wrong = [line for name, make in MAKERS.items() for line in update(GOLDEN / name, make(), check)]
    print("\n".join(wrong) or "golden vectors agree")
    return 1 if wrong else 0


def update(path: Path, made: dict[str, Vector], check: bool) -> list[str]:
    """Compare vectors by name with those in a file and, unless `check`, add the missing; returns what is wrong."""
    kept: dict[str, Vector] = json.loads(path.read_text()) if path.exists() else {}
    wrong = [f"{path.name}: {name} would change" for name in made if name in kept and kept[name] != made[name]]
    missing = {name: vector for name, vector in made.items() if name not in kept}
    if check:
        wrong += [f"{path.name}: {name} is missing" for name in missing]
    elif missing and not wrong:
        path.parent.mkdir(parents=True, exist_ok=True)
        body = ",\n".join(f" {json.dumps(name)}: {json.dumps(vector)}" for name, vector in {**kept, **missing}.items())
        path.write_text("{\n" + body + "\n}\n")
    return wrong


def coder_vectors() -> dict[str, Vector]:
    """Payloads of parts, each a table and its symbols."""
    flat = [[TOTAL // 1024, 1024]]
    steep = [[TOTAL - 65535, 1], [1, 65535]]
    cases: dict[str, list[tuple[Runs, list[int]]]] = {
        "nothing": [],
        "no symbols": [(flat, [])],
        "two equal codes": [([[TOTAL // 2, 2]], [0, 1, 1, 0, 1, 0, 0, 1] * 9)],
        "first code only": [([[TOTAL - 1, 1], [1, 1]], [0] * 500)],
        "last code only": [([[1, 1], [TOTAL - 1, 1]], [1] * 500)],
        "rarest codes": [([[1, 1], [TOTAL - 1, 1]], [0] * 40)],
        "carry over several words": [([[1, 1], [TOTAL - 2, 1], [1, 1]], [1, 0, 0, 0, 0, 2, 2, 2, 0, 1])],
        "one code": [([[TOTAL, 1]], [0] * 7)],
        "1024 equal codes": [(flat, symbols(200, 1024, 1))],
        "65536 codes": [([[TOTAL // 65536, 65536]], symbols(64, 65536, 2))],
        "65536 codes, steep": [(steep, [0] * 30 + symbols(30, 65536, 3) + [65535])],
        "stages": [
            ([[TOTAL - 3, 1], [1, 3]], symbols(5, 4, 4)),
            ([[TOTAL, 1]], [0, 0]),
            (flat, symbols(40, 1024, 5)),
            ([[2**16, 255], [TOTAL - 255 * 2**16, 1]], symbols(160, 256, 6)),
            ([[TOTAL - 3, 1], [1, 3]], [0] * 50),
        ],
    }
    return {
        name: {
            "parts": [{"table": runs, "symbols": values} for runs, values in parts],
            "payload": coder.encode([(np.array(values, dtype=np.int64), table(runs)) for runs, values in parts]).hex(),
        }
        for name, parts in cases.items()
    }


def container_vectors() -> dict[str, Vector]:
    """Whole files around payloads that stand for any."""
    crc = codes_crc32([np.array([[513, 2], [65535, 0]])])
    plain: Vector = {"model_id": "8badf00d", "quality": 0, "gray": False, "codes_crc32": crc, "payload": "c0de"}
    cases: dict[str, Vector] = {
        "one pixel": {**plain, "width": 1, "height": 1, "payload": ""},
        "largest short form": {**plain, "width": 256, "height": 256, "quality": 100},
        "smallest long form": {**plain, "width": 257, "height": 1, "quality": 1},
        "largest long form": {**plain, "width": 2**21, "height": 128},
        "tallest": {**plain, "width": 3, "height": 2**21, "gray": True},
        "gray with sections": {**plain, "width": 20, "height": 30, "gray": True, "sections": {"1": "0102", "2": ""}},
        "ancillary section": {**plain, "width": 2000, "height": 3000, "sections": {"64": "00" * 200, "16383": "ff"}},
        "long payload": {**plain, "width": 768, "height": 512, "payload": bytes(symbols(900, 256, 7)).hex()},
    }
    return {name: {**case, "file": pack(case).hex()} for name, case in cases.items()}


def pack(case: Vector) -> bytes:
    """The file of a container vector."""
    return container.pack(
        width=case["width"],
        height=case["height"],
        model_id=bytes.fromhex(case["model_id"]),
        quality=case["quality"],
        gray=case["gray"],
        codes_crc32=case["codes_crc32"],
        payload=bytes.fromhex(case["payload"]),
        sections={int(kind): bytes.fromhex(content) for kind, content in case.get("sections", {}).items()},
    )


def table(runs: Runs) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The table of [entry, times] pairs."""
    return np.repeat(*np.array(runs, dtype=np.int64).T)


def symbols(count: int, size: int, seed: int) -> list[int]:
    """Numbers below `size` that depend on nothing but the seed."""

    def draws() -> Iterator[int]:
        state = seed
        while True:
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            yield (state >> 33) % size

    source = draws()
    return [next(source) for _ in range(count)]


MAKERS: dict[str, Callable[[], dict[str, Vector]]] = {
    "coder.json": coder_vectors,
    "container.json": container_vectors,
}

if __name__ == "__main__":
    sys.exit(main())
