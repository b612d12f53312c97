"""The few things that only a process of its own shows: pipes, signals, closed streams."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gmvqzip.codec import Codec
from gmvqzip.entropy.codes import Codes
from gmvqzip.npz import dump_npz

GMVQZIP = [sys.executable, "-m", "gmvqzip"]


@pytest.fixture
def environment(tiny_path: Path) -> dict[str, str]:
    return {**os.environ, "GMVQZIP_MODELS": str(tiny_path.parent)}


@pytest.fixture
def large(tmp_path: Path, tiny: Codec) -> Path:
    """A file whose codes are far more than a pipe holds."""
    generator = np.random.default_rng(0)
    shapes = tiny.config.stage_shapes(2000, 2000)
    stages = [generator.integers(0, g.codes, shape) for g, shape in zip(tiny.config.stages(), shapes, strict=True)]
    path = tmp_path / "large.gmvq"
    path.write_bytes(tiny.pack_codes(Codes(tuple(stages), 2000, 2000, tiny.model_id, 0)).data)
    return path


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe(large: Path, environment: dict[str, str], unbuffered: str) -> None:
    """`gmvqzip codes -c FILE | head -c 10`"""
    environment["PYTHONUNBUFFERED"] = unbuffered
    command = 'set -o pipefail; "$0" -m gmvqzip codes -c "$1" | head -c 10'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, str(large)], capture_output=True, env=environment, check=False
    )
    assert (done.returncode, len(done.stdout), done.stderr) == (141, 10, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_slow_reader_gets_everything(large: Path, environment: dict[str, str], unbuffered: str, tiny: Codec) -> None:
    environment["PYTHONUNBUFFERED"] = unbuffered
    with subprocess.Popen([*GMVQZIP, "codes", "-c", str(large)], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        archive = b"".join(iter(lambda: process.stdout.read(4096), b""))
    assert process.returncode == 0
    assert archive == dump_npz(tiny.decode_codes(large.read_bytes()))


def test_a_full_standard_output(large: Path, environment: dict[str, str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*GMVQZIP, "codes", "-c", str(large)], stdout=full, stderr=subprocess.PIPE, env=environment, check=False
        )
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
        assert b"no space left" in done.stderr
        done = subprocess.run(
            [*GMVQZIP, "info", str(large)], stdout=full, stderr=subprocess.PIPE, env=environment, check=False
        )
        assert done.returncode == 1
        assert b"no space left" in done.stderr
        assert b"Traceback" not in done.stderr


def test_closed_standard_streams(large: Path, environment: dict[str, str]) -> None:
    command = '"$0" -m gmvqzip codes -c "$1" >&-'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, str(large)], capture_output=True, env=environment, check=False
    )
    assert done.returncode == 1
    assert b"standard output is closed" in done.stderr


@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str)
def test_signals_while_waiting_for_input(tmp_path: Path, environment: dict[str, str], number: int, code: int) -> None:
    process = subprocess.Popen(
        [*GMVQZIP, "compress", "-", "-o", str(tmp_path / "x.gmvq"), "-v", "-q", "50"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    with process:
        assert process.stderr is not None
        assert b"single rate" in process.stderr.readline()  # the handlers are in place
        process.send_signal(number)
        assert process.stdin is not None
        process.stdin.close()  # whatever waits for input still goes on, to another end
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == code
    assert not list(tmp_path.iterdir())


def test_names_in_a_plain_locale(large: Path, environment: dict[str, str]) -> None:
    """Neither bytes that are no UTF-8 nor a terminal that shows ASCII alone turns a result into an error."""
    odd = large.with_name(os.fsdecode("Grüße \xe9".encode() + b"\xff.gmvq"))
    large.rename(odd)
    done = subprocess.run(
        [*GMVQZIP, "info", os.fsencode(odd)],
        capture_output=True,
        env={**environment, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()
    assert b"2000x2000" in done.stdout


def test_as_a_module_and_as_a_program() -> None:
    done = subprocess.run([*GMVQZIP, "--version"], capture_output=True, check=True)
    assert done.stdout.startswith(b"gmvqzip ")
