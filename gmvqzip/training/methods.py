"""Quantisers by name: a run's configuration with another method, fair to it.

A method brings what its authors gave it besides its equations: dimensions of its codes, the schedule of its
temperature, the form of the reconstruction term; and the settings that a sweep on CIFAR-10 found best
(docs/experiments/quantiser-trials.md), above all that the squared distance of proxies and codes, a mean over
dimensions, weighs as much as the squared error of the picture. Network, data, optimiser and length stay; rate term and
re-seeding are GM-VQ's alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from gmvqzip.errors import TrainingError
from gmvqzip.quantizers import (
    FSQSettings,
    GMVQSettings,
    GumbelSettings,
    LFQSettings,
    MVQSettings,
    QuantizerSettings,
    SimVQSettings,
    SQVAESettings,
    VQSettings,
    WassersteinSettings,
)
from gmvqzip.quantizers.fsq import RECOMMENDED
from gmvqzip.training.config import StagedTraining, TrainConfig

HALF_DATA_VARIANCES = 2 * 0.0633  # of CIFAR-10's pixels in [0, 1]: divides the Gumbel-VQVAE's reconstruction term
ENTROPY_FACTOR = 5.0  # of gamma in "GM-VQ + Entropy"
IDENTITY_GAMMA = 0.05  # of "GM-VQ + identity", VQ-VAE's estimator under GM-VQ's posterior and objective
CODEBOOK_RATE = 0.01  # of codes that gradients of a distance alone move, or almost alone: five times the network's
L2_FACTOR = 10.0  # of the weights of the distance on the unit sphere, where it is at most 4 over all dimensions
L2_DIMENSIONS = 32  # at most, of codes on the unit sphere
_FEW_TOKENS = 240  # below, a masked VQ has 2 units and 3 masks in the place of 4 and 15

OPTIONS: dict[str, dict[str, Any]] = {
    "l2": {"l2": True},
    "replace": {"replace_after": 20},
    "affine": {"affine": 10.0},
    "opt": {"inner_rate": 50.0},
    "ema": {"ema": 0.95},
    "rotation": {"rotation": True},
}
"""What may follow `vqvae+`, in any combination but `ema` with `affine` or `opt`; with the fields that it sets."""


@dataclass(frozen=True)
class _Choice:
    """What a method changes of a configuration."""

    quantizer: QuantizerSettings
    codes: int  # K of each grid
    dimensions: int  # L of each grid
    run: dict[str, Any] = field(default_factory=dict)  # fields of the run


def _vqvae(config: StagedTraining, codes: int, dimensions: int) -> _Choice:
    weight = config.reconstruction_weight
    return _Choice(VQSettings(codebook=weight, commitment=weight), codes, dimensions, {"codebook_rate": CODEBOOK_RATE})


def _sqvae(config: StagedTraining, codes: int, dimensions: int) -> _Choice:
    # exp(-1e-5 step) over the 160,000 steps of the authors' runs on CIFAR-10, as a fraction of the run.
    fall = {"temperature_start": 1.0, "temperature_end": 0.2, "temperature_until": 1.0}
    settings = SQVAESettings(kmeans=True, start_variance=10.0)
    return _Choice(settings, codes, dimensions, {"reconstruction": "log", **fall})


def _gumbel(config: StagedTraining, codes: int, dimensions: int) -> _Choice:
    settings = GumbelSettings(kl=5e-4 * config.reconstruction_weight * HALF_DATA_VARIANCES)
    fall = {"temperature_start": 1.0, "temperature_end": 1 / 16, "temperature_fall": "cosine"}
    return _Choice(settings, codes, dimensions, fall)


def _wasserstein(config: StagedTraining, codes: int, dimensions: int) -> _Choice:
    weight = config.reconstruction_weight
    settings = WassersteinSettings(kmeans=True, codebook=weight, commitment=weight, matching=0.05 * weight)
    return _Choice(settings, codes, dimensions, {"codebook_rate": 0.02})


def _mvq(config: StagedTraining, codes: int, dimensions: int) -> _Choice:
    weight = config.reconstruction_weight
    units = 4 if codes >= _FEW_TOKENS else 2
    settings = MVQSettings(units=units, codebook=weight, commitment=weight)
    codes = max(2, codes // settings.masks) * settings.masks
    return _Choice(settings, codes, dimensions, {"codebook_rate": CODEBOOK_RATE})


def _fsq(config: StagedTraining, codes: int, dimensions: int) -> _Choice:
    levels = RECOMMENDED[max((size for size in RECOMMENDED if size <= codes), default=min(RECOMMENDED))]
    return _Choice(FSQSettings(levels), math.prod(levels), len(levels))


def _simvq(config: StagedTraining, codes: int, dimensions: int) -> _Choice:
    # The start of the table's other rows; without tuning.
    weight = config.reconstruction_weight
    return _Choice(SimVQSettings(kmeans=True, codebook=weight, commitment=weight), codes, dimensions)


def _lfq(config: StagedTraining, codes: int, dimensions: int) -> _Choice:
    bits = max(1, codes.bit_length() - 1)
    settings = LFQSettings(commitment=0.0025 * config.reconstruction_weight)  # 0.25 where the error weighs 100
    return _Choice(settings, 2**bits, bits)


def _own(config: StagedTraining) -> GMVQSettings:
    """The run's own settings of GM-VQ."""
    return config.quantizer if isinstance(config.quantizer, GMVQSettings) else GMVQSettings()


def _gmvq(config: StagedTraining, codes: int, dimensions: int) -> _Choice:
    return _Choice(_own(config), codes, dimensions)


def _gmvq_entropy(config: StagedTraining, codes: int, dimensions: int) -> _Choice:
    settings = _own(config)
    return _Choice(replace(settings, gamma=ENTROPY_FACTOR * settings.gamma), codes, dimensions)


def _gmvq_identity(config: StagedTraining, codes: int, dimensions: int) -> _Choice:
    settings = replace(_own(config), sampling="identity", beta=config.reconstruction_weight, gamma=IDENTITY_GAMMA)
    return _Choice(settings, codes, dimensions, {"sharpness": 1.0, "codebook_rate": CODEBOOK_RATE})


_MAKERS: dict[str, Callable[[StagedTraining, int, int], _Choice]] = {
    "gmvq": _gmvq,
    "gmvq+entropy": _gmvq_entropy,
    "gmvq+identity": _gmvq_identity,
    "vqvae": _vqvae,
    "sqvae": _sqvae,
    "gumbel": _gumbel,
    "wasserstein": _wasserstein,
    "mvq": _mvq,
    "fsq": _fsq,
    "simvq": _simvq,
    "lfq": _lfq,
}
NAMES = tuple(_MAKERS)


def with_quantizer(config: TrainConfig, name: str) -> StagedTraining:
    """The same run with the quantiser of that name: one of `NAMES`, or `vqvae` with options, as `vqvae+l2+replace`.

    A method's number of codes is the grid's, or for `mvq`, `fsq` and `lfq` the nearest below it that they can have.
    Raises TrainingError for a name that does not exist, and where the method does not fit the run.
    """
    base, *options = [name] if name in _MAKERS else name.split("+")
    if base not in _MAKERS or (options and base != "vqvae") or not set(options) <= set(OPTIONS):
        raise TrainingError(
            f"no quantizer {name!r}; there are {', '.join(NAMES)}, and vqvae with {', '.join('+' + o for o in OPTIONS)}"
        )
    if not isinstance(config, StagedTraining):
        raise TrainingError(f"quantizer {name} needs a staged network: choose --preset small or staged")
    grids = []
    for grid in config.network.grids:
        choice = _MAKERS[base](config, grid.codes, grid.dimensions)
        grids.append(replace(grid, codes=choice.codes, dimensions=choice.dimensions))
    settings, run = choice.quantizer, dict(choice.run)
    for option in options:
        settings = replace(settings, **OPTIONS[option])  # type: ignore[type-var]
    if "l2" in options:
        weights = {name: L2_FACTOR * getattr(settings, name) for name in ("codebook", "commitment")}
        settings = replace(settings, **weights)  # type: ignore[type-var]
        grids = [replace(grid, dimensions=min(grid.dimensions, L2_DIMENSIONS)) for grid in grids]
        del run["codebook_rate"]  # on the unit sphere codes move fast enough
    if not isinstance(settings, GMVQSettings):
        run |= {"rate_weight": 0.0, "reseed_every": 0}
    network = replace(config.network, grids=tuple(grids))
    return replace(config, network=network, quantizer=settings, **run)
