"""kill -9 at every step of writing: nothing that was there is lost, and nothing half done is taken for whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and reads /proc")
NURSERY = Path(__file__).parent / "nursery.py"
LEAST = {  # deaths of which fewer would mean that steps are overlooked
    "compress": 9,
    "compress-force": 8,
    "compress-rm": 9,
    "decompress": 9,
    "decompress-force": 8,
    "pack": 9,
    "pack-force": 9,
    "pack-append": 9,
    "checkpoint": 8,
    "training": 20,
}
SLOW = "training"


@pytest.mark.parametrize(
    "scenarios",
    [[name for name in LEAST if name != SLOW], pytest.param([SLOW], marks=pytest.mark.slow)],
    ids=["quick", SLOW],
)
def test_killed(scenarios: list[str], tmp_path: Path, tiny_path: Path) -> None:
    command = [sys.executable, str(NURSERY), str(tmp_path), str(tiny_path), *scenarios]
    tests = NURSERY.parents[1]
    folders = [str(tests), str(tests / "training"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {name: int(deaths) for name, deaths in map(str.split, done.stdout.splitlines())}
    assert list(found) == scenarios
    assert not {name: deaths for name, deaths in found.items() if deaths < LEAST[name]}
