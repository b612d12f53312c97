"""Measuring ends when its time is over, and never before it has begun."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from gmvqzip.training import patience as module
from gmvqzip.training.patience import Patience


def test_without_an_end_everything_is_measured() -> None:
    assert Patience().left(0.1) == math.inf
    assert list(Patience().within(range(5))) == list(range(5))


def test_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each item takes 10 seconds."""
    clock = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def measured(patience: Patience, share: float) -> list[int]:
        done = []
        for item in patience.within(range(20), share):
            clock[0] += 10
            done.append(item)
        return done

    patience = Patience(200.0)
    assert patience.left() == 100
    assert measured(patience, 0.5) == [0, 1, 2, 3, 4]
    assert patience.left(0.5) == 25
    assert measured(patience, 1.0) == [0, 1, 2, 3, 4]
    assert patience.left() == 0
    assert measured(patience, 1.0) == [0]
