"""What compressing a picture gives."""

from __future__ import annotations

from dataclasses import dataclass

from gmvqzip.entropy.codes import Codes


@dataclass(frozen=True)
class Compressed:
    """A finished file and its numbers. `data` is header, sections and payload, of the three sizes in bytes."""

    data: bytes
    codes: Codes
    header_bytes: int
    sections_bytes: int
    payload_bytes: int
    stage_bits: tuple[float, ...]  # the ideal code length of each stage under its table
    psnr: float | None = None  # dB, of the decoded picture; where a target was a PSNR

    @property
    def ideal_bits(self) -> float:
        """Ideal code length of all indices, in bits; the payload is at most 0.1 % and 16 bits above it."""
        return sum(self.stage_bits)

    @property
    def bpp(self) -> float:
        """Bits of the whole file per pixel."""
        return 8 * len(self.data) / (self.codes.width * self.codes.height)
