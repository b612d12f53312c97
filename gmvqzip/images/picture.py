"""Reading pictures: whatever Pillow opens becomes 8-bit RGB or gray with its alpha plane and colour profile.

Every failure is an ImageError of one line. What is lost on the way (further frames, 16-bit depth, ...) is said in
`Picture.warnings`, and again in `Picture.dropped` where the source has something that the picture has not.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from gmvqzip.errors import ImageError
from gmvqzip.forks import fork_lock
from gmvqzip.format.container import MAGIC
from gmvqzip.format.limits import MAX_PIXELS, MAX_SIDE
from gmvqzip.images import colour
from gmvqzip.images.colour import DEPTH_NOTE, Pixels, Planes
from gmvqzip.images.notes import Notes

COMMON_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM")  # tried first: Pillow loads their readers in any case
OTHER_FORMATS = (
    "WEBP",
    "AVIF",
    "TIFF",
    "JPEG2000",
    "MPO",
    "DIB",
    "ICO",
    "ICNS",
    "PCX",
    "PSD",
    "QOI",
    "SGI",
    "XBM",
    "XPM",
)
ADDED_FORMATS = ("HEIF", "JXL")  # read where an add-on of Pillow is installed and registered
LAST_FORMAT = "TGA"  # it has no magic number
"""What is read. Formats that run other programs (EPS), or are drawings or scientific arrays, are not."""

EXIF_ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture of each EXIF orientation upright."""

Source = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray[Any, Any]


@dataclass
class Picture:
    """A picture as the codec sees it."""

    pixels: Pixels  # uint8 [H, W, 3]; three equal channels where gray
    gray: bool = False  # the picture has one channel
    alpha: Pixels | None = None  # uint8 [H, W]; None where fully opaque
    icc: bytes | None = None  # profile of the pixels' own colour space (RGB, or GRAY where gray)
    warnings: list[str] = field(default_factory=list)  # what was lost or changed in reading, one line each
    dropped: list[str] = field(default_factory=list)  # those of them for which the source must be kept

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.pixels.shape[0]


def read_picture(source: Source, *, strip: bool = False, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a path, bytes, a binary file object, a Pillow image, or an array [H,W], [H,W,1|2|3|4] of uint8 or uint16.

    The EXIF orientation is applied, a fully opaque alpha dropped. `strip` converts the pixels to sRGB and drops the
    profile. ImageError: unreadable, cut, damaged, empty, more than `max_pixels`, or a kind of sample with no 8-bit
    meaning.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        return _from_pillow(source, strip=strip, max_pixels=max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_file(io.BytesIO(source), strip=strip, max_pixels=max_pixels)
    if isinstance(source, str | os.PathLike):
        try:
            with Path(source).open("rb") as file:
                return _from_file(file, strip=strip, max_pixels=max_pixels)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            raise ImageError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not hasattr(source, "read"):
        raise ImageError(f"a picture cannot be made of a {type(source).__name__}; give a path, bytes, image or array")
    return _from_file(_rewindable(source), strip=strip, max_pixels=max_pixels)


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) as stored in the file's header, before any turn; no pixel is unpacked. ImageError."""
    try:
        with path.open("rb") as file, _calm_pillow(MAX_PIXELS), _open(file, MAX_PIXELS) as image:
            return image.size
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error


def _rewindable(file: BinaryIO) -> BinaryIO:
    """The file itself where it stands at its beginning and can go back there; otherwise the rest of it in memory."""
    if not isinstance(file.read(0), bytes):
        raise ImageError("the file object gives text: open it in binary mode")
    if getattr(file, "seekable", lambda: False)() and file.tell() == 0:
        return file
    return io.BytesIO(file.read())


def _from_file(file: BinaryIO, *, strip: bool, max_pixels: int) -> Picture:
    with _calm_pillow(max_pixels), _open(file, max_pixels) as image:
        return _from_pillow(image, strip=strip, max_pixels=max_pixels)


def _open(file: BinaryIO, max_pixels: int) -> Image.Image:
    """Let Pillow read the header. To be called in `_calm_pillow`."""
    head = file.read(len(MAGIC))
    file.seek(0)
    if not head:
        raise ImageError("the file is empty")
    if head == MAGIC:
        raise ImageError("this is a .gmvq file already: decompress it to get a picture")
    try:
        try:
            return Image.open(file, formats=COMMON_FORMATS)
        except UnidentifiedImageError:
            Image.init()
            return Image.open(file, formats=_uncommon_formats())
    except UnidentifiedImageError:
        raise ImageError("not a picture, cut in its first bytes, or of a format that cannot be read here") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than the limit of {max_pixels} pixels: raise it with --max-pixels") from error
    except Exception as error:  # on damaged files the readers of Pillow raise almost anything
        raise ImageError(f"the picture is damaged or cut: {_line(error)}") from error


def _uncommon_formats() -> list[str]:
    return [name for name in (*OTHER_FORMATS, *ADDED_FORMATS, LAST_FORMAT) if name in Image.OPEN]


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"the picture has no pixels ({width}x{height})")
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"{width}x{height}: a side has more than {MAX_SIDE} pixels, the limit of the format")
    if width * height > max_pixels:
        raise ImageError(f"{width}x{height} is more than the limit of {max_pixels} pixels: raise it with --max-pixels")


def _from_pillow(image: Image.Image, *, strip: bool, max_pixels: int) -> Picture:
    _check_size(*image.size, max_pixels)
    notes = Notes()
    with _calm_pillow(max_pixels):
        try:
            _note_frames(image, notes)
            stored = str(getattr(image, "tile", ""))  # how the samples lie in the file; gone after loading
            image.load()
            if ";16" in stored and not image.mode.startswith("I"):
                notes.drop(DEPTH_NOTE)
            info: dict[str, Any] = {str(key): value for key, value in image.info.items()}
            upright = _upright(image, notes)
            if "LA;16" in stored:  # gray with alpha of 16 bits, which Pillow gives as RGBA
                upright = upright.convert("LA")
            planes = colour.separate(upright, info, image.format, strip=strip, notes=notes)
        except ImageError:
            raise
        except MemoryError as error:
            raise ImageError("not enough memory to unpack the picture") from error
        except Exception as error:
            raise ImageError(f"the picture is damaged or cut: {_line(error)}") from error
    return _finished(planes, notes)


def _note_frames(image: Image.Image, notes: Notes) -> None:
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format != "MPO":  # MPO: a photograph with its preview
        what = "pages" if image.format == "TIFF" else "frames"
        notes.drop(f"only one of {frames} {what} is kept: number {image.tell() + 1}")


def _upright(image: Image.Image, notes: Notes) -> Image.Image:
    try:
        turn = TURNS.get(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception as error:  # a damaged EXIF block must not cost the picture
        notes.drop(f"the EXIF block is damaged ({_line(error)}): no rotation applied")
        return image
    return image if turn is None else image.transpose(turn)


def _from_array(array: np.ndarray[Any, Any], max_pixels: int) -> Picture:
    shape, notes = array.shape, Notes()
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 2, 3, 4)):
        raise ImageError(f"an array of shape {shape} is no picture; give [H, W], [H, W, 3] or [H, W, 4]")
    _check_size(shape[1], shape[0], max_pixels)
    if array.dtype == np.uint16:
        array = colour.from_16_bit(array)
        notes.drop(DEPTH_NOTE)
    elif array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype} is no picture; give uint8 (0..255) or uint16")
    planes = array if array.ndim == 3 else array[:, :, None]
    colours = 1 if planes.shape[2] <= 2 else 3
    alpha = planes[:, :, colours] if planes.shape[2] > colours else None
    pixels = np.repeat(planes[:, :, :1], 3, axis=2) if colours == 1 else planes[:, :, :3]
    return _finished(Planes(np.array(pixels, order="C"), colours == 1, colour.drop_opaque(alpha), None), notes)


def _finished(planes: Planes, notes: Notes) -> Picture:
    return Picture(planes.pixels, planes.gray, planes.alpha, planes.icc, notes.lines, notes.dropped)


def to_pil(picture: Picture) -> Image.Image:
    """The picture as a Pillow image of mode L, LA, RGB or RGBA, its colour profile in `info["icc_profile"]`."""
    pixels = picture.pixels[:, :, 0] if picture.gray else picture.pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    if picture.icc is not None:
        image.info["icc_profile"] = picture.icc
    return image


_calm_lock = fork_lock()
_calm_limits: list[int] = []  # one for each thread inside
_calm_before: tuple[int | None, warnings.catch_warnings[None]] | None = None


@contextmanager
def _calm_pillow(max_pixels: int) -> Iterator[None]:
    """Put `max_pixels` in the place of Pillow's own limit, and hush Pillow's warnings, while any thread is inside.

    Both are global in Pillow and Python; the list of those inside keeps threads from restoring them under each other.
    """
    global _calm_before
    with _calm_lock:
        if _calm_before is None:
            hush = warnings.catch_warnings()
            _calm_before = (Image.MAX_IMAGE_PIXELS, hush)
            hush.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        _calm_limits.append(max_pixels)
        Image.MAX_IMAGE_PIXELS = _pillow_limit()
    try:
        yield
    finally:
        with _calm_lock:
            _calm_limits.remove(max_pixels)
            if _calm_limits:
                Image.MAX_IMAGE_PIXELS = _pillow_limit()
            elif _calm_before is not None:
                Image.MAX_IMAGE_PIXELS, hush = _calm_before
                hush.__exit__(None, None, None)
                _calm_before = None


def _pillow_limit() -> int:
    return (max(_calm_limits) + 1) // 2  # Pillow refuses what is beyond twice its limit
