"""A picture as the codec sees it, and as it goes out. How one is read stays out of here: a decoder needs none of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from gmvqzip.format.sections import is_for_rgb

if TYPE_CHECKING:
    from gmvqzip.format.metadata import Metadata

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
PictureSource = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | np.ndarray[Any, Any]


@dataclass
class Picture:
    """A picture as the codec sees it."""

    pixels: Pixels  # uint8 [H, W, 3]; three equal channels where gray
    gray: bool = False  # the picture has one channel, or three that are equal
    alpha: Pixels | None = None  # uint8 [H, W]; None where fully opaque
    icc: bytes | None = None  # profile of the pixels' own colour space (RGB, or GRAY where gray)
    warnings: list[str] = field(default_factory=list)  # what was lost or changed in reading, one line each
    as_rgb: bool = False  # gray, but given as RGB: it goes out as RGB
    dropped: list[str] = field(default_factory=list)  # those of them for which the source must be kept
    metadata: Metadata | None = None  # EXIF, XMP and their kin
    original: Pixels | None = None  # the pixels that were taken as gray, where they were not quite

    @property
    def given(self) -> Pixels:
        """The pixels that a decoded picture is measured beside."""
        return self.pixels if self.original is None else self.original

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def one_channel(self) -> bool:
        """Whether it goes out with one channel: gray, neither given as RGB nor with a profile of RGB."""
        return self.gray and not self.as_rgb and (self.icc is None or not is_for_rgb(self.icc))


def to_pil(picture: Picture) -> Image.Image:
    """The picture as a Pillow image of mode L, LA, RGB or RGBA.

    Its `info` has what Pillow's own formats have: icc_profile, exif, xmp, dpi, comment, photoshop, texts by keyword.
    Its `text` has the texts alone.
    """
    pixels = picture.pixels[:, :, 0] if picture.one_channel else picture.pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.text = {}  # type: ignore[attr-defined]
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    if picture.icc is not None:
        image.info["icc_profile"] = picture.icc
    if picture.metadata is not None:
        from gmvqzip.images.metadata import embed

        embed(image, picture.metadata)
    return image
