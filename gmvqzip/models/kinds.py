"""The kinds of models there are, told by the `kind` of their configuration. Readable without torch or numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gmvqzip.errors import ModelError
from gmvqzip.models import hyperconfig
from gmvqzip.models.config import NetworkConfig
from gmvqzip.models.hyperconfig import HyperpriorConfig


def read_config(data: Mapping[str, Any]) -> NetworkConfig | HyperpriorConfig:
    """The configuration of a model; without a kind it is a staged model's. Raises ModelError for an unknown kind."""
    kind = data.get("kind", "staged") if isinstance(data, Mapping) else "staged"
    if kind == hyperconfig.KIND:
        return HyperpriorConfig.from_dict(data)
    if kind != "staged":
        raise ModelError(f"the model is of kind {kind!r}, which this gmvqzip does not know: update gmvqzip")
    return NetworkConfig.from_dict(data)
