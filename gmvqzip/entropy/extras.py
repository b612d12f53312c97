"""What a file holds beside its codes: transparency, a colour profile and metadata, as the sections of a container."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy import alpha
from gmvqzip.format import container
from gmvqzip.format.metadata import Metadata, read_metadata, write_metadata
from gmvqzip.format.sections import SECTION_METADATA, SECTION_RGB, compress_profile, decompress_profile


class Extras(NamedTuple):
    """What there is, and None for what is not."""

    alpha: NDArray[np.uint8] | None  # the transparency plane [H, W]
    icc: bytes | None  # the colour profile
    metadata: Metadata | None
    as_rgb: bool = False  # a gray picture is given out as RGB


def make_sections(
    plane: NDArray[np.uint8] | None, profile: bytes | None, metadata: Metadata | None = None, as_rgb: bool = False
) -> dict[int, bytes]:
    """The sections of a transparency plane [H, W], a colour profile and metadata, as far as there are any.

    as_rgb: the picture is gray, and to be given out as RGB; that goes without saying where its profile is one of RGB.
    """
    sections = {}
    if plane is not None:
        sections[container.SECTION_ALPHA] = alpha.compress_alpha(plane)
    if profile is not None:
        sections[container.SECTION_ICC] = compress_profile(profile)
    if metadata:
        sections[SECTION_METADATA] = write_metadata(metadata)
    if as_rgb and profile is None:
        sections[SECTION_RGB] = b""
    return sections


def read_extras(box: container.Container) -> Extras:
    """What a file's sections hold. Raises FormatError."""
    plane = box.sections.get(container.SECTION_ALPHA)
    profile = box.sections.get(container.SECTION_ICC)
    metadata = box.sections.get(SECTION_METADATA)
    return Extras(
        None if plane is None else alpha.decompress_alpha(plane, box.header.width, box.header.height),
        None if profile is None else decompress_profile(profile),
        None if metadata is None else read_metadata(metadata),
        SECTION_RGB in box.sections,
    )
