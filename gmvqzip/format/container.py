"""The container: header, sections and payload of a `.gmvq` file, packed and unpacked. docs/format.md specifies it.

A file is: magic (2 bytes), flags (1), file check (1), the fields of `FIELDS`, header check (1), sections, payload.
The file check stands at a fixed place and covers every other byte of the file, so that it does not depend on
lengths that a damaged byte may have changed: no single damaged byte anywhere goes unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from gmvqzip.errors import FormatError, whole_number
from gmvqzip.format.checksum import crc8
from gmvqzip.format.limits import MAX_HALVINGS, MAX_HEADER_BYTES, MAX_PIXELS, MAX_QUALITY, MAX_SIDE, SHORT_SIDE
from gmvqzip.format.packheader import PACK_MAGIC, check_version
from gmvqzip.format.sections import (
    SECTION_ALPHA,
    SECTION_ICC,
    SECTION_TILES,
    read_sections,
    scan_sections,
    write_sections,
)
from gmvqzip.format.size import coded_size
from gmvqzip.format.varint import read_varint, write_varint

__all__ = ["FIELDS", "MAGIC", "SECTION_ALPHA", "SECTION_ICC", "SECTION_TILES", "VERSION", "Container", "Header"]
__all__ += ["pack", "read_front", "read_header", "read_rest", "unpack"]

MAGIC = b"\x9dG"  # 0x9D cannot start a text in UTF-8 or ASCII
VERSION = 1
SHORT_FLAG, GRAY_FLAG, SECTIONS_FLAG, HALVED_FLAG, RESERVED_FLAGS = 0x10, 0x08, 0x04, 0x02, 0x01
_VERSION_SHIFT = 5
_FLAGS, _FILE_CHECK, _FIELDS_START = 2, 3, 4  # offsets
_SIDE_BYTES = 3  # the most that the varint of a side takes


@dataclass(frozen=True)
class Header:
    """What the header says. `codes_check` is the CRC-32 of the indices; in the short form its low 16 bits."""

    width: int  # pixels
    height: int  # pixels
    model_id: bytes  # the first 4 bytes of the model's identity; 2 in the short form
    quality: int  # 1 to 100, or 0 for a model with a single rate
    gray: bool
    codes_check: int
    short: bool
    has_sections: bool = False
    halvings: int = 0  # of the picture before it was coded; the decoder enlarges it again
    version: int = VERSION

    @property
    def coded_size(self) -> tuple[int, int]:
        """Width and height in pixels of the picture that the codes are of."""
        return coded_size(self.width, self.height, self.halvings)

    def accepts(self, codes_crc32: int) -> bool:
        """Whether indices with this CRC-32 are those that the file was made from."""
        return self.codes_check == codes_crc32 & _ones(CODES_CHECK.size(self.short))


@dataclass(frozen=True)
class Container:
    """An unpacked file: `header_bytes` + `sections_bytes` + the payload are the whole of it."""

    header: Header
    sections: dict[int, bytes]
    payload: bytes
    header_bytes: int
    sections_bytes: int


@dataclass(frozen=True)
class Field:
    """One field of the header, described once: written and read by this description."""

    name: str  # attribute of Header
    title: str  # in messages
    long: int  # bytes in the long form; 0 stands for a varint of at most three
    short: int  # bytes in the short form
    bias: int = 0  # subtracted from the value before it is written
    raw: bool = False  # bytes rather than a big-endian number

    def size(self, short: bool) -> int:
        """Bytes in this form; 0 for a varint."""
        return self.short if short else self.long

    def write(self, value: Any, short: bool) -> bytes:
        """The bytes of a value that is in range."""
        size = self.size(short)
        if self.raw:
            return bytes(value[:size])
        stored = value - self.bias
        return stored.to_bytes(size, "big") if size else write_varint(stored)

    def read(self, data: bytes, start: int, short: bool) -> tuple[Any, int]:
        """The value at offset `start`, and the offset after it. Raises FormatError if it is cut or malformed."""
        size = self.size(short)
        if not size:
            stored, end = read_varint(data, start, longest=_SIDE_BYTES, what=f"{self.title} in the header")
            return stored + self.bias, end
        end = start + size
        if end > len(data):
            raise FormatError(f"cut inside the {self.title} in the header, at byte {len(data)}: get the file again")
        content = bytes(data[start:end])
        return (content if self.raw else int.from_bytes(content, "big") + self.bias), end


HALVINGS = Field("halvings", "halvings", long=1, short=1)  # only where its flag is set
CODES_CHECK = Field("codes_check", "codes check", long=4, short=2)
FIELDS = (
    Field("model_id", "model id", long=4, short=2, raw=True),
    Field("width", "width", long=0, short=1, bias=1),
    Field("height", "height", long=0, short=1, bias=1),
    Field("quality", "quality", long=1, short=1),
    HALVINGS,
    CODES_CHECK,
)


def pack(
    *,
    width: int,
    height: int,
    model_id: bytes,
    quality: int,
    gray: bool,
    codes_crc32: int,
    payload: bytes,
    sections: Mapping[int, bytes] | None = None,
    halvings: int = 0,
) -> bytes:
    """The bytes of a file, in its one canonical form: the short header if both sides are at most 256 pixels.

    model_id: the model's identity or at least its first 4 bytes; quality: 0 to 100; codes_crc32: of the indices, as
    `Codes.crc32`; sections: content by type; halvings: 0 to 16, see `Header`. Raises FormatError for a value that the
    format cannot hold.
    """
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise FormatError(f"a picture of {width}x{height} pixels does not fit: sides run from 1 to {MAX_SIDE}")
    if not 0 <= quality <= MAX_QUALITY:
        raise FormatError(f"quality {quality} does not fit: 0 to {MAX_QUALITY}")
    if len(model_id) < FIELDS[0].long:
        raise FormatError(f"a model id of {len(model_id)} bytes is too short: {FIELDS[0].long} or more")
    if not 0 <= codes_crc32 <= _ones(CODES_CHECK.long):
        raise FormatError("the CRC-32 of the codes does not fit in 32 bits")
    coded_size(width, height, halvings)
    short = max(width, height) <= SHORT_SIDE
    header = Header(
        width=width,
        height=height,
        model_id=model_id[: FIELDS[0].size(short)],
        quality=quality,
        gray=gray,
        codes_check=codes_crc32 & _ones(CODES_CHECK.size(short)),
        short=short,
        has_sections=bool(sections),
        halvings=halvings,
    )
    fields = b"".join(field.write(getattr(header, field.name), short) for field in _fields(bool(halvings)))
    front = MAGIC + bytes([_flags(header)])
    rest = fields + bytes([crc8(front + fields)]) + (write_sections(sections) if sections else b"") + payload
    return front + bytes([crc8(front + rest)]) + rest


def unpack(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Container:
    """Open a file and verify all that can be verified without its model.

    max_pixels: the most pixels to accept; checked before anything is allocated. Raises FormatError: empty, not a
    `.gmvq` file, cut, damaged, of a newer version, reserved bits, or beyond a limit.
    """
    header, start = read_header(data)
    _check_pixels(header, max_pixels)
    _check_file(data)
    sections, end = read_sections(data, start) if header.has_sections else ({}, start)
    return Container(header, sections, bytes(data[end:]), start, end - start)


def read_front(file: BinaryIO, *, max_pixels: int = MAX_PIXELS) -> tuple[Container, int]:
    """Header and sections from where a seekable file object stands; nothing of the payload is read.

    Returns a container without its payload, and the payload's place in the file. Damage is seen only as far as the
    header's own check, and those of the sections, see it. Raises FormatError as `unpack`.
    """
    start = file.tell()
    header, size = read_header(file.read(MAX_HEADER_BYTES))
    _check_pixels(header, max_pixels)
    sections, end = dict[int, bytes](), start + size
    if header.has_sections:
        file.seek(end)
        sections, end = scan_sections(file)
    return Container(header, sections, b"", size, end - start - size), end


def read_rest(front: Container, data: bytes) -> Container:
    """The whole container of a file whose front was read, verified as by `unpack`. data: the whole file."""
    _check_file(data)
    return replace(front, payload=bytes(data[front.header_bytes + front.sections_bytes :]))


def _check_pixels(header: Header, max_pixels: int) -> None:
    if header.width * header.height > whole_number(max_pixels, "max_pixels", FormatError):
        raise FormatError(
            f"{header.width}x{header.height} pixels are more than the limit of {max_pixels}: "
            "raise it (--max-pixels) if you trust the file"
        )


def read_header(data: bytes) -> tuple[Header, int]:
    """Read the header at the start of `data`, for which 21 bytes always suffice; returns it and its length in bytes.

    Raises FormatError as `unpack`, save for what lies behind the header: damage there is not seen, and damage to
    the header itself only as far as the header check sees it.
    """
    flags = _read_flags(data)
    short = bool(flags & SHORT_FLAG)
    values: dict[str, Any] = {}
    position = _FIELDS_START
    for field in _fields(bool(flags & HALVED_FLAG)):
        values[field.name], position = field.read(data, position, short)
    if position >= len(data):
        raise FormatError(f"cut before the header's check, at byte {len(data)}: get the file again")
    if data[position] != crc8(bytes(data[:_FILE_CHECK]) + bytes(data[_FIELDS_START:position])):
        raise FormatError("the header is damaged: its check differs; get the file again")
    if values["quality"] > MAX_QUALITY:
        raise FormatError(f"quality {values['quality']} is out of range, 0 to {MAX_QUALITY}: the file is damaged")
    if flags & HALVED_FLAG and not 1 <= values["halvings"] <= MAX_HALVINGS:
        raise FormatError(f"{values['halvings']} halvings are out of range, 1 to {MAX_HALVINGS}: the file is damaged")
    header = Header(
        **values,
        gray=bool(flags & GRAY_FLAG),
        short=short,
        has_sections=bool(flags & SECTIONS_FLAG),
    )
    return header, position + 1


def _fields(halved: bool) -> tuple[Field, ...]:
    """The fields of a header whose halvings are stored, or are not."""
    return FIELDS if halved else tuple(field for field in FIELDS if field is not HALVINGS)


def _flags(header: Header) -> int:
    flags = header.version << _VERSION_SHIFT
    given = (header.short, header.gray, header.has_sections, bool(header.halvings))
    bits = (SHORT_FLAG, GRAY_FLAG, SECTIONS_FLAG, HALVED_FLAG)
    return flags | sum(bit for bit, value in zip(bits, given, strict=True) if value)


def _read_flags(data: bytes) -> int:
    """The flags byte of a file that is ours, of this version, and long enough to have fields."""
    if not data:
        raise FormatError("empty: there is nothing to read")
    start = bytes(data[: len(MAGIC)])
    if start == PACK_MAGIC:
        raise FormatError("a pack of pictures: `gmvqzip list` shows them, `gmvqzip unpack` gets them")
    if start != MAGIC[: len(start)]:
        raise FormatError(f"not a .gmvq file: it starts with {start.hex(' ')}, not with {MAGIC.hex(' ')}")
    if len(data) <= _FLAGS:
        raise FormatError(f"cut after {len(data)} bytes, inside the header: get the file again")
    flags = data[_FLAGS]
    check_version(flags >> _VERSION_SHIFT, VERSION, "format")
    if flags & RESERVED_FLAGS:
        raise FormatError("reserved bits are set: the file is damaged, or made by a newer gmvqzip")
    if len(data) <= _FIELDS_START:
        raise FormatError(f"cut after {len(data)} bytes, inside the header: get the file again")
    return flags


def _check_file(data: bytes) -> None:
    """Compare the file check, CRC-8 of every byte of the file but itself. Raises FormatError."""
    stored, found = data[_FILE_CHECK], crc8(bytes(data[_FIELDS_START:]), crc8(bytes(data[:_FILE_CHECK])))
    if stored != found:
        raise FormatError(f"the file is damaged or cut (check {stored:02x}, found {found:02x}): get it again")


def _ones(size: int) -> int:
    return (1 << 8 * size) - 1
