"""What HEIF, AVIF, JPEG 2000 and JPEG XL files say of a picture that Pillow does not: their boxes, one by one.

References: ISO/IEC 23008-12 (HEIF), 14496-12 (boxes), 15444-1 (JPEG 2000), 18181-2 (JPEG XL).
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from gmvqzip.images.notes import Range

MAX_META_BYTES = 2**24  # of the box that describes the pictures; more is not looked at
_EXTRAS = {b"hdrgainmap": "gain map", b"tmap": "gain map", b"auxid:2": "depth map", b"disparity": "depth map",
           b"semantic": "matte", b"portraiteffectsmatte": "matte"}  # fmt: skip
_PICTURES = (b"hvc1", b"av01", b"avc1", b"jpeg", b"unci", b"grid", b"iovl", b"iden", b"Exif")
"""Kinds of items: pictures, which Pillow counts, ways to join them, and EXIF."""
_XMP_TYPE = b"application/rdf+xml"
_KNOWN = frozenset((b"ftyp", b"meta", b"mdat", b"moov", b"free", b"skip", b"idat", b"jP  ", b"jp2h", b"jp2c", b"rreq",
                    b"JXL ", b"jxlc", b"jxlp", b"jxll", b"jxli", b"jbrd"))  # fmt: skip
_SEQUENCE_BRANDS = (b"avif", b"avis")  # of which Pillow counts the frames
_UUID_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_UUID_IPTC = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")
_UUID_EXIF = b"JpgTiffExif->JP2"
_START_OF_TILE, _END_OF_CODESTREAM = 0xFF90, 0xFFD9


def boxed_ranges(file: BinaryIO, found: dict[str, Any]) -> Iterator[Range]:
    """The boxes of a file.

    found: XMP, EXIF and IPTC of boxes of their own, a colour profile of JPEG 2000; of HEIF the bits per channel of the
    deepest picture, primaries and transfer as code points, and kinds of pictures and items besides the one that is
    read, as far as these are not damaged.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(8)
    has_sequences = file.read(4) in _SEQUENCE_BRANDS
    place = codestreams = 0
    for kind, start, stop in _boxes(file, 0, end):
        codestreams += kind == b"jp2c"
        known = kind in _KNOWN and (kind != b"jp2c" or codestreams == 1) and (kind != b"moov" or has_sequences)
        if kind in (b"xml ", b"uuid", b"Exif") and stop - start <= MAX_META_BYTES:
            file.seek(start)
            known = _keep(kind, file.read(stop - start), found)
        elif kind == b"jp2h" and stop - start <= MAX_META_BYTES:
            file.seek(start)
            _look_for_profile(file.read(stop - start), found)
        elif kind == b"meta" and stop - start <= MAX_META_BYTES:
            file.seek(start)
            with suppress(struct.error, ValueError, IndexError, OverflowError):
                _look(file.read(stop - start)[4:], found)
        yield Range(place, stop, "" if known else f"of a box {kind.decode('latin-1')!a}")
        place = stop


def codestream_ranges(file: BinaryIO, _: dict[str, Any]) -> Iterator[Range]:
    """A codestream of JPEG 2000 without boxes, up to its end."""
    end = file.seek(0, os.SEEK_END)
    place = 2
    while place + 4 <= end:
        file.seek(place)
        marker, size = struct.unpack(">HH", file.read(4))
        if marker == _START_OF_TILE:
            (length,) = struct.unpack(">2xI", file.read(6))
            if not length:  # the last tile reaches to the end
                break
            place += length
        elif marker == _END_OF_CODESTREAM:
            yield Range(0, place + 2)
            return
        else:
            place += 2 + size
    yield Range(0, place + 2 if place + 2 == end else end)


def codestream_depth(file: BinaryIO) -> int:
    """Bits of the deepest component of JPEG 2000, from the codestream's SIZ marker."""
    file.seek(0)
    head = file.read(1 << 16)
    place = head.find(b"\xff\x4f\xff\x51")
    if place < 0 or place + 42 > len(head):
        return 8
    (count,) = struct.unpack_from(">H", head, place + 40)
    return max((1 + (value & 0x7F) for value in head[place + 42 : place + 42 + 3 * count : 3]), default=8)


def _keep(kind: bytes, content: bytes, found: dict[str, Any]) -> bool:
    """Take metadata from a box. Whether that is kept."""
    name, rest = content[:16], content[16:]
    if kind == b"Exif":  # Pillow's add-on has it
        return True
    if kind == b"xml ":
        name, rest = _UUID_XMP, content
        if b"<x:xmpmeta" not in content and b"<rdf:RDF" not in content:
            return False
    if name == _UUID_XMP and "xmp" not in found:
        found["xmp"] = rest
    elif name == _UUID_EXIF and "exif" not in found:
        found["exif"] = rest
    elif name == _UUID_IPTC and "iptc" not in found:
        found["iptc"] = rest
    else:
        return False
    return True


def _look_for_profile(header: bytes, found: dict[str, Any]) -> None:
    for kind, content in _inner(header):
        if kind == b"colr" and content[:1] in (b"\2", b"\3"):
            found.setdefault("icc_profile", content[3:])


def _boxes(file: BinaryIO, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, first byte, end) of the contents of each box."""
    while place + 8 <= end:
        file.seek(place)
        head = file.read(16)
        size, kind = struct.unpack(">I4s", head[:8])
        start = place + 8
        if size == 1:
            (size,) = struct.unpack(">Q", head[8:16])
            start = place + 16
        stop = end if size == 0 else place + size
        if stop <= place or stop > end:
            return
        yield kind, start, stop
        place = stop


def _inner(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and contents of the boxes in a box."""
    return ((kind, data[start:stop]) for kind, start, stop in _boxes(io.BytesIO(data), 0, len(data)))


def _look(meta: bytes, found: dict[str, Any]) -> None:
    for kind, content in _inner(meta):
        if kind == b"iprp":
            for inner, properties in _inner(content):
                if inner == b"ipco":
                    _properties(properties, found)
        elif kind == b"iinf":
            _items(content, found)


def _items(content: bytes, found: dict[str, Any]) -> None:
    """The list of items: kinds that are neither pictures nor metadata which is kept."""
    for kind, entry in _inner(content[6 if content[:1] == b"\0" else 8 :]):
        if kind != b"infe" or entry[:1] not in (b"\2", b"\3"):
            continue
        place = 8 if entry[:1] == b"\2" else 10
        name = entry[place : place + 4]
        if name == b"mime":
            described = entry[place + 4 :].split(b"\0")
            name = b"XMP" if _XMP_TYPE in described[1:2] else b"mime"
        if name not in (*_PICTURES, b"XMP"):
            _add_extra(_EXTRAS.get(name) or f"item {name.decode('latin-1')!a}", found)


def _add_extra(extra: str, found: dict[str, Any]) -> None:
    extras = found.setdefault("extras", [])
    if extra not in extras:
        extras.append(extra)


def _properties(data: bytes, found: dict[str, Any]) -> None:
    for kind, content in _inner(data):
        depth = 8
        if kind == b"pixi" and len(content) > 5:
            depth = max(content[5 : 5 + content[4]])
        elif kind == b"av1C" and len(content) > 2:
            depth = 12 if content[2] & 0x20 else 10 if content[2] & 0x40 else 8
        elif kind == b"hvcC" and len(content) > 17:
            depth = 8 + (content[17] & 7)
        elif kind == b"colr" and content[:4] == b"nclx":
            found.setdefault("code_points", struct.unpack(">HH", content[4:8]))
        elif kind == b"auxC":
            for mark, name in _EXTRAS.items():
                if mark in content:
                    _add_extra(name, found)
        found["depth"] = max(found.get("depth", 8), depth)
