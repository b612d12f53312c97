"""The moves of the encoder's search: bounded, taken back where they were bad, picture by picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gmvqzip.engines import search
from gmvqzip.engines.search import Search
from gmvqzip.entropy.mixture import LATENT_UNIT
from gmvqzip.entropy.prior import Piece

SHAPE = (2, 3, 4, 8)  # pictures, rows, columns, channels


def pieces(latents: Any) -> list[Piece]:
    return [Piece((), (), np.rint(LATENT_UNIT * latent).astype(np.int32)) for latent in latents]


def begun(gradient: float) -> tuple[Search, np.ndarray, list[Piece]]:
    chosen = pieces(np.random.default_rng(0).normal(0, 1, SHAPE))
    targets = np.stack([piece.latent for piece in chosen]).astype(np.float32) / LATENT_UNIT
    made = Search(targets, np.ones(SHAPE[-1], np.float32))
    made.look(chosen, np.array([10.0, 10.0]), np.full(SHAPE, gradient, np.float32))
    return made, targets, chosen


def test_moves_go_down_and_no_further_than_a_part_of_a_step() -> None:
    made, targets, _ = begun(0.1)
    assert np.allclose(made.move() - targets, -0.1 * search._DESCENT, atol=1e-6)
    made, targets, _ = begun(1e6)
    assert np.allclose(made.move() - targets, -search._LIMIT, atol=1e-6)


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


def test_curvatures_are_measured_by_the_first_step() -> None:
    """Of a quadratic form, those of sites and, half believed, of channels; moves are shorter there."""
    generator = np.random.default_rng(1)
    shape = (1, 24, 32, 64)
    site = generator.choice([1.0, 1.5, 3.0], shape[:3])[..., None]
    channel = generator.choice([0.9, 1.5], shape[3])
    steps = generator.choice([-0.4, 0.4], shape)
    expected = np.full(shape[3], 7, np.float32)
    gradient = (expected * site * channel * steps).astype(np.float32)
    targets = generator.normal(0, 1, shape).astype(np.float32)
    made = Search(targets, expected)
    made.look(pieces(targets + steps), np.array([10.0]), gradient)
    mean = float(channel.mean())  # which is taken for the sites'
    believed = (channel / mean + search._DOUBT) / (1 + search._DOUBT)
    assert made.ratios == pytest.approx(site * mean * believed, rel=0.02)
    moves = -search._DESCENT * gradient / (expected * made.ratios) + search._PULL * steps
    assert np.allclose(made.move() - targets, moves, atol=0.2 / LATENT_UNIT)


def test_curvatures_are_bounded() -> None:
    steps = np.full(SHAPE, 0.5)
    for factor, bound in ((-3.0, 0), (50.0, 1)):
        made = Search(np.zeros(SHAPE, np.float32), np.ones(SHAPE[-1], np.float32))
        made.look(pieces(steps), np.array([10.0, 10.0]), (factor * steps).astype(np.float32))
        assert made.ratios == pytest.approx(search._SITE[bound] * search._CHANNEL[bound])


def test_without_a_step_curvatures_are_as_expected() -> None:
    made, _, _ = begun(0.1)
    assert (made.ratios == 1).all()
