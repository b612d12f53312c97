"""Where networks run: devices, threads, precision; and what is loaded once."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip import blas
from gmvqzip.errors import ModelError, one_line
from gmvqzip.forks import call_after_fork, fork_lock, one_thread_after_fork
from gmvqzip.torchrun import place

if TYPE_CHECKING:
    import torch

_FEW_PIXELS = 1 << 15  # 181 x 181
DEVICES = ("auto", "cpu", "cuda")
_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd", "/proc/driver/nvidia")  # of GPUs that torch calls cuda


def check_device_name(device: str) -> None:
    """Raise ModelError unless it is auto, cpu or cuda."""
    if not isinstance(device, str) or device not in DEVICES:
        raise ModelError(f"unknown device {one_line(device)}: choose one of {', '.join(DEVICES)}")


def torch_device(name: str) -> torch.device:
    """The device of that name. Raises ModelError if it is not there."""
    import torch

    one_thread_after_fork()
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("no CUDA device was found: use --device cpu or auto")
    if name == "cuda" and _cuda_lost():
        raise ModelError("CUDA was used before this process was forked: start processes by spawn, or use device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() and not _cuda_lost() else "cpu"
    here = place()
    if name == "cuda" and here.world > 1:  # processes of torchrun share the GPUs of their machine
        return torch.device(name, here.local_rank % torch.cuda.device_count())
    return torch.device(name)


def without_torch(name: str) -> bool:
    """Whether pictures are decoded, and encoded without a search, by NumPy: on a processor, and where `auto` finds no
    driver of a GPU.

    Where torch is loaded already, it knows.
    """
    if name == "auto" and "torch" not in sys.modules:
        return not any(Path(path).exists() for path in _DRIVERS)
    return name == "cpu" or torch_device(name).type == "cpu"


def check_device(name: str) -> None:
    """Raise ModelError if a device is asked for that is not there."""
    if not without_torch(name):
        torch_device(name)


def set_threads(threads: int) -> None:
    """Let torch, and the networks in NumPy, use this many threads for one picture."""
    import torch

    torch.set_num_threads(threads)
    blas.set_threads(threads)


_threads_lock = fork_lock()
_alone, _threads = 0, 1  # calls inside that have set one thread, and how many there were before the first


@contextmanager
def threads_for(pixels: int) -> Iterator[None]:
    """One thread of torch for so few pixels that several would wait for one another longer than they work.

    A thread that is new to torch gets the number that any thread has set last. One that comes while another is inside
    gets the number of before, and not the other's one for the rest of its life.
    """
    global _alone, _threads
    few = pixels < _FEW_PIXELS
    with _threads_lock:
        threads = _torch_threads()
        if not _alone:
            _threads = threads
        elif threads == 1:
            threads = _threads
        _torch_threads(1 if few else threads)
        _alone += few
    try:
        yield
    finally:
        with _threads_lock:
            _alone -= few
            _torch_threads(threads)


def _torch_threads(wanted: int | None = None) -> int:
    """How many threads torch has for this one; set first, where they are others than are wanted."""
    import torch

    found = torch.get_num_threads()
    if wanted is None or wanted == found:
        return found
    torch.set_num_threads(wanted)
    return wanted


def _forget_alone() -> None:
    global _alone
    _alone = 0


call_after_fork(_forget_alone)  # the other threads are not there


@contextmanager
def plain_torch(name: str) -> Iterator[None]:
    """Work on the device of that name in the modes that torch starts with, whatever those of the caller: no inference
    mode, under which nothing could be searched for, no autocast, and new tensors on the processor.
    """
    import torch

    elsewhere = torch.get_default_device().type != "cpu"
    with (
        torch.inference_mode(False),
        torch.autocast(torch_device(name).type, enabled=False),
        torch.device("cpu") if elsewhere else nullcontext(),
    ):
        yield


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Convolutions in full float32 on a GPU, which would otherwise drop 13 bits of each factor (TF32)."""
    import torch

    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def fast_bfloat16(device: torch.device) -> bool:
    """Whether a network's convolutions are faster in bfloat16 than in float32; see `models.precision`."""
    from gmvqzip.models import precision

    return precision.fast_bfloat16(device)


_once_lock = fork_lock()  # of all instances: values are few, and made rarely
_all_once: weakref.WeakSet[Once] = weakref.WeakSet()


class Once:
    """Values that are made when first asked for, once, by whichever thread comes first."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        _all_once.add(self)

    def get(self, name: str, make: Any) -> Any:
        """The value of that name, made by `make()` if it is new."""
        with _once_lock:
            if name not in self._values:
                self._values[name] = make()
            return self._values[name]

    def forget(self) -> None:
        """Drop all values; they are made anew when they are asked for."""
        self._values.clear()


def _forget_cuda() -> None:
    """In a forked child: what lies on a GPU is out of its reach."""
    torch = sys.modules.get("torch")
    if torch is not None and _cuda_lost():
        for once in list(_all_once):
            once.forget()


def _cuda_lost() -> bool:
    """Whether this process was forked from one that used CUDA, which no child can go on with."""
    import torch

    return bool(getattr(torch.cuda, "_is_in_bad_fork", lambda: False)())


call_after_fork(_forget_cuda)


def image_tensor(pixels: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Pixels [B, H, W, 3] as pictures [B, 3, H, W] in [0, 1]."""
    import torch

    batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2)
    return batch.to(torch.float32).div_(255)
