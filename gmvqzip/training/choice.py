"""Which settings a run has: preset or file, and the model that it starts from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gmvqzip.errors import ModelError, TrainingError
from gmvqzip.models import registry
from gmvqzip.models.hyperconfig import HyperpriorConfig
from gmvqzip.models.kinds import read_config
from gmvqzip.models.registry import ModelInfo
from gmvqzip.training.config import FIELDS, FROM_SCRATCH, TrainConfig, config_from_dict, is_checkpoint
from gmvqzip.training.presets import DEFAULT_STARTS, load_config, preset, read_toml
from gmvqzip.training.start import find_start, settings_of

_OF_HYPERPRIOR = "photo"  # the preset whose settings a start of that kind gets where none is named
_OF_THE_MACHINE = ("start", "precision", "dataset")  # settings in a card that are not the model's


def choose(
    name: str | None, file: Path | None, start: str | None, default: str, say: Callable[[str], None]
) -> TrainConfig:
    """The settings of a preset or of a file, or `default`'s, with the start that was asked for or is usual for them.

    A start that was asked for without preset or file brings its network. Where the usual one has another network the
    run starts from nothing, which is said. Raises TrainingError.
    """
    if start not in (None, FROM_SCRATCH) and not name and not file:
        return _as_start(str(start), default)

    def made(chosen: str | None) -> TrainConfig:
        if file is not None:
            return load_config(file, chosen)
        named = name or default
        return preset(named).started(chosen or DEFAULT_STARTS.get(named, FROM_SCRATCH))

    config = made(start)
    if start is None and not (file is not None and "start" in read_toml(file)):
        try:
            find_start(config)
        except TrainingError as error:
            say(f"training from scratch: {error}")
            return made(FROM_SCRATCH)
    return config


def _as_start(start: str, default: str) -> TrainConfig:
    """Settings for the network of a model, by its kind: the default preset's, or those that it was trained with."""
    if is_checkpoint(start):
        return settings_of(Path(start)).started(start)
    try:
        info = registry.find(start)
        network = read_config(info.config)
    except ModelError as error:
        raise TrainingError(f"cannot start from {start}: {error}") from None
    usual = preset(default)
    if isinstance(network, HyperpriorConfig):
        base = usual if isinstance(usual.network, HyperpriorConfig) else preset(_OF_HYPERPRIOR)
        return replace(base, network=network).started(start)
    if network == usual.network:
        return usual.started(start)
    return replace(_trained_with(info), network=network).started(start)


def _trained_with(info: ModelInfo) -> TrainConfig:
    """The settings in a model's card."""
    names = FIELDS - set(_OF_THE_MACHINE)
    card: Any = info.card.get("training")
    try:
        return config_from_dict({key: value for key, value in dict(card).items() if key in names}, stored=True)
    except (TrainingError, TypeError, ValueError, AttributeError):
        raise TrainingError(
            f"the card of {info.name} does not say how it was trained: name its preset with --preset"
        ) from None
