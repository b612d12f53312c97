"""Where bfloat16 is used in the place of float32: where it is measured to be faster.

A processor without bfloat16 instructions takes up to 50 times longer in it. What one has, and what the libraries make
of it, is best known by trying: a small operation of each kind, in both formats by turns, the best time of each. It is
the time of one thread on the processor, so that other programs' load hardly counts; once a process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F

from gmvqzip.forks import fork_lock

Maker = Callable[[torch.dtype], Callable[[], object]]

_GAIN = 0.9  # bfloat16 must take less than this part of float32's time
_LEAST_ROUNDS, _MOST_ROUNDS, _SECONDS = 4, 12, 0.1  # of a measurement; after the least it ends with the time, or
_CLEAR = 1.6  # where one format is so many times faster
_clock = time.perf_counter if sys.platform == "win32" else time.thread_time  # which counts in 1/64 s on Windows
_measured: dict[str, bool] = {}
_measuring = fork_lock()


def bfloat16_wins(name: str, make: Maker) -> bool:
    """Whether what `make` gives for a type takes less time on this processor for bfloat16; measured once a name."""
    with _measuring:
        if name not in _measured:
            with _one_thread(), torch.inference_mode(False):
                _measured[name] = faster(make(torch.bfloat16), make(torch.float32))
        return _measured[name]


def fast_bfloat16(device: torch.device) -> bool:
    """Whether convolutions of a trained network are faster in bfloat16. A GPU is fast enough in float32.

    The first call on a processor measures for some milliseconds.
    """
    return device.type == "cpu" and bfloat16_wins("inference", partial(convolution, 1, 64, False))


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
    start = _clock()
    best = [float("inf"), float("inf")]
    for turn in range(_MOST_ROUNDS):
        clear = max(best) > _CLEAR * min(best)
        if turn >= _LEAST_ROUNDS and (clear or _clock() - start > _SECONDS):
            break
        for place, call in enumerate((one, other)):
            began = _clock()
            call()
            best[place] = min(best[place], _clock() - began)
    return best[0] < _GAIN * best[1]


def convolution(batch: int, channels: int, backward: bool, dtype: torch.dtype) -> Callable[[], object]:
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
