"""Which offsets an encoder takes: where no code comes near to a latent, and the picture is the better for it.

Far outside of what a network was trained on, a nearer latent may look worse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.codes import NO_OFFSETS
from gmvqzip.entropy.mixture import LATENT_UNIT
from gmvqzip.entropy.offsets import write_offsets
from gmvqzip.entropy.prior import Piece
from gmvqzip.format.limits import MAX_OFFSET

_CROWD = 3  # offsets of a site; where less than half of all are in crowds, as in photographs, they are kept unseen
Synthesis = Callable[[NDArray[np.int32]], NDArray[np.float32]]


def missed(latent: NDArray[np.float32], piece: Piece, least: NDArray[np.float32]) -> NDArray[np.int32]:
    """The offsets [N, 4] of a piece whose codes are further than `least` [M] from its latent [H, W, M], in steps."""
    apart = latent - piece.latent / np.float32(LATENT_UNIT)
    channel, row, column = np.nonzero((np.abs(apart) > least).transpose(2, 0, 1))
    values = np.rint(apart[row, column, channel]).clip(-MAX_OFFSET, MAX_OFFSET)
    return np.stack([channel, row, column, values], 1).astype(np.int32)


def worthwhile(piece: Piece, pixels: NDArray[np.uint8], synthesise: Synthesis, weight: float) -> Piece:
    """The piece with all of its offsets, with none, or with those around whose sites the picture is the better for
    them: what costs least, as squared error and bits. All of them, where few sites have many.

    pixels: [H, W, 3], what it stands for; synthesise: from a latent to a picture [3, H, W]; weight: bits of a unit of
    squared error, samples in [0, 1].
    """
    rows, columns = piece.latent.shape[:2]
    sites = piece.offsets[:, 1] * columns + piece.offsets[:, 2]
    counts = np.bincount(sites, minlength=1)
    if 2 * counts[counts >= _CROWD].sum() <= len(sites):
        return piece
    bare = _without(piece)
    wanted = pixels.transpose(2, 0, 1).astype(np.float32) / 255

    def errors(some: Piece) -> NDArray[np.float32]:
        squares = np.square(synthesise(some.latent).clip(0, 1) - wanted).sum(0)
        stride = len(squares) // rows
        summed: NDArray[np.float32] = squares.reshape(rows, stride, columns, stride).sum((1, 3))
        return summed

    def cost(some: Piece, squares: NDArray[np.float32]) -> float:
        taken = 8 * len(write_offsets(some.offsets, rows, columns)) if len(some.offsets) else 0
        return weight * float(squares.sum()) + taken

    found = [(one, errors(one)) for one in (bare, piece)]
    gains = _around(found[0][1] - found[1][1])
    kept = piece.offsets[gains[piece.offsets[:, 1], piece.offsets[:, 2]] > 0]
    if 0 < len(kept) < len(piece.offsets):
        part = bare.with_offsets(kept)
        found.append((part, errors(part)))
    return min(found, key=lambda one: cost(*one))[0]


def _without(piece: Piece) -> Piece:
    latent = piece.latent.copy()
    channel, row, column, value = piece.offsets.T
    latent[row, column, channel] -= LATENT_UNIT * value
    return replace(piece, latent=latent, offsets=NO_OFFSETS)


def _around(sites: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums over the 3x3 sites around each."""
    padded = np.pad(sites, 1)
    sums: NDArray[np.float32] = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).sum((2, 3))
    return sums
