"""Where bfloat16 is used in the place of float32: where it is measured to be faster.

A processor without bfloat16 instructions takes up to 50 times longer in it. What one has, and what the libraries make
of it, is best known by trying: one small operation of each kind, in both formats by turns, the best time of each. In
one thread, so that other programs' load does not count; once a process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

PRECISIONS = ("auto", "bf16", "fp32")
_GAIN = 0.9  # bfloat16 must take less than this part of float32's time
_LEAST_ROUNDS, _MOST_ROUNDS, _SECONDS = 4, 12, 0.1  # of a measurement; after the least it ends with the time, or
_CLEAR = 1.6  # where one format is so many times faster
_measured: dict[str, bool] = {}
_measuring = threading.Lock()


@dataclass(frozen=True)
class Precision:
    """What a training does in bfloat16; everything else is in float32."""

    convolutions: bool  # of the network, by autocast
    products: bool  # of matrices, in Muon

    @property
    def product_type(self) -> torch.dtype:
        """The type of Muon's matrices."""
        return torch.bfloat16 if self.products else torch.float32

    def __str__(self) -> str:
        network, optimizer = ("bf16" if fast else "fp32" for fast in (self.convolutions, self.products))
        return network if network == optimizer else f"{network}, Muon in {optimizer}"


def training_precision(wanted: str, device: torch.device) -> Precision:
    """What one of PRECISIONS means on a device: `auto` is measured on a processor; a GPU has bfloat16 or has not."""
    if wanted != "auto":
        return Precision(wanted == "bf16", wanted == "bf16")
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return Precision(fast, fast)
    if device.type != "cpu":
        return Precision(False, False)
    return Precision(_known("training", partial(_convolution, 2, 128, True)), _known("products", _products))


def fast_bfloat16(device: torch.device) -> bool:
    """Whether convolutions of a trained network are faster in bfloat16. A GPU is fast enough in float32.

    The first call on a processor measures for some milliseconds.
    """
    return device.type == "cpu" and _known("inference", partial(_convolution, 1, 64, False))


def _known(name: str, make: Callable[[torch.dtype], Callable[[], object]]) -> bool:
    with _measuring:
        if name not in _measured:
            with _one_thread(), torch.inference_mode(False):
                _measured[name] = faster(make(torch.bfloat16), make(torch.float32))
        return _measured[name]


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def faster(one: Callable[[], object], other: Callable[[], object]) -> bool:
    """Whether `one` clearly takes less time than `other`: the best of several times each, by turns."""
    start = time.perf_counter()
    best = [float("inf"), float("inf")]
    for turn in range(_MOST_ROUNDS):
        clear = max(best) > _CLEAR * min(best)
        if turn >= _LEAST_ROUNDS and (clear or time.perf_counter() - start > _SECONDS):
            break
        for place, call in enumerate((one, other)):
            began = time.perf_counter()
            call()
            best[place] = min(best[place], time.perf_counter() - began)
    return best[0] < _GAIN * best[1]


def _convolution(batch: int, channels: int, backward: bool, dtype: torch.dtype) -> Callable[[], object]:
    """A 3x3 convolution of 16x16 sites, channels last, as those of the networks; with its gradients, or without."""

    def tensor(*shape: int) -> torch.Tensor:
        return torch.full(shape, 0.01, dtype=dtype).contiguous(memory_format=torch.channels_last)

    x, weight = tensor(batch, channels, 16, 16), tensor(channels, channels, 3, 3)
    gradient = torch.full_like(x, 0.01)

    def call() -> object:
        if not backward:
            with torch.no_grad():
                return F.conv2d(x, weight, padding=1)
        with torch.enable_grad():
            return torch.autograd.grad(F.conv2d(x, weight, padding=1), (x, weight), gradient)

    x.requires_grad_(backward)
    weight.requires_grad_(backward)
    return call


def _products(dtype: torch.dtype) -> Callable[[], object]:
    """Products of a weight of 128 channels and 3x3 sites with itself, as in a Newton-Schulz iteration."""
    x = torch.full((128, 1152), 0.01, dtype=dtype)

    def call() -> object:
        with torch.no_grad():
            return (x @ x.t()) @ x

    return call
