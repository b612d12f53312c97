"""The models that are installed, found by name, path or identity. Standard library only: `info` must be instant.

A model file is a safetensors file: 8 bytes little-endian header length, a JSON header, the tensors. Its JSON
`__metadata__` holds `gmvqzip` (format version), `name`, `model_id`, `config` and `card`, the last two as JSON texts.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gmvqzip.errors import ModelError, path_text

DEFAULT_MODEL = "photo"
MODEL_FORMAT = 1  # version of the metadata
MAX_HEADER_BYTES = 1 << 24
MODELS_VARIABLE = "GMVQZIP_MODELS"
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model file without its tensors.

    name: short name; path: the file; model_id: 64 hexadecimal digits, the sha256 of the canonical bytes of its weights,
    tables and configuration; config: the network's configuration; card: what it was trained on, licence, results.
    """

    name: str
    path: Path
    model_id: str
    config: dict[str, Any] = field(repr=False)
    card: dict[str, Any] = field(repr=False)


def search_path() -> list[Path]:
    """Folders that are searched for models, first hit wins: $GMVQZIP_MODELS, the user's data folder, the package."""
    package = Path(__file__).resolve().parent.parent
    data = user_folder("XDG_DATA_HOME", ".local/share")
    own = [Path(part) for part in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep) if part]
    # A wheel carries the models as gmvqzip/_models; a source checkout has them beside the package.
    shipped = package / "_models"
    own += [] if data is None else [data / "models"]
    return [*own, shipped if shipped.is_dir() else package.parent / "models"]


def user_folder(variable: str, below_home: str) -> Path | None:
    """The user's folder of this program in the one that an environment variable names, or in one below the home.

    None for a user without a home and without the variable, as in containers, where Path.expanduser raises.
    """
    base = os.environ.get(variable) or os.path.expanduser(f"~/{below_home}")  # noqa: PTH111
    return None if base.startswith("~") else Path(base) / "gmvqzip"


def read_info(path: str | os.PathLike[str]) -> ModelInfo:
    """Read a model file's metadata. Raises ModelError where it is missing, cut, foreign, or of a newer version."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            raw = file.read(size) if 2 <= size <= MAX_HEADER_BYTES else b""
    except FileNotFoundError:
        raise ModelError(f"no model file {str(path)!r}; `gmvqzip models list` shows what is installed") from None
    except OSError as error:
        raise ModelError(f"cannot read model file {str(path)!r}: {error.strerror}") from None
    try:
        if not raw or len(raw) < size:
            raise ValueError
        metadata = json.loads(raw)["__metadata__"]
        version = int(metadata["gmvqzip"])
        if version > MODEL_FORMAT:
            raise ModelError(
                f"model file {str(path)!r} is of version {version}, this gmvqzip reads up to {MODEL_FORMAT}: upgrade"
            )
        model_id, name = str(metadata["model_id"]), str(metadata["name"])
        config, card = json.loads(metadata["config"]), json.loads(metadata["card"])
        if not re.fullmatch(r"[0-9a-f]{64}", model_id) or not isinstance(config, dict) or not isinstance(card, dict):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(f"{str(path)!r} is not a gmvqzip model, or is cut (a .safetensors file is expected)") from None
    return ModelInfo(name, path, model_id, config, card)


def installed() -> list[ModelInfo]:
    """All readable models on the search path, by folder, then by name; a name found twice counts once."""
    found: dict[str, ModelInfo] = {}
    for info in _readable():
        found.setdefault(info.name, info)
    return list(found.values())


def _readable() -> Iterator[ModelInfo]:
    """Every readable model file on the search path, also those whose name an earlier one has taken."""
    for folder in search_path():
        for path in _model_files(folder):
            with suppress(ModelError):  # a damaged file must not hide the others; naming it gives its error
                yield read_info(path)


def _model_files(folder: Path) -> list[Path]:
    """The model files in a folder; none where it is missing, or closed to us."""
    with suppress(OSError):
        return sorted(folder.glob(f"*{_SUFFIX}"))
    return []


def find(name_or_path: str | os.PathLike[str]) -> ModelInfo:
    """The model of that name, or in that file. Raises ModelError with the names that exist."""
    text = path_text(name_or_path, "model", ModelError)
    if text.endswith(_SUFFIX) or os.sep in text:
        return read_info(text)
    for folder in search_path():
        path = folder / f"{text}{_SUFFIX}"
        if path in _model_files(folder):
            return read_info(path)
    for info in installed():
        if info.name == text:
            return info
    names = ", ".join(info.name for info in installed()) or "none"
    raise ModelError(f"no model named {text!r} (installed: {names}); give a name, or a path ending in {_SUFFIX}")


def find_by_id(prefix: bytes) -> ModelInfo:
    """The installed model whose identity starts with `prefix` (2 or more bytes, as stored in a file's header).

    Raises ModelError if none is installed, or if several share the prefix.
    """
    digits = prefix.hex()
    # A file needs the model it was made with, even where another of that name comes first.
    matches = {info.model_id: info for info in reversed(list(_readable())) if info.model_id.startswith(digits)}
    if not matches:
        raise ModelError(
            f"made with model {digits}, which is not installed: get its {_SUFFIX} file from whoever made this file, "
            f"and name it with --model, or put it into a folder named by ${MODELS_VARIABLE}"
        )
    if len(matches) > 1:
        names = ", ".join(info.name for info in matches.values())
        raise ModelError(f"models {names} share the identity {digits}: name the right one with --model")
    return next(iter(matches.values()))


def check_model(model: ModelInfo, prefix: bytes) -> None:
    """Raise ModelError unless the model's identity starts with `prefix`, as a file stores it."""
    if not bytes.fromhex(model.model_id).startswith(prefix):
        raise ModelError(
            f"made with model {prefix.hex()}, but model {model.name} is {model.model_id[:8]}: name another"
        )
