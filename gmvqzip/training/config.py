"""The configuration of a training run, its presets, and its TOML form."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from gmvqzip.errors import GmvqError, TrainingError
from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.hyperconfig import GroupsConfig, HyperpriorConfig
from gmvqzip.models.kinds import read_config
from gmvqzip.quantizers import METHODS, GMVQSettings, QuantizerSettings
from gmvqzip.training.precision import PRECISIONS

_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "str": ((str,), "a text"),
}
_POSITIVE = (
    "crop", "batch_size", "steps", "epochs", "seconds", "clip", "temperature_start", "temperature_end", "entropy_until",
    "open_steps", "sharpness", "evaluate_every", "evaluate_images",
)  # fmt: skip
_FRACTIONS = (
    "warmup", "hold", "floor", "temperature_until", "hard_after", "entropy_until", "rate_from", "rate_full",
    "ema_decay", "scalar_until", "prior_until",
)  # fmt: skip
FROM_SCRATCH = "none"  # as a start


def is_checkpoint(start: str) -> bool:
    """Whether a run is to start from the checkpoint of another one, not from a model."""
    return start.endswith(".pt")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run's result, apart from the data. Fractions are of the whole run."""

    network: NetworkConfig | HyperpriorConfig
    quantizer: QuantizerSettings = field(default_factory=GMVQSettings)
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
    weight_decay: float = 0.0  # of network and codebook alike
    warmup: float = 0.02  # fraction of the run with rising learning rate
    hold: float = 0.4  # fraction after which the rate falls
    floor: float = 0.02  # last learning rate as a fraction of the peak
    cosine: bool = False  # fall along a cosine instead of a line
    clip: float = 2.0  # largest norm of the gradient of AdamW's parameters
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
    scalar_until: float = 0.7  # hyperprior: fraction of the run that trains the transform under scalar rounding
    prior_until: float = 0.75  # hyperprior: fraction until which the mixtures train alone
    code_rate: float = 0.2  # hyperprior: learning rates after that, in units of the peaks
    open_steps: int = 80  # steps of each stage as a plain autoencoder before its k-means start
    sharpness: float = 1.0  # precision of the start, in units of 1 / mean squared quantisation error
    ema_decay: float = 0.998  # of the weights, over the second half of the run
    evaluate_every: int | None = None  # steps between evaluations on validation pictures; None: by time, 5 % at most
    evaluate_images: int = 256  # validation pictures at most in an evaluation
    prior_images: int = 0  # training pictures whose codes make a staged model's tables; 0: all

    def __post_init__(self) -> None:
        _check_types(self)
        _check_types(self.quantizer, "quantizer.")
        if sum(length is not None for length in (self.steps, self.epochs, self.seconds)) != 1:
            raise TrainingError("give exactly one of steps, epochs and seconds")
        for name, value, allowed in (
            ("precision", self.precision, PRECISIONS),
            ("optimizer", self.optimizer, ("muon", "adamw")),
            ("reconstruction", self.reconstruction, ("mse", "log")),
            ("temperature_fall", self.temperature_fall, ("exponential", "cosine")),
            ("dataset", self.dataset, ("cifar10", "celeba", "folder")),
        ):
            if value not in allowed:
                raise TrainingError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
        _check_ranges(self, _POSITIVE, _FRACTIONS)
        if not self.scalar_until <= self.prior_until < 1:
            raise TrainingError("scalar_until must not be above prior_until, which must be below 1")
        _check_ranges(self.quantizer, self.quantizer.positive, self.quantizer.fractions, "quantizer.")
        self._check_quantizer()

    def _check_quantizer(self) -> None:
        """Raise TrainingError where the quantiser fits neither the network nor the objective."""
        plain = isinstance(self.quantizer, GMVQSettings)
        if isinstance(self.network, HyperpriorConfig):
            grids = []
            if not plain:
                raise TrainingError(f"quantizer {self.quantizer.method} needs a staged network, not a hyperprior")
        else:
            grids = [(grid.codes, grid.dimensions) for grid in self.network.grids]
        if not plain and (self.rate_weight or self.reseed_every):
            raise TrainingError(f"quantizer {self.quantizer.method} has no rate_weight and no reseed_every")
        for codes, dimensions in grids:
            try:
                self.quantizer.check(codes, dimensions)
            except ValueError as error:
                raise TrainingError(f"quantizer.{error}") from None

    def with_length(self, *, steps: int | None, epochs: float | None, seconds: float | None) -> TrainConfig:
        """The same run with another length; exactly one argument is given."""
        return replace(self, steps=steps, epochs=epochs, seconds=seconds)

    def started(self, start: str) -> TrainConfig:
        """The same run from a trained model, under a schedule that suits it; or as it is, from nothing."""
        return replace(self, start=start, **({} if start == FROM_SCRATCH else _tuning(self, start)))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `config_from_dict` reads it back."""
        values = asdict(self)
        values["quantizer"]["method"] = self.quantizer.method
        return values


def _check_types(settings: Any, prefix: str = "") -> None:
    """Raise TrainingError for a field that does not hold what it is declared as; a file can put anything there."""
    for item in fields(settings):
        value, declared = getattr(settings, item.name), str(item.type)
        kind = declared.removesuffix(" | None")
        if kind not in _KINDS or (value is None and kind != declared):
            continue
        types, words = _KINDS[kind]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise TrainingError(f"{prefix}{item.name} must be {words}, not {value!r}")


def _check_ranges(settings: Any, positive: Sequence[str], fractions: Sequence[str], prefix: str = "") -> None:
    """Raise TrainingError for numbers that are not finite, negative, zero where named in `positive`, or above 1."""
    for item in fields(settings):
        value = getattr(settings, item.name)
        if not isinstance(value, int | float):
            continue
        if not 0 <= value < math.inf or (value == 0 and item.name in positive):
            raise TrainingError(f"{prefix}{item.name} must be {'above' if item.name in positive else 'at least'} 0")
        if value > 1 and item.name in fractions:
            raise TrainingError(f"{prefix}{item.name} must be at most 1")


def config_from_dict(data: Mapping[str, Any]) -> TrainConfig:
    """Read a configuration. Raises TrainingError for unknown fields, or values that make no sense."""
    unknown = set(data) - {f.name for f in fields(TrainConfig)}
    if unknown:
        raise TrainingError(f"unknown fields in the training configuration: {', '.join(sorted(unknown))}")
    try:
        values = dict(data)
        values["network"] = read_config(data["network"])
        if "quantizer" in data:
            values["quantizer"] = _read_quantizer(data["quantizer"])
        if "steps" not in values and ("epochs" in values or "seconds" in values):
            values["steps"] = None
        return TrainConfig(**values)
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


def read_toml(path: Path) -> dict[str, Any]:
    """The contents of a TOML file. Raises TrainingError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} is not valid TOML: {error}") from None


def load_config(path: Path, start: str | None = None) -> TrainConfig:
    """Read a TOML file with the fields of `TrainConfig`, tables `[network]` and `[quantizer]`, or `preset = NAME`.

    With `preset`, the file's other fields replace the preset's, table by table; a quantiser with a `method` of its own
    replaces the preset's as a whole. start: in the place of the file's, which goes before the preset's own.
    """
    data = read_toml(path)
    name = str(data["preset"]) if "preset" in data else None
    chosen = data["start"] = start or data.get("start", DEFAULT_STARTS.get(name or "", FROM_SCRATCH))
    if name is not None:
        del data["preset"]
        base = preset(name).started(str(chosen)).to_dict()
        if "epochs" in data or "seconds" in data:
            base["steps"] = None
        own = data.get("quantizer")
        if isinstance(own, dict) and own.get("method", base["quantizer"]["method"]) != base["quantizer"]["method"]:
            base["quantizer"] = {}
        for key, value in data.items():
            base[key] = {**base[key], **value} if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        return config_from_dict(base)
    config = config_from_dict(data)
    if chosen == FROM_SCRATCH:
        return config
    given = set(data) | ({"steps"} if "epochs" in data or "seconds" in data else set())
    return replace(config, **{key: value for key, value in _tuning(config, str(chosen)).items() if key not in given})


def preset(name: str) -> TrainConfig:
    """A named configuration. Raises TrainingError with the names that exist."""
    try:
        return PRESETS[name]
    except KeyError:
        raise TrainingError(f"no preset {name!r}; there are {', '.join(PRESETS)}") from None


_BRANCH = {"scalar_until": 0.8, "prior_until": 0.815, "warmup": 0.02, "hold": 0.0, "floor": 0.01, "ema_decay": 0.99}
DEFAULT_STARTS = {"photo": "photo", "faces": "photo"}  # of presets, where nothing else is asked for


def _tuning(config: TrainConfig, start: str) -> dict[str, Any]:
    """What a run from a trained model, or from a checkpoint, has in the place of a preset's own settings."""
    if is_checkpoint(start):
        return ({"steps": 8000} if config.steps is not None else {}) | _BRANCH
    if isinstance(config.network, HyperpriorConfig):
        return ({"steps": 3000} if config.steps is not None else {}) | {
            "batch_size": 6,
            "scalar_until": 0.0,
            "prior_until": 0.0,
            "code_rate": 1.0,
            "muon_rate": 1.2e-3,
            "adam_rate": 6e-4,
            "weight_decay": 0.0,
            "warmup": 0.02,
        }
    return {
        "muon_rate": 0.3 * config.muon_rate,
        "adam_rate": 0.3 * config.adam_rate,
        "hold": 0.0,
        "temperature_start": config.temperature_end,
        "hard_after": 0.0,
        "rate_from": 0.0,
        "rate_full": 0.0,
        "reseed_every": 0,
    }


_WIDE = HyperpriorConfig(
    strides=(8, 16),
    channels=(128, 192),
    encoder_blocks=(4, 3),
    decoder_blocks=(3, 2),
    quarter=(GroupsConfig(40, 1024, shared=True),),
    lambda_last=1.0,
    linear=True,
    edge_kernel=1,
    distortion="eye",
)
PRESETS: dict[str, TrainConfig] = {
    "paper-cifar10": TrainConfig(
        network=NetworkConfig(
            strides=(2, 4),
            channels=(64, 128),
            encoder_blocks=(1, 4),
            decoder_blocks=(1, 4),
            grids=(GridConfig(stride=4, codes=1024, dimensions=64),),
        ),
        quantizer=GMVQSettings(beta=25.0, gamma=0.02, noise=False),
        dataset="cifar10",
        batch_size=64,
        steps=12000,
        temperature_until=1.0,
        hard_after=1.0,
        sharpness=0.2,
    ),
    "paper-celeba": TrainConfig(
        network=NetworkConfig(
            strides=(4,),
            channels=(96,),
            encoder_blocks=(4,),
            decoder_blocks=(5,),
            grids=(GridConfig(stride=4, codes=1024, dimensions=64),),
        ),
        quantizer=GMVQSettings(beta=25.0, gamma=0.02, noise=False),
        dataset="celeba",
        crop=128,
        batch_size=8,
        steps=10000,
        temperature_until=1.0,
        hard_after=1.0,
        sharpness=0.2,
    ),
    "photo": TrainConfig(
        network=_WIDE,
        dataset="folder",
        crop=128,
        batch_size=16,
        steps=24000,
        muon_rate=0.004,
        weight_decay=0.1,
        warmup=0.006,
        hold=0.5,
        floor=0.03,
        ema_decay=0.995,
    ),
    "trunk": TrainConfig(
        network=replace(_WIDE, distortions=2),
        dataset="folder",
        crop=128,
        batch_size=16,
        steps=1_000_000,
        muon_rate=0.004,
        weight_decay=0.1,
        warmup=0.0005,
        hold=1.0,
        ema_decay=0.999,
        scalar_until=0.98,
        prior_until=0.99,
        evaluate_every=4000,
        evaluate_images=8,
    ),
    "faces": TrainConfig(
        network=_WIDE,
        dataset="celeba",
        crop=128,
        batch_size=8,
        steps=12000,
        muon_rate=0.004,
        weight_decay=0.1,
        warmup=0.01,
        hold=0.5,
        floor=0.03,
        ema_decay=0.995,
    ),
    "staged": TrainConfig(
        network=NetworkConfig(
            strides=(4, 8, 16),
            channels=(64, 128, 192),
            encoder_blocks=(2, 3, 3),
            decoder_blocks=(2, 3, 2),
            grids=(
                GridConfig(stride=16, stages=2, codes=256, dimensions=8),
                GridConfig(stride=8, stages=2, codes=256, dimensions=8),
            ),
        ),
        quantizer=GMVQSettings(gamma=0.02, noise=False, posterior_decay=0.98),
        dataset="folder",
        crop=128,
        batch_size=12,
        steps=10000,
        reconstruction_weight=110.0,  # 0.0017 * 255^2: about 0.15 bits per pixel of photographs
        temperature_start=1.0,
        temperature_end=0.5,
        hard_after=0.3,
        entropy_until=0.4,
        rate_weight=1.0,
        reseed_every=40,
    ),
    "small": TrainConfig(
        network=NetworkConfig(
            strides=(4, 8),
            channels=(48, 64),
            encoder_blocks=(1, 2),
            decoder_blocks=(1, 2),
            grids=(GridConfig(stride=8, codes=256, dimensions=8),),
        ),
        dataset="folder",
        crop=64,
        batch_size=16,
        steps=1000,
    ),
}
# VQ-VAE's estimator of the gradient under GM-VQ's objective: the best GM-VQ of those in docs/experiments/quantisers.md.
_IDENTITY = GMVQSettings(beta=100.0, gamma=0.05, noise=False, sampling="identity")
PRESETS |= {
    name: replace(PRESETS[f"paper-{name}"], quantizer=_IDENTITY, sharpness=1.0) for name in ("cifar10", "celeba")
}
