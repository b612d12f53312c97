"""The encoder's search for better codes of a hyperprior model: where the targets of their choice move.

Each move goes against the gradient of the distortion at the decoded latent, over its curvature, and a little towards
that latent. Where an eye is most sensitive the gradient is many times that of other places, and of fine qualities' far
more than codes can follow: no element moves further than a part of a step.

The curvature that the mixture's w stands for is a mean of the training. Quantising is a trial step, and the first look
at its picture says what it did: by how much the curvature is larger at a site, and in a channel (`ratios`). Later
choices weigh distances by it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.mixture import LATENT_UNIT
from gmvqzip.entropy.prior import Piece

_DESCENT, _LIMIT, _PULL = 0.15, 0.25, 0.1  # of the first move: down the gradient, at most (steps), to the latent
_AFTER_GOOD, _AFTER_BAD = 0.7, 0.4  # of a move's size, that of the next
_SITE, _CHANNEL = (1.0, 4.0), (0.4, 3.0)  # least and largest ratios of curvatures
_DOUBT = 4.0  # mean channels' worth of evidence that a channel's curvature is as expected
Floats = NDArray[np.float32]


class Search:
    """Targets of several pictures, each with a course of its own: one that a move made worse goes back."""

    def __init__(self, targets: Floats, curvatures: Floats) -> None:
        """targets: the first ones [B, H, W, M]; curvatures: of the cost [M], in the unit of its gradient."""
        self.best: list[Piece] = []
        self._targets = self._best_targets = targets
        self._gradient = np.zeros_like(targets)
        self._curvatures = curvatures
        self.ratios = np.ones_like(targets)  # of the curvature to the expected one, [B, H, W, M]
        self._sizes = np.ones(len(targets), np.float32)
        self._costs = np.full(len(targets), np.inf)
        self._good = np.ones(len(targets), bool)  # where the last move was

    def look(self, chosen: list[Piece], costs: NDArray[np.float64], gradient: Floats) -> None:
        """Take note of the codes of the targets, their costs [B], and the gradient of these at the decoded latents."""
        first = not self.best
        if first:
            self.ratios = _ratios(_decoded(chosen) - self._targets, gradient, self._curvatures)
        self._good = good = costs < self._costs
        self._good |= first
        self.best = [new if better else old for better, new, old in zip(good, chosen, self.best or chosen, strict=True)]
        self._costs = np.minimum(costs, self._costs)
        here = good[:, None, None, None]
        self._best_targets = np.where(here, self._targets, self._best_targets)
        self._gradient = np.where(here, gradient, self._gradient)
        if not first:
            self._sizes *= np.where(good, _AFTER_GOOD, _AFTER_BAD).astype(np.float32)

    def move(self) -> Floats:
        """The next targets."""
        descent = np.float32(_DESCENT) * self._gradient / (self._curvatures * self.ratios)
        move = np.clip(descent, -_LIMIT, _LIMIT) + _PULL * (self._best_targets - _decoded(self.best))
        self._targets = self._best_targets - self._sizes[:, None, None, None] * move
        return self._targets

    def last(self, chosen: list[Piece]) -> list[Piece]:
        """The codes of the last targets, of which nobody has looked at the picture, where the move before was good;
        the best ones where not."""
        return [new if good else old for good, new, old in zip(self._good, chosen, self.best, strict=True)]

    def better(self, chosen: list[Piece], costs: NDArray[np.float64]) -> list[Piece]:
        """The codes of the last targets where they cost less than the best ones, and these where not."""
        return [new if less else old for less, new, old in zip(costs < self._costs, chosen, self.best, strict=True)]


def _decoded(pieces: list[Piece]) -> Floats:
    """Decoded latents [B, H, W, M], in steps."""
    return np.stack([piece.latent for piece in pieces]).astype(np.float32) / np.float32(LATENT_UNIT)


def _ratios(step: Floats, gradient: Floats, expected: Floats) -> Floats:
    """Curvatures [B, H, W, M] over the expected ones [M], each a site's times a channel's, from the gradient after a
    step from where the distortion is least.

    Of a quadratic form with the diagonal c, the mean of step * gradient over steps of independent signs is that of
    c * step^2. Summed over channels, or sites, it is taken for it.
    """
    found, form = step * gradient, np.square(step) * expected
    tiny = np.finfo(np.float32).tiny
    sites = (found.sum(3, keepdims=True) / (form.sum(3, keepdims=True) + tiny)).clip(*_SITE)
    found, form = found.sum((1, 2), keepdims=True), (form * sites).sum((1, 2), keepdims=True)
    doubt = np.float32(_DOUBT) * form.mean(3, keepdims=True) + tiny
    ratios: Floats = sites * ((found + doubt) / (form + doubt)).clip(*_CHANNEL)
    return ratios
