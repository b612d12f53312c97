"""CIFAR-10 as people have it: the official Python pickles or binary files, unpacked or in their `.tar.gz`."""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from gmvqzip.errors import TrainingError
from gmvqzip.training.imagesets import Pixels

TRAIN_PARTS = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_PARTS = ("test_batch",)
PYTHON_FOLDER, BINARY_FOLDER = "cifar-10-batches-py", "cifar-10-batches-bin"
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
PICTURE_BYTES = 3 * 32 * 32  # three planes of 32 x 32
MAX_PART_BYTES = 1 << 26  # the official parts have 31 MB


class _Dtype:
    """Stands in for numpy.dtype in a pickle: remembers the type code only."""

    def __init__(self, code: Any = b"", *_: Any) -> None:
        self.code = code.decode("latin-1") if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment mean nothing for single bytes."""


class _Array:
    """Stands in for numpy.ndarray in a pickle: remembers shape, type code and raw bytes."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: str = "latin-1") -> bytes:
    return text.encode("latin-1")


class RestrictedUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists, numbers, strings and byte arrays; runs no code of the pickle's choice.

    Even NumPy's own constructors are replaced by passive stand-ins, so that nothing is built before it is checked.
    """

    ALLOWED = {  # noqa: RUF012 - read only
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _encode,  # how Python 3 writes bytes in the old protocols
    }

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no CIFAR-10 file does") from None


def parse_python_part(data: bytes) -> Pixels:
    """One pickled part -> uint8 [N, 32, 32, 3]. ValueError says what is wrong."""
    try:
        content = RestrictedUnpickler(data).load()
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ValueError(f"not a CIFAR-10 pickle ({error or type(error).__name__})") from error
    rows = content.get(b"data", content.get("data")) if isinstance(content, dict) else None
    if not isinstance(rows, _Array) or len(rows.state) != 5:
        raise ValueError("the pickle holds no array named 'data'")
    _, shape, dtype, _, raw = rows.state
    if not isinstance(dtype, _Dtype) or dtype.code != "u1" or not isinstance(raw, bytes):
        raise ValueError("the array 'data' is not of type uint8")
    if len(shape) != 2 or shape[1] != PICTURE_BYTES or shape[0] * PICTURE_BYTES != len(raw):
        raise ValueError(f"the array 'data' has the shape {shape} in {len(raw)} bytes, not N x {PICTURE_BYTES}")
    return _interleave(np.frombuffer(raw, dtype=np.uint8))


def parse_binary_part(data: bytes) -> Pixels:
    """One binary part (a label byte, then three planes, for each picture) -> uint8 [N, 32, 32, 3]. ValueError."""
    if not data or len(data) % (PICTURE_BYTES + 1):
        raise ValueError(f"{len(data)} bytes are no whole number of pictures")
    rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, PICTURE_BYTES + 1)
    return _interleave(rows[:, 1:])


def _interleave(rows: Pixels) -> Pixels:
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def looked_for(folder: Path) -> list[Path]:
    """The places, in this order, where the files may lie when `folder` is searched."""
    return [folder / PYTHON_FOLDER, folder / BINARY_FOLDER, *(folder / name for name in ARCHIVES)]


def find(path: Path) -> Path | None:
    """The folder of the parts, or the archive, at or directly under `path`; None if there is nothing."""
    if path.is_file() and path.name.endswith((".tar.gz", ".tgz", ".tar")):
        return path
    if any((path / (TEST_PARTS[0] + ending)).is_file() for ending in ("", ".bin")):
        return path
    return next((place for place in looked_for(path) if place.exists()), None)


def load(place: Path) -> tuple[Pixels, Pixels]:
    """Training and test pictures, uint8 [50000, 32, 32, 3] and [10000, 32, 32, 3], in the official order."""
    parts = _from_archive(place) if place.is_file() else _from_folder(place)
    pictures = {name: _parse(place, name, ending, data) for name, (ending, data) in parts.items()}
    return np.concatenate([pictures[name] for name in TRAIN_PARTS]), np.concatenate([pictures[n] for n in TEST_PARTS])


def _parse(place: Path, name: str, ending: str, data: bytes) -> Pixels:
    try:
        return parse_binary_part(data) if ending else parse_python_part(data)
    except ValueError as error:
        raise TrainingError(f"{place}: {name}{ending} is damaged: {error}; fetch the archive again") from error


def _from_folder(folder: Path) -> dict[str, tuple[str, bytes]]:
    ending = ".bin" if (folder / (TEST_PARTS[0] + ".bin")).is_file() else ""
    parts = {}
    for name in (*TRAIN_PARTS, *TEST_PARTS):
        path = folder / (name + ending)
        try:
            with path.open("rb") as file:
                parts[name] = (ending, _read_limited(file, place=path))
        except OSError as error:
            raise TrainingError(f"{path}: {error.strerror}; CIFAR-10 needs this file") from error
    return parts


def _from_archive(archive: Path) -> dict[str, tuple[str, bytes]]:
    parts: dict[str, tuple[str, bytes]] = {}
    wanted = {name + ending: (name, ending) for name in (*TRAIN_PARTS, *TEST_PARTS) for ending in ("", ".bin")}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                found = wanted.get(Path(member.name).name)
                content = tar.extractfile(member) if found and member.isfile() else None
                if found and content:
                    parts[found[0]] = (found[1], _read_limited(content, place=archive))
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise TrainingError(f"{archive}: not a whole .tar.gz ({error}); fetch it again") from error
    missing = [name for name in (*TRAIN_PARTS, *TEST_PARTS) if name not in parts]
    if missing:
        raise TrainingError(f"{archive}: {', '.join(missing)} not in it; this is not the CIFAR-10 archive")
    return parts


def _read_limited(file: Any, *, place: Path) -> bytes:
    data: bytes = file.read(MAX_PART_BYTES + 1)
    if len(data) > MAX_PART_BYTES:
        raise TrainingError(f"{place}: a part is longer than {MAX_PART_BYTES} bytes; this is not CIFAR-10")
    return data
