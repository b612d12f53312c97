"""Symbols <-> payload: one stream of range-coded parts, each part with its own frequency table.

`StreamEncoder` and `StreamDecoder` take one part after the other, so that the table of a part may depend on the
symbols of the parts before it; `encode` and `decode` do a whole list of parts. The stream ends in the one shortest
way, and a decoder accepts no other. docs/format.md specifies it to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.backend import Backend, Symbols, backend
from gmvqzip.entropy.tables import PRECISION, check_table
from gmvqzip.errors import FormatError, ModelError
from gmvqzip.format.limits import MAX_CODES

_STATE_BYTES = 8
_BLOCK = 1 << 16  # symbols that are decoded before it looks whether there can be more
_BEYOND = 64  # bytes that a decoder reads after the payload's last one before it looks whether that was the end


def encode(parts: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> bytes:
    """The payload of (symbols, table) parts, in order. Symbols of any shape are taken in C order.

    Raises ModelError for a table that is none, or a symbol that is not an integer inside its table.
    """
    stream = StreamEncoder()
    for (symbols, _), table in zip(parts, _prepared(parts), strict=True):
        stream.put_runs(symbols, [symbols.size], [table])
    return stream.finish()


def decode(payload: bytes, parts: Sequence[tuple[int, NDArray[Any]]]) -> list[Symbols]:
    """The symbols of (count, table) parts, in order: one int32 array [count] each.

    The counts must come from a size that has been checked, never straight from a file. Raises FormatError if the
    payload is damaged, not in canonical form, or asked for more than 2^30 symbols; ModelError for a bad table.
    """
    total = sum(count for count, _ in parts)
    if total > MAX_CODES:
        raise FormatError(f"{total} codes are more than the limit of {MAX_CODES}")
    stream = StreamDecoder(payload)
    symbols = [stream.take_runs([count], [table]) for (count, _), table in zip(parts, _prepared(parts), strict=True)]
    stream.finish()
    return symbols


class CodingTable:
    """A frequency table [K] in the form of a coder, checked and made once for any number of streams.

    Raises ModelError for a table that is none.
    """

    def __init__(self, frequencies: NDArray[Any]) -> None:
        check_table(frequencies)
        self.frequencies = frequencies
        self._model: tuple[str, Any] = ("", None)
        self._bits: NDArray[np.float32] | None = None

    @property
    def bits(self) -> NDArray[np.float32]:
        """The ideal code length of each entry, in bits."""
        if self._bits is None:
            self._bits = (PRECISION - np.log2(self.frequencies)).astype(np.float32)
        return self._bits

    def model(self, coder: Backend) -> Any:
        """The coder's model; None for a table of one entry, which takes no bits."""
        name, model = self._model
        if name != coder.name and self.frequencies.size > 1:
            model = coder.model(self.frequencies)
            self._model = coder.name, model
        return model


class StreamEncoder:
    """Encodes part after part into one payload. GMVQZIP_CODER chooses the coder; the bytes are the same."""

    def __init__(self) -> None:
        self._coder = backend()
        self._encoder = self._coder.encoder()

    def put(self, symbols: NDArray[Any], table: NDArray[Any]) -> None:
        """Append symbols of any shape, in C order, under a table [K]. A table of one entry adds nothing."""
        self.put_runs(symbols, [symbols.size], [CodingTable(table)])

    def put_runs(self, symbols: NDArray[Any], ends: Sequence[int], tables: Sequence[CodingTable]) -> None:
        """Append symbols of any shape, in C order, in runs, each under its table. ends: where each run ends."""
        counts = [end - start for start, end in pairwise([0, *ends])]
        sizes = np.repeat(np.array([table.frequencies.size for table in tables], dtype=np.int64), counts)
        flat = _checked(symbols, sizes)
        start = 0
        for end, table in zip(ends, tables, strict=True):
            model = table.model(self._coder)
            if model is not None and end > start:
                self._encoder.encode(flat[start:end], model)
            start = end

    def finish(self) -> bytes:
        """The payload of all that was put."""
        return shortest(*self._encoder.interval())


class StreamDecoder:
    """Decodes part after part from one payload."""

    def __init__(self, payload: bytes) -> None:
        self._coder = backend()
        self._payload = payload
        self._decoder = self._coder.decoder(payload)
        self._again = self._coder.encoder()
        self._taken = 0

    def take(self, count: int, table: NDArray[Any]) -> Symbols:
        """The next int32 symbols [count] under a table [K]. Raises FormatError where the payload fits none."""
        if count < 0:
            raise ValueError(f"cannot take {count} symbols")
        return self.take_runs([count], [CodingTable(table)])

    def take_runs(self, ends: Sequence[int], tables: Sequence[CodingTable]) -> Symbols:
        """The next runs of symbols, each under its table, in one row. ends: where each run ends. Raises as `take`."""
        count = ends[-1] if ends else 0
        self._taken += count
        if self._taken > MAX_CODES:
            raise FormatError(f"{self._taken} codes are more than the limit of {MAX_CODES}")
        symbols = np.zeros(count, dtype=np.int32)
        start = 0
        for end, table in zip(ends, tables, strict=True):
            model = table.model(self._coder)
            for first in range(start, end if model is not None else start, _BLOCK):
                block = symbols[first : min(first + _BLOCK, end)]
                block[:] = self._decoder.decode(block.size, model)
                self._again.encode(block, model)
                self._check_end()
            start = end
        return symbols

    def _check_end(self) -> None:
        """Raise FormatError where the payload ended long ago, but cannot have been meant to.

        An encoder's bytes are the shortest whose value lies in the interval of all its symbols. Where that interval
        has become narrower than 2^-512 beyond the last byte, it begins at this very value, and all that follows is the
        first symbol of its table; only one of 2^512 intervals that end there would do, too.
        """
        if self._again.written() <= len(self._payload) + _BEYOND:
            return
        words, low, _ = self._again.interval()
        if low or words.rstrip(b"\0") != self._payload:
            raise FormatError("the payload is cut or damaged: it ends long before its codes do; get the file again")

    def finish(self) -> None:
        """Raise FormatError unless the payload is, byte for byte, what an encoder makes of all that was taken."""
        canonical = shortest(*self._again.interval())
        if canonical == self._payload:
            return
        extra = len(self._payload) - len(canonical)
        if extra > 0 and self._payload.startswith(canonical):
            raise FormatError(f"{extra} trailing bytes follow the payload, or it is damaged: get the file again")
        raise FormatError("the payload is damaged or cut: it does not end as its codes do; get the file again")


def shortest(prefix: bytes, low: int, width: int) -> bytes:
    """The shortest bytes whose value lies in an interval; of those the one of the smallest value.

    prefix: the bytes written; low, width: 64-bit numbers, the interval [low, low + width) of the digits after them.
    The bytes are read as if zero bytes without end followed, so they never end in a zero byte.
    """
    for kept in range(_STATE_BYTES + 1):
        shift = 8 * (_STATE_BYTES - kept)
        value = -(-low >> shift)  # low in units of the last byte kept, rounded up
        if value << shift < low + width:
            break
    carry, value = value >> 8 * kept, value & ((1 << 8 * kept) - 1)
    if carry:
        prefix = (int.from_bytes(prefix, "big") + 1).to_bytes(len(prefix), "big")
    return (prefix + value.to_bytes(kept, "big")).rstrip(b"\0")


def _prepared(parts: Sequence[tuple[Any, NDArray[Any]]]) -> list[CodingTable]:
    """The tables of parts; one that several parts share is prepared once."""
    known = {id(table): table for _, table in parts}
    ready = {key: CodingTable(table) for key, table in known.items()}
    return [ready[id(table)] for _, table in parts]


def _checked(symbols: NDArray[Any], sizes: NDArray[Any]) -> Symbols:
    """Symbols as a contiguous int32 row, each below its size. A coder would misread any other array, without a word."""
    if symbols.size == 0:
        return np.zeros(0, dtype=np.int32)
    if symbols.dtype.kind not in "iu":
        raise ModelError(f"codes are {symbols.dtype}: integers are wanted")
    flat = symbols.reshape(-1)
    wrong = (flat < 0) | (flat >= sizes)
    if wrong.any():
        code, size = flat[wrong][0], sizes[wrong][0]
        raise ModelError(f"code {code} is outside its table of {size} entries: another model's?")
    return np.ascontiguousarray(flat, dtype=np.int32)
