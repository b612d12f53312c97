"""Named configurations of training runs, and those in TOML files."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from gmvqzip.errors import TrainingError
from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.hyperconfig import GroupsConfig, HyperpriorConfig
from gmvqzip.quantizers import GMVQSettings
from gmvqzip.training.config import (
    FROM_SCRATCH,
    HyperpriorTraining,
    StagedTraining,
    TrainConfig,
    config_from_dict,
)

# Of presets, where nothing else is asked for.
DEFAULT_STARTS = {"photo": "photo", "photo-psnr": "photo-psnr", "faces": "photo-psnr"}


def read_toml(path: Path) -> dict[str, Any]:
    """The contents of a TOML file. Raises TrainingError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} is not valid TOML: {error}") from None


def load_config(path: Path, start: str | None = None) -> TrainConfig:
    """Read a TOML file with the fields of a record, tables `[network]` and `[quantizer]`, or `preset = NAME`.

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
        own, method = data.get("quantizer"), base.get("quantizer", {}).get("method")
        if isinstance(own, dict) and own.get("method", method) != method:
            base["quantizer"] = {}
        for key, value in data.items():
            base[key] = {**base[key], **value} if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        return config_from_dict(base)
    config = config_from_dict(data)
    if chosen == FROM_SCRATCH:
        return config
    given = set(data) | ({"steps"} if "epochs" in data or "seconds" in data else set())
    return replace(config, **{key: value for key, value in config.tuning(str(chosen)).items() if key not in given})


def preset(name: str) -> TrainConfig:
    """A named configuration. Raises TrainingError with the names that exist."""
    try:
        return PRESETS[name]
    except KeyError:
        raise TrainingError(f"no preset {name!r}; there are {', '.join(PRESETS)}") from None


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
_PHOTO = HyperpriorTraining(
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
)
# For the squared error up to some 34 dB: layers at stride 4 as well, half of the latents, six octaves of lambda.
_PSNR = replace(
    _PHOTO,
    network=HyperpriorConfig(
        quarter=(GroupsConfig(2, 1024), GroupsConfig(2, 512), GroupsConfig(16, 256)), lambda_last=0.08, linear=True
    ),
)
_PAPER_CIFAR10 = StagedTraining(
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
)
_PAPER = {
    "paper-cifar10": _PAPER_CIFAR10,
    "paper-celeba": replace(
        _PAPER_CIFAR10,
        network=NetworkConfig(
            strides=(4,),
            channels=(96,),
            encoder_blocks=(4,),
            decoder_blocks=(5,),
            grids=(GridConfig(stride=4, codes=1024, dimensions=64),),
        ),
        dataset="celeba",
        crop=128,
        batch_size=8,
        steps=10000,
    ),
}
# The paper's table: a compact network, AdamW at one rate, 100 epochs in batches of 256, 10 of them of warm-up from a
# fifth of the rate and 90 of a cosine, no running average of the weights.
_COMPACT = {
    f"compact-{name}": replace(
        _PAPER[f"paper-{name}"],
        network=NetworkConfig(
            strides=(2, 4),
            channels=(16, 48),
            encoder_blocks=(1, 0),
            decoder_blocks=(1, 0),
            grids=(GridConfig(stride=4, codes=1024, dimensions=64),),
        ),
        batch_size=256,
        steps=None,
        epochs=100.0,
        optimizer="adamw",
        weight_decay=0.01,
        warmup=0.1,
        hold=0.1,
        floor=0.0,
        cosine=True,
        ema_decay=0.0,
    )
    for name in ("cifar10", "celeba")
}
# VQ-VAE's estimator of the gradient under GM-VQ's objective: the best GM-VQ of those in docs/experiments/quantisers.md.
_IDENTITY = GMVQSettings(beta=100.0, gamma=0.05, noise=False, sampling="identity")
PRESETS: dict[str, TrainConfig] = {
    **_PAPER,
    **_COMPACT,
    "photo": _PHOTO,
    "photo-psnr": _PSNR,
    "trunk": HyperpriorTraining(
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
    "faces": replace(_PSNR, dataset="celeba", batch_size=8, steps=12000, warmup=0.01),
    "staged": StagedTraining(
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
    "small": StagedTraining(
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
    **{name: replace(_PAPER[f"paper-{name}"], quantizer=_IDENTITY, sharpness=1.0) for name in ("cifar10", "celeba")},
}
