"""Fixed tables as a prior of a single class: the bytes of one table after another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmvqzip.entropy import coder
from gmvqzip.entropy.static import StaticPrior
from gmvqzip.entropy.tables import frequencies, ideal_bits
from gmvqzip.errors import FormatError, ModelError

SIZES, SCALES = ((16, 16), (300,), (2,)), (1, 2, 4)  # codes of the stages of each grid


def made(seed: int, rows: int, columns: int, count: int = 1) -> tuple[StaticPrior, list[np.ndarray]]:
    """A prior, and codes [B, rows, columns] of each stage."""
    generator = np.random.default_rng(seed)
    tables = [[frequencies(generator.integers(0, 1000, codes)) for codes in grid] for grid in SIZES]
    stages = [
        generator.integers(0, codes, (count, rows * scale, columns * scale))
        for grid, scale in zip(SIZES, SCALES, strict=True)
        for codes in grid
    ]
    return StaticPrior(tables, SCALES), stages


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5))
def test_stage_after_stage_in_raster_order(seed: int, rows: int, columns: int) -> None:
    prior, stages = made(seed, rows, columns, count=2)
    for number, piece in enumerate(prior.follow(stages, 0)):
        own = [stage[number] for stage in stages]
        payload = piece.payload()
        assert payload == coder.encode(list(zip(own, prior.tables, strict=True)))
        again = prior.read(payload, rows, columns, 0)
        for found in (piece.stages, again.stages, again.latent):
            assert all(np.array_equal(a, b) for a, b in zip(found, own, strict=True))
        bits = [ideal_bits(table, stage) for table, stage in zip(prior.tables, own, strict=True)]
        assert piece.bits() == pytest.approx(bits, rel=1e-6)


def test_refusals() -> None:
    prior, stages = made(0, 2, 3)
    stages[2][0, 1, 1] = 300
    with pytest.raises(ModelError, match="indices run from 0 to 299"):
        prior.follow(stages, 0)
    prior, stages = made(0, 2, 3)
    payload = prior.follow(stages, 0)[0].payload()
    with pytest.raises(FormatError):
        prior.read(payload + b"a", 2, 3, 0)
