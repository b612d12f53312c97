"""The configuration of a training run: a record for each kind of model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from gmvqzip.errors import GmvqError, TrainingError
from gmvqzip.models.config import NetworkConfig
from gmvqzip.models.hyperconfig import HyperpriorConfig
from gmvqzip.models.kinds import KINDS, named, read_config
from gmvqzip.quantizers import METHODS, GMVQSettings, QuantizerSettings
from gmvqzip.training.checks import check_choices, check_ranges, check_types
from gmvqzip.training.precision import PRECISIONS

_POSITIVE = (
    "crop", "batch_size", "steps", "epochs", "seconds", "clip", "temperature_start", "temperature_end", "entropy_until",
    "open_steps", "sharpness", "evaluate_every", "evaluate_images",
)  # fmt: skip
_FRACTIONS = (
    "warmup", "hold", "floor", "temperature_until", "hard_after", "entropy_until", "rate_from", "rate_full",
    "ema_decay", "scalar_until", "prior_until",
)  # fmt: skip
_SEEDS = 2**63  # that torch's generators take
_CHOICES = {
    "precision": PRECISIONS,
    "optimizer": ("muon", "adamw"),
    "dataset": ("cifar10", "celeba", "folder"),
}
_STAGED_CHOICES = {"reconstruction": ("mse", "log"), "temperature_fall": ("exponential", "cosine")}
FROM_SCRATCH = "none"  # as a start


def is_checkpoint(start: str) -> bool:
    """Whether a run is to start from the checkpoint of another one, not from a model."""
    return start.endswith(".pt")


# What a hyperprior run has in the place of its preset's own settings: from a model, from a checkpoint.
_TUNING = {
    "batch_size": 6,
    "scalar_until": 0.0,
    "prior_until": 0.0,
    "code_rate": 1.0,
    "muon_rate": 1.2e-3,
    "adam_rate": 6e-4,
    "weight_decay": 0.0,
    "warmup": 0.02,
}
_BRANCH = {"scalar_until": 0.8, "prior_until": 0.815, "warmup": 0.02, "hold": 0.0, "floor": 0.01, "ema_decay": 0.99}


@dataclass(frozen=True)
class TrainConfig:
    """What decides a run's result, apart from the data, for every kind of model. Fractions are of the whole run."""

    network: NetworkConfig | HyperpriorConfig
    dataset: str = "folder"  # cifar10, celeba or folder
    start: str = FROM_SCRATCH  # model of the same network by name or path, or a run's checkpoint; or none
    crop: int | None = None  # side of the training crops in pixels; None keeps the data set's own size
    batch_size: int = 64  # pictures a step
    steps: int | None = 2000  # length of the run in steps; exactly one of steps, epochs and seconds is set
    epochs: float | None = None  # length of the run in passes over the training set
    seconds: float | None = None  # length of the run in seconds, from its beginning to the written model
    seed: int = 0
    precision: str = "auto"  # of convolutions and Muon's products: bf16, fp32, or the faster; quantisers are float32
    optimizer: str = "muon"  # muon (AdamW for what is not a wide convolution) or adamw
    muon_rate: float = 0.005  # peak learning rate of Muon
    adam_rate: float = 2e-3  # peak learning rate of AdamW
    weight_decay: float = 0.0  # of network and codebook alike; of a hyperprior, of what Muon moves
    warmup: float = 0.02  # fraction of the run with rising learning rate
    hold: float = 0.4  # fraction after which the rate falls
    floor: float = 0.02  # last learning rate as a fraction of the peak
    cosine: bool = False  # fall along a cosine instead of a line
    clip: float = 2.0  # largest norm of the gradient of AdamW's parameters
    ema_decay: float = 0.998  # of the weights, over the second half of the run
    evaluate_every: int | None = None  # steps between evaluations on validation pictures; None: by time, 5 % at most
    evaluate_images: int = 256  # validation pictures at most in an evaluation

    def __post_init__(self) -> None:
        check_types(self)
        if sum(length is not None for length in (self.steps, self.epochs, self.seconds)) != 1:
            raise TrainingError("give exactly one of steps, epochs and seconds")
        check_choices(self, _CHOICES)
        check_ranges(self, _POSITIVE, _FRACTIONS)
        if self.seed >= _SEEDS:
            raise TrainingError(f"seed must be below {_SEEDS}")

    def with_length(self, *, steps: int | None, epochs: float | None, seconds: float | None) -> Self:
        """The same run with another length; exactly one argument is given."""
        return replace(self, steps=steps, epochs=epochs, seconds=seconds)

    def started(self, start: str) -> Self:
        """The same run from a trained model, under a schedule that suits it; or as it is, from nothing."""
        return replace(self, start=start, **({} if start == FROM_SCRATCH else self.tuning(start)))

    def tuning(self, start: str) -> dict[str, Any]:
        """What a run from a model, or from a checkpoint, has in the place of a preset's own settings."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `config_from_dict` reads it back."""
        return asdict(self)


@dataclass(frozen=True)
class StagedTraining(TrainConfig):
    """The training of a staged model."""

    network: NetworkConfig
    quantizer: QuantizerSettings = field(default_factory=GMVQSettings)
    codebook_rate: float | None = None  # peak learning rate of the codebooks; None: adam_rate
    reconstruction: str = "mse"  # mse: the mean squared error; log: half its logarithm, SQ-VAE's, which has no weight
    reconstruction_weight: float = 100.0  # factor of the mean squared error in [0, 1]
    temperature_start: float = 2.0  # tau of the Gumbel-softmax at the beginning
    temperature_end: float = 0.1  # tau at the end of its fall
    temperature_until: float = 0.8  # fraction at which tau ends its fall
    temperature_fall: str = "exponential"  # shape of the fall: exponential or cosine
    hard_after: float = 0.8  # fraction after which sampling is straight-through without noise
    entropy_until: float = 1.0  # fraction over which gamma fades linearly to zero; 1 keeps it constant
    rate_weight: float = 0.0  # weight of the bits per pixel of all stages under their learned priors; 0: no rate term
    rate_from: float = 0.15  # fraction of the run at which the rate term and the priors begin to come in
    rate_full: float = 0.4  # fraction at which the rate term has its full weight
    reseed_every: int = 0  # steps between re-seedings of dead codes, until the rate term has its full weight; 0: never
    open_steps: int = 80  # steps of each stage as a plain autoencoder before its k-means start
    sharpness: float = 1.0  # precision of the start, in units of 1 / mean squared quantisation error
    prior_images: int = 0  # training pictures whose codes make a staged model's tables; 0: all

    def __post_init__(self) -> None:
        super().__post_init__()
        check_types(self.quantizer, "quantizer.")
        check_choices(self, _STAGED_CHOICES)
        check_ranges(self.quantizer, self.quantizer.positive, self.quantizer.fractions, "quantizer.")
        if not isinstance(self.quantizer, GMVQSettings) and (self.rate_weight or self.reseed_every):
            raise TrainingError(f"quantizer {self.quantizer.method} has no rate_weight and no reseed_every")
        for grid in self.network.grids:
            try:
                self.quantizer.check(grid.codes, grid.dimensions)
            except ValueError as error:
                raise TrainingError(f"quantizer.{error}") from None

    def tuning(self, start: str) -> dict[str, Any]:
        """See `TrainConfig`; there is none for a checkpoint, which a staged model does not start from."""
        if is_checkpoint(start):
            return {}
        return {
            "muon_rate": 0.3 * self.muon_rate,
            "adam_rate": 0.3 * self.adam_rate,
            "hold": 0.0,
            "temperature_start": self.temperature_end,
            "hard_after": 0.0,
            "rate_from": 0.0,
            "rate_full": 0.0,
            "reseed_every": 0,
        }

    def to_dict(self) -> dict[str, Any]:
        """See `TrainConfig`."""
        values = asdict(self)
        values["quantizer"]["method"] = self.quantizer.method
        return values


@dataclass(frozen=True)
class HyperpriorTraining(TrainConfig):
    """The training of a hyperprior model, whose phases `phases` has."""

    network: HyperpriorConfig
    scalar_until: float = 0.7  # fraction of the run that trains the transform under scalar rounding
    prior_until: float = 0.75  # fraction until which the mixtures train alone
    code_rate: float = 0.2  # learning rates after that, in units of the peaks

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scalar_until <= self.prior_until < 1:
            raise TrainingError("scalar_until must not be above prior_until, which must be below 1")

    def tuning(self, start: str) -> dict[str, Any]:
        """See `TrainConfig`."""
        if is_checkpoint(start):
            return ({"steps": 8000} if self.steps is not None else {}) | _BRANCH
        return ({"steps": 3000} if self.steps is not None else {}) | _TUNING


def _names(record: type[TrainConfig]) -> set[str]:
    return {item.name for item in fields(record)}


FIELDS = _names(StagedTraining) | _names(HyperpriorTraining)


def config_from_dict(data: Mapping[str, Any], *, stored: bool = False) -> TrainConfig:
    """Read a configuration. Raises TrainingError for fields that are unknown or of another kind of model, or values
    that make no sense.

    stored: in a checkpoint or card, where fields of all kinds were once written: those of others are left out.
    """
    unknown = set(data) - FIELDS
    if unknown:
        raise TrainingError(f"unknown fields in the training configuration: {', '.join(sorted(unknown))}")
    try:
        network = read_config(data["network"])
        record = named(KINDS[network.kind].training)
        others = set(data) - _names(record)
        if others and not stored:
            raise TrainingError(f"the training of a {network.kind} model has no {', no '.join(sorted(others))}")
        values = {name: value for name, value in data.items() if name not in others} | {"network": network}
        if "quantizer" in values:
            values["quantizer"] = _read_quantizer(values["quantizer"])
        if "steps" not in values and ("epochs" in values or "seconds" in values):
            values["steps"] = None
        config: TrainConfig = record(**values)
        return config
    except (TypeError, KeyError) as error:
        raise TrainingError(f"training configuration is incomplete or malformed: {error}") from None
    except GmvqError as error:
        raise TrainingError(str(error)) from None


def _read_quantizer(data: Mapping[str, Any]) -> QuantizerSettings:
    if not isinstance(data, Mapping):
        raise TypeError("quantizer is not a table of fields")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    method = values.pop("method", GMVQSettings.method)
    if method not in METHODS:
        raise TrainingError(f"quantizer.method must be one of {', '.join(METHODS)}, not {method!r}")
    return METHODS[method](**values)
