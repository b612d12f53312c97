"""What the samples of a TIFF mean: any photometric interpretation of samples of 1 to 16 bits, and floats from 0 to 1.

Pillow knows some combinations and takes others for these; here each is read as it is meant, or refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gmvqzip.errors import ImageError
from gmvqzip.images.colour import Unpacked, to_8_bit
from gmvqzip.images.notes import Notes, note_behind
from gmvqzip.images.pixels import Pixels
from gmvqzip.images.tiffdirectory import Directory, Page, Tag
from gmvqzip.images.tiffsamples import (
    FLOAT,
    PLAIN_COMPRESSIONS,
    SIGNED,
    UNSIGNED,
    Layout,
    read_bands,
    read_layout,
)

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIE_LAB, ICC_LAB = 0, 1, 2, 3, 5, 6, 8, 9
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, CIE_LAB: 3, ICC_LAB: 3}
CCITT, OLD_JPEG, JPEG = (2, 3, 4), 6, 7
BY_PILLOW = (*CCITT, OLD_JPEG, JPEG)
"""Compressions that decide themselves what samples mean."""
NAMES = {
    4: "a transparency mask",
    10: "ITU L*a*b*",
    32803: "a camera's raw samples",
    34892: "a camera's raw samples",
    32844: "LogL",
    32845: "LogLuv",
    51177: "depth",
}
ASSOCIATED, UNASSOCIATED = 1, 2
LEAST_BEHIND = 64  # bytes behind everything that the directories point to; some writers leave a few
SLACK = 1 / 512  # by which floats may pass 0 and 1: half a level


@dataclass(frozen=True)
class Meaning:
    """What the samples of each pixel stand for."""

    photometric: int
    colours: int
    alpha: int | None  # its sample
    associated: bool  # colours are multiplied by alpha

    @property
    def planes(self) -> list[int]:
        return [*range(self.colours), *(() if self.alpha is None else (self.alpha,))]


def unpack_tiff(
    file: BinaryIO, directory: Directory, notes: Notes, check_size: Callable[[int, int], None]
) -> Unpacked | None:
    """The samples of a TIFF's page; None where Pillow reads it right: JPEG and CCITT inside.

    check_size(width, height) may raise. Raises ImageError.
    """
    page = directory.page
    layout = read_layout(page)
    check_size(layout.width, layout.height)
    if directory.pages > 1:
        notes.drop(f"only one of {directory.pages} pages is kept: number {directory.number}")
    if directory.below:
        notes.drop(f"{directory.below} further picture{'s' * (directory.below > 1)} in directories below not kept")
    if page.one(Tag.IMAGE_DEPTH, 1) > 1:
        notes.drop(f"only the first of {page.one(Tag.IMAGE_DEPTH, 1)} slices is kept")
    if Tag.LAYERS in page.tags:
        notes.drop("the layers are not kept, only the picture that they make")
    note_behind(file, directory.end, notes, least=LEAST_BEHIND)
    meaning = _meaning(page, layout, notes)
    if layout.compression in BY_PILLOW:
        _check_pillow(layout)
        return None
    _check(layout, meaning)
    if layout.kind == FLOAT:
        notes.drop("floating-point samples, 0 taken as black and 1 as white, reduced to 8 bits")
    elif meaning.photometric != PALETTE:
        notes.reduce(layout.bits)
    for tag, what in ((Tag.GRAY_CURVE, "gray curve"), (Tag.TRANSFER, "transfer function")):
        if tag in page.tags and page.data(Tag.PROFILE) is None:
            notes.say(f"the {what} of the TIFF is not applied")
    picture, alpha = _paint(file, page, layout, meaning)
    palette = meaning.photometric == PALETTE
    return Unpacked(picture, alpha, page.data(Tag.PROFILE), page.one(Tag.ORIENTATION, 1), palette)


def _meaning(page: Page, layout: Layout, notes: Notes) -> Meaning:
    photometric = page.one(Tag.PHOTOMETRIC, -1)
    if photometric < 0 and layout.compression in CCITT:
        photometric = WHITE_IS_ZERO
    if photometric < 0:
        raise ImageError("this TIFF does not say what its samples mean (no photometric interpretation)")
    if photometric not in COLOURS:
        name = NAMES.get(photometric, f"photometric interpretation {photometric}")
        raise ImageError(f"a TIFF that holds {name} cannot be read: convert it to RGB or gray first")
    colours = COLOURS[photometric]
    if layout.samples < colours and layout.compression not in (OLD_JPEG, JPEG):
        raise ImageError(f"the picture is damaged or cut: {layout.samples} samples per pixel, not {colours}")
    if photometric == CMYK and page.one(Tag.INK_SET, 1) != 1:
        raise ImageError("a TIFF of other inks than cyan, magenta, yellow and black cannot be read: convert it first")
    kinds = [int(kind) for kind in page.numbers(Tag.EXTRA_SAMPLES)]
    extra = max(0, layout.samples - colours)
    if extra and not kinds and photometric in (RGB, BLACK_IS_ZERO, WHITE_IS_ZERO):
        kinds = [UNASSOCIATED]  # that nothing is said of it is common for alpha
    kinds = (kinds + [0] * extra)[:extra]
    known = [place for place, kind in enumerate(kinds) if kind in (ASSOCIATED, UNASSOCIATED, 999)]  # 999: Corel Draw 10
    alpha = known[0] if known else None
    if len(kinds) > (alpha is not None):
        count = len(kinds) - (alpha is not None)
        notes.drop(f"{count} further channel{'s' * (count > 1)} without a meaning not kept")
    return Meaning(
        photometric,
        colours,
        None if alpha is None else colours + alpha,
        alpha is not None and kinds[alpha] == ASSOCIATED,
    )


def _check_pillow(layout: Layout) -> None:
    """Refuse what the readers of Pillow take for something else."""
    wanted = (1,) if layout.compression in CCITT else (8,)
    if layout.bits not in wanted or layout.kind != UNSIGNED or layout.separate:
        what = f"of {layout.bits} bits per sample{' in planes' if layout.separate else ''}"
        raise ImageError(
            f"a TIFF {what} cannot be read in compression {layout.compression}: save it with LZW or deflate"
        )


def _check(layout: Layout, meaning: Meaning) -> None:
    """Refuse samples that have no agreed black and white, or that are packed in a way of their own."""
    if layout.compression not in PLAIN_COMPRESSIONS:
        raise ImageError(f"TIFF compression {layout.compression} cannot be read: save it with LZW or deflate")
    signed_lab = meaning.photometric == CIE_LAB
    if layout.kind == SIGNED and not signed_lab:
        raise ImageError(
            f"signed {layout.bits}-bit samples have no agreed black and white; convert to 8 or 16 bits first"
        )
    if layout.kind == FLOAT and (layout.bits not in (16, 32, 64) or meaning.photometric not in (0, 1, 2)):
        raise ImageError("floating-point samples of this kind cannot be read; convert to 8 or 16 bits first")
    if layout.kind not in (UNSIGNED, SIGNED, FLOAT):
        raise ImageError("complex samples are no picture; convert to 8 or 16 bits first")
    if layout.kind != FLOAT and layout.bits > 16:
        raise ImageError(
            f"{layout.bits}-bit integer samples have no agreed black and white; convert to 8 or 16 bits first"
        )
    if meaning.photometric in (CIE_LAB, ICC_LAB, YCBCR) and layout.bits not in (8, 16):
        raise ImageError(f"colours of {layout.bits} bits per channel cannot be read here: convert it to RGB first")
    plain = layout.bits == 8 and layout.predictor == 1 and layout.samples == 3 and not layout.separate
    if layout.units != (1, 1) and not (plain and set(layout.units) <= {1, 2, 4}):
        raise ImageError("shared chroma of this kind cannot be read: convert it to RGB first")
    known = layout.predictor == 1 or (layout.predictor == 2 and layout.bits in (8, 16, 24, 32, 64))
    if not known and not (layout.predictor == 3 and layout.kind == FLOAT):
        raise ImageError(f"TIFF predictor {layout.predictor} cannot be read with these samples: save it without")


def _paint(file: BinaryIO, page: Page, layout: Layout, meaning: Meaning) -> tuple[Image.Image, Pixels | None]:
    """The colours as an image of 8 bits per channel, and alpha [H, W]."""
    palette = _palette(page, layout) if meaning.photometric == PALETTE else None
    channels = 3 if palette is not None else meaning.colours
    out = np.empty((layout.height, layout.width, channels), dtype=np.uint8)
    alpha = None if meaning.alpha is None else np.empty((layout.height, layout.width), dtype=np.uint8)
    top = 0
    for samples in read_bands(file, page, layout, meaning.planes):
        rows = slice(top, top + len(samples))
        colours = samples[..., : meaning.colours]
        if palette is not None:
            out[rows] = palette[np.minimum(colours[..., 0], len(palette) - 1)]
        elif alpha is not None and meaning.associated:
            out[rows] = _divided(colours, samples[..., -1:], layout, meaning)
        else:
            out[rows] = _levels(colours, page, layout, meaning)
        if alpha is not None:
            alpha[rows] = _plain(samples[..., -1], layout)
        top += len(samples)
    return _image(out, meaning), alpha


def _plain(samples: NDArray[Any], layout: Layout) -> Pixels:
    """Samples from black to white -> 0..255, rounded."""
    if layout.kind != FLOAT:
        return to_8_bit(samples, layout.bits)
    if not bool((samples >= -SLACK).all() and (samples <= 1 + SLACK).all()):  # not a number is neither
        raise ImageError("floating-point samples beyond 0 to 1 have no agreed black and white; scale them first")
    return np.asarray(np.rint(np.clip(samples, 0, 1).astype(np.float64) * 255).astype(np.uint8))


def _levels(colours: NDArray[Any], page: Page, layout: Layout, meaning: Meaning) -> Pixels:
    """Colours of each kind as 8-bit samples of the image that `_image` makes."""
    if meaning.photometric in (CIE_LAB, ICC_LAB):
        return _lab(colours, layout, meaning)
    levels = _plain(colours, layout)
    if meaning.photometric == YCBCR:
        return _from_ycbcr(levels, page)
    return np.asarray(255 - levels) if meaning.photometric == WHITE_IS_ZERO else levels


def _divided(colours: NDArray[Any], alpha: NDArray[Any], layout: Layout, meaning: Meaning) -> Pixels:
    """Colours that were multiplied by alpha, without it."""
    if meaning.photometric not in (BLACK_IS_ZERO, RGB):
        raise ImageError("colours of this kind that are multiplied by alpha cannot be read: convert it to RGB first")
    least: float = 1
    if layout.kind == FLOAT:
        _plain(colours, layout)  # refuses what is beyond 0 to 1
        least = float(np.finfo(np.float32).tiny)
    straight = colours / np.maximum(alpha, least) * 255
    return np.asarray(np.rint(np.clip(straight, 0, 255)).astype(np.uint8))


def _lab(colours: NDArray[Any], layout: Layout, meaning: Meaning) -> Pixels:
    """L*, a* and b* as 8-bit L*, a* + 128 and b* + 128."""
    deep = layout.bits == 16
    light = to_8_bit(colours[..., :1].astype(np.uint16 if deep else np.uint8), layout.bits)
    chroma = colours[..., 1:]
    if meaning.photometric == CIE_LAB:  # two's complement
        chroma = chroma.astype(np.uint16 if deep else np.uint8).view(np.int16 if deep else np.int8).astype(np.int32)
    else:
        chroma = chroma.astype(np.int32) - (1 << (layout.bits - 1))
    if deep:
        chroma = (chroma + 128) >> 8
    return np.concatenate([light, np.clip(chroma + 128, 0, 255).astype(np.uint8)], axis=-1)


def _from_ycbcr(levels: Pixels, page: Page) -> Pixels:
    """RGB by the file's coefficients and reference levels (TIFF 6.0, section 21)."""
    red, green, blue = (float(value) for value in page.numbers(Tag.YCBCR_COEFFICIENTS, (0.299, 0.587, 0.114))[:3])
    reference = page.numbers(Tag.REFERENCE_BLACK_WHITE, (0, 255, 128, 255, 128, 255))
    if len(reference) < 6 or not green:
        raise ImageError("the picture is damaged or cut: reference levels are missing")
    black, white = np.array(reference[:6:2], dtype=np.float64), np.array(reference[1:6:2], dtype=np.float64)
    if (white == black).any():
        raise ImageError("the picture is damaged or cut: reference levels are equal")
    values = (levels - black) / (white - black) * (255, 127, 127)
    y, cb, cr = values[..., 0], values[..., 1], values[..., 2]
    r, b = y + cr * (2 - 2 * red), y + cb * (2 - 2 * blue)
    g = (y - red * r - blue * b) / green
    return np.rint(np.clip(np.stack([r, g, b], axis=-1), 0, 255)).astype(np.uint8)


def _palette(page: Page, layout: Layout) -> Pixels:
    """The colours [entries, 3]. A map of 16 bits, as it has to be; of 8 bits where none is above 255, as some write."""
    values = np.array(page.numbers(Tag.COLOUR_MAP), dtype=np.int64)
    if len(values) < 3 << layout.bits:
        raise ImageError("the picture is damaged or cut: colours of the palette are missing")
    table = values[: 3 << layout.bits].reshape(3, -1).T
    if not (table & 255).any():  # as writers do that shift
        table >>= 8
    return to_8_bit(table, 16) if table.max() > 255 else table.astype(np.uint8)


def _image(levels: Pixels, meaning: Meaning) -> Image.Image:
    height, width, _ = levels.shape
    if meaning.photometric == CMYK:
        return Image.frombytes("CMYK", (width, height), levels.tobytes())
    if meaning.photometric in (CIE_LAB, ICC_LAB):
        levels[..., 1:] ^= 128  # Pillow unpacks it as TIFF stores it
        return Image.frombytes("LAB", (width, height), levels.tobytes(), "raw", "LAB")
    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
