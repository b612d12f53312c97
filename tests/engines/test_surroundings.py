"""Whatever a caller has made of torch for itself, codecs do the same, and leave it as it was."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from gmvqzip.codec import Codec
from gmvqzip.engines import base
from gmvqzip.models.registry import read_info


@contextmanager
def default_type(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "another type": lambda: default_type(torch.float64),
    "another device": lambda: torch.device("meta"),
    "strict numpy": lambda: np.errstate(all="raise"),
}


def everything(codec: Codec, pixels: np.ndarray) -> list[object]:
    """What a codec makes of a picture, with and without a search, and by torch where it decodes by it."""
    found: list[object] = []
    for effort in (1, 2, 3):
        data = codec.compress(pixels, effort=effort)
        found += [data, codec.decompress(data).tobytes()]
    coded = codec.follow(codec.encode(pixels, effort=1))
    return [*found, codec.engine.network.synthesise(coded.piece(0).latent, coded.codes.quality).tobytes()]


@pytest.mark.parametrize("by_torch", [False, True], ids=["numpy", "torch"])
@pytest.mark.parametrize("name", SURROUNDINGS)
@pytest.mark.parametrize("kind", ["tiny", "hyper"])
def test_the_same_in_any_surroundings(
    kind: str,
    name: str,
    by_torch: bool,
    pixels: np.ndarray,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path: Path = request.getfixturevalue(f"{kind}_path")
    if by_torch:
        for module in ("base", "hyperprior", "staged"):
            monkeypatch.setattr(f"gmvqzip.engines.{module}.without_torch", lambda name: False)
    expected = everything(Codec(read_info(path), "cpu"), pixels)
    loaded_outside = Codec(read_info(path), "cpu")
    everything(loaded_outside, pixels)
    loaded_inside = Codec(read_info(path), "cpu")
    with SURROUNDINGS[name]():
        assert everything(loaded_inside, pixels) == expected
        assert everything(loaded_outside, pixels) == expected
    assert everything(loaded_inside, pixels) == expected


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("pixels", [10, 1 << 20])
def test_a_thread_that_comes_while_another_is_inside_keeps_its_threads(pixels: int) -> None:
    found: list[int] = []

    def work() -> None:  # the first use of torch in a new thread
        with base.threads_for(pixels):
            found.append(torch.get_num_threads())
        found.append(torch.get_num_threads())

    with base.threads_for(10):
        other = threading.Thread(target=work)
        other.start()
        other.join()
        assert torch.get_num_threads() == 1
    assert found == [1 if pixels == 10 else 3, 3]
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_does_not_take_another_s_number() -> None:
    """With more than one thread of torch it would wait for ever."""
    with base.threads_for(10):
        child = os.fork()
        if not child:
            with base.threads_for(1 << 20):
                os._exit(torch.get_num_threads())
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1
