"""What a model costs: parameters, from the header of its file, and multiply-accumulates per pixel, from its layers.

A convolution costs as many products per output site as its weight has entries. Normalisations, activations and
additions are not counted, nor is the making of tables.
Standard library only.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from gmvqzip.errors import ModelError
from gmvqzip.models.kinds import read_config
from gmvqzip.models.registry import ModelInfo

_NETWORK, _CONTEXT = "network.", "context."


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
        shapes = [entry["shape"] for name, entry in header.items() if name.startswith((_NETWORK, _CONTEXT))]
        parameters = sum(math.prod(shape) for shape in shapes)
    except OSError as error:
        raise ModelError(f"cannot read model file {str(model.path)!r}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise ModelError(f"model {model.name!r} has tensors that this gmvqzip does not know") from None
    layers = list(config.layers())
    encode = sum(layer.work for layer in layers if layer.encodes)
    encode += sum(config.searched * grid.codes * grid.dimensions / grid.stride**2 for grid in config.stages())
    decode = sum(layer.work for layer in layers if layer.decodes)
    return Cost(size, parameters, encode / 1000, decode / 1000)
