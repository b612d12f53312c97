"""What all data sets share: the three splits, holding out pictures, reading many files at once, the memory budget."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from gmvqzip.errors import ImageError
from gmvqzip.torchrun import place
from gmvqzip.training.imagesets import ImageSet

Item = TypeVar("Item")

VALIDATION_EVERY = 50
"""Where a data set has no official validation part, every 50th training picture is held out: 2 %."""

_HELD_OUT, _LEAST_EVERY = 40, 10  # of a folder: so many pictures, but no more than a tenth

FALLBACK_MEMORY = 4 << 30  # bytes, where the machine does not say how much it has
NAMED_AT_MOST = 20  # unreadable pictures that are named one by one
SECONDS_BETWEEN_REPORTS = 5.0


@dataclass(frozen=True)
class DataSplits:
    """A data set, ready to train on."""

    train: ImageSet
    validation: ImageSet  # never trained on
    test: ImageSet | None  # official test part, for final figures only; None where there is none
    description: str  # one line for logs and cards: what it is, how many pictures, how split


def memory_budget() -> int:
    """Bytes that decoded pictures may take: half of the machine's memory, shared by the processes of a run on it.

    Beyond it, they are read at each use.
    """
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        memory = FALLBACK_MEMORY
    return memory // place().local_world


def folder_every(count: int) -> int:
    """Of a folder of so many pictures, one of how many is held out: enough for a verdict where the folder is small."""
    return min(VALIDATION_EVERY, max(_LEAST_EVERY, count // _HELD_OUT))


def hold_out(items: Sequence[Item], every: int = VALIDATION_EVERY) -> tuple[list[Item], list[Item]]:
    """(kept, held out): the last of each run of `every` items is held out; the last of all where there are fewer.

    Depends on the order alone. A single item is in both parts.
    """
    if len(items) < 2:
        return list(items), list(items)
    every = min(every, len(items))
    kept = [item for position, item in enumerate(items) if position % every != every - 1]
    return kept, [item for position, item in enumerate(items) if position % every == every - 1]


def read_each(
    names: Sequence[str], read: Callable[[int], Item], say: Callable[[str], None], *, verb: str = "read"
) -> Iterator[Item | None]:
    """`read(0), read(1), ...` in threads, in order; None where it raised ImageError, which is said by name."""
    failed = 0
    reported = time.monotonic()

    def attempt(index: int) -> Item | ImageError:
        try:
            return read(index)
        except ImageError as error:
            return error

    pool = ThreadPoolExecutor()
    try:
        for done, result in enumerate(pool.map(attempt, range(len(names)))):
            if isinstance(result, ImageError):
                failed += 1
                if failed <= NAMED_AT_MOST:
                    say(f"skipped {names[done]}: {result}")
                yield None
            else:
                yield result
            if time.monotonic() - reported > SECONDS_BETWEEN_REPORTS:
                reported = time.monotonic()
                say(f"{verb} {done + 1} of {len(names)} pictures")
    finally:
        pool.shutdown(cancel_futures=True)  # who interrupts does not wait for the pictures still to be read
    if failed > NAMED_AT_MOST:
        say(f"skipped {failed - NAMED_AT_MOST} more pictures that cannot be read")
