"""A short run of every fuzz target, the files that were findings once, and files that claim far more than they hold.

scripts/fuzz.py runs the targets for longer.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import targets
from hypothesis import given, settings
from hypothesis import strategies as st

from gmvqzip.entropy.alpha import compress_alpha
from gmvqzip.errors import FormatError
from gmvqzip.format import container
from gmvqzip.format.limits import MAX_PIXELS
from gmvqzip.format.sections import compress_profile

FUZZ = Path(__file__).parents[2] / "scripts" / "fuzz.py"
FOUND = sorted((Path(__file__).parent / "found").iterdir())
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 20), st.binary(max_size=8)), max_size=4)


@cache
def seeds_of(name: str) -> list[bytes]:
    return targets.TARGETS[name].seeds()


@pytest.mark.parametrize("name", [name for name in targets.TARGETS if name != "shipped"])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_changed_seeds(name: str, data: st.DataObject) -> None:
    target = targets.TARGETS[name]
    changed = data.draw(st.sampled_from(seeds_of(name)))
    for place, removed, inserted in data.draw(edits):
        at = int(place * len(changed))
        changed = changed[:at] + inserted + changed[at + removed :]
    target.attempt(changed)


numbers = st.sampled_from([-1, 0, 1, 2, 3, 4, 8, 64, 256, 4096, 65536, 2**31, 2**63, 10**30])
nonsense = st.none() | st.booleans() | st.floats() | st.text(max_size=3) | numbers
values = st.recursive(nonsense, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_changed_configurations(data: st.DataObject) -> None:
    """Field by field, which random bytes rarely do without breaking the JSON."""
    seed = data.draw(st.sampled_from(seeds_of("model")))
    text, _, rest = seed.partition(b"\0")
    config = json.loads(text)
    for _ in range(data.draw(st.integers(1, 3))):
        place: Any = config
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
                break
            place = place[key]
        place[key] = data.draw(values)
    targets.TARGETS["model"].attempt(json.dumps(config).encode() + b"\0" + rest)


def replayed(pixels: int, paths: list[Path]) -> subprocess.CompletedProcess[str]:
    """Each file in turn, within 1 GiB of memory, however long it takes."""
    limits = ["--pixels", str(pixels), "--seconds", "0"]
    command = [sys.executable, str(FUZZ), *limits, "--replay", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def small_files_of_large_pictures(folder: Path) -> list[Path]:
    """A megapixel in 18 bytes, in the worst shapes, with the default model and with the one that takes most memory."""
    paths = []
    shapes = {"photo": ((1024, 1024), (1 << 16, 16)), "cifar10": ((1024, 1024), (16, 1 << 16))}
    for codec in (c for c in targets.shipped_models() if c.name in shapes):
        for width, height in shapes[codec.name]:
            paths.append(folder / f"codec-{codec.name}-{width}")
            paths[-1].write_bytes(targets.declared(codec, width, height))
    return paths


def sections_that_inflate_far(folder: Path) -> list[Path]:
    """Transparency of the largest picture, and a profile beyond its limit."""
    plane = compress_alpha(np.zeros((1024, 1024), dtype=np.uint8))
    profile = compress_profile(bytes(1 << 24))
    common: dict[str, Any] = {"model_id": bytes(8), "quality": 0, "gray": False, "codes_crc32": 0, "payload": b""}
    contents = [{1: plane}, {1: profile}, {2: profile}, {1: plane, 2: profile}]
    paths = []
    for number, sections in enumerate(contents):
        paths.append(folder / f"container-{number}")
        paths[-1].write_bytes(container.pack(width=1024, height=1024, sections=sections, **common))
        assert paths[-1].stat().st_size < 1 << 16
    return paths


def test_files_that_take_as_much_as_they_can(tmp_path: Path) -> None:
    """What was found once, and what small files can claim."""
    paths = [*FOUND, *small_files_of_large_pictures(tmp_path), *sections_that_inflate_far(tmp_path)]
    done = replayed(1 << 20, paths)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": fine") == len(paths)


def test_a_finding_is_seen(tmp_path: Path) -> None:
    """A picture beyond what the memory holds is one: the replay does limit it."""
    path = tmp_path / "codec-large"
    (codec,) = (c for c in targets.shipped_models() if c.name == "cifar10")
    path.write_bytes(targets.declared(codec, 4096, 4096))
    done = replayed(1 << 24, [path])
    assert (done.returncode, done.stdout.count("\n")) == (1, 1), done.stdout + done.stderr
    assert "memory" in done.stdout.lower()


@pytest.mark.parametrize(("width", "height"), [(1 << 21, 1 << 21), (1 << 21, 65), (65, 1 << 21), (16384, 8193)])
def test_a_size_beyond_the_limit_is_refused_at_once(width: int, height: int) -> None:
    codec = targets.tiny_models()[1]
    data = container.pack(
        width=width, height=height, model_id=bytes.fromhex(codec.model_id), quality=50, gray=False, codes_crc32=0,
        payload=b"",
    )  # fmt: skip
    assert width * height > MAX_PIXELS
    with pytest.raises(FormatError, match="--max-pixels"):
        codec.decompress_picture(data)
