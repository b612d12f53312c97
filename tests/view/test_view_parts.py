"""Parts and steps: nothing counted twice, nothing left out; usage; the colours of the maps."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from tiny_hyperprior import CONFIG, smooth

from gmvqzip.codec import Codec
from gmvqzip.entropy.blocks import Block
from gmvqzip.entropy.codes import Codes
from gmvqzip.view.parts import COLOURS, Part, gradient, heat, parts, steps, together, usage


@pytest.fixture(scope="module")
def coded(hyper: Codec) -> Codes:
    return hyper.encode(smooth(70, 100), quality=60)


def test_a_staged_model_has_a_part_for_each_stage(tiny: Codec) -> None:
    codes = tiny.encode(smooth(40, 60))
    bits = tiny.follow(codes).site_bits()
    found = parts(tiny.config, bits)
    assert [part.title for part in found] == ["stage 0", "stage 1", "stage 2"]
    assert [part.total for part in found] == pytest.approx(tiny.follow(codes).bits())
    assert [part.codes for part in found] == [stage.size for stage in codes.stages]
    assert [list(part.stages) for part in found] == [[0], [1], [2]]
    assert steps(tiny.config, bits) == []


def test_the_parts_of_a_hyperprior_model(hyper: Codec, coded: Codes) -> None:
    followed = hyper.follow(coded)
    bits, stage_bits = followed.site_bits(), followed.bits()
    found = parts(CONFIG, bits)
    assert [(part.title, list(part.stages)) for part in found] == [
        ("hyper", [0, 1]),
        ("part 0", [2, 3, 4, 5]),
        ("part 1", list(range(6, 14))),
    ]
    for part in found:
        assert part.total == pytest.approx(sum(stage_bits[number] for number in part.stages), rel=1e-9)
        assert part.codes == sum(coded.stages[number].size for number in part.stages)
        assert part.bits.shape == coded.stages[part.stages[0]].shape
    assert sum(part.total for part in found) == pytest.approx(sum(stage_bits), rel=1e-9)


def test_the_steps_are_those_of_the_coder(hyper: Codec, coded: Codes) -> None:
    """The groups are visited step by step: the order of the visits tells each code's step."""
    bits = hyper.follow(coded).site_bits()
    expected = np.zeros((4, *coded.stages[-1].shape))
    visits: list[Block] = []
    grids = hyper.engine.config.grids
    ends = np.cumsum([grid.stages for grid in grids])
    stages, costs = (
        [np.stack(arrays[end - grid.stages : end]) for grid, end in zip(grids, ends, strict=True)]
        for arrays in (coded.stages, bits)
    )

    def visit(block: Block) -> np.ndarray:
        if block.part:
            step = len(visits) // 2
            for window, own in zip(block.windows, np.split(costs[block.part], 4), strict=True):
                expected[(step, *window)] += own[(..., *window)].sum(0)
            visits.append(block)
        return block.cut(stages[block.part])

    hyper.engine.prior.walk(*coded.stages[0].shape, coded.quality, visit)
    assert len(visits) == 4 * 2
    found = steps(CONFIG, bits)
    assert [part.title for part in found] == [f"latent, step {number}" for number in (1, 2, 3, 4)]
    for part, array in zip(found, expected, strict=True):
        assert part.bits == pytest.approx(array, rel=1e-6)
    assert sum(part.codes for part in found) == sum(stage.size for stage in coded.stages[2:])
    assert sum(part.total for part in found) == pytest.approx(sum(map(float, hyper.follow(coded).bits()[2:])), rel=1e-9)


def test_together_keeps_the_sum() -> None:
    coarse = Part("a", np.array([[8.0, 4.0]]), range(1), 2)
    fine = Part("b", np.arange(8.0).reshape(2, 4), range(1), 8)
    total = together([coarse, fine])
    assert total.tolist() == [[2, 3, 3, 4], [6, 7, 7, 8]]
    assert together([coarse]).tolist() == [[8, 4]]


def test_usage() -> None:
    found = usage(np.array([[3, 3, 3, 3], [1, 1, 0, 5]]), 6)
    assert found.counts.tolist() == [4, 2, 1, 1, 0, 0]
    assert found.used == 4
    assert found.entropy == pytest.approx(1.75)
    alone = usage(np.zeros((2, 2), dtype=np.int32), 2)
    assert (alone.used, alone.entropy, math.copysign(1, alone.entropy)) == (1, 0, 1)


class TestHeat:
    def test_the_ends_and_the_middle(self) -> None:
        found = heat(np.array([[0.0, 2.0, 4.0, 9.0]]), 4.0)
        assert found.dtype == np.uint8
        assert [tuple(colour) for colour in found[0].tolist()] == [COLOURS[0], COLOURS[2], COLOURS[4], COLOURS[4]]

    def test_between_two_colours(self) -> None:
        (colour,) = heat(np.array([[0.5]]), 4.0)[0].tolist()
        assert colour == [40, 15, 80]

    def test_nothing_but_zeros(self) -> None:
        assert (heat(np.zeros((2, 3)), 0.0) == COLOURS[0]).all()

    def test_it_grows_lighter(self) -> None:
        gray = heat(np.linspace(0, 1, 100)[None], 1.0)[0] @ np.array([0.299, 0.587, 0.114])
        assert all(low <= high + 0.5 for low, high in pairwise(gray))
        assert gradient().startswith("linear-gradient(to right, rgb(10, 10, 40), rgb(70, 20, 120)")
