"""The two range coders behind one interface: constriction's, which is compiled, and the twin in plain Python.

Both make the same bytes. constriction is taken where it is importable and reproduces a reference stream; the
environment variable GMVQZIP_CODER names one of `auto`, `constriction` and `python` to decide otherwise.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.twin import WORD_BITS, TwinDecoder, TwinEncoder
from gmvqzip.errors import FormatError, ModelError

VARIABLE = "GMVQZIP_CODER"
NAMES = ("auto", "constriction", "python")

Symbols = NDArray[np.int32]


class Encoder(Protocol):
    """Encodes symbols under models of the same backend."""

    def encode(self, symbols: Symbols, model: Any) -> None:
        """Append symbols [n], each below the K of the model's table."""

    def interval(self) -> tuple[bytes, int, int]:
        """The bytes written so far, and low and range of the interval after them, 64 bits each."""

    def written(self) -> int:
        """How many bytes are written so far."""


class Decoder(Protocol):
    """Decodes symbols under models of the same backend."""

    def decode(self, count: int, model: Any) -> Symbols:
        """The next symbols [count], which there must be memory for. Raises FormatError where none fits."""


class Backend(Protocol):
    """A range coder."""

    name: str

    def model(self, table: NDArray[Any]) -> Any:
        """A table [K], K >= 2, in the form that this backend codes with."""

    def encoder(self) -> Encoder:
        """A fresh encoder."""

    def decoder(self, payload: bytes) -> Decoder:
        """A decoder of these bytes, which it reads as if zero bytes without end followed."""


class PythonBackend:
    """The twin."""

    name = "python"

    def model(self, table: NDArray[Any]) -> list[int]:
        """The K + 1 partial sums."""
        return [0, *np.cumsum(table, dtype=np.int64).tolist()]

    def encoder(self) -> Encoder:
        """A fresh encoder."""
        return _PythonEncoder()

    def decoder(self, payload: bytes) -> Decoder:
        """A decoder of these bytes."""
        return _PythonDecoder(payload)


class _PythonEncoder:
    def __init__(self) -> None:
        self._twin = TwinEncoder()

    def encode(self, symbols: Symbols, model: Any) -> None:
        self._twin.encode(symbols.tolist(), model)

    def interval(self) -> tuple[bytes, int, int]:
        return self._twin.interval()

    def written(self) -> int:
        return self._twin.written()


class _PythonDecoder:
    def __init__(self, payload: bytes) -> None:
        self._twin = TwinDecoder(payload)

    def decode(self, count: int, model: Any) -> Symbols:
        return np.array(self._twin.decode(count, model), dtype=np.int32)


class ConstrictionBackend:
    """constriction's range coder. Raises ImportError where it is not installed."""

    name = "constriction"

    def __init__(self) -> None:
        stream = import_module("constriction").stream
        self._categorical = stream.model.Categorical
        self._queue = stream.queue

    def model(self, table: NDArray[Any]) -> Any:
        """A model that holds exactly the table.

        The fast quantiser gives each entry 1, and shares the other 2^24 - K units in proportion to the floats; with
        the floats w - 1, which sum to 2^24 - K, the shares are whole. `perfect=True` would make another stream.
        """
        return self._categorical(table.astype(np.float64) - 1, perfect=False)

    def encoder(self) -> Encoder:
        """A fresh encoder; constriction's cannot be reused, since its `clear` keeps a pending carry."""
        return _ConstrictionEncoder(self._queue.RangeEncoder())

    def decoder(self, payload: bytes) -> Decoder:
        """A decoder of these bytes."""
        words = np.frombuffer(payload + bytes(-len(payload) % 4), dtype=">u4").astype(np.uint32)
        return _ConstrictionDecoder(self._queue.RangeDecoder(words))


class _ConstrictionEncoder:
    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder

    def encode(self, symbols: Symbols, model: Any) -> None:
        self._encoder.encode(symbols, model)

    def interval(self) -> tuple[bytes, int, int]:
        words, (low, width) = self._encoder.pos()
        # `pos` counts words whose carry is still open. The sealed stream has settled it for a value of its own
        # choice inside the interval: where that value's digits after the words are below low, it took the carry.
        sealed = self._encoder.get_compressed().astype(">u4").tobytes()
        cut = words * WORD_BITS // 8
        prefix = sealed[:cut]
        if int.from_bytes(sealed[cut : cut + 8].ljust(8, b"\0"), "big") < low:
            prefix = (int.from_bytes(prefix, "big") - 1).to_bytes(cut, "big")
        return prefix, int(low), int(width)

    def written(self) -> int:
        words: int = self._encoder.pos()[0]
        return words * WORD_BITS // 8


class _ConstrictionDecoder:
    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def decode(self, count: int, model: Any) -> Symbols:
        try:
            return np.asarray(self._decoder.decode(model, count), dtype=np.int32)
        except AssertionError:  # how constriction says that no symbol fits
            raise FormatError("the payload is damaged: no code fits it; get the file again") from None


def backend() -> Backend:
    """The range coder to use. Raises ModelError for an unknown or missing one in GMVQZIP_CODER."""
    name = os.environ.get(VARIABLE) or "auto"
    if name not in NAMES:
        raise ModelError(f"{VARIABLE}={name} names no coder: choose one of {', '.join(NAMES)}")
    compiled = None if name == "python" else _compiled()
    if compiled is None and name == "constriction":
        raise ModelError(f"{VARIABLE}=constriction, but it is not installed or makes another stream: unset it")
    return compiled or PythonBackend()


@cache
def _compiled() -> Backend | None:
    """constriction's coder, or None where it is missing, of another interface, or of another stream."""
    try:
        candidate = ConstrictionBackend()
        same = _reference(candidate) == _reference(PythonBackend())
    except (ImportError, AttributeError, TypeError):
        return None
    return candidate if same else None


def _reference(coder: Backend) -> tuple[bytes, int, int]:
    encoder = coder.encoder()
    for table in ([1, 2**24 - 1], [1, 2, 2**24 - 10, 3, 4], [2**20] * 16):
        model = coder.model(np.array(table, dtype=np.int64))
        encoder.encode(np.array([0, 1, 0, len(table) - 1] * 5, dtype=np.int32), model)
    return encoder.interval()
