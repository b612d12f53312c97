"""Model files in and out: safetensors with compact weights, integer tables, configuration and card.

Tensors: the network's under `network.` in float16, and `table.0`, `table.1`, ... int32 [K], the frozen prior of each
stage in coding order. Large convolutions that only the encoder runs are int8 instead, to be multiplied by `scale.` and
their name, float32 [out channels]: codes come from the encoder, so its precision is free. The identity of a model is
the sha256 of its canonical bytes: the configuration as JSON with sorted keys, then each tensor in the order of its name
as name, dtype, shape and raw little-endian bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from gmvqzip.entropy.static import StaticPrior
from gmvqzip.entropy.tables import check_table
from gmvqzip.errors import ModelError
from gmvqzip.models.config import NetworkConfig
from gmvqzip.models.kinds import KINDS, named, read_config
from gmvqzip.models.registry import MODEL_FORMAT, ModelInfo

if TYPE_CHECKING:
    from torch import nn

    from gmvqzip.models.network import StagedAutoencoder
    from gmvqzip.models.transform import Transform

    Network = StagedAutoencoder | Transform

_NETWORK, _TABLE, _SCALE = "network.", "table.", "scale."
_LARGE = 4096  # entries from which an encoder's convolution is stored in 8 bits
_INT8_MAX = 127


def model_identity(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """The sha256 of a model's canonical bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256(_canonical_json(config).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        little = np.ascontiguousarray(tensor.astype(tensor.dtype.newbyteorder("<"), copy=False))
        digest.update(f"\n{name} {tensor.dtype.name} {list(tensor.shape)}\n".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


def dump_model(
    name: str, network: StagedAutoencoder, tables: Sequence[np.ndarray[Any, Any]], card: Mapping[str, Any]
) -> bytes:
    """The bytes of a staged model's file. Raises ModelError where a weight or table is not valid."""
    wanted = [stage.codes for stage in network.config.stages()]
    if [len(table) for table in tables] != wanted:
        raise ModelError(f"the network needs {len(wanted)} tables of {', '.join(map(str, wanted))} codes")
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for index, table in enumerate(tables):
        check_table(table)
        tensors[f"{_TABLE}{index}"] = np.asarray(table, dtype=np.int32)
    return dump_tensors(name, network.config.to_dict(), pack_weights(network) | tensors, card)


def dump_tensors(
    name: str, config: Mapping[str, Any], tensors: dict[str, np.ndarray[Any, Any]], card: Mapping[str, Any]
) -> bytes:
    """The bytes of a model file of any kind."""
    # safetensors writes memory as it lies, so an array in another order than C would be misread.
    tensors = {key: np.asarray(value, order="C") for key, value in tensors.items()}
    metadata = {
        "gmvqzip": str(MODEL_FORMAT),
        "name": name,
        "model_id": model_identity(config, tensors),
        "config": _canonical_json(config),
        "card": json.dumps(card, sort_keys=True),
    }
    return save(tensors, metadata)


def pack_weights(network: Network) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors that hold a network's weights in a file. Raises ModelError where one is not finite."""
    return {key: array for packed in _packed_weights(network).values() for key, array in packed.items()}


def round_weights(network: Network) -> None:
    """Give a network, in place, the values that it will have when it is loaded from its file."""
    import torch

    state = {}
    for key, packed in _packed_weights(network).items():
        state[key] = torch.from_numpy(_unpacked(packed[_NETWORK + key], packed.get(_SCALE + key)))
    network.load_state_dict(state)


def _packed_weights(network: Network) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """The tensors that hold each weight in a file."""
    of_encoder = {f"{layer.name}.weight" for layer in network.config.layers() if not layer.decodes}
    return {
        key: _packed(key, value.detach().cpu().contiguous().numpy(), of_encoder=key in of_encoder)
        for key, value in network.state_dict().items()
    }


def _packed(key: str, value: np.ndarray[Any, Any], *, of_encoder: bool) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors that hold one weight in a file. of_encoder: whether it is of a convolution that only that runs."""
    with np.errstate(over="ignore"):  # refused below
        half = value.astype(np.float16)
    if not np.isfinite(half).all():
        raise ModelError(f"weight {key!r} is not finite in half precision")
    if not of_encoder or value.size < _LARGE:
        return {_NETWORK + key: half}
    largest = np.abs(value).max(axis=(1, 2, 3))
    scale = (np.where(largest > 0, largest, 1) / _INT8_MAX).astype(np.float32)
    levels = np.clip(np.rint(value / scale[:, None, None, None]), -_INT8_MAX, _INT8_MAX).astype(np.int8)
    return {_NETWORK + key: levels, _SCALE + key: scale}


def _unpacked(array: np.ndarray[Any, Any], scale: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any]:
    """The float32 weight of its tensors in a file."""
    value = array.astype(np.float32)
    return value if scale is None else value * scale.reshape(-1, *[1] * (value.ndim - 1))


def load_tables(info: ModelInfo) -> list[np.ndarray[Any, Any]]:
    """The integer tables [K] int64 of all stages in coding order. Raises ModelError; needs no torch."""
    stages = NetworkConfig.from_dict(info.config).stages()
    names = [f"{_TABLE}{index}" for index in range(len(stages))]
    tensors = read_tensors(info, names)
    tables = []
    for name, stage in zip(names, stages, strict=True):
        table = tensors[name]
        if table.dtype != np.int32 or table.shape != (stage.codes,):
            raise ModelError(f"model {info.name!r} has a wrong tensor {name!r}: int32 [{stage.codes}] expected")
        check_table(table)
        tables.append(table.astype(np.int64))
    return tables


def load_prior(info: ModelInfo, config: NetworkConfig) -> StaticPrior:
    """The prior of a staged model. Raises ModelError; needs no torch."""
    rest = iter(load_tables(info))
    return StaticPrior([[next(rest) for _ in range(grid.stages)] for grid in config.grids], config.scales)


def load_network(info: ModelInfo, config: NetworkConfig | None = None, device: str = "cpu") -> StagedAutoencoder:
    """The network in evaluation mode, float32, on `device`. Raises ModelError where tensors do not fit or are NaN."""
    import torch

    from gmvqzip.models.network import StagedAutoencoder

    config = config or NetworkConfig.from_dict(info.config)
    books = sum(grid.codes * grid.dimensions for grid in config.stages())
    check_size(info, sum(layer.weights for layer in config.layers()) + books)
    # Not on the meta device: its first use imports a compiler, which takes longer than everything else here.
    with torch.random.fork_rng(devices=[]):
        network = StagedAutoencoder(config)
    load_weights(info, network, device)
    return network


def check_size(info: ModelInfo, least: int) -> None:
    """Refuse a configuration whose `least` weights its file is too small for, before memory is taken for it.

    Raises ModelError.
    """
    try:
        size = info.path.stat().st_size
    except OSError as error:
        raise ModelError(f"cannot read model file {str(info.path)!r}: {error.strerror}") from None
    if size < least:  # a weight takes a byte or more
        raise ModelError(f"model {info.name!r} is cut or damaged: {size} bytes cannot hold what it is configured for")


def load_weights(info: ModelInfo, network: nn.Module, device: str) -> None:
    """Give a network, in place, the weights of a file; put it on `device`, in evaluation mode. Raises ModelError."""
    import torch

    wanted = network.state_dict()
    tensors = read_tensors(info, [_NETWORK + name for name in wanted])
    for name, value in wanted.items():
        array = tensors[_NETWORK + name]
        if array.shape != tuple(value.shape):
            raise ModelError(
                f"model {info.name!r} has a wrong tensor {name!r}: {array.dtype.name} {list(array.shape)}, "
                f"but its configuration asks for {list(value.shape)}"
            )
    weights = _float_weights(info, {name: tensors[_NETWORK + name] for name in wanted})
    network.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()}, assign=True)
    network.requires_grad_(False)
    network.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def read_weights(info: ModelInfo, wanted: Callable[[str], bool]) -> dict[str, NDArray[np.float32]]:
    """The float32 weights of a file that are wanted, by their names in a network; needs no torch. Raises ModelError."""
    found = read_tensors(info, None, prefix=_NETWORK, wanted=lambda key: wanted(key.removeprefix(_NETWORK)))
    return _float_weights(info, {key.removeprefix(_NETWORK): array for key, array in found.items()})


def _float_weights(info: ModelInfo, found: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, NDArray[np.float32]]:
    """The float32 weights of tensors by their names in a network. Raises ModelError."""
    scales = read_tensors(info, [_SCALE + name for name, array in found.items() if array.dtype == np.int8])
    weights = {}
    for name, array in found.items():
        if array.dtype not in (np.float16, np.float32, np.int8):
            raise ModelError(f"model {info.name!r} has a wrong tensor {name!r}: {array.dtype.name} {list(array.shape)}")
        scale = scales.get(_SCALE + name)
        if scale is not None and (scale.dtype != np.float32 or scale.shape != array.shape[:1]):
            raise ModelError(
                f"model {info.name!r} has a wrong tensor {_SCALE + name!r}: float32 [{len(array)}] expected"
            )
        with np.errstate(over="ignore", invalid="ignore"):  # refused below
            weights[name] = _unpacked(array, scale)
        if not np.isfinite(weights[name]).all():
            raise ModelError(f"model {info.name!r} is damaged: {name!r} holds a value that is not finite")
    return weights


def verify(info: ModelInfo) -> None:
    """Check a model file in full: tables, weights, and identity. Raises ModelError naming what is wrong."""
    config = read_config(info.config)
    kind = KINDS[config.kind]
    for part in (kind.prior, *kind.weights):
        named(part)(info, config)
    identity = model_identity(info.config, read_tensors(info, None))
    if identity != info.model_id:
        raise ModelError(f"model {info.name!r} is damaged: its identity is {identity[:8]}, not {info.model_id[:8]}")


def read_tensors(
    info: ModelInfo, names: Iterable[str] | None, prefix: str = "", wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, np.ndarray[Any, Any]]:
    """Tensors of a model file by name, or all that are wanted of those whose names start with `prefix`.

    Raises ModelError where one is missing or the file is damaged.
    """
    try:
        with safe_open(os.fspath(info.path), framework="numpy") as file:
            present = set(file.keys())
            chosen = sorted(n for n in present if n.startswith(prefix) and wanted(n)) if names is None else list(names)
            missing = [name for name in chosen if name not in present]
            if missing:
                raise ModelError(f"model {info.name!r} lacks tensor {missing[0]!r}")
            return {name: file.get_tensor(name) for name in chosen}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ModelError(f"model file {str(info.path)!r} is damaged or cut: {error}") from None


def _canonical_json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))
