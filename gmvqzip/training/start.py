"""Starting a run from a trained model: which one, whether it fits, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gmvqzip.entropy.tables import TOTAL
from gmvqzip.errors import ModelError, TrainingError
from gmvqzip.models import registry
from gmvqzip.models.config import NetworkConfig
from gmvqzip.models.hyperconfig import HyperpriorConfig
from gmvqzip.models.hyperprior import HyperpriorModel
from gmvqzip.models.kinds import read_config
from gmvqzip.models.network import StagedAutoencoder
from gmvqzip.models.registry import ModelInfo
from gmvqzip.models.revive import revive_hyperprior
from gmvqzip.models.store import load_network, load_tables
from gmvqzip.quantizers import GMVQ, GMVQSettings
from gmvqzip.training.checkpoint import read_checkpoint
from gmvqzip.training.config import FROM_SCRATCH, StagedTraining, TrainConfig, config_from_dict, is_checkpoint

Network = NetworkConfig | HyperpriorConfig


def find_start(config: TrainConfig) -> ModelInfo | None:
    """The model that a run starts from, checked against the run's network; None where it starts from nothing, or from
    a checkpoint.

    Raises TrainingError where it is not found, or of another network.
    """
    if config.start == FROM_SCRATCH or is_checkpoint(config.start):
        return None
    try:
        info = registry.find(config.start)
        different = differences(config.network, read_config(info.config))
    except ModelError as error:
        raise TrainingError(f"cannot start from {config.start}: {error}") from None
    if different:
        raise TrainingError(
            f"cannot start from {info.name}, whose network differs: {different}; choose its preset, or --start none"
        )
    return info


def differences(wanted: Network, found: Network) -> str:
    """What a model's configuration has that is not wanted, field by field in one line; empty where they are equal, but
    for the distortion: weights trained under one are a start for another."""
    if isinstance(wanted, HyperpriorConfig) and isinstance(found, HyperpriorConfig):
        found = replace(found, distortion=wanted.distortion)
    if type(wanted) is not type(found):
        kinds = ("a hyperprior" if isinstance(network, HyperpriorConfig) else "staged" for network in (found, wanted))
        return "it is {}, not {}".format(*kinds)
    pairs = ((item.name, getattr(found, item.name), getattr(wanted, item.name)) for item in fields(wanted))
    return ", ".join(f"{name} {_text(has)}, not {_text(wants)}" for name, has, wants in pairs if has != wants)


def _text(value: Any) -> str:
    """A field's value for people: a table as its numbers, joined by x."""
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    if is_dataclass(value):
        found = [getattr(value, item.name) for item in fields(value)]
        return "x".join(str(number) for number in found if not isinstance(number, bool)) + " shared" * any(
            number is True for number in found
        )
    return str(value)


def started_hyperprior(info: ModelInfo, config: HyperpriorConfig) -> HyperpriorModel:
    """A hyperprior model to train on. Raises TrainingError where its file is damaged, or from another version."""
    try:
        return revive_hyperprior(info, config)
    except ModelError as error:
        raise TrainingError(f"cannot start from {info.name}: {error}") from None


def settings_of(path: Path) -> TrainConfig:
    """The settings of the run that a checkpoint is of, for one distortion. Raises TrainingError."""
    config = config_from_dict(_branched(path)["config"], stored=True)
    if isinstance(config.network, HyperpriorConfig):
        config = replace(config, network=replace(config.network, distortions=1))
    return config


def branched_hyperprior(path: Path, config: HyperpriorConfig) -> HyperpriorModel:
    """The model in a run's checkpoint, to train on: of two distortions that of `config`.

    Raises TrainingError where it is not a checkpoint, or of another network.
    """
    state = _branched(path)
    try:
        found = read_config(state["config"]["network"])
    except (ModelError, KeyError, TypeError) as error:
        raise TrainingError(f"cannot start from {path}: {error}") from None
    wanted = config
    if isinstance(found, HyperpriorConfig) and found.distortions > config.distortions:
        wanted = replace(config, distortions=found.distortions)
    different = differences(wanted, found)
    if different:
        raise TrainingError(f"cannot start from {path}, whose network differs: {different}")
    model = HyperpriorModel(wanted)
    model.load_state_dict(state["model"])
    return model.of_one_distortion() if wanted is not config else model


def _branched(path: Path) -> dict[str, Any]:
    state = read_checkpoint(path)
    if state is None:
        raise TrainingError(f"cannot start from {path}: it is no checkpoint that can be read")
    return state


def started_network(info: ModelInfo, config: StagedTraining) -> StagedAutoencoder:
    """A staged model to train on under GM-VQ: weights, codebooks, precisions, and priors from its tables.

    Raises TrainingError where its file is damaged, or the run has another quantiser, or an older one's weights.
    """
    if config.quantizer.method != GMVQSettings.method:
        raise TrainingError(f"a run with quantizer {config.quantizer.method} starts from nothing: --start none")
    network = StagedAutoencoder(config.network, config.quantizer)
    try:
        network.load_state_dict(load_network(info).state_dict())
        tables = load_tables(info)
    except ModelError as error:
        raise TrainingError(f"cannot start from {info.name}: {error}") from None
    for quantizer, table in zip(network.quantizers(), tables, strict=True):
        if isinstance(quantizer, GMVQ):
            quantizer.average_posterior.copy_(torch.from_numpy(table) / TOTAL)
    return network


def described(info: ModelInfo | None, trained_on: str, note: str, start: str = FROM_SCRATCH) -> dict[str, Any]:
    """A card's fields `trained_on` and `note`, which go on to say those of the model started from, and its name.

    start: that of the configuration, which names the checkpoint where a run started from one.
    """
    if info is None and is_checkpoint(start):
        trained_on = f"{trained_on}; started from a checkpoint of another run" * bool(trained_on)
        return {"trained_on": trained_on, "note": note, "started_from": {"name": Path(start).name}}
    if info is None:
        return {"trained_on": trained_on, "note": note}
    before: Mapping[str, Any] = info.card
    parts = [trained_on, f"started from {info.name} ({info.model_id[:8]}), trained on {before.get('trained_on', '?')}"]
    notes = [note, f"of {info.name}: {before['note']}" if before.get("note") else ""]
    return {
        "trained_on": "; ".join(part for part in parts if part),
        "note": "; ".join(part for part in notes if part),
        "started_from": {"name": info.name, "model_id": info.model_id},
    }
