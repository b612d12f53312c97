"""The kinds of models there are, a row each: the one place that knows them. Readable without torch or numpy.

A row names what belongs to a kind as `module:name`, and nothing is imported before it is asked for; so a command that
reads a configuration needs no network, and a codec no trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from gmvqzip.errors import ModelError
from gmvqzip.models import hyperconfig
from gmvqzip.models.config import STAGED, NetworkConfig
from gmvqzip.models.hyperconfig import HyperpriorConfig

Config = NetworkConfig | HyperpriorConfig


@dataclass(frozen=True)
class Kind:
    """config: the class of the configuration; prior: (info, config) -> `entropy.prior.Prior`; weights: what else is
    loaded of a file, (info, config) -> anything; network: (info, config, device, prior) -> what analyses pictures and
    synthesises latents; training, trainer, exporter: the configuration of the training, its loop, and its end."""

    config: type[Config]
    prior: str
    weights: tuple[str, ...]
    network: str
    training: str
    trainer: str
    exporter: str


KINDS = {
    STAGED: Kind(
        config=NetworkConfig,
        prior="gmvqzip.models.store:load_prior",
        weights=("gmvqzip.models.store:load_network",),
        network="gmvqzip.engines.staged:StagedNetwork",
        training="gmvqzip.training.config:StagedTraining",
        trainer="gmvqzip.training.trainer:Trainer",
        exporter="gmvqzip.training.export:export_model",
    ),
    hyperconfig.KIND: Kind(
        config=HyperpriorConfig,
        prior="gmvqzip.models.hyperstore:load_context",
        weights=("gmvqzip.models.hyperstore:load_precisions", "gmvqzip.models.hyperstore:load_transform"),
        network="gmvqzip.engines.hyperprior:HyperpriorNetwork",
        training="gmvqzip.training.config:HyperpriorTraining",
        trainer="gmvqzip.training.hyperprior:HyperpriorTrainer",
        exporter="gmvqzip.training.hyperexport:export_hyperprior",
    ),
}


def read_config(data: Mapping[str, Any]) -> Config:
    """The configuration of a model; without a kind it is a staged model's. Raises ModelError for an unknown kind."""
    kind = data.get("kind", STAGED) if isinstance(data, Mapping) else STAGED
    if not isinstance(kind, str) or kind not in KINDS:
        raise ModelError(f"the model is of kind {kind!r}, which this gmvqzip does not know: update gmvqzip")
    return KINDS[kind].config.from_dict(data)


def named(name: str) -> Any:
    """What a row names."""
    module, attribute = name.split(":")
    return getattr(import_module(module), attribute)
