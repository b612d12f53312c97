"""How long commands take that need neither torch nor weights, beside the import of a command line's libraries.

    python scripts/measure/start_up.py [--repeat 5]

Prints one JSON object: median wall seconds of fresh processes, taken in turns after a round not counted, and their
ratio to `python -c "import typer, rich.progress"`. tests/test_layers.py checks the cause: what they import.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "tests" / "golden" / "hyperprior" / "fine-1.gmvq"
PROGRAM = [sys.executable, "-m", "gmvqzip"]
BASE = "base"
COMMANDS = {
    BASE: [sys.executable, "-c", "import typer, rich.progress"],
    "help": [*PROGRAM, "--help"],
    "info": [*PROGRAM, "info", str(FILE)],
}


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(options.repeat + 1):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values[1:]) for name, values in times.items()}
    ratios = {name: round(seconds / median[BASE], 2) for name, seconds in median.items() if name != BASE}
    seconds = {name: round(value, 3) for name, value in median.items()}
    print(json.dumps({"seconds": seconds, "ratio_to_base": ratios}, indent=2))


if __name__ == "__main__":
    main()
