"""Children of `fork` go on with what the parent has used, and codecs travel to other processes."""

from __future__ import annotations

import copy
import io
import multiprocessing
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gmvqzip
import gmvqzip.pillow
from gmvqzip import blas, forks
from gmvqzip.codec import Codec, load
from gmvqzip.engines import base
from gmvqzip.engines.base import Once
from gmvqzip.errors import ModelError
from gmvqzip.images.opening import calm_pillow

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
_LONG = 60  # seconds after which a child counts as hanging


def in_child(work: Callable[[], Any]) -> Any:
    """What `work` gives in a forked child, of which nothing but the fork is inherited: no pickle, no import."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if not child:
        signal.alarm(_LONG)
        try:
            sender.send(work())
        finally:
            os._exit(0)
    sender.close()
    try:
        return receiver.recv()
    finally:
        os.waitpid(child, 0)


@pytest.fixture
def threads() -> Iterator[None]:
    """Two threads of torch in this process, as on any machine of several processors."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@needs_fork
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("kind", ["tiny", "hyper"])
def test_a_forked_child_compresses_and_decompresses(kind: str, request: pytest.FixtureRequest) -> None:
    codec: Codec = request.getfixturevalue(kind)
    path: Path = request.getfixturevalue(f"{kind}_path")
    pixels = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    data = codec.compress(pixels)
    shown = codec.decompress(data).tobytes()  # the parent's pool of threads is at work now

    assert in_child(lambda: codec.compress(pixels)) == data
    assert in_child(lambda: codec.decompress(data).tobytes()) == shown
    assert in_child(lambda: gmvqzip.decompress(data, model=path, device="cpu").tobytes()) == shown


@needs_fork
@pytest.mark.usefixtures("threads")
def test_the_pillow_plugin_in_a_forked_child(
    tiny: Codec, tiny_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GMVQZIP_MODELS", str(tiny_path.parent))
    shown = gmvqzip.decompress(packed).tobytes()
    data = packed.read_bytes()
    assert in_child(lambda: Image.open(io.BytesIO(data)).tobytes()) == shown


@needs_fork
@pytest.mark.usefixtures("threads")
def test_pools_by_fork(tiny: Codec, packed: Path) -> None:
    shown = np.asarray(tiny.decompress(packed))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        found = np.asarray(pool.submit(tiny.decompress, packed).result(_LONG))
    assert np.array_equal(found, shown)


@needs_fork
def test_a_lock_is_free_in_the_child_whatever_the_threads_of_the_parent_do() -> None:
    once, inside, leave = Once(), threading.Event(), threading.Event()

    def make() -> int:
        inside.set()
        leave.wait(_LONG)
        return 1

    thread = threading.Thread(target=once.get, args=("name", make))
    thread.start()
    inside.wait(_LONG)
    threading.Timer(0.05, leave.set).start()  # the fork waits for this
    assert in_child(lambda: once.get("name", lambda: 2)) == 1
    thread.join()


@needs_fork
def test_a_child_has_the_settings_from_before_other_threads_were_at_work() -> None:
    functions = blas._functions()

    def settings() -> list[Any]:
        with calm_pillow(2000), blas.single_threaded():
            pass
        return [Image.MAX_IMAGE_PIXELS, len(warnings.filters), functions and functions[0]()]

    before, inside, leave = settings(), threading.Event(), threading.Event()

    def work() -> None:
        with calm_pillow(1000), blas.single_threaded():
            inside.set()
            leave.wait(_LONG)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(_LONG)
    assert in_child(settings) == before != settings()
    leave.set()
    thread.join()
    assert settings() == before


@needs_fork
def test_what_lies_on_a_gpu_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    once = Once()
    once.get("network", lambda: "on the GPU")
    assert in_child(lambda: once.get("network", lambda: "new")) == "new"
    assert once.get("network", lambda: "new") == "on the GPU"
    assert base.torch_device("auto").type == "cpu"
    with pytest.raises(ModelError, match="before this process was forked: start processes by spawn"):
        base.torch_device("cuda")


@needs_fork
@pytest.mark.usefixtures("threads")
def test_a_child_keeps_its_threads_where_no_network_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(forks, "_torch_at_work", False)
    assert in_child(torch.get_num_threads) == 2
    base.torch_device("cpu")
    assert in_child(torch.get_num_threads) == 1
    assert torch.get_num_threads() == 2


class TestPickling:
    def test_a_copy_in_this_process_is_the_same_codec(self, tiny: Codec, tiny_path: Path) -> None:
        assert pickle.loads(pickle.dumps(tiny)) is tiny
        assert copy.deepcopy(tiny) is tiny
        assert copy.copy(tiny) is tiny
        assert load(tiny_path, device="cpu") is tiny

    def test_a_spawned_process(self, tiny: Codec, packed: Path) -> None:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            image = pool.submit(tiny.decompress, packed).result()
        assert image.tobytes() == tiny.decompress(packed).tobytes()

    def test_another_model_in_its_place(self, tmp_path: Path, tiny_path: Path, other_path: Path) -> None:
        path = tmp_path / "m.safetensors"
        path.write_bytes(tiny_path.read_bytes())
        sent = pickle.dumps(load(path, device="cpu"))
        path.write_bytes(other_path.read_bytes())
        with pytest.raises(ModelError, match="made with model"):
            pickle.loads(sent)
        path.unlink()
        with pytest.raises(ModelError, match="no model file"):
            pickle.loads(sent)
