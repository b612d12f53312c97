"""What a model costs, read from the header of its file: parameters, and multiply-accumulates per pixel.

A convolution costs as many products per output site as its weight has entries, and its sites per pixel follow from
the level that its name tells. Normalisations, activations and additions are not counted, nor is the making of tables.
Standard library only.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmvqzip.errors import ModelError
from gmvqzip.models.config import NetworkConfig
from gmvqzip.models.hyperconfig import QUARTERS, HyperpriorConfig
from gmvqzip.models.kinds import read_config
from gmvqzip.models.registry import ModelInfo

_NETWORK, _CONTEXT = "network.", "context."
_PROPOSING = ("mix", "head")  # parts of a stage that only the encoder runs


@dataclass(frozen=True)
class Cost:
    """Size and work of a model."""

    file_bytes: int
    parameters: int  # numbers in the tensors of the network and of the context model
    encode_kmac: float  # thousand multiply-accumulates per pixel from picture to indices
    decode_kmac: float  # from indices to picture


def cost(model: ModelInfo) -> Cost:
    """The cost of a model, without loading it. Raises ModelError where the file is not as expected."""
    config = read_config(model.config)
    try:
        with Path(model.path).open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            size = file.seek(0, os.SEEK_END)
        shapes = {
            name: [int(side) for side in entry["shape"]]
            for name, entry in header.items()
            if name.startswith((_NETWORK, _CONTEXT))
        }
        work = _hyperprior_macs(config, shapes) if isinstance(config, HyperpriorConfig) else _macs(config, shapes)
    except OSError as error:
        raise ModelError(f"cannot read model file {str(model.path)!r}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise ModelError(f"model {model.name!r} has tensors that this gmvqzip does not know") from None
    parameters = sum(math.prod(shape) for shape in shapes.values())
    return Cost(size, parameters, work[0] / 1000, work[1] / 1000)


def _hyperprior_macs(config: HyperpriorConfig, shapes: Mapping[str, Any]) -> tuple[float, float]:
    """Multiply-accumulates per pixel of encoding and of decoding; the context's layers run in both."""
    encode = decode = 0.0
    for name, shape in shapes.items():
        kind, *parts = name.split(".")
        if len(shape) != 4 or parts[-1] != "weight":
            continue
        if f"{kind}." == _CONTEXT:
            per_pixel = _context_products(config, parts, shape) / _context_stride(config, parts) ** 2
            encode, decode = encode + per_pixel, decode + per_pixel
        elif parts[0] == "analysis":
            encode += math.prod(shape) / _transform_stride(config, parts[1:]) ** 2
        else:
            decode += math.prod(shape) / _transform_stride(config, parts[1:]) ** 2
    for grid in config.stages():  # each site with the codebook
        encode += grid.codes * grid.dimensions / grid.stride**2
    return encode, decode


def _context_products(config: HyperpriorConfig, parts: list[str], shape: list[int]) -> float:
    """Products of a context layer at a site: a step looks only at what is coded, and predicts only what it codes."""
    outputs, inputs, kernel = float(shape[0]), float(shape[1]), math.prod(shape[2:])
    if parts[0] == "step" and parts[2] == "head":
        outputs /= QUARTERS
    if parts[0] == "step" and parts[2] == "spatial":
        inputs = config.context_width + config.latents * int(parts[1]) / QUARTERS
    return outputs * inputs * kernel


def _context_stride(config: HyperpriorConfig, parts: list[str]) -> int:
    """Pixels between the sites of a context layer along each axis."""
    return config.alignment if parts[:2] in (["hyper", "spread"], ["hyper", "up"]) else config.strides[-1]


def _transform_stride(config: HyperpriorConfig, parts: list[str]) -> int:
    """Pixels between the sites of a transform's convolution along each axis."""
    if parts[0] in ("hyper_down", "hyper"):
        return config.alignment
    return config.strides[-1 if parts[0] in ("latent", "project", "linear") else _level(parts)]


def _macs(config: NetworkConfig, shapes: Mapping[str, Any]) -> tuple[float, float]:
    """Multiply-accumulates per pixel of encoding and of decoding."""
    finest = config.strides.index(config.grids[-1].stride)
    last = ["stages", str(finest), str(config.grids[-1].stages - 1)]
    encode = decode = 0.0
    for name, shape in shapes.items():
        parts = name.split(".")[1:]
        if len(shape) != 4 or parts[-1] != "weight":
            continue
        per_pixel = math.prod(shape) / config.strides[_level(parts)] ** 2
        of_encoder = parts[0] == "encoder" or (parts[0] == "stages" and parts[3] in _PROPOSING)
        # The encoder follows the decoder's state as far as the last proposal.
        if of_encoder or (_in_both(parts, finest) and parts[:3] != last):
            encode += per_pixel
        if not of_encoder:
            decode += per_pixel
    for grid in config.stages():  # the logits: each site with the codebook, and with its square
        encode += 2 * grid.codes * grid.dimensions / grid.stride**2
    return encode, decode


def _level(parts: list[str]) -> int:
    """The level at whose sites a convolution works."""
    if parts[0] == "encoder":
        parts = parts[1:]
    if parts[0] in ("stem", "final", "join"):
        return 0
    coarser = 1 if parts[0] in ("down", "up") else 0  # both work on the sites of the coarser of their two levels
    return int(parts[1]) + coarser


def _in_both(parts: list[str], finest: int) -> bool:
    """Whether a convolution of the decoder lies at or above the finest grid."""
    if parts[0] in ("stages", "up"):
        return int(parts[1]) >= finest
    return parts[0] == "levels" and int(parts[1]) > finest
