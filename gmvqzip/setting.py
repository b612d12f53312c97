"""How an encoder makes a file: qualities, efforts, and what stands between them and the codes."""

from __future__ import annotations

from dataclasses import dataclass

from gmvqzip.errors import ModelError, whole_number
from gmvqzip.format.limits import MAX_QUALITY

QUALITIES = range(1, MAX_QUALITY + 1)
DEFAULT_QUALITY = 53
SINGLE_RATE = 0  # the quality field of a file whose model has one rate
EFFORT_ROUNDS = (0, 1, 2, 3, 4, 6, 9, 14, 24)  # rounds of refinement of efforts 1 to 9
EFFORTS = range(1, len(EFFORT_ROUNDS) + 1)
DEFAULT_EFFORT = 4


@dataclass(frozen=True)
class Setting:
    """What an encoder goes by; a decoder needs to know the quality alone.

    quality: the file's quality field; trade: factor of the bits against the distortion, around 1, for sizes between two
    qualities; rounds: of refinement after the first choice of codes.
    """

    quality: int
    trade: float = 1.0
    rounds: int = EFFORT_ROUNDS[0]


def rounds_of(effort: int) -> int:
    """Rounds of refinement of an effort of 1 to 9. Raises ModelError."""
    effort = whole_number(effort, "effort", ModelError)
    if effort not in EFFORTS:
        raise ModelError(f"effort {effort} is out of range: give {EFFORTS[0]} to {EFFORTS[-1]}")
    return EFFORT_ROUNDS[effort - 1]
