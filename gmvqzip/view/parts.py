"""The parts of a file's codes that a person can tell apart, and what each site and code of them costs.

A staged model has one part for each stage. A hyperprior model has too many groups to look at one by one: its groups
are added up, those of the hyper-latent, those of each part of the latent, and the latent's also by coding step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.context import PHASES
from gmvqzip.models.hyperconfig import QUARTERS
from gmvqzip.models.kinds import Config

Bits = NDArray[np.float64]

COLOURS = ((10, 10, 40), (70, 20, 120), (180, 40, 100), (240, 120, 40), (255, 245, 170))
"""At evenly spaced values from 0 to the largest: dark blue over red to light yellow, ever lighter, so that gray shows
the order too."""


@dataclass(frozen=True)
class Part:
    """Some of a file's codes."""

    title: str
    bits: Bits  # [rows, columns], ideal code length of all its codes at each site
    stages: range  # numbers of the index arrays that are wholly its own; of a coding step there are none
    codes: int  # how many codes it has, over all sites

    @property
    def total(self) -> float:
        """Ideal code length of the part, in bits."""
        return float(self.bits.sum())


def parts(config: Config, site_bits: Sequence[NDArray[Any]]) -> list[Part]:
    """The parts by codebooks, which are disjoint and hold every code. site_bits: as `Coded.site_bits`."""
    found, first = [], 0
    for title, count in config.parts():
        own = site_bits[first : first + count]
        found.append(Part(title, _sum(own), range(first, first + count), sum(bits.size for bits in own)))
        first += count
    return found


def steps(config: Config, site_bits: Sequence[NDArray[Any]]) -> list[Part]:
    """The coding steps of a hyperprior model's latent, disjoint as well; of a staged model there are none.

    In step s the sites of phase p are given the groups of quarter p xor s.
    """
    if not config.quarter:
        return []
    first = sum(part.count for part in config.hyper)
    quarters = [np.zeros(site_bits[first].shape) for _ in range(QUARTERS)]
    per_site = 0
    for part in config.quarter:
        for quarter in quarters:
            quarter += _sum(site_bits[first : first + part.count])
            first += part.count
        per_site += part.count
    found = []
    for step in range(len(PHASES)):
        bits = np.zeros_like(quarters[0])
        for phase, (row, column) in enumerate(PHASES):
            window = slice(row, None, 2), slice(column, None, 2)
            bits[window] = quarters[phase ^ step][window]
        found.append(Part(f"latent, step {step + 1}", bits, range(0), per_site * bits.size))
    return found


def together(of: Sequence[Part]) -> Bits:
    """Bits of all parts at each site of the finest grid; those of a coarser one spread evenly over its sites."""
    rows = max(part.bits.shape[0] for part in of)
    columns = max(part.bits.shape[1] for part in of)
    total = np.zeros((rows, columns))
    for part in of:
        factor = rows // part.bits.shape[0]
        total += part.bits.repeat(factor, 0).repeat(factor, 1) / factor**2
    return total


@dataclass(frozen=True)
class Usage:
    """How often the codes of one codebook occur."""

    counts: NDArray[np.int64]  # [K], the most frequent code first

    @property
    def used(self) -> int:
        """How many codes occur."""
        return int(np.count_nonzero(self.counts))

    @property
    def entropy(self) -> float:
        """Bits a code would take under a table of these very counts."""
        shares = self.counts[: self.used] / self.counts.sum()
        return float(-(shares * np.log2(shares)).sum()) + 0.0  # not -0.0


def usage(stage: NDArray[Any], codes: int) -> Usage:
    """The usage of one index array [rows, columns] of a codebook of `codes` entries, whatever points they tell."""
    return Usage(np.sort(np.bincount(stage.reshape(-1) % codes, minlength=codes))[::-1])


def _sum(arrays: Sequence[NDArray[Any]]) -> Bits:
    total = np.zeros(arrays[0].shape)
    for array in arrays:
        total += array
    return total


def heat(values: NDArray[Any], top: float) -> NDArray[np.uint8]:
    """The colours [H, W, 3] of values [H, W], 0 to `top`; all that of 0 where `top` is 0."""
    scale = (len(COLOURS) - 1) / top if top > 0 else 0.0
    places = np.clip(values * scale, 0, len(COLOURS) - 1)
    channels = [np.interp(places, range(len(COLOURS)), channel) for channel in zip(*COLOURS, strict=True)]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)


def gradient() -> str:
    """The scale as a CSS gradient, 0 on the left."""
    return f"linear-gradient(to right, {', '.join(f'rgb{colour}' for colour in COLOURS)})"
