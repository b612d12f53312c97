"""What is done to a picture between reading and coding: nothing that is seen changes."""

from __future__ import annotations

from dataclasses import replace

from gmvqzip.format.limits import MAX_PIXELS
from gmvqzip.images.hidden import fill_hidden
from gmvqzip.images.picture import Picture, Source, read_picture


def read_prepared(source: Source, *, strip: bool = False, max_pixels: int = MAX_PIXELS) -> Picture:
    """As `read_picture`, and `prepared` for coding."""
    return prepared(read_picture(source, strip=strip, max_pixels=max_pixels))


def prepared(picture: Picture) -> Picture:
    """The picture without the colours that alpha 0 hides (`fill_hidden`)."""
    if picture.alpha is None:
        return picture
    return replace(picture, pixels=fill_hidden(picture.pixels, picture.alpha))
