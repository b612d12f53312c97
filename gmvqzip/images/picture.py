"""Reading pictures: whatever Pillow opens becomes 8-bit RGB or gray with its alpha plane and colour profile.

Every failure is an ImageError of one line. What is lost on the way (further frames, 16-bit depth, ...) is said in
`Picture.warnings`, and again in `Picture.dropped` where the source has something that the picture has not.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from gmvqzip.errors import ImageError, message_of, truth, whole_number
from gmvqzip.format.limits import MAX_PIXELS, MAX_SIDE
from gmvqzip.format.metadata import Metadata
from gmvqzip.format.source import open_file
from gmvqzip.images import colour, png
from gmvqzip.images.formats import TIFF_STARTS
from gmvqzip.images.metadata import metadata_of, sized, tiff_metadata
from gmvqzip.images.notes import Notes
from gmvqzip.images.opening import calm_pillow, open_image, rewindable
from gmvqzip.images.pixels import Picture, PictureSource
from gmvqzip.images.remainder import note_remainder
from gmvqzip.images.tiff import unpack_tiff
from gmvqzip.images.tiffdirectory import Directory, read_directory

EXIF_ORIENTATION = 0x0112
PACKED_FORMATS = ("BMP", "DIB")  # which put a whole pixel into 16 bits


def read_picture(source: PictureSource, *, strip: bool = False, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a path, bytes, a binary file object, a Pillow image, or an array [H,W], [H,W,1|2|3|4] of uint8 or uint16.

    The EXIF orientation is applied, a fully opaque alpha dropped. `strip` converts the pixels to sRGB and drops the
    profile and all metadata. ImageError: unreadable, cut, damaged, empty, more than `max_pixels`, or a kind of sample
    with no 8-bit meaning.
    """
    max_pixels, strip = whole_number(max_pixels, "max_pixels", ImageError), truth(strip, "strip", ImageError)
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        try:
            return _from_pillow(source, None, Notes(), strip=strip, max_pixels=max_pixels)
        except ImageError:
            if _is_closed(source):
                raise ImageError("the image is closed: give it while it is open") from None
            raise
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_file(io.BytesIO(bytes(source)), strip=strip, max_pixels=max_pixels)
    if isinstance(source, str | os.PathLike):
        try:
            with open_file(source, ImageError) as file:
                return _from_file(file, strip=strip, max_pixels=max_pixels)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            raise ImageError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not callable(getattr(source, "read", None)):
        raise ImageError(f"a picture cannot be made of a {type(source).__name__}; give a path, bytes, image or array")
    return _from_file(rewindable(source), strip=strip, max_pixels=max_pixels)


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) as stored in the file's header, before any turn; no pixel is unpacked. ImageError."""
    try:
        with path.open("rb") as file, calm_pillow(MAX_PIXELS), open_image(file, MAX_PIXELS) as image:
            return image.size
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"the picture has no pixels ({width}x{height})")
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"{width}x{height}: a side has more than {MAX_SIDE} pixels, the limit of the format")
    if width * height > max_pixels:
        raise ImageError(f"{width}x{height} is more than the limit of {max_pixels} pixels: raise it with --max-pixels")


def _from_file(file: BinaryIO, *, strip: bool, max_pixels: int) -> Picture:
    notes = Notes()
    with calm_pillow(max_pixels), _as_image_error():
        head = file.read(8)
        file.seek(0)
        frame = 0
        if head[:4] in TIFF_STARTS:
            directory = read_directory(file)
            picture = _of_tiff(file, directory, notes, strip=strip, max_pixels=max_pixels)
            if picture is not None:
                return picture
            file.seek(0)
            frame = directory.frame
        if head == png.SIGNATURE:
            file = png.without_long_chunks(file, notes)
        with open_image(file, max_pixels) as image:
            if frame:
                image.seek(frame)
            return _from_pillow(image, file, notes, strip=strip, max_pixels=max_pixels)


@contextmanager
def _as_image_error() -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("not enough memory to unpack the picture") from error
    except Exception as error:  # on damaged files the readers of Pillow raise almost anything
        raise ImageError(f"the picture is damaged or cut: {message_of(error)}") from error


def _from_pillow(image: Image.Image, file: BinaryIO | None, notes: Notes, *, strip: bool, max_pixels: int) -> Picture:
    """file: where the image was opened from, as far as it is known."""
    _check_size(*image.size, max_pixels)
    with calm_pillow(max_pixels), _as_image_error():
        if file is None:
            file = getattr(image, "fp", None)
            file = None if file is None or file.closed else _kept(file)
        header = None
        if file is not None and getattr(image, "tile", None):  # nothing is loaded yet
            if isinstance(image, TiffImageFile):
                directory = read_directory(file, image.tag_v2.offset)
                picture = _of_tiff(file, directory, notes, strip=strip, max_pixels=max_pixels)
                if picture is not None:
                    return picture
            if image.format == "PNG":
                header = png.read_header(file)
                if header.too_long:
                    with open_image(png.without_long_chunks(file, notes), max_pixels) as other:
                        return _from_pillow(other, None, notes, strip=strip, max_pixels=max_pixels)
        found = note_remainder(image, file, notes)
        stored = str(getattr(image, "tile", ""))  # how the samples lie in the file; gone after loading
        image.load()
        if header is not None and image.tell() == 0:
            unpacked = png.unpack_png(image, header, file, notes)
        else:
            if ";16" in stored and not image.mode.startswith("I") and image.format not in PACKED_FORMATS:
                notes.reduce(16)
            unpacked = colour.unpack_pillow(image, image.format, notes)
        if found.get("space") is not None:
            unpacked = replace(unpacked, image=found["space"].convert(unpacked.image, notes))
        orientation = 1 if found.get("is_upright") else _orientation(image, notes)
        unpacked = replace(unpacked, icc=unpacked.icc or found.get("icc_profile"), orientation=orientation)
        return _finished(unpacked, notes, None if strip else metadata_of(image, found, notes), strip=strip)


def _is_closed(image: Image.Image) -> bool:
    """Whether the pixels are gone, or were not read before the file was closed. Asked after a failure."""
    try:
        image.im  # noqa: B018
        return False
    except ValueError:  # what Pillow puts in the place of the pixels of a closed image
        return True
    except Exception:  # not loaded yet
        file = getattr(image, "fp", None)
        return bool(getattr(image, "tile", None)) and (file is None or file.closed)


def _kept(file: BinaryIO) -> BinaryIO:
    """The same file, which stays open when Pillow closes its own, as it does after loading what it opened by a path."""
    before = file.tell()
    file.seek(0)
    whole = io.BytesIO(file.read())
    file.seek(before)
    return whole


def _orientation(image: Image.Image, notes: Notes) -> int:
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception as error:  # a damaged EXIF block must not cost the picture
        notes.drop(f"the EXIF block is damaged ({message_of(error)}): no rotation applied")
        return 1


def _of_tiff(file: BinaryIO, directory: Directory, notes: Notes, *, strip: bool, max_pixels: int) -> Picture | None:
    """The picture in a directory; None where Pillow is to read it."""
    unpacked = unpack_tiff(file, directory, notes, partial(_check_size, max_pixels=max_pixels))
    if unpacked is None:
        return None
    metadata = None if strip else tiff_metadata(file, directory.page.offset, notes)
    return _finished(unpacked, notes, metadata, strip=strip)


def _finished(unpacked: colour.Unpacked, notes: Notes, metadata: Metadata | None, *, strip: bool) -> Picture:
    picture = colour.separate(unpacked, strip=strip, notes=notes)
    return picture if metadata is None else replace(picture, metadata=sized(metadata, picture.width, picture.height))


def _from_array(array: np.ndarray[Any, Any], max_pixels: int) -> Picture:
    shape, notes = array.shape, Notes()
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 2, 3, 4)):
        raise ImageError(f"an array of shape {shape} is no picture; give [H, W], [H, W, 3] or [H, W, 4]")
    _check_size(shape[1], shape[0], max_pixels)
    if array.dtype.newbyteorder("=") == np.uint16:  # of either byte order
        array = colour.to_8_bit(array, 16)
        notes.reduce(16)
    elif array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype} is no picture; give uint8 (0..255) or uint16")
    planes = array if array.ndim == 3 else array[:, :, None]
    colours = 1 if planes.shape[2] <= 2 else 3
    alpha = planes[:, :, colours] if planes.shape[2] > colours else None
    one = colours == 1
    pixels = np.repeat(planes[:, :, :1], 3, axis=2) if one else np.array(planes[:, :, :3], order="C")
    gray = one or colour.is_gray(pixels)
    alpha = colour.drop_opaque(alpha)
    as_rgb = gray and not one
    return Picture(pixels, gray, alpha, warnings=notes.lines, as_rgb=as_rgb, dropped=notes.dropped)
