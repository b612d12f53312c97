"""Model files in and out: safetensors with half-precision weights, integer tables, configuration and card.

Tensors: the network's under `network.` in float16, and `table.0`, `table.1`, ... int32 [K], the frozen prior of each
stage in coding order. The identity of a model is the sha256 of its canonical bytes: the configuration as JSON with
sorted keys, then each tensor in the order of its name as name, dtype, shape and raw little-endian bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from gmvqzip.entropy.tables import check_table
from gmvqzip.errors import ModelError
from gmvqzip.models.config import NetworkConfig
from gmvqzip.models.registry import MODEL_FORMAT, ModelInfo

if TYPE_CHECKING:
    from gmvqzip.models.network import StagedAutoencoder

_NETWORK, _TABLE = "network.", "table."


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
    """The bytes of a model file, weights rounded to float16. Raises ModelError where a weight or table is not valid."""
    config = network.config.to_dict()
    tensors = {}
    for key, value in network.state_dict().items():
        with np.errstate(over="ignore"):  # refused below
            array = value.detach().cpu().contiguous().numpy().astype(np.float16)
        if not np.isfinite(array).all():
            raise ModelError(f"weight {key!r} is not finite in half precision")
        tensors[_NETWORK + key] = array
    wanted = [stage.codes for stage in network.config.stages()]
    if [len(table) for table in tables] != wanted:
        raise ModelError(f"the network needs {len(wanted)} tables of {', '.join(map(str, wanted))} codes")
    for index, table in enumerate(tables):
        check_table(table)
        tensors[f"{_TABLE}{index}"] = np.asarray(table, dtype=np.int32)
    metadata = {
        "gmvqzip": str(MODEL_FORMAT),
        "name": name,
        "model_id": model_identity(config, tensors),
        "config": _canonical_json(config),
        "card": json.dumps(card, sort_keys=True),
    }
    return save(tensors, metadata)


def load_tables(info: ModelInfo) -> list[np.ndarray[Any, Any]]:
    """The integer tables [K] int64 of all stages in coding order. Raises ModelError; needs no torch."""
    stages = _config(info).stages()
    names = [f"{_TABLE}{index}" for index in range(len(stages))]
    tensors = _read(info, names)
    tables = []
    for name, stage in zip(names, stages, strict=True):
        table = tensors[name]
        if table.dtype != np.int32 or table.shape != (stage.codes,):
            raise ModelError(f"model {info.name!r} has a wrong tensor {name!r}: int32 [{stage.codes}] expected")
        check_table(table)
        tables.append(table.astype(np.int64))
    return tables


def load_network(info: ModelInfo, device: str = "cpu") -> StagedAutoencoder:
    """The network in evaluation mode, float32, on `device`. Raises ModelError where tensors do not fit or are NaN."""
    import torch

    from gmvqzip.models.network import StagedAutoencoder

    config = _config(info)
    # Not on the meta device: its first use imports a compiler, which takes longer than everything else here.
    with torch.random.fork_rng(devices=[]):
        network = StagedAutoencoder(config)
    wanted = network.state_dict()
    tensors = _read(info, [_NETWORK + name for name in wanted])
    state = {}
    for name, value in wanted.items():
        array = tensors[_NETWORK + name]
        if array.shape != tuple(value.shape) or array.dtype not in (np.float16, np.float32):
            raise ModelError(
                f"model {info.name!r} has a wrong tensor {name!r}: {array.dtype.name} {list(array.shape)}, "
                f"but its configuration asks for {list(value.shape)}"
            )
        if not np.isfinite(array).all():
            raise ModelError(f"model {info.name!r} is damaged: {name!r} holds a value that is not finite")
        state[name] = torch.from_numpy(array.astype(np.float32))
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False)
    network.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def verify(info: ModelInfo) -> None:
    """Check a model file in full: tables, weights, and identity. Raises ModelError naming what is wrong."""
    load_tables(info)
    load_network(info)
    tensors = _read(info, None)
    identity = model_identity(info.config, tensors)
    if identity != info.model_id:
        raise ModelError(f"model {info.name!r} is damaged: its identity is {identity[:8]}, not {info.model_id[:8]}")


def _config(info: ModelInfo) -> NetworkConfig:
    return NetworkConfig.from_dict(info.config)


def _read(info: ModelInfo, names: Iterable[str] | None) -> dict[str, np.ndarray[Any, Any]]:
    try:
        with safe_open(os.fspath(info.path), framework="numpy") as file:
            present = set(file.keys())
            wanted = sorted(present) if names is None else list(names)
            missing = [name for name in wanted if name not in present]
            if missing:
                raise ModelError(f"model {info.name!r} lacks tensor {missing[0]!r}")
            return {name: file.get_tensor(name) for name in wanted}
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ModelError(f"model file {str(info.path)!r} is damaged or cut: {error}") from None


def _canonical_json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))
