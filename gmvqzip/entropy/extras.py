"""What a file holds beside its codes: transparency and a colour profile, as the sections of a container."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy import alpha
from gmvqzip.format import container
from gmvqzip.format.sections import compress_profile, decompress_profile


def make_sections(plane: NDArray[np.uint8] | None, profile: bytes | None) -> dict[int, bytes]:
    """The sections of a transparency plane [H, W] and a colour profile, as far as there are any."""
    sections = {}
    if plane is not None:
        sections[container.SECTION_ALPHA] = alpha.compress_alpha(plane)
    if profile is not None:
        sections[container.SECTION_ICC] = compress_profile(profile)
    return sections


def read_extras(box: container.Container) -> tuple[NDArray[np.uint8] | None, bytes | None]:
    """The transparency plane [H, W] and the colour profile in a file's sections. Raises FormatError."""
    plane = box.sections.get(container.SECTION_ALPHA)
    profile = box.sections.get(container.SECTION_ICC)
    return (
        None if plane is None else alpha.decompress_alpha(plane, box.header.width, box.header.height),
        None if profile is None else decompress_profile(profile),
    )
