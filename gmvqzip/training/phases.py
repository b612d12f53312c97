"""The phases of a hyperprior model's training, as data."""

from __future__ import annotations

from dataclasses import dataclass

from gmvqzip.training.config import HyperpriorTraining
from gmvqzip.training.optim import rate_factor


@dataclass(frozen=True)
class Phase:
    """A part of a run, from `begin` to `end` as fractions of it."""

    name: str
    begin: float
    end: float
    network_rate: float  # of the network, in units of the peaks; 0: frozen
    scalar: bool = False  # scalar rounding in the place of codebooks
    hold: float | None = None  # fraction of the phase after which the rates fall; None: they stay as they are
    averaged: bool = True  # a running average of the weights, over its second half
    pulled: bool = False  # codewords and residuals pull each other: their distance is in the loss

    def shape(self, progress: float, config: HyperpriorTraining) -> float:
        """The rates at `progress` of the run, in units of the phase's."""
        if self.hold is None:
            return 1.0
        done = (progress - self.begin) / (self.end - self.begin)
        return rate_factor(done, warmup=config.warmup, hold=self.hold, floor=config.floor, cosine=config.cosine)


def phases(config: HyperpriorTraining) -> tuple[Phase, ...]:
    """The transform, the prior of its codes, everything together; see `hyperprior`."""
    scalar, prior = config.scalar_until, config.prior_until
    return (
        Phase("scalar", 0.0, scalar, network_rate=1.0, scalar=True, hold=config.hold),
        Phase("prior", scalar, prior, network_rate=0.0, averaged=False),
        Phase("codes", prior, 1.0, network_rate=config.code_rate, hold=0.0, pulled=True),
    )
