"""The range coder's speed on a million indices of 1024 codes, beside zlib's on the same indices as two bytes each.

    python scripts/measure/coder.py [--indices 1000000] [--repeat 5]

Prints one JSON object: of each coder that is installed, median processor seconds to encode and to decode, taken in
turns after a round not counted, their ratio to zlib's (level 6), and the bytes of the stream, which are the same.
tests/entropy/test_coder.py checks the cause: a run of indices under one table is one call of the coder.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from gmvqzip.entropy.backend import NAMES, VARIABLE, backend
from gmvqzip.entropy.coder import decode, encode
from gmvqzip.entropy.tables import TOTAL, frequencies

CODES = 1024


def with_coder(name: str, work: Callable[[], Any]) -> Any:
    """Do the work with the coder of that name."""
    os.environ[VARIABLE] = name
    return work()


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--indices", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    table = frequencies(generator.dirichlet(np.ones(CODES)))
    symbols = generator.choice(CODES, options.indices, p=table / TOTAL).astype(np.int32)
    plain, payload = symbols.astype("<u2").tobytes(), encode([(symbols, table)])
    packed = zlib.compress(plain)
    actions: dict[str, Callable[[], Any]] = {
        "zlib encode": partial(zlib.compress, plain),
        "zlib decode": partial(zlib.decompress, packed),
    }
    for name in NAMES[1:] if backend().name == "constriction" else NAMES[2:]:
        actions[f"{name} encode"] = partial(with_coder, name, lambda: encode([(symbols, table)]))
        actions[f"{name} decode"] = partial(with_coder, name, lambda: decode(payload, [(symbols.size, table)]))
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(options.repeat + 1):
        for name, action in actions.items():
            start = time.process_time()
            action()
            times[name].append(time.process_time() - start)
    median = {name: statistics.median(values[1:]) for name, values in times.items()}
    ratios = {name: round(seconds / median[f"zlib {name.split()[1]}"], 2) for name, seconds in median.items()}
    report = {
        "bytes": {"zlib": len(packed), "range coder": len(payload)},
        "seconds": {name: round(seconds, 4) for name, seconds in median.items()},
        "ratio_to_zlib": {name: ratio for name, ratio in ratios.items() if not name.startswith("zlib")},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
