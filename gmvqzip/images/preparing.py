"""What is done to a picture between reading and coding: nothing that is seen changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gmvqzip.errors import ImageError, one_line
from gmvqzip.format.limits import MAX_PIXELS
from gmvqzip.images.colour import is_gray
from gmvqzip.images.hidden import fill_hidden
from gmvqzip.images.neutral import as_gray
from gmvqzip.images.picture import Source, read_picture
from gmvqzip.images.pixels import Picture

NOISE_NOTE = "gray but for noise: taken as gray"


def read_prepared(source: Source, *, strip: bool = False, max_pixels: int = MAX_PIXELS) -> Picture:
    """As `read_picture`, and `prepared` for coding."""
    return prepared(read_picture(source, strip=strip, max_pixels=max_pixels))


def read_all_prepared(images: Iterable[Source], *, strip: bool, max_pixels: int) -> list[Picture]:
    """As `read_prepared`, of several."""
    try:
        if hasattr(images, "read") or isinstance(images, str | bytes | bytearray | memoryview):
            raise TypeError  # the lines of a file and the letters of a name are none
        sources = iter(images)
    except TypeError:
        raise ImageError(f"{one_line(images)} are no pictures: give a sequence of them") from None
    return [read_prepared(image, strip=strip, max_pixels=max_pixels) for image in sources]


def prepared(picture: Picture) -> Picture:
    """The picture without colours that alpha 0 hides (`fill_hidden`), and gray where but noise is not (`as_gray`)."""
    if picture.alpha is not None:
        picture = replace(picture, pixels=fill_hidden(picture.pixels, picture.alpha))
    if not picture.gray:
        gray = as_gray(picture.pixels)
        if gray is not None:
            said = [] if is_gray(picture.pixels) else [NOISE_NOTE]  # only what was hidden may have had colour
            picture = replace(picture, pixels=gray, gray=True, as_rgb=True, warnings=picture.warnings + said)
    return picture
