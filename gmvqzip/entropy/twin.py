"""The range coder in plain Python: the reference that docs/format.md describes, and the coder where no other is.

Bit-compatible both ways with `RangeEncoder` and `RangeDecoder` of constriction 0.4 and 0.5: words of 32 bits, a
state of 64 bits, frequencies that sum to 2^24. Intervals are [low, low + range) with the words already written as
the digits before `low`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from gmvqzip.errors import FormatError

PRECISION = 24
WORD_BITS = 32
STATE_ONES = 2**64 - 1
SMALLEST_RANGE = 2**32  # a range below it is scaled up by a word
_WORD_ONES = 2**WORD_BITS - 1


class TwinEncoder:
    """Encodes symbols into words; `interval` tells what may end the stream."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._low = 0
        self._range = STATE_ONES

    def encode(self, symbols: Iterable[int], cumulative: Sequence[int]) -> None:
        """Append symbols, each below K; cumulative: K + 1 partial sums of the table, from 0 to 2^24."""
        low, width = self._low, self._range
        for symbol in symbols:
            start = cumulative[symbol]
            scale = width >> PRECISION
            low += scale * start
            width = scale * (cumulative[symbol + 1] - start)
            if low > STATE_ONES:
                low &= STATE_ONES
                self._carry()
            if width < SMALLEST_RANGE:
                self._words.append(low >> WORD_BITS)
                low = (low << WORD_BITS) & STATE_ONES
                width <<= WORD_BITS
        self._low, self._range = low, width

    def interval(self) -> tuple[bytes, int, int]:
        """The bytes written so far, low (64 bits, the digits after them) and range."""
        return b"".join(word.to_bytes(4, "big") for word in self._words), self._low, self._range

    def written(self) -> int:
        """How many bytes are written so far."""
        return len(self._words) * WORD_BITS // 8

    def _carry(self) -> None:
        """Add one to the words written so far; there is always a word that takes it."""
        position = len(self._words) - 1
        while self._words[position] == _WORD_ONES:
            self._words[position] = 0
            position -= 1
        self._words[position] += 1


class TwinDecoder:
    """Decodes symbols from bytes, which are read as if zero bytes without end followed."""

    def __init__(self, payload: bytes) -> None:
        padded = payload + bytes(-len(payload) % 4)
        self._words = [int.from_bytes(padded[i : i + 4], "big") for i in range(0, len(padded), 4)]
        self._next = 0
        self._offset = 0  # the value of the stream minus low
        self._range = STATE_ONES
        for _ in range(2):
            self._read_word()

    def decode(self, count: int, cumulative: Sequence[int]) -> list[int]:
        """The next `count` symbols; cumulative as for encoding. Raises FormatError where no symbol fits."""
        symbols = [0] * count
        for i in range(count):
            scale = self._range >> PRECISION
            quantile = self._offset // scale
            if quantile >> PRECISION:
                raise FormatError("the payload is damaged: no code fits it; get the file again")
            symbol = bisect_right(cumulative, quantile) - 1
            start = cumulative[symbol]
            symbols[i] = symbol
            self._offset -= scale * start
            self._range = scale * (cumulative[symbol + 1] - start)
            if self._range < SMALLEST_RANGE:
                self._range <<= WORD_BITS
                self._read_word()
        return symbols

    def _read_word(self) -> None:
        word = self._words[self._next] if self._next < len(self._words) else 0
        self._next += 1
        self._offset = self._offset << WORD_BITS | word
