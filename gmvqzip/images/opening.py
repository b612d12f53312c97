"""Letting Pillow open a file: within our limits, without its warnings, with the add-ons that are installed."""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import IO, BinaryIO

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from gmvqzip.errors import ImageError, message_of
from gmvqzip.forks import call_after_fork, fork_lock
from gmvqzip.format.container import MAGIC
from gmvqzip.format.limits import MAX_PROFILE_BYTES
from gmvqzip.format.source import read_bounded
from gmvqzip.images.formats import ADD_ONS, ADDED_FORMATS, COMMON_FORMATS, LAST_FORMAT, OTHER_FORMATS, refusal

_HEAD_BYTES = 32


def open_image(file: BinaryIO, max_pixels: int) -> Image.Image:
    """Let Pillow read the header. To be called in `calm_pillow`. Raises ImageError."""
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if not head:
        raise ImageError("the file is empty")
    if head.startswith(MAGIC):
        raise ImageError("this is a .gmvq file already: decompress it to get a picture")
    try:
        try:
            return Image.open(file, formats=COMMON_FORMATS)
        except UnidentifiedImageError:
            register_add_ons()
            return Image.open(file, formats=_uncommon_formats())
    except UnidentifiedImageError:
        raise ImageError(refusal(head)) from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than the limit of {max_pixels} pixels: raise it with --max-pixels") from error
    except MemoryError:
        raise
    except Exception as error:  # on damaged files the readers of Pillow raise almost anything
        raise ImageError(f"the picture is damaged or cut: {message_of(error)}") from error


@cache
def register_add_ons() -> None:
    """Let Pillow know its own rarer formats, and those of the add-ons that can be imported."""
    Image.init()
    for name, (module, _) in ADD_ONS.items():
        if name in Image.OPEN:
            continue
        try:
            added = importlib.import_module(module)  # pillow_jxl registers itself
            if name == "HEIF":
                added.register_heif_opener()
        except Exception:  # not there, or broken: then the format cannot be read, and that is said where it matters
            continue


def _uncommon_formats() -> list[str]:
    return [name for name in (*OTHER_FORMATS, *ADDED_FORMATS, LAST_FORMAT) if name in Image.OPEN]


def rewindable(file: IO[bytes]) -> BinaryIO:
    """The file itself where it stands at its beginning and can go back there; otherwise the rest of it in memory."""
    try:
        if not isinstance(file.read(0), bytes):
            raise ImageError("the file object gives text: open it in binary mode")
        may_give_less = isinstance(file, io.RawIOBase)  # than it is asked for
        if not may_give_less and getattr(file, "seekable", lambda: False)() and file.tell() == 0:
            return file  # type: ignore[return-value]
    except (ValueError, TypeError) as error:  # it is closed, or no file
        raise ImageError(f"the file object cannot be read: {message_of(error)}") from None
    return io.BytesIO(read_bounded(file, ImageError))


_calm_lock = fork_lock()
_calm_limits: list[int] = []  # one for each thread inside
_calm_before: tuple[int | None, int, warnings.catch_warnings[None]] | None = None


@contextmanager
def calm_pillow(max_pixels: int) -> Iterator[None]:
    """Put our limits in the place of Pillow's own, and hush Pillow's warnings, while any thread is inside.

    All are global in Pillow and Python; the list of those inside keeps threads from restoring them under each other.
    """
    global _calm_before
    with _calm_lock:
        if _calm_before is None:
            hush = warnings.catch_warnings()
            _calm_before = (Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, hush)
            hush.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
            PngImagePlugin.MAX_TEXT_CHUNK = MAX_PROFILE_BYTES
        _calm_limits.append(max_pixels)
        Image.MAX_IMAGE_PIXELS = _pillow_limit()
    try:
        yield
    finally:
        with _calm_lock:
            _calm_limits.remove(max_pixels)
            if _calm_limits:
                Image.MAX_IMAGE_PIXELS = _pillow_limit()
            else:
                _put_back()


def _put_back() -> None:
    """What is global as it was before a thread was inside."""
    global _calm_before
    if _calm_before is not None:
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, hush = _calm_before
        hush.__exit__(None, None, None)
        _calm_before = None


def _forget_threads() -> None:
    """In a forked child: those inside are not there."""
    _calm_limits.clear()
    _put_back()


call_after_fork(_forget_threads)


def _pillow_limit() -> int:
    return (max(_calm_limits) + 1) // 2  # Pillow refuses what is beyond twice its limit
