"""The moves of the encoder's search: bounded, taken back where they were bad, picture by picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from gmvqzip.engines import search
from gmvqzip.engines.search import Search
from gmvqzip.entropy.mixture import LATENT_UNIT
from gmvqzip.entropy.prior import Piece

SHAPE = (2, 3, 4, 8)  # pictures, rows, columns, channels


def pieces(latents: Any) -> list[Piece]:
    return [Piece((), (), np.rint(LATENT_UNIT * latent).astype(np.int32)) for latent in latents]


def begun(gradient: float) -> tuple[Search, np.ndarray, list[Piece]]:
    targets = np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32)
    chosen = pieces(targets)
    made = Search(targets, np.ones(SHAPE[-1], np.float32))
    made.look(chosen, np.array([10.0, 10.0]), np.full(SHAPE, gradient, np.float32))
    return made, targets, chosen


def test_moves_go_down_and_no_further_than_a_part_of_a_step() -> None:
    made, targets, _ = begun(0.1)
    assert np.allclose(made.move() - targets, -0.1 * search._DESCENT, atol=0.1 * 1 / LATENT_UNIT)
    made, targets, _ = begun(1e6)
    assert np.allclose(made.move() - targets, -search._LIMIT, atol=0.1 * 1 / LATENT_UNIT)


def test_each_picture_has_a_course_of_its_own() -> None:
    made, targets, chosen = begun(1e6)
    moved = made.move()
    others = pieces(moved)
    made.look(others, np.array([9.0, 11.0]), np.full(SHAPE, -1e6, np.float32))  # better, worse
    assert made.best == [others[0], chosen[1]]
    following = made.move()
    assert (following[0] > moved[0]).all()  # on from there, along the new gradient
    assert ((following[1] < targets[1]) & (following[1] > moved[1])).all()  # back, and less far along the old one
    last = pieces(following)
    assert made.last(last) == [last[0], chosen[1]]
    assert made.better(last, np.array([9.5, 9.5])) == [others[0], last[1]]
