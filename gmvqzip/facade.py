"""The package's functions: one picture, with the default model or another one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack

from gmvqzip import codec
from gmvqzip.codec import Region
from gmvqzip.entropy.codes import Codes
from gmvqzip.errors import ModelError, one_line
from gmvqzip.format.limits import MAX_PIXELS
from gmvqzip.format.opened import opened
from gmvqzip.format.source import Source
from gmvqzip.images.pixels import PictureSource, to_pil
from gmvqzip.models import registry
from gmvqzip.rates import RateOptions
from gmvqzip.setting import DEFAULT_EFFORT

if TYPE_CHECKING:
    from PIL import Image


def compress(
    image: PictureSource,
    *,
    model: str | os.PathLike[str] = registry.DEFAULT_MODEL,
    tile: int | None = None,
    strip: bool = False,
    max_pixels: int = MAX_PIXELS,
    device: str = "auto",
    **rate: Unpack[RateOptions],
) -> bytes:
    """Compress a picture with the default model or another one, given and with options as for `Codec.compress`."""
    return codec.load(model, device=device).compress(image, tile=tile, strip=strip, max_pixels=max_pixels, **rate)


def decompress(
    source: Source,
    *,
    model: str | os.PathLike[str] | None = None,
    device: str = "auto",
    region: Region | None = None,
    scale: float = 1,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Decompress a `.gmvq` file, or a part, given as for `Codec.decompress`; the file names its model."""
    with opened(source, part=region is not None, max_pixels=max_pixels) as file:
        found = codec.load_for(file.box.header.model_id, model=model, device=device)
        return to_pil(found.restore(file, region=region, scale=scale))


def encode(
    image: PictureSource,
    *,
    model: str | os.PathLike[str] = registry.DEFAULT_MODEL,
    quality: int | None = None,
    effort: int = DEFAULT_EFFORT,
    tile: int | None = None,
    strip: bool = False,
    max_pixels: int = MAX_PIXELS,
    device: str = "auto",
) -> Codes:
    """The code indices of a picture under the default model or another one, with options as for `Codec.encode`."""
    found = codec.load(model, device=device)
    return found.encode(image, quality=quality, effort=effort, tile=tile, strip=strip, max_pixels=max_pixels)


def decode(codes: Codes, *, model: str | os.PathLike[str] | None = None, device: str = "auto") -> Image.Image:
    """The picture of these codes; they name their model."""
    if not isinstance(codes, Codes):
        raise ModelError(f"{one_line(codes)} are no codes: give what `encode` returns")
    return codec.load_for(bytes.fromhex(codes.model_id), model=model, device=device).decode(codes)
