"""The index of a segment of a pack: how long each record is, what kind of picture it holds, and its name.

It is one zlib stream of columns, so that what pictures have in common costs next to nothing. A kind is all that
small pictures usually share: model, size, quality, colour profile. docs/format.md specifies it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gmvqzip.errors import FormatError, one_line
from gmvqzip.format.limits import (
    MAX_ALL_NAME_BYTES,
    MAX_HALVINGS,
    MAX_INDEX_BYTES,
    MAX_NAME_BYTES,
    MAX_QUALITY,
    MAX_SECTION_BYTES,
    MAX_SEGMENT_ENTRIES,
    MAX_SIDE,
)
from gmvqzip.format.packrecord import MIN_RECORD_BYTES
from gmvqzip.format.sections import inflate
from gmvqzip.format.size import coded_size
from gmvqzip.format.varint import read_varint, write_varint

PACK_MODEL_BYTES = 8  # of a model's identity
GRAY_KIND, SECTIONS_KIND, HALVED_KIND, RESERVED_KIND = 0x01, 0x02, 0x04, 0xF8
_CRC_BYTES = 4
_VARINT_BYTES = 5  # the most that one takes here
_MAX_PLANES = 5  # of the lengths of records
_MAX_SHARED = 255  # bytes that a name can take from the one before
_NAME_END = b"\0"
_SPARE_BYTES = 1 << 16  # more than zlib adds to what it cannot make smaller
_LARGE_COLUMN = 512  # bytes from which a column may have statistics of its own


@dataclass(frozen=True)
class Kind:
    """What a picture of a pack shares with others."""

    model_id: bytes  # the first 8 bytes of the model's identity
    width: int  # pixels
    height: int  # pixels
    quality: int  # 1 to 100, or 0 for a model with a single rate
    gray: bool = False
    has_sections: bool = False  # the record starts with sections
    profile: bytes = b""  # the content of an ICC section, if there is one
    halvings: int = 0  # as in the header of a `.gmvq` file

    @property
    def coded_size(self) -> tuple[int, int]:
        """Width and height in pixels of the picture that the codes are of."""
        return coded_size(self.width, self.height, self.halvings)


@dataclass
class Index:
    """A segment's index: per picture the number of its kind, the bytes of its record, and its name in UTF-8.

    previous: stored bytes and CRC-32 of the index of the segment before; None in the first one.
    """

    previous: tuple[int, int] | None = None
    kinds: list[Kind] = field(default_factory=list)
    kind_numbers: Sequence[int] = ()
    lengths: Sequence[int] = ()
    packed_names: bytes = b""  # as in the index: shared lengths, then suffixes

    def __len__(self) -> int:
        return len(self.lengths)


def write_index(index: Index) -> bytes:
    """The stored bytes of an index. Raises FormatError for one beyond the limits."""
    if len(index) > MAX_SEGMENT_ENTRIES:
        raise FormatError(f"{len(index)} pictures in a segment of a pack, limit {MAX_SEGMENT_ENTRIES}")
    models = _numbered(kind.model_id for kind in index.kinds)
    profiles = _numbered(kind.profile for kind in index.kinds if kind.profile)
    front = bytearray(write_varint(len(index)))
    size, crc = index.previous or (0, 0)
    front += write_varint(size) + (crc.to_bytes(_CRC_BYTES, "big") if size else b"")
    front += write_varint(len(models)) + b"".join(models) + write_varint(len(profiles))
    front += b"".join(write_varint(len(profile)) + profile for profile in profiles)
    front += write_varint(len(index.kinds))
    for kind in index.kinds:
        front += write_varint(models[kind.model_id])
        front += write_varint(1 + profiles[kind.profile] if kind.profile else 0)
        front += write_varint(kind.width - 1) + write_varint(kind.height - 1)
        given = ((GRAY_KIND, kind.gray), (SECTIONS_KIND, kind.has_sections), (HALVED_KIND, kind.halvings > 0))
        front += bytes([kind.quality, sum(bit for bit, value in given if value)])
        front += bytes([kind.halvings]) if kind.halvings else b""
    longest = max(index.lengths, default=0)
    columns = [bytes(front), *_planes(index.kind_numbers, _width(len(index.kinds) - 1))]
    columns += [bytes([_width(longest)]), *_planes(index.lengths, _width(longest)), index.packed_names]
    if sum(map(len, columns)) > MAX_INDEX_BYTES - _SPARE_BYTES:
        raise FormatError(f"the index of a segment is beyond {MAX_INDEX_BYTES} bytes: start another pack")
    return _deflate(columns)


def read_index(stored: bytes, crc32: int, room: int) -> tuple[Index, int]:
    """Read the stored bytes of an index; returns it with its inflated size. Names are not looked at.

    room: bytes that there are for records, so that no index claims more of them than fit.

    Raises FormatError where it differs from its CRC-32, is malformed, or beyond a limit.
    """
    if zlib.crc32(stored) != crc32:
        raise FormatError("the pack's index is damaged: its check differs; get the pack again")
    data = inflate(stored, MAX_INDEX_BYTES, "pack's index")
    count, position = _number(data, 0, min(MAX_SEGMENT_ENTRIES, room // MIN_RECORD_BYTES))
    previous, position = _read_previous(data, position)
    kinds, position = _read_kinds(data, position, count)
    kind_numbers, position = _read_planes(data, position, _width(len(kinds) - 1), count)
    if count and max(kind_numbers) >= len(kinds):
        raise FormatError("the pack's index names a kind that it does not have: the pack is damaged")
    planes, position = _take(data, position, 1)
    if planes[0] > _MAX_PLANES:
        raise FormatError("the pack's index claims records beyond any size: the pack is damaged")
    lengths, position = _read_planes(data, position, planes[0], count)
    if count and min(lengths) < MIN_RECORD_BYTES:
        raise FormatError("the pack's index has a record that is too short: the pack is damaged")
    return Index(previous, kinds, kind_numbers, lengths, data[position:]), len(data)


def pack_names(names: Sequence[str]) -> bytes:
    """The names in an index: bytes that each shares with the one before, a byte each; then the rest of each, 0-ended.

    Raises FormatError for a name that `check_name` refuses.
    """
    shared, suffixes, before = bytearray(), [], b""
    for name in names:
        check_name(name)
        data = name.encode()
        same = _shared(before, data)
        shared.append(same)
        suffixes.append(data[same:] + _NAME_END)
        before = data
    return bytes(shared) + b"".join(suffixes)


def _shared(before: bytes, name: bytes) -> int:
    """How many bytes a name takes from the one before."""
    most = min(len(before), len(name), _MAX_SHARED)
    return next((place for place in range(most) if before[place] != name[place]), most)


def unpack_names(data: bytes, count: int, most: int = MAX_ALL_NAME_BYTES) -> tuple[list[str], int]:
    """The `count` names of an index and their bytes, of which there may be `most`. Raises FormatError."""
    shared, suffixes = data[:count], data[count:]
    parts = suffixes.split(_NAME_END, count)
    if len(shared) < count or len(parts) != count + 1 or parts.pop():
        raise FormatError("the pack's index does not hold its names: the pack is damaged")
    names, before, total = [], b"", 0
    for same, suffix in zip(shared, parts, strict=True):
        name = before[:same] + suffix
        if len(before) < same or (total := total + len(name)) > most:
            raise FormatError("the names in the pack's index are damaged, or beyond the limit")
        try:
            names.append(name.decode())
        except UnicodeDecodeError:
            raise FormatError("a name in the pack's index is not UTF-8: the pack is damaged") from None
        check_name(names[-1])
        before = name
    return names, total


def check_name(name: str) -> None:
    """Raise FormatError unless a pack may hold this name: a relative path with / between its parts, no . or .. in it.

    It is what the picture will be called when it is unpacked, without ending; at most 1,024 bytes in UTF-8.
    """
    if not isinstance(name, str):
        raise FormatError(f"{one_line(name)} is no name for a picture in a pack: a text is wanted")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise FormatError("the name is not UTF-8: rename the file") from None
    if size > MAX_NAME_BYTES:
        raise FormatError(f"the name has {size} bytes in UTF-8, limit {MAX_NAME_BYTES}")
    if "\0" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise FormatError(
            f"{one_line(name)} is no name for a picture in a pack: a relative path without . and .. is wanted"
        )


def _read_previous(data: bytes, position: int) -> tuple[tuple[int, int] | None, int]:
    size, position = _number(data, position, MAX_INDEX_BYTES)
    if not size:
        return None, position
    crc, position = _take(data, position, _CRC_BYTES)
    return (size, int.from_bytes(crc, "big")), position


def _read_kinds(data: bytes, position: int, count: int) -> tuple[list[Kind], int]:
    """The kinds, of which a segment has as many as pictures at most, as it has models and profiles."""
    models, profiles, kinds = list[bytes](), [b""], list[Kind]()
    number, position = _number(data, position, count)
    for _ in range(number):
        model, position = _take(data, position, PACK_MODEL_BYTES)
        models.append(model)
    number, position = _number(data, position, count)
    for _ in range(number):
        size, position = _number(data, position, MAX_SECTION_BYTES)
        if not size:
            raise FormatError("the pack's index has an empty colour profile: the pack is damaged")
        profile, position = _take(data, position, size)
        profiles.append(profile)
    number, position = _number(data, position, count)
    for _ in range(number):
        model_number, position = _number(data, position, len(models) - 1)
        profile_number, position = _number(data, position, len(profiles) - 1)
        width, position = _number(data, position, MAX_SIDE - 1)
        height, position = _number(data, position, MAX_SIDE - 1)
        (quality, flags), position = _take(data, position, 2)
        if quality > MAX_QUALITY or flags & RESERVED_KIND:
            raise FormatError("the pack's index has a bad quality or reserved bits: the pack is damaged")
        gray, sections = bool(flags & GRAY_KIND), bool(flags & SECTIONS_KIND)
        halvings = 0
        if flags & HALVED_KIND:
            (halvings,), position = _take(data, position, 1)
            if not 1 <= halvings <= MAX_HALVINGS:
                raise FormatError("the pack's index has halvings out of range: the pack is damaged")
        profile = profiles[profile_number]
        kinds.append(Kind(models[model_number], 1 + width, 1 + height, quality, gray, sections, profile, halvings))
    return kinds, position


def _number(data: bytes, position: int, most: int) -> tuple[int, int]:
    """The varint at a position, and the position after it."""
    value, position = read_varint(data, position, longest=_VARINT_BYTES, what="pack's index")
    if value > most:
        raise FormatError(f"the pack's index has {value} where {most} is the most: the pack is damaged")
    return value, position


def _take(data: bytes, position: int, size: int) -> tuple[bytes, int]:
    end = position + size
    if end > len(data):
        raise FormatError("the pack's index is cut: get the pack again")
    return data[position:end], end


def _numbered(values: Iterable[bytes]) -> dict[bytes, int]:
    """The number of each value, in the order in which they first appear."""
    return {value: number for number, value in enumerate(dict.fromkeys(values))}


def _width(largest: int) -> int:
    """Bytes that hold all numbers up to `largest`."""
    return (max(largest, 0).bit_length() + 7) // 8


def _planes(numbers: Sequence[int], planes: int) -> list[bytes]:
    """The lowest bytes of all numbers, then the next ones, and so on."""
    return [bytes(number >> 8 * plane & 0xFF for number in numbers) for plane in range(planes)]


def _read_planes(data: bytes, position: int, planes: int, count: int) -> tuple[Sequence[int], int]:
    content, position = _take(data, position, planes * count)
    if planes <= 1:
        return content or bytes(count), position
    columns = [content[plane * count : (plane + 1) * count] for plane in range(planes)]
    return [int.from_bytes(digits, "little") for digits in zip(*columns, strict=True)], position


def _deflate(columns: Sequence[bytes]) -> bytes:
    """One zlib stream of the columns, the smallest of a few: large columns may be worth blocks of their own."""
    streams = []
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_FILTERED):
        for between in (zlib.Z_NO_FLUSH, zlib.Z_PARTIAL_FLUSH):
            deflater = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, strategy)
            parts = []
            for column in columns:
                parts.append(deflater.compress(column))
                if between != zlib.Z_NO_FLUSH and len(column) >= _LARGE_COLUMN:
                    parts.append(deflater.flush(between))
            streams.append(b"".join(parts) + deflater.flush())
    return min(streams, key=len)
