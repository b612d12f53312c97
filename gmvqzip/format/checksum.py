"""CRC-8 with the polynomial x^8 + x^5 + x^3 + x^2 + x + 1 (0x2F), known as CRC-8/AUTOSAR.

Any change confined to eight consecutive bits changes it, whatever the length: no single damaged byte goes unseen.
"""

from __future__ import annotations

POLYNOMIAL = 0x2F
INITIAL = 0xFF  # the register at the start; the finished register is inverted as well
_FOLD_FROM = 512  # bytes; below this the plain loop is the faster way


def crc8(data: bytes, value: int = 0) -> int:
    """CRC-8 of `data`, or of the bytes behind `value` followed by `data`; crc8(b"123456789") is 0xDF.

    Long data is folded: a polynomial A x^8n + B with B of n bytes leaves the same remainder as A c + B, where
    c = x^8n mod P, and a product by c is a look-up per byte. Each folding halves the data at the speed of
    `bytes.translate` and of a long exclusive or.
    """
    register = value ^ INITIAL
    if len(data) >= _FOLD_FROM:
        # The register acts on the first byte alone, so it can be added to the data beforehand.
        data = bytes([data[0] ^ register]) + data[1:]
        register = 0
        while len(data) >= _FOLD_FROM:
            half = len(data) // 2
            high, low = data[:-half], data[-half:]  # equal lengths, or high has one byte more
            folded = high.translate(_multiples(_power(half)))
            total = int.from_bytes(folded, "big") ^ int.from_bytes(low, "big")
            data = total.to_bytes(len(high), "big")
    for byte in data:
        register = _TABLE[register ^ byte]
    return register ^ INITIAL


def _product(left: int, right: int) -> int:
    """The product of two polynomials of degree below 8, modulo P."""
    result = 0
    while right:
        if right & 1:
            result ^= left
        left = left << 1 ^ (0x100 | POLYNOMIAL if left & 0x80 else 0)
        right >>= 1
    return result


def _multiples(factor: int) -> bytes:
    """The products of all 256 bytes with a factor; a product of a sum is the sum of the products."""
    multiples = [0]
    for bit in range(8):
        product = _product(1 << bit, factor)
        multiples += [multiple ^ product for multiple in multiples]
    return bytes(multiples)


def _power(count: int) -> int:
    """x^(8 count) modulo P."""
    result, square = 1, POLYNOMIAL  # x^8 mod P is P without its leading term
    while count:
        if count & 1:
            result = _product(result, square)
        square = _product(square, square)
        count >>= 1
    return result


_TABLE = _multiples(POLYNOMIAL)  # byte -> byte * x^8 mod P
