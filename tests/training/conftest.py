"""For all tests of training: TensorBoard counts as not installed, so that run folders hold equal files everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_tensorboard() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gmvqzip.training.report._tensorboard", lambda folder: None)
        yield
