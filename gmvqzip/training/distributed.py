"""A run of several processes, started by torchrun: joining them, deciding together, one writer.

What a step exchanges is in `gmvqzip.quantizers.ranks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from gmvqzip.errors import TrainingError
from gmvqzip.quantizers.ranks import exchange
from gmvqzip.torchrun import Company, place

PATIENCE = timedelta(minutes=30)  # others wait so long for a process: an evaluation by rank 0 must be done in it
_Result = TypeVar("_Result")


@contextmanager
def joined(device: str) -> Iterator[torch.device]:
    """Within this context the processes that torchrun has started are one run; yields this one's device.

    device: cpu or cuda, of which each process of a machine takes its own. Without torchrun nothing is joined. Raises
    TrainingError where there are too few GPUs, or where the others cannot be reached.
    """
    here = place()
    if here.world == 1:
        yield torch.device(device)
        return
    own = torch.device(device, here.local_rank) if device == "cuda" else torch.device(device)
    if device == "cuda":
        if here.local_rank >= torch.cuda.device_count():
            raise TrainingError(
                f"process {here.local_rank} of this machine has no GPU of its own: start at most "
                f"{torch.cuda.device_count()} on it (--nproc-per-node), or use --device cpu"
            )
        torch.cuda.set_device(own)
    try:
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainingError(f"cannot join the other processes: {reason}") from None
    Company.joined = True
    try:
        yield own
    finally:
        dist.destroy_process_group()


def writes() -> bool:
    """Whether this process writes logs, checkpoints and models: rank 0, or the only one."""
    return not _joined() or dist.get_rank() == 0


def check_batch(batch_size: int) -> None:
    """Raise TrainingError unless the batch can be shared evenly."""
    count = dist.get_world_size() if _joined() else 1
    if batch_size % count:
        raise TrainingError(f"{count} processes cannot share a batch of {batch_size}: --batch-size must be a multiple")


def agree(elapsed: float, stop: bool, device: torch.device) -> tuple[float, bool]:
    """The longest of the processes' times, and whether any of them asks to stop: the same on all of them."""
    if not _joined():
        return elapsed, stop
    both = torch.tensor([elapsed, float(stop)], dtype=torch.float64, device=device)
    exchange(dist.all_reduce, both, dist.ReduceOp.MAX)
    return float(both[0]), bool(both[1])


def from_writer(make: Callable[[], _Result]) -> _Result:
    """What `make` gives on rank 0, on all processes."""
    if not _joined():
        return make()
    held: list[Any] = [make() if writes() else None]
    exchange(dist.broadcast_object_list, held, 0)
    result: _Result = held[0]
    return result


@contextmanager
def first_of_machine() -> Iterator[None]:
    """The first process of each machine runs the block before the others do, as for a download."""
    first = place().local_rank == 0
    if _joined() and not first:
        exchange(dist.barrier)
    yield
    if _joined() and first:
        exchange(dist.barrier)


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()
