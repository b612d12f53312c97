"""The experiments of reproduce.py: which runs there are, and how each is configured."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from gmvqzip.errors import TrainingError
from gmvqzip.models.config import NetworkConfig
from gmvqzip.training.config import TrainConfig
from gmvqzip.training.methods import with_quantizer
from gmvqzip.training.presets import preset

PRESETS = {"cifar10": "paper-cifar10", "celeba128": "paper-celeba"}
COMPACT = {"cifar10": "compact-cifar10", "celeba128": "compact-celeba"}  # of the experiment `paper`, full_length.py's
PRIOR_IMAGES = {"cifar10": 8192, "celeba128": 512}  # of the training part, 512 codes for each entry of a table


@dataclass(frozen=True)
class Row:
    """A run: quantiser by name, codes of the grid (the network's own if 0), fields that differ from its settings."""

    quantizer: str
    codes: int = 0
    changes: dict[str, Any] = field(default_factory=dict)


def _named(*names: str) -> dict[str, Row]:
    return {name: Row(name) for name in names}


def _gmvq(**changes: Any) -> Row:
    return Row("gmvq", changes={name.replace("__", "."): value for name, value in changes.items()})


def _identity(**changes: Any) -> Row:
    return _gmvq(**{"quantizer__sampling": "identity", "quantizer__beta": 100.0, "sharpness": 1.0} | changes)


def _sweep(quantizer: str, base: dict[str, Any], *settings: dict[str, Any]) -> dict[str, Row]:
    """The method with each of some settings beside those of the base, the run's own where there is a dot before."""
    rows = {}
    for one in settings:
        fields = {name.lstrip(".") if name[0] == "." else f"quantizer.{name}": v for name, v in (base | one).items()}
        name = ", ".join([quantizer, *(f"{name.lstrip('.')} {value}" for name, value in one.items())])
        rows[name] = Row(quantizer, changes=fields)
    return rows


# The weights of eq. (3) are in the run's units: 6.33 is 1 beside an error over the variance of the data.
_WEIGHTS: dict[str, Any] = {"codebook": 6.33, "commitment": 1.58, ".codebook_rate": None}
_WEAK = {"codebook": 1.0, "commitment": 0.1, "kmeans": False}
_SAMPLING = {".hard_after": 0.8, ".temperature_until": 0.8, ".sharpness": 1.0}
SWEEPS = (
    _sweep(
        "vqvae", _WEIGHTS, {"commitment": 0.4}, {"commitment": 1.58}, {"commitment": 6.33}, {"commitment": 25.0},
        {"commitment": 100.0}, {"commitment": 100.0, "codebook": 100.0}, {"commitment": 1.58, "kmeans": False},
        {"commitment": 300.0, "codebook": 300.0},
        {"commitment": 100.0, "codebook": 100.0, ".codebook_rate": 0.01},
        {"commitment": 100.0, "codebook": 100.0, ".codebook_rate": 0.03},
    )
    | _sweep(
        "vqvae+l2", _WEIGHTS, {"commitment": 1.58, "codebook": 6.33}, {"commitment": 6.33, "codebook": 6.33},
        {"commitment": 6.33, "codebook": 25.0}, {"commitment": 100.0, "codebook": 100.0},
        {"commitment": 1000.0, "codebook": 1000.0}, {"commitment": 1000.0, "codebook": 1000.0, ".codebook_rate": 0.01},
    )
    | _sweep(
        "vqvae+replace", _WEIGHTS, {"replace_after": 20, "commitment": 1.58}, {"replace_after": 50, "commitment": 1.58},
        {"replace_after": 100, "commitment": 1.58}, {"replace_after": 50, "commitment": 6.33},
        {"replace_after": 20, "commitment": 100.0, "codebook": 100.0},
    )
    | _sweep(
        "vqvae+affine", _WEIGHTS, {"affine": 2.0, "commitment": 1.58}, {"affine": 10.0, "commitment": 1.58},
        {"affine": 10.0, "commitment": 6.33}, {"affine": 10.0, "commitment": 25.0},
        {"affine": 10.0, "commitment": 100.0, "codebook": 100.0},
        {"affine": 10.0, "commitment": 100.0, "codebook": 100.0, ".codebook_rate": 0.01},
    )
    | _sweep(
        "vqvae+opt", _WEIGHTS, {"inner_rate": 50.0, "commitment": 0.0}, {"inner_rate": 10.0, "commitment": 0.0},
        {"inner_rate": 50.0, "commitment": 1.58}, {"inner_rate": 50.0, "commitment": 6.33},
        {"inner_rate": 50.0, "commitment": 100.0},
    )
    | _sweep(
        "vqvae+ema", _WEIGHTS, {"ema": 0.99, "commitment": 1.58}, {"ema": 0.99, "commitment": 6.33},
        {"ema": 0.95, "commitment": 1.58}, {"ema": 0.95, "commitment": 100.0},
    )
    | _sweep(
        "sqvae", {"kmeans": False}, {"start_variance": 20.0}, {"start_variance": 5.0}, {"start_variance": 1.0},
        {"start_variance": 0.1},
        {"start_variance": 20.0, "variance": "site"}, {"start_variance": 0.1, "variance": "site"},
        {"start_variance": 0.2, "kmeans": True}, {"start_variance": 1.0, "kmeans": True},
        {"start_variance": 5.0, "kmeans": True}, {"start_variance": 10.0, "kmeans": True},
        {"start_variance": 20.0, "kmeans": True}, {"start_variance": 10.0, "kmeans": True, ".codebook_rate": 0.01},
    )
    | _sweep(
        "gumbel", {}, {"kl": 0.0}, {"kl": 0.006}, {"kl": 0.02}, {"kl": 0.006, ".codebook_rate": 0.01},
        {"kl": 0.006, ".temperature_end": 0.3},
    )
    | _sweep(
        "wasserstein", _WEAK, {"matching": 0.5}, {"matching": 3.0},
        {"matching": 0.5, "kmeans": True, "codebook": 6.33, "commitment": 6.33},
        {"matching": 0.5, "kmeans": True, "codebook": 100.0, "commitment": 100.0},
        {"matching": 5.0, "kmeans": True, "codebook": 100.0, "commitment": 100.0},
        {"matching": 50.0, "kmeans": True, "codebook": 100.0, "commitment": 100.0},
        {"matching": 5.0, "kmeans": True, "codebook": 100.0, "commitment": 100.0, ".codebook_rate": None},
    )
    | _sweep(
        "mvq", _WEIGHTS, {"commitment": 1.58}, {"commitment": 6.33}, {"commitment": 100.0, "codebook": 100.0},
        {"commitment": 100.0, "codebook": 100.0, ".codebook_rate": 0.01},
    )
    | _sweep(
        "gmvq", _SAMPLING, {"gamma": 0.02, "beta": 0.1}, {"gamma": 0.05, "beta": 0.1}, {"gamma": 0.05, "beta": 1.0},
        {"gamma": 0.05, "beta": 6.4}, {"gamma": 0.05, "beta": 0.1, ".hard_after": 0.3},
        {"gamma": 0.05, "beta": 6.4, ".hard_after": 1.0, ".temperature_until": 1.0},
        {"gamma": 0.05, "beta": 25.0, ".hard_after": 1.0, ".temperature_until": 1.0},
        {"gamma": 0.05, "beta": 6.4, ".hard_after": 1.0, ".temperature_until": 1.0, ".codebook_rate": 0.0005},
        {"gamma": 0.05, "beta": 1.0, ".temperature_start": 0.5},
        {"gamma": 0.05, "beta": 6.4, "sampling": "identity"}, {"gamma": 0.05, "beta": 25.0, "sampling": "identity"},
        {"gamma": 0.05, "beta": 100.0, "sampling": "identity"},
        {"gamma": 0.05, "beta": 300.0, "sampling": "identity"}, {"gamma": 0.02, "beta": 100.0, "sampling": "identity"},
        {"gamma": 0.1, "beta": 300.0, "sampling": "identity"}, {"gamma": 0.1, "beta": 1000.0, "sampling": "identity"},
        {"gamma": 0.05, "beta": 6.4, ".codebook_rate": 0.01}, {"gamma": 0.05, "beta": 6.4, ".codebook_rate": 0.0005},
        {"gamma": 0.05, "beta": 25.0, ".hard_after": 1.0, ".temperature_until": 1.0, ".sharpness": 0.2},
        {"gamma": 0.05, "beta": 25.0, ".hard_after": 1.0, ".temperature_until": 1.0, ".sharpness": 0.05},
        {"gamma": 0.05, "beta": 100.0, ".hard_after": 1.0, ".temperature_until": 1.0},
        {"gamma": 0.02, "beta": 100.0, ".hard_after": 1.0, ".temperature_until": 1.0},
        {"gamma": 0.02, "beta": 300.0, "sampling": "identity"},
        {"gamma": 0.05, "beta": 100.0, "sampling": "identity", ".codebook_rate": 0.01},
        {"gamma": 0.1, "beta": 100.0, "sampling": "identity", ".codebook_rate": 0.01},
        {"gamma": 0.05, "beta": 100.0, "sampling": "identity", ".codebook_rate": 0.03},
    )
)  # fmt: skip
EXPERIMENTS: dict[str, dict[str, Row]] = {
    "table1": _named(
        "vqvae", "vqvae+l2", "vqvae+replace", "vqvae+l2+replace", "vqvae+affine", "vqvae+opt", "vqvae+affine+opt",
        "sqvae", "gumbel", "gmvq", "gmvq+entropy", "gmvq+identity", "vqvae+ema", "wasserstein", "mvq", "fsq",
    ) | {
        "vqvae, weights as published, random start": SWEEPS["vqvae, commitment 1.58, kmeans False"],
        "wasserstein, matching 0.5": Row("wasserstein", changes={"quantizer.matching": 0.5}),
        "wasserstein, matching 50": Row("wasserstein", changes={"quantizer.matching": 50.0}),
    },
    "paper": _named(
        "vqvae", "gmvq", "gmvq+entropy", "vqvae+replace", "vqvae+l2", "sqvae", "gumbel", "gmvq+identity", "wasserstein",
        "mvq",
    ) | {f"gmvq, gamma {weight:g}": _gmvq(quantizer__gamma=weight) for weight in (0.0, 0.005, 0.05, 0.2)} | {
        "gmvq, noise of eq. 18": _gmvq(quantizer__noise=True),
        "gmvq, plain ELBO": _gmvq(quantizer__gamma=0.0, quantizer__conditional=0.02),
        "vqvae, weights as published, random start": SWEEPS["vqvae, commitment 1.58, kmeans False"],
    },
    "sweeps": SWEEPS,
    "entropy": {
        f"gamma={weight:g}": _gmvq(quantizer__gamma=weight, sharpness=1.0)
        for weight in (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
    },
    "masks": {
        "vqvae, 64 codes": Row("vqvae", codes=64),
        "mvq, 64 codes x 15 masks": Row("mvq", codes=960),
        "vqvae, 960 codes": Row("vqvae", codes=960),
    },
    "ablations": {
        "as it is": _gmvq(),
        "noise of eq. 18": _gmvq(quantizer__noise=True),
        "noise of eq. 18, s^2 = 2": _gmvq(quantizer__noise=True, quantizer__noise_scale=2.0),
        "one weight a site": _gmvq(network__weight_per_dimension=False),
        "weights not learned": _gmvq(quantizer__learned_weights=False),
        "beta 0.1": _gmvq(quantizer__beta=0.1),
        "beta 100": _gmvq(quantizer__beta=100.0),
        "no distance": _gmvq(quantizer__beta=0.0),
        "sharpness 1": _gmvq(sharpness=1.0),
        "rate of the codebook 0.01": _gmvq(codebook_rate=0.01),
        "tau 1 to 0.5": _gmvq(temperature_start=1.0, temperature_end=0.5),
        "tau 1": _gmvq(temperature_start=1.0, temperature_end=1.0),
        "tau 0.5": _gmvq(temperature_start=0.5, temperature_end=0.5),
        "straight-through from 80 %": _gmvq(hard_after=0.8),
        "straight-through from 80 %, entropy fades till then": _gmvq(hard_after=0.8, entropy_until=0.8),
        "no entropy": _gmvq(quantizer__gamma=0.0),
        "plain ELBO": _gmvq(quantizer__gamma=0.0, quantizer__conditional=0.02),
        "plain ELBO + entropy": _gmvq(quantizer__conditional=0.02),
        "batch 16": _gmvq(batch_size=16),
        "batch 128": _gmvq(batch_size=128),
        "batch 16, q_bar over 16 steps": _gmvq(batch_size=16, quantizer__posterior_decay=15 / 16),
        "q_bar over 16 steps": _gmvq(quantizer__posterior_decay=15 / 16),
        "identity, beta 100": _identity(),
        "identity, beta 100, weights not learned": _identity(quantizer__learned_weights=False),
        "identity, beta 100, no entropy": _identity(quantizer__gamma=0.0),
        "identity, beta 100, sharpness 4": _identity(sharpness=4.0),
    },
}  # fmt: skip


def configured(
    kind: str, row: Row, changes: dict[str, Any], seed: int, length: dict[str, Any], presets: dict[str, str] = PRESETS
) -> TrainConfig:
    """The configuration of a run. Raises TrainingError for an unknown field, or a value that does not fit."""
    base = preset(presets[kind])
    if not isinstance(base.network, NetworkConfig):
        raise TrainingError(f"preset {presets[kind]} is not of a staged network")
    if row.codes:
        grids = tuple(replace(grid, codes=row.codes) for grid in base.network.grids)
        base = replace(base, network=replace(base.network, grids=grids))
    config = with_quantizer(base, row.quantizer)
    for name, value in (row.changes | changes).items():
        part, _, last = name.rpartition(".")
        try:
            target = replace(getattr(config, part), **{last: value}) if part else value
            config = replace(config, **{part or name: target})
        except (TypeError, AttributeError) as error:
            raise TrainingError(f"there is no field {name!r} to change: {error}") from None
    every = config.steps or 10**9  # no evaluations on the way: they would count in no budget, and nobody reads them
    lengths: dict[str, Any] = {"steps": None, "epochs": None, "seconds": None} | length
    return replace(
        config,
        seed=seed,
        prior_images=PRIOR_IMAGES[kind],
        **lengths,
        evaluate_every=max(every, length.get("steps", every)),
    )
