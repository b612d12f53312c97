"""What cases of odd files are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

HEIGHT, WIDTH = 13, 21
RNG = np.random.default_rng(20)


@dataclass
class Case:
    """A file and its meaning: right pixels (and alpha), or a refusal; and words of what must be said."""

    name: str
    data: bytes
    pixels: np.ndarray | None = None  # [H, W, 3]; None: refused
    alpha: np.ndarray | None = None
    within: float = 0  # levels
    says: tuple[str, ...] = ()  # words of the refusal, or of one note each
    quiet: bool = field(default=True)  # nothing else is said


def levels(samples: np.ndarray, most: float) -> np.ndarray:
    """0 to most -> 0 to 255, rounded to the nearest."""
    return np.floor(samples.astype(np.float64) * 255 / most + 0.5).astype(np.uint8)


def three(plane: np.ndarray) -> np.ndarray:
    return np.repeat(plane[:, :, :1], 3, axis=2)


def drawn(bits: int, channels: int) -> np.ndarray:
    """Random samples with both ends of the range among them."""
    samples = RNG.integers(0, 1 << bits, (HEIGHT, WIDTH, channels), dtype=np.uint64)
    samples[0, 0], samples[0, 1] = 0, (1 << bits) - 1
    return samples


def depth_note(bits: int) -> tuple[str, ...]:
    return (f"{bits} bits per channel reduced",) if bits > 8 else ()
