"""The directories of a TIFF file: which pages it has, and what their tags say.

Only what pixels need is read here. References: TIFF 6.0 (1992), its Technical Notes 1 to 3, BigTIFF (2007).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, BinaryIO

from gmvqzip.errors import ImageError

MAX_PAGES = 65_536  # directories that are followed
MAX_VALUES = 2**22  # of one tag, but not more than the file has bytes
_FORMATS = {1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I", 16: "Q",
            17: "q", 18: "Q"}  # fmt: skip
_BYTES = (2, 7)  # texts and bytes of any meaning


class Tag(IntEnum):
    """Tags that say where samples are and what they mean."""

    SUBFILE = 254
    OLD_SUBFILE = 255
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTES = 279
    PLANAR = 284
    GRAY_CURVE = 291
    TRANSFER = 301
    PREDICTOR = 317
    COLOUR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTES = 325
    SUB_DIRECTORIES = 330
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_OFFSET = 513
    JPEG_BYTES = 514
    YCBCR_COEFFICIENTS = 529
    YCBCR_SUBSAMPLING = 530
    REFERENCE_BLACK_WHITE = 532
    IMAGE_DEPTH = 32997
    EXIF = 34665
    PROFILE = 34675
    GPS = 34853
    LAYERS = 37724
    INTEROPERABILITY = 40965
    DNG_VERSION = 50706


_KNOWN = frozenset(int(tag) for tag in Tag)
_POINTERS = (Tag.EXIF, Tag.GPS, Tag.INTEROPERABILITY)
_DATA = ((Tag.STRIP_OFFSETS, Tag.STRIP_BYTES), (Tag.TILE_OFFSETS, Tag.TILE_BYTES), (Tag.JPEG_OFFSET, Tag.JPEG_BYTES))
_SIZES = {kind: struct.calcsize(f"={layout}") for kind, layout in _FORMATS.items()}


@dataclass(frozen=True)
class Page:
    """A directory: its tags, and where it stands in the file."""

    offset: int
    tags: dict[int, tuple[Any, ...]]
    order: str  # < or >

    def one(self, tag: Tag, default: int) -> int:
        """A tag's first value, a whole number."""
        values = self.tags.get(tag)
        if not values:
            return default
        if not isinstance(values[0], int):
            raise ImageError(f"the TIFF is damaged: tag {int(tag)} is no whole number")
        return values[0]

    def numbers(self, tag: Tag, default: tuple[float, ...] = ()) -> tuple[Any, ...]:
        """A tag's values."""
        values = self.tags.get(tag, default)
        if any(not isinstance(value, int | float) for value in values):
            raise ImageError(f"the TIFF is damaged: tag {int(tag)} holds no numbers")
        return values

    def data(self, tag: Tag) -> bytes | None:
        """A tag's value as bytes."""
        values = self.tags.get(tag)
        if not values:
            return None
        return values[0] if isinstance(values[0], bytes) else bytes(value & 255 for value in self.numbers(tag))

    @property
    def is_other_version(self) -> bool:
        """Whether it is a smaller copy or a mask of another page."""
        return bool(self.one(Tag.SUBFILE, 0) & 0b101) or self.one(Tag.OLD_SUBFILE, 0) == 2

    @property
    def is_raw(self) -> bool:
        """Whether it belongs to a camera's raw file (DNG)."""
        return Tag.DNG_VERSION in self.tags


class _Reader:
    """Numbers of the file, never more than it has bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.length = file.seek(0, io.SEEK_END)
        file.seek(0)
        head = file.read(16)
        self.order = {b"II": "<", b"MM": ">"}.get(head[:2], "<")
        self.big = len(head) >= 4 and struct.unpack_from(f"{self.order}H", head, 2)[0] == 43
        if len(head) < (16 if self.big else 8):
            raise ImageError("the picture is damaged or cut: no directory")
        self.first = self.unpack("Q", head[8:16])[0] if self.big else self.unpack("I", head[4:8])[0]
        self.is_cut = False  # a directory after the first cannot be read
        self.reached = 0  # the end of everything that the directories read so far point to
        self.is_canon_raw = head[8:10] == b"CR" and not self.big

    def unpack(self, layout: str, data: bytes) -> tuple[Any, ...]:
        return struct.unpack(f"{self.order}{layout}", data)

    def at(self, offset: int, size: int) -> bytes:
        """Bytes at a place. ImageError: the file ends before."""
        if offset + size > self.length:
            raise ImageError("the picture is damaged or cut: a directory points beyond the file")
        self._file.seek(offset)
        return self._file.read(size)

    def page(self, offset: int) -> tuple[Page, int]:
        """The directory at a place, and the place of the next one."""
        counter, entry, inline = ("Q", 20, 8) if self.big else ("H", 12, 4)
        word = "Q" if self.big else "I"
        counter_size, word_size = struct.calcsize(f"={counter}"), struct.calcsize(f"={word}")
        (count,) = self.unpack(counter, self.at(offset, counter_size))
        if count > 4096:
            raise ImageError("the picture is damaged or cut: a directory of too many tags")
        table = self.at(offset + counter_size, count * entry)
        tags: dict[int, tuple[Any, ...]] = {}
        for start in range(0, len(table), entry):
            number, kind, values = self.unpack(f"HH{word}", table[start : start + 4 + word_size])
            field = table[start + 4 + word_size : start + entry]
            size = _SIZES.get(kind, 1) * values
            if size > inline:
                self.reached = max(self.reached, self.unpack(word, field)[0] + size)
            if number == Tag.LAYERS:
                tags[number] = (1,)
            elif number in _KNOWN and number not in tags:
                tags[number] = self._values(kind, values, field, inline, word)
        end = offset + counter_size + len(table)
        try:
            (following,) = self.unpack(word, self.at(end, word_size))
        except ImageError:
            following = 0  # the last directory may stand at the very end
        page = Page(offset, tags, self.order)
        self.reached = max(self.reached, end + word_size, *(_data_end(page, *pair) for pair in _DATA))
        return page, following

    def _values(self, kind: int, count: int, field: bytes, inline: int, word: str) -> tuple[Any, ...]:
        layout = _FORMATS.get(kind, "B" if kind in _BYTES else "")
        if not layout or not count:
            return ()
        size = struct.calcsize(f"={layout}") * count
        if count > MAX_VALUES and kind not in _BYTES:
            raise ImageError("the picture is damaged or cut: a tag of too many values")
        data = field[:size] if size <= inline else self.at(self.unpack(word, field)[0], size)
        if kind in _BYTES:
            return (data,)
        found = self.unpack(layout * count if len(layout) > 1 else f"{count}{layout}", data)
        if len(layout) == 1:
            return found
        pairs = zip(found[::2], found[1::2], strict=True)
        return tuple(above / below if below else 0.0 for above, below in pairs)


def _data_end(page: Page, offsets: Tag, sizes: Tag) -> int:
    """The end of a page's samples, where its tags say it."""
    pairs = zip(page.tags.get(offsets, ()), page.tags.get(sizes, ()), strict=False)
    return max((start + size for start, size in pairs if isinstance(start, int) and isinstance(size, int)), default=0)


@dataclass(frozen=True)
class Directory:
    """A TIFF's page that is read, and what else is there."""

    page: Page
    frame: int  # its place among all directories, from 0
    number: int  # of the page, from 1
    pages: int  # without smaller copies and masks
    below: int  # pictures in directories that pages point to, without smaller copies and masks
    end: int | None  # of everything that directories point to; None where that is not known


def read_directory(file: BinaryIO, offset: int | None = None) -> Directory:
    """The first page that is no smaller copy of another, or the one at an offset. Raises ImageError.

    A camera's raw file is refused: its pages are previews.
    """
    reader = _Reader(file)
    pages = list(_pages(reader))
    if reader.is_canon_raw or any(page.is_raw for page in pages):
        raise ImageError("this is a camera's raw file: develop it first, into a TIFF, JPEG or PNG")
    full = [page for page in pages if not page.is_other_version]
    if offset is not None:
        full = full if any(page.offset == offset for page in full) else [reader.page(offset)[0], *full]
    if not full:
        if any(Tag.SUB_DIRECTORIES in page.tags for page in pages):
            raise ImageError("this TIFF shows only a preview, as a camera's raw file: develop or export it first")
        full = pages[:1]
    if not full:
        raise ImageError("the picture is damaged or cut: no directory")
    place = next((i for i, page in enumerate(full) if page.offset == offset), 0)
    frame = pages.index(full[place]) if full[place] in pages else 0
    below = _pages_below(reader, pages)
    end = None if reader.is_cut or any(page.tags.get(Tag.COMPRESSION) == (6,) for page in pages) else reader.reached
    return Directory(full[place], frame, place + 1, len(full) + reader.is_cut, below, end)


def _pages_below(reader: _Reader, pages: list[Page]) -> int:
    """The pictures in directories that pages point to; the end of what these and EXIF hold is seen on the way."""
    seen = {page.offset for page in pages}
    waiting = [(offset, tag == Tag.SUB_DIRECTORIES) for page in pages for tag, offset in _directories_below(page)]
    found = 0
    while waiting and len(seen) < MAX_PAGES:
        offset, is_page = waiting.pop()
        if not offset or offset in seen:
            continue
        seen.add(offset)
        try:
            page, following = reader.page(offset)
            found += is_page and not page.is_other_version
        except ImageError:
            reader.is_cut = reader.is_cut or is_page
            continue
        if is_page:
            waiting.append((following, True))
        waiting += [(below, tag == Tag.SUB_DIRECTORIES) for tag, below in _directories_below(page)]
    return found


def _directories_below(page: Page) -> Iterator[tuple[Tag, int]]:
    for tag in (Tag.SUB_DIRECTORIES, *_POINTERS):
        for offset in page.tags.get(tag, ()):
            if isinstance(offset, int):
                yield tag, offset


def _pages(reader: _Reader) -> Iterator[Page]:
    seen: set[int] = set()
    offset = reader.first
    while offset and offset not in seen and len(seen) < MAX_PAGES:
        seen.add(offset)
        try:
            page, offset = reader.page(offset)
        except ImageError:
            if len(seen) == 1:
                raise
            reader.is_cut = True
            return  # the pages before it can be read
        yield page
