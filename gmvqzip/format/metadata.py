"""What a file knows of its picture beside the pixels: EXIF, XMP, IPTC, resolution, texts, times. Standard library only.

The content of a metadata section is a byte for the method, then the items: each a kind, a length and bytes. Method 1 is
a raw deflate stream with a preset dictionary, so that a few hundred bytes are compressed as well as many.
docs/format.md specifies it.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from gmvqzip.errors import FormatError
from gmvqzip.format.limits import MAX_METADATA_BYTES
from gmvqzip.format.metadict import DICTIONARY
from gmvqzip.format.varint import read_varint, write_varint

EXIF, XMP, RESOURCES, RESOLUTION, TIME, COMMENT, TEXT, PART = range(1, 9)  # kinds of items; from TEXT on they repeat
JPEG_SEGMENT, PNG_CHUNK = 1, 2  # kinds of parts
STORED, DEFLATED = 0, 1  # methods
RESOLUTION_UNIT = 10_000  # to one pixel per inch; what PNG and JPEG store is exact in it
MAX_RESOLUTION = 2**32 - 1  # of these units
IPTC_RESOURCE = 0x0404
_VARINT_BYTES = 5
_WHAT = "metadata"
_STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED)

Moment = tuple[int, int, int, int, int, int]


@dataclass(frozen=True)
class Text:
    """A text under a keyword, as PNG has them; language and the keyword in that language may be empty."""

    keyword: str
    text: str
    language: str = ""
    translated: str = ""


@dataclass(frozen=True)
class Part:
    """A part of a file in another format that is kept as it stood there.

    data: of a JPEG segment the second byte of its marker and the contents, of a PNG chunk its type and the contents.
    """

    kind: int  # JPEG_SEGMENT or PNG_CHUNK; others are kept, too
    data: bytes


@dataclass(frozen=True)
class Metadata:
    """What is known of a picture beside its pixels; empty where it is not known."""

    exif: bytes = b""  # from the byte order mark on; orientation 1, no thumbnail
    xmp: bytes = b""  # the packet
    resources: bytes = b""  # of Photoshop: blocks that start with 8BIM, the one of IPTC among them
    dpi: tuple[float, float] | None = None  # pixels per inch, across and down
    time: Moment | None = None  # of the last change, UTC: year, month, day, hour, minute, second
    comment: bytes = b""
    texts: tuple[Text, ...] = ()
    parts: tuple[Part, ...] = ()  # what has no other place here

    def __bool__(self) -> bool:
        return self != Metadata()

    @property
    def iptc(self) -> bytes:
        """The IPTC records in the resources."""
        return next((data for kind, data in read_resources(self.resources) if kind == IPTC_RESOURCE), b"")


def write_metadata(metadata: Metadata) -> bytes:
    """The content of a metadata section. Raises FormatError for what is beyond the limits."""
    out = bytearray()
    for kind, content in _items(metadata):
        out += bytes([kind]) + write_varint(len(content)) + content
    if len(out) > MAX_METADATA_BYTES:
        raise FormatError(f"{len(out)} bytes of metadata are beyond {MAX_METADATA_BYTES}: drop them (--strip)")
    streams = [bytes([DEFLATED]) + _deflated(bytes(out), strategy) for strategy in _STRATEGIES]
    return min([*streams, bytes([STORED]) + out], key=len)


def read_metadata(content: bytes) -> Metadata:
    """The metadata in a section; kinds of items that are not known are passed over. Raises FormatError."""
    data = _opened(content)
    singles: dict[int, bytes] = {}
    texts, parts = [], []
    position = last = 0
    while position < len(data):
        kind = data[position]
        length, position = read_varint(data, position + 1, longest=_VARINT_BYTES, what=_WHAT)
        item, position = data[position : position + length], position + length
        if position > len(data) or kind < last or (kind < TEXT and kind in singles) or (kind == PART and not item):
            raise FormatError("the metadata are damaged: an item is cut, repeated or out of order")
        last = kind
        if kind == TEXT:
            texts.append(_read_text(item))
        elif kind == PART:
            parts.append(Part(item[0], item[1:]))
        else:
            singles[kind] = item
    return Metadata(
        exif=singles.get(EXIF, b""),
        xmp=singles.get(XMP, b""),
        resources=singles.get(RESOURCES, b""),
        dpi=_read_resolution(singles[RESOLUTION]) if RESOLUTION in singles else None,
        time=_read_time(singles[TIME]) if TIME in singles else None,
        comment=singles.get(COMMENT, b""),
        texts=tuple(texts),
        parts=tuple(parts),
    )


def read_resources(blocks: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each of Photoshop's image resources, up to the first that is malformed."""
    for kind, _, start, end in _resources(blocks):
        yield kind, blocks[start:end]


def without_resources(blocks: bytes, kinds: Collection[int]) -> tuple[bytes, bytes]:
    """(the blocks of other kinds as they are, what follows the last block that is well formed)."""
    kept, place = bytearray(), 0
    for kind, first, _, end in _resources(blocks):
        place = end + (end - first) % 2  # all but the contents are even
        if kind not in kinds:
            kept += blocks[first:end] + bytes(place - end)
    return bytes(kept), blocks[place:]


def _resources(blocks: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(number, place of the block, places of its first byte and behind its last) of each."""
    place = 0
    while blocks[place : place + 4] == b"8BIM" and place + 12 <= len(blocks):
        kind = int.from_bytes(blocks[place + 4 : place + 6], "big")
        start = place + 6 + (blocks[place + 6] // 2 + 1) * 2 + 4  # behind name and size
        size = int.from_bytes(blocks[start - 4 : start], "big")
        if start + size > len(blocks):
            return
        yield kind, place, start, start + size
        place = start + size + size % 2


def write_resource(kind: int, data: bytes) -> bytes:
    """One of Photoshop's image resources, without a name."""
    return b"8BIM" + kind.to_bytes(2, "big") + bytes(2) + len(data).to_bytes(4, "big") + data + bytes(len(data) % 2)


def iptc_resource(records: bytes) -> bytes:
    """IPTC records as an image resource."""
    return write_resource(IPTC_RESOURCE, records)


def _items(metadata: Metadata) -> Iterator[tuple[int, bytes]]:
    for kind, content in (
        (EXIF, metadata.exif),
        (XMP, metadata.xmp),
        (RESOURCES, metadata.resources),
        (RESOLUTION, _write_resolution(metadata.dpi)),
        (TIME, _write_time(metadata.time)),
        (COMMENT, metadata.comment),
    ):
        if content:
            yield kind, content
    for text in metadata.texts:
        yield TEXT, "\0".join((text.keyword, text.language, text.translated, text.text)).encode()
    for part in metadata.parts:
        yield PART, bytes([part.kind]) + part.data


def _write_resolution(dpi: tuple[float, float] | None) -> bytes:
    if dpi is None:
        return b""
    numbers = [round(value * RESOLUTION_UNIT) for value in dpi]
    if not all(1 <= number <= MAX_RESOLUTION for number in numbers):
        raise FormatError(f"a resolution of {dpi[0]:g}x{dpi[1]:g} pixels per inch does not fit: drop it (--strip)")
    return b"".join(map(write_varint, numbers[: 1 if numbers[0] == numbers[1] else 2]))


def _read_resolution(item: bytes) -> tuple[float, float]:
    across, position = read_varint(item, 0, longest=_VARINT_BYTES, what=_WHAT)
    down = across
    if position < len(item):
        down, position = read_varint(item, position, longest=_VARINT_BYTES, what=_WHAT)
    if position != len(item) or not (0 < across <= MAX_RESOLUTION and 0 < down <= MAX_RESOLUTION):
        raise FormatError("the resolution in the metadata is damaged: get the file again")
    return across / RESOLUTION_UNIT, down / RESOLUTION_UNIT


def _write_time(time: Moment | None) -> bytes:
    return b"" if time is None else time[0].to_bytes(2, "big") + bytes(time[1:])


def _read_time(item: bytes) -> Moment:
    if len(item) != 7:
        raise FormatError("the time in the metadata is damaged: get the file again")
    month, day, hour, minute, second = item[2:]
    return int.from_bytes(item[:2], "big"), month, day, hour, minute, second


def _read_text(item: bytes) -> Text:
    try:
        keyword, language, translated, text = item.decode().split("\0", 3)
    except ValueError:  # too few parts, or not UTF-8
        raise FormatError("a text in the metadata is damaged: get the file again") from None
    return Text(keyword, text, language, translated)


def _deflated(data: bytes, strategy: int) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy, DICTIONARY)
    return deflater.compress(data) + deflater.flush()


def _opened(content: bytes) -> bytes:
    """The items in a section, inflated to at most MAX_METADATA_BYTES, never more."""
    if not content or content[0] not in (STORED, DEFLATED):
        raise FormatError("the metadata are stored in a way that is not known: a newer gmvqzip may read the file")
    if content[0] == STORED:
        data = content[1:]
    else:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS, DICTIONARY)
        try:
            data = inflater.decompress(content[1:], MAX_METADATA_BYTES + 1)  # one more, to see a stream that goes on
        except zlib.error as error:
            raise FormatError(f"the metadata are damaged ({error}): get the file again") from None
        if (not inflater.eof and len(data) <= MAX_METADATA_BYTES) or inflater.unused_data:
            raise FormatError("the metadata are cut, or something follows them: get the file again")
    if len(data) > MAX_METADATA_BYTES:
        raise FormatError(f"the metadata inflate to more than {MAX_METADATA_BYTES} bytes: the file is damaged")
    return data
