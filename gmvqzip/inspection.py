"""What a `.gmvq` file says of itself, without tables, network, numpy or torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from gmvqzip.errors import ModelError
from gmvqzip.format import container
from gmvqzip.format.limits import MAX_SIDE
from gmvqzip.format.metadata import Metadata, read_metadata
from gmvqzip.format.sections import SECTION_ALPHA, SECTION_ICC, SECTION_METADATA, SECTION_TILES, section_name
from gmvqzip.format.source import Source, read_source
from gmvqzip.format.tiles import read_index
from gmvqzip.models import registry


@dataclass(frozen=True)
class Info:
    """The header of a file, the bytes of its parts, and the model that made it, if that is installed."""

    header: container.Header
    sections: Mapping[str, int]  # bytes of each section's content, by name: alpha, icc, tiles, metadata
    header_bytes: int
    sections_bytes: int
    payload_bytes: int
    tile: int  # side of the tiles in pixels; 0 for a picture in one piece
    model: registry.ModelInfo | None  # None: not installed, or several installed models share the stored prefix
    model_error: str  # why there is no model, and what to do; empty if there is one
    metadata: Metadata | None = None  # EXIF, XMP and their kin

    @property
    def width(self) -> int:
        """Pixels."""
        return self.header.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self.header.height

    @property
    def gray(self) -> bool:
        """Whether the picture has one channel."""
        return self.header.gray

    @property
    def alpha(self) -> bool:
        """Whether the picture has transparency."""
        return section_name(SECTION_ALPHA) in self.sections

    @property
    def icc(self) -> bool:
        """Whether the file holds a colour profile."""
        return section_name(SECTION_ICC) in self.sections

    @property
    def quality(self) -> int:
        """1 to 100, or 0 for a model with a single rate."""
        return self.header.quality

    @property
    def model_id(self) -> str:
        """The model's identity: 64 hexadecimal digits if it is installed, otherwise the 4 or 8 that the file stores."""
        return self.model.model_id if self.model else self.header.model_id.hex()

    @property
    def codes_crc32(self) -> str | None:
        """The CRC-32 of the indices, 8 hexadecimal digits; None in the short form, which stores half of it."""
        return None if self.header.short else f"{self.header.codes_check:08x}"

    @property
    def file_bytes(self) -> int:
        """Bytes of the whole file."""
        return self.header_bytes + self.sections_bytes + self.payload_bytes

    @property
    def bpp(self) -> float:
        """Bits of the whole file per pixel."""
        return 8 * self.file_bytes / (self.width * self.height)


def info(source: Source, *, model: str | os.PathLike[str] | None = None) -> Info:
    """What is inside a `.gmvq` file, given as bytes, as a path or as a binary file object.

    model: the name or file of the model that made it; by default the installed one is sought. The file's checks are
    verified, its codes are not decoded. Raises FormatError; ModelError where `model` is another one; OSError where a
    path is unreadable.
    """
    data = read_source(source)
    box = container.unpack(data, max_pixels=MAX_SIDE * MAX_SIDE)  # nothing of that size is allocated here
    found, error = None, ""
    if model is not None:
        found = registry.find(model)
        registry.check_model(found, box.header.model_id)
    else:
        try:
            found = registry.find_by_id(box.header.model_id)
        except ModelError as missing:
            error = str(missing)
    sections = {section_name(kind): len(content) for kind, content in box.sections.items()}
    index = box.sections.get(SECTION_TILES)
    tile = 0 if index is None else read_index(index, *box.header.coded_size).side
    stored = box.sections.get(SECTION_METADATA)
    return Info(
        box.header,
        sections,
        box.header_bytes,
        box.sections_bytes,
        len(box.payload),
        tile,
        found,
        error,
        None if stored is None else read_metadata(stored),
    )
