"""One batch over several processes, so that each computes what one process would on the whole batch.

Every process has an equal share of the pictures, in the order of the ranks, and the same generator. Inside
`shared_batch` random numbers are drawn for the whole batch, of which each process takes its share, and means are those
of the whole batch. Outside of it, or without a process group, the batch is a process's own and nothing is exchanged:
evaluation is an affair of one process.

Gradients are averaged over the processes after each backward pass (`average_gradients`). A mean over the batch is
therefore passed back as it came: with the loss f(1/W sum_r m_r) on every process, the average over processes of
f' dm_r is the gradient of f.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gmvqzip.errors import TrainingError

_shared = False  # whether a batch is shared at present


@contextmanager
def shared_batch() -> Iterator[None]:
    """Within this context the batch is shared by all processes of the group, where there is one."""
    global _shared
    before, _shared = _shared, dist.is_available() and dist.is_initialized()
    try:
        yield
    finally:
        _shared = before


def world() -> int:
    """How many processes share the batch; 1 outside of `shared_batch`."""
    return dist.get_world_size() if _shared else 1


def share(size: int) -> slice:
    """This process's part of `size` things of the batch; `size` is a multiple of `world()`."""
    count = size // world()
    start = dist.get_rank() * count if _shared else 0
    return slice(start, start + count)


def rand(shape: Sequence[int], like: Tensor, axis: int = 0) -> Tensor:
    """Uniform noise in [0, 1) for this process's share of the batch, which lies along `axis` of `shape`."""
    return _drawn(torch.rand, shape, like, axis)


def randn(shape: Sequence[int], like: Tensor, axis: int = 0) -> Tensor:
    """Standard normal noise; see `rand`."""
    return _drawn(torch.randn, shape, like, axis)


def _drawn(draw: Callable[..., Tensor], shape: Sequence[int], like: Tensor, axis: int) -> Tensor:
    whole = list(shape)
    whole[axis] *= world()
    drawn = draw(whole, dtype=like.dtype, device=like.device)
    return drawn[(slice(None),) * axis + (share(whole[axis]),)]


def mean(x: Tensor) -> Tensor:
    """The mean over processes, the same on all of them to the last bit; gradients pass as they come."""
    result: Tensor = _Mean.apply(x) if _shared else x  # type: ignore[no-untyped-call]
    return result


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return total(x) / world()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def total(x: Tensor) -> Tensor:
    """The sum over processes, without a gradient."""
    if not _shared:
        return x
    summed = x.detach().clone(memory_format=torch.contiguous_format)
    exchange(dist.all_reduce, summed)
    return summed


def gathered(x: Tensor, axis: int = 0) -> Tensor:
    """What all processes hold, joined along `axis` in the order of the batch, without a gradient."""
    if not _shared:
        return x
    own = x.detach().contiguous()
    parts = [torch.empty_like(own) for _ in range(world())]
    exchange(dist.all_gather, parts, own)
    return torch.cat(parts, axis)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over processes, in one exchange."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None] if _shared else []
    if not gradients:
        return
    flat = total(torch.cat([gradient.flatten() for gradient in gradients])) / world()
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


@torch.no_grad()
def divided(work: Callable[[Tensor], Tensor], inputs: Sequence[Tensor], costs: Sequence[float]) -> list[Tensor]:
    """`work` of each of the inputs, which all processes hold, shared among them by its cost; shapes stay.

    The results are the same on all processes to the last bit.
    """
    if world() == 1 or not inputs:
        return [work(x) for x in inputs]
    loads = [0.0] * world()
    results = [torch.zeros_like(x, memory_format=torch.contiguous_format) for x in inputs]
    for index in sorted(range(len(inputs)), key=lambda index: -costs[index]):
        owner = loads.index(min(loads))
        loads[owner] += costs[index]
        if owner == dist.get_rank():
            results[index].copy_(work(inputs[index]))
    flat = total(torch.cat([result.flatten() for result in results]))
    parts = torch.split(flat, [result.numel() for result in results])
    return [part.view_as(result) for part, result in zip(parts, results, strict=True)]


@torch.no_grad()
def equalise(module: nn.Module) -> None:
    """Bring a module's parameters and buffers on all processes to those of rank 0.

    After what is computed on all of them in the same way, but perhaps not to the last bit.
    """
    for tensor in [*module.parameters(), *module.buffers()] if _shared else []:
        if not tensor.numel():
            continue
        own = tensor.detach().contiguous()
        exchange(dist.broadcast, own, 0)
        tensor.copy_(own)


def exchange(call: Callable[..., Any], *arguments: Any) -> None:
    """Run a collective of torch.distributed. Raises TrainingError where another process is gone."""
    try:
        call(*arguments)
    except RuntimeError as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainingError(f"another process of this run has ended: {reason}; --resume goes on") from None
