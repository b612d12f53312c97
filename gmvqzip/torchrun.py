"""What torchrun tells each process that it starts: its place among the others. Standard library only."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """The place of a process: its rank among `world` processes, and the same among those of its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1


def place() -> Place:
    """This process's place, from the variables that torchrun sets; alone without them."""
    try:
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return Place()
    if not 0 <= rank < world:
        return Place()
    return Place(rank, world, int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


class Company:
    """Whether this process has been joined with others by torch.distributed."""

    joined = False


def end_at_once(code: int) -> None:
    """End a process that was joined with others, all of its work done; any other goes on.

    At the interpreter's own end, threads of torch.distributed that still wait abort it now and then: exit code -6.
    """
    if Company.joined:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
