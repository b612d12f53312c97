"""Fixtures for all tests: a tiny model with random weights, small pictures, and the command line run in-process."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from gmvqzip.models.config import GridConfig, NetworkConfig

# The tests are run by several processes, one for each core: more threads would only wait for one another.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
# A loaded machine must not fail a test: how long an example takes is no property of the code.
settings.register_profile("quiet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quiet")

if TYPE_CHECKING:
    from gmvqzip.codec import Codec


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code, bytes on standard output, text on standard error."""

    code: int
    out: bytes
    err: str


@dataclass(frozen=True)
class Foreground:
    """Standard streams of an in-process command, terminals if wanted."""

    stdin: bytes = b""
    tty_out: bool = False
    tty_err: bool = False


class _Stream(io.TextIOWrapper):
    def __init__(self, data: bytes = b"", *, terminal: bool = False) -> None:
        self.held = io.BytesIO(data)
        self.terminal = terminal
        super().__init__(self.held, encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return self.terminal


def run_in_process(arguments: tuple[object, ...], streams: Foreground) -> Outcome:
    """Run `gmvqzip ARGUMENTS` in this process, with standard streams of its own."""
    from gmvqzip.__main__ import main

    before = sys.stdin, sys.stdout, sys.stderr, sys.argv
    out, err = _Stream(terminal=streams.tty_out), _Stream(terminal=streams.tty_err)
    sys.stdin, sys.stdout, sys.stderr = _Stream(streams.stdin), out, err
    sys.argv = ["gmvqzip", *map(str, arguments)]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdin, sys.stdout, sys.stderr, sys.argv = before
    return Outcome(code, out.held.getvalue(), err.held.getvalue().decode())


@pytest.fixture
def default_signals() -> Iterator[None]:
    """Signals end this process and its children as from a terminal, also where the tests run under `nohup`."""
    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def cli(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Run a command in-process; the tiny model is installed under the name `photo`, the default."""
    monkeypatch.setenv("GMVQZIP_MODELS", str(tiny_path.parent))

    def run(*arguments: object, stdin: bytes = b"", tty_out: bool = False, tty_err: bool = False) -> Outcome:
        return run_in_process(arguments, Foreground(stdin, tty_out, tty_err))

    return run


TINY = NetworkConfig(
    strides=(2, 4, 8),
    channels=(4, 4, 4),
    encoder_blocks=(0, 0, 0),
    decoder_blocks=(0, 0, 0),
    grids=(GridConfig(stride=8, stages=2, codes=16, dimensions=4), GridConfig(stride=4, codes=32, dimensions=4)),
)


def tiny_model(name: str, seed: int) -> bytes:
    """The bytes of a model file with random weights and random tables."""
    import torch

    from gmvqzip.entropy.tables import frequencies
    from gmvqzip.models.network import StagedAutoencoder
    from gmvqzip.models.store import dump_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = StagedAutoencoder(TINY).eval()
    generator = np.random.default_rng(seed)
    tables = [frequencies(generator.integers(1, 1000, grid.codes)) for grid in TINY.stages()]
    return dump_model(name, network, tables, {"description": "random weights, for tests"})


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of the name `photo`, alone in its folder."""
    path = tmp_path_factory.mktemp("models") / "photo.safetensors"
    path.write_bytes(tiny_model("photo", seed=1))
    return path


@pytest.fixture(scope="session")
def other_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of another identity, not installed."""
    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    path.write_bytes(tiny_model("other", seed=2))
    return path


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Codec:
    """The codec of the tiny model."""
    from gmvqzip.codec import load

    return load(tiny_path, device="cpu")


@pytest.fixture(scope="session")
def hyper_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hyperprior model's file of the name `hyper`, alone in its folder."""
    from tiny_hyperprior import made

    from gmvqzip.models.hyperstore import dump_hyperprior

    path = tmp_path_factory.mktemp("hyper") / "hyper.safetensors"
    path.write_bytes(dump_hyperprior("hyper", made(), {"description": "random weights, for tests"}))
    return path


@pytest.fixture(scope="session")
def hyper(hyper_path: Path) -> Codec:
    """The codec of the tiny hyperprior model."""
    from gmvqzip.codec import load

    return load(hyper_path, device="cpu")


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    """A small picture [23, 37, 3]: neither side a multiple of the grid."""
    return np.random.default_rng(5).integers(0, 256, (23, 37, 3), dtype=np.uint8)


@pytest.fixture
def picture(tmp_path: Path, pixels: np.ndarray) -> Path:
    """The small picture as img.png, alone in its folder."""
    path = tmp_path / "img.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def small_pack(tmp_path: Path, tiny_path: Path, pixels: np.ndarray) -> Path:
    """Three small pictures in a pack, as set.gmvqp: a, sub/b, and c, which is gray with transparency."""
    from gmvqzip.pack import PackWriter

    path = tmp_path / "set.gmvqp"
    with PackWriter(path, model=tiny_path, device="cpu") as writer:
        writer.add_all([("a", pixels), ("sub/b", pixels[::-1]), ("c", pixels[:, :, :2])])
    return path


@pytest.fixture
def packed(tmp_path: Path, tiny: Codec, pixels: np.ndarray) -> Path:
    """The small picture compressed, as img.gmvq."""
    path = tmp_path / "img.gmvq"
    path.write_bytes(tiny.compress(pixels))
    return path
