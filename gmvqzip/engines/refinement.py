"""Better codes for a staged model than the first choice, which looks at latents alone, never at the decoded picture.

Moving the codeword of a site by d changes the squared error of the decoded picture, to second order, by

    g . d + d' G d

with g its gradient at the codeword and G = J' J, J the slope of the decoder at a site: one matrix [L, L] a stage, taken
as a mean over sites of random codes, so it is a property of the model. A pass proposes for every third site of every
third row the code that makes this least, the bits of the code added at what the model was trained to pay for one; it is
taken where the true error of the 3x3 sites around becomes less, and undone in a picture where the whole becomes more.
The factor of G changes from sweep to sweep, since slopes differ from site to site.

A decoder never needs to know; the number of bits stays what the tables make of the codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gmvqzip.models.network import StagedAutoencoder

Place = tuple[slice, slice]  # rows and columns

PASSES = 3  # of a round: a third of the sites of each stage
_SPACING = 3  # sites that move together are so far apart
_FACTORS = (0.7, 0.5, 1.1)  # of G, sweep after sweep
_PROBE_SITES, _PROBE_SPACING, _PROBE_STEP = 12, 4, 0.3  # grid that G is measured on; step in deviations of the codes
_PROBES = 16  # dimensions that are probed together
_WINDOW, _MARGIN = 512, 8  # pixels of a window's side, and coarsest sites around it that it sees


class Refinement:
    """Refines codes of one network. Thread-safe: it holds what it computed of the network, and no state."""

    def __init__(self, network: StagedAutoencoder, bits: Sequence[Tensor], trade: float) -> None:
        """bits: [K] of each stage, of its codes; trade: the squared error, pixels in [0, 1], that a bit is worth."""
        self.network, self.trade = network, trade
        quantizers = network.quantizers()
        self.books = [q.lookup(torch.arange(q.codes, device=b.device)) for q, b in zip(quantizers, bits, strict=True)]
        self.bits = bits
        self.slopes = [self._slopes(stage) for stage in range(len(self.books))]

    def run(self, images: Tensor, codes: Sequence[Tensor], rounds: int, trade: float = 1.0) -> list[Tensor]:
        """Codes [B, h, w] of each stage as good as `codes` or better for pictures [B, 3, H, W], after so many rounds.

        trade: factor of what a bit is worth. Large pictures are refined in windows, one after another.
        """
        codes = [stage.clone() for stage in codes]
        for window in self._windows(codes[0].shape[1], codes[0].shape[2]):
            self._refine(images, codes, window, rounds, trade * self.trade)
        return codes

    def _windows(self, rows: int, columns: int) -> Iterator[Place]:
        """Rows and columns of the coarsest grid that are refined together."""
        side = max(1, _WINDOW // self.network.config.grids[0].stride)
        for top in range(0, rows, side):
            for left in range(0, columns, side):
                yield slice(top, min(top + side, rows)), slice(left, min(left + side, columns))

    def _refine(self, images: Tensor, codes: list[Tensor], window: Place, rounds: int, trade: float) -> None:
        """Refine the codes of a window in their place, those of a margin standing around."""
        rows, columns = (slice(max(0, part.start - _MARGIN), part.stop + _MARGIN) for part in window)
        seen = rows, columns
        coarsest = self.network.config.grids[0].stride
        inner, around = [], []
        for grid in self.network.config.stages():
            scale = coarsest // grid.stride
            around.append(_cells(seen, scale))
            inner.append(_cells(window, scale))
        own = [stage[(slice(None), *place)] for stage, place in zip(codes, around, strict=True)]
        movable = []
        for stage, within, outside in zip(own, inner, around, strict=True):
            mask = torch.zeros(stage.shape[1:], dtype=torch.bool, device=stage.device)
            mask[tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(within, outside, strict=True))] = True
            movable.append(mask)
        found = self._descend(images[(..., *_cells(seen, coarsest))], own, movable, rounds, trade)
        for stage, place, better in zip(codes, around, found, strict=True):
            stage[(slice(None), *place)] = better

    def _descend(
        self, images: Tensor, codes: list[Tensor], movable: list[Tensor], rounds: int, trade: float
    ) -> list[Tensor]:
        kept = current = list(codes)
        cost, errors, gradients = self._look(images, current, trade)
        for turn in range(PASSES * rounds):
            sweep, place = divmod(turn, _SPACING**2)
            for stage in range(len(self.books)):
                active = torch.zeros_like(movable[stage])
                active[place // _SPACING :: _SPACING, place % _SPACING :: _SPACING] = True
                active &= movable[stage]
                curvature = _FACTORS[sweep % len(_FACTORS)] * self.slopes[stage]
                wanted = self._propose(stage, current[stage], gradients[stage], curvature, trade)
                tried = [*current]
                tried[stage] = torch.where(active, wanted, current[stage])
                with torch.no_grad():
                    new_errors = _squared(
                        self.network.synthesise([b[c] for b, c in zip(self.books, tried, strict=True)]), images
                    )
                gain = _around(errors - new_errors, images.shape[-1] // wanted.shape[-1])
                gain -= trade * (self.bits[stage][tried[stage]] - self.bits[stage][current[stage]])
                current = [*current]
                current[stage] = torch.where(active & (gain > 0), wanted, current[stage])
                new_cost, new_errors, new_gradients = self._look(images, current, trade)
                worse = new_cost > cost
                cost = torch.where(worse, cost, new_cost)
                errors = _chosen(worse, errors, new_errors)
                gradients = [_chosen(worse, a, b) for a, b in zip(gradients, new_gradients, strict=True)]
                current = [_chosen(worse, a, b) for a, b in zip(kept, current, strict=True)]
                kept = current
        return kept

    def _look(self, images: Tensor, codes: list[Tensor], trade: float) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Cost [B] of pictures decoded from codes, their squared errors [B, H, W], and gradients [B, h, w, L]."""
        words = [book[stage].requires_grad_() for book, stage in zip(self.books, codes, strict=True)]
        with torch.enable_grad():
            decoded = self.network.synthesise(words)
            gradients = torch.autograd.grad((decoded - images).square().sum(), words)
        errors = _squared(decoded.detach(), images)
        bits = sum(table[stage].flatten(1).sum(1) for table, stage in zip(self.bits, codes, strict=True))
        return errors.sum((1, 2)) + trade * bits, errors, list(gradients)

    def _propose(self, stage: int, codes: Tensor, gradient: Tensor, curvature: Tensor, trade: float) -> Tensor:
        """The other code [B, h, w] at each site that is best to second order."""
        book = self.books[stage]
        slope = gradient.flatten(0, 2) - 2 * book[codes.flatten()] @ curvature  # of d, without what all codes share
        constant = (book @ curvature * book).sum(1) + trade * self.bits[stage]
        score = torch.addmm(constant, slope, book.t())
        score.scatter_(1, codes.reshape(-1, 1), float("inf"))
        return score.argmin(1).reshape(codes.shape)

    def _slopes(self, stage: int) -> Tensor:
        """G [L, L]: the mean over sites of J' J, for random codes in all stages."""
        grids, device = self.network.config.stages(), self.bits[0].device
        generator = torch.Generator().manual_seed(0)
        words = []
        for grid, book in zip(grids, self.books, strict=True):
            side = max(1, _PROBE_SITES * grids[stage].stride // self.network.config.grids[0].stride)
            side *= self.network.config.grids[0].stride // grid.stride
            codes = torch.randint(len(book), (1, side, side), generator=generator)
            words.append(book[codes.to(device)])
        book = self.books[stage]
        step = _PROBE_STEP * float(book.std(0, unbiased=False).square().mean().sqrt()) or 1.0
        sites = torch.zeros(words[stage].shape[1:3], dtype=book.dtype, device=device)
        sites[_PROBE_SPACING // 2 :: _PROBE_SPACING, _PROBE_SPACING // 2 :: _PROBE_SPACING] = 1
        with torch.no_grad():
            start = self.network.synthesise(words)
            rows = []
            for first in range(0, book.shape[1], _PROBES):
                directions = torch.eye(book.shape[1], dtype=book.dtype, device=device)[first : first + _PROBES]
                moved = [word.expand(len(directions), *word.shape[1:]) for word in words]
                moved[stage] = moved[stage] + step * sites[..., None] * directions[:, None, None]
                rows.append((self.network.synthesise(moved) - start).flatten(1) / step)
        slopes = torch.cat(rows)
        return slopes @ slopes.t() / sites.sum()


def _cells(place: Place, scale: int) -> Place:
    rows, columns = (slice(part.start * scale, part.stop * scale) for part in place)
    return rows, columns


def _squared(decoded: Tensor, images: Tensor) -> Tensor:
    """Squared error [B, H, W] of pictures [B, 3, H, W] as they come out, in 8 bits."""
    return ((decoded * 255).round_() / 255 - images).square().sum(1)


def _around(errors: Tensor, stride: int) -> Tensor:
    """Sums [B, h, w] of errors [B, H, W] over the 3x3 sites, of `stride` pixels along each axis, around each site."""
    sites = F.avg_pool2d(errors[:, None], stride) * stride**2
    return (F.avg_pool2d(sites, _SPACING, 1, _SPACING // 2) * _SPACING**2)[:, 0]


def _chosen(first: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a where `first` [B], else b."""
    return torch.where(first.reshape(-1, *[1] * (a.ndim - 1)), a, b)
