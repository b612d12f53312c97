"""The size at which a picture is coded: its own, or a reduced one that the decoder enlarges again."""

from __future__ import annotations

from gmvqzip.errors import FormatError
from gmvqzip.format.limits import MAX_HALVINGS


def coded_size(width: int, height: int, halvings: int) -> tuple[int, int]:
    """Width and height in pixels after so many halvings, each rounded up. Raises FormatError beyond MAX_HALVINGS."""
    if not 0 <= halvings <= MAX_HALVINGS:
        raise FormatError(f"{halvings} halvings of a picture: 0 to {MAX_HALVINGS} is wanted")
    return -(-width >> halvings), -(-height >> halvings)


def most_halvings(width: int, height: int, cell: int) -> int:
    """The halvings after which a picture lies within one cell of so many pixels, at most MAX_HALVINGS."""
    cells = -(-max(width, height) // cell)
    return min((cells - 1).bit_length(), MAX_HALVINGS)
