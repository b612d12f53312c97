"""How long the measuring at the end of a run may take."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

_Item = TypeVar("_Item")


class Patience:
    """Until a moment of `time.monotonic`, or as long as it takes for None."""

    def __init__(self, until: float | None = None) -> None:
        self.until = until

    def left(self, share: float = 1.0) -> float:
        """Seconds of the time that is left, or of a share of it; infinite without an end."""
        return math.inf if self.until is None else share * max(0.0, self.until - time.monotonic())

    def within(self, items: Iterable[_Item], share: float = 1.0) -> Iterator[_Item]:
        """The items, until a share of the time that is left now is over; at least one."""
        end = time.monotonic() + self.left(share)
        for item in items:
            yield item
            if time.monotonic() >= end:
                return
