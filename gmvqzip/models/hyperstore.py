"""Files of hyperprior models: weights of the transform, integers of the context model, precisions of the encoder.

Tensors: the transform's under `network.`, as a staged model's (`store`); the integers under `context.`, which a decoder
of indices needs alone; `precision` float32 [groups], the w of each group in coding order, which only the encoder reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.context import ContextModel, GroupShape
from gmvqzip.errors import ModelError
from gmvqzip.models.hyperconfig import GroupsConfig, HyperpriorConfig
from gmvqzip.models.registry import ModelInfo
from gmvqzip.models.store import check_size, dump_tensors, load_weights, pack_weights, read_tensors

if TYPE_CHECKING:
    from gmvqzip.models.hyperprior import HyperpriorModel
    from gmvqzip.models.transform import Transform

_CONTEXT, _PRECISION = "context.", "precision"
_MAX_PRECISION = 1e6  # a deviation of 1/1000 of the step


def dump_hyperprior(name: str, model: HyperpriorModel, card: Mapping[str, Any]) -> bytes:
    """The bytes of a model file, which has one distortion. Raises ModelError where the model has two, a weight is not
    finite, or a precision out of range."""
    from gmvqzip.models.integer import integer_tensors

    if model.config.distortions != 1:
        raise ModelError("a model file has one distortion: write that of `of_one_distortion`")
    tensors = pack_weights(model.transform)
    tensors |= {_CONTEXT + key: value for key, value in integer_tensors(model).items()}
    precisions = [part.weight.detach().cpu().numpy() for part in model.all_groups()]
    tensors[_PRECISION] = np.concatenate(precisions).astype(np.float32)
    if not _valid(tensors[_PRECISION]):
        raise ModelError(f"precisions of groups must be positive and at most {_MAX_PRECISION:g}")
    return dump_tensors(name, model.config.to_dict(), tensors, card)


def load_context(info: ModelInfo, config: HyperpriorConfig) -> ContextModel:
    """The integer context model of a file; needs no torch. Raises ModelError."""
    try:
        return ContextModel(read_context(info), _shapes(config.hyper), _shapes(config.quarter), config.context_width)
    except KeyError as error:
        raise ModelError(f"model {info.name!r} lacks tensor {_CONTEXT + error.args[0]!r}") from None
    except ModelError as error:
        raise ModelError(f"model {info.name!r}, {_CONTEXT}*: {error}") from None


def read_context(info: ModelInfo) -> dict[str, NDArray[Any]]:
    """The integer tensors of a file, unchecked, by the names that `ContextModel` knows. Raises ModelError."""
    found = read_tensors(info, None, prefix=_CONTEXT)
    return {name.removeprefix(_CONTEXT): value for name, value in found.items()}


def load_precisions(info: ModelInfo, config: HyperpriorConfig) -> NDArray[np.float32]:
    """w of each group in coding order, float32. Raises ModelError."""
    precisions = read_tensors(info, [_PRECISION])[_PRECISION]
    if precisions.dtype != np.float32 or precisions.shape != (len(config.stages()),):
        raise ModelError(f"model {info.name!r} has a wrong tensor {_PRECISION!r}")
    if not _valid(precisions):
        raise ModelError(
            f"model {info.name!r} is damaged: {_PRECISION!r} must be positive and at most {_MAX_PRECISION:g}"
        )
    return precisions


def _valid(precisions: NDArray[np.float32]) -> bool:
    return bool(((precisions > 0) & (precisions <= _MAX_PRECISION)).all())  # not where one is NaN


def load_transform(info: ModelInfo, config: HyperpriorConfig, device: str = "cpu") -> Transform:
    """The transform in evaluation mode, float32, on `device`. Raises ModelError."""
    import torch

    from gmvqzip.models.transform import Transform

    check_size(info, sum(layer.weights for layer in config.layers()))
    with torch.random.fork_rng(devices=[]):
        transform = Transform(config)
    load_weights(info, transform, device)
    return transform


def _shapes(parts: Sequence[GroupsConfig]) -> list[GroupShape]:
    return [GroupShape(part.count, part.codes, part.dimensions, part.shared) for part in parts]
