"""The parts of JPEG, WebP, GIF, PNM, XBM and XPM files, and what these hold that Pillow does not hand out.

Walkers give the ranges of a file in order, up to its end or to where it is damaged. References: ITU-T T.81, RFC 9649,
GIF89a, netpbm's pages of its formats.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from gmvqzip.images.notes import Range

_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)  # in entropy-coded data, whatever is no data
_START_OF_SCAN, _END_OF_IMAGE, _COMMENT = 0xDA, 0xD9, 0xFE
_STANDALONE = (0x01, 0xD8, *range(0xD0, 0xD8))
_WEBP_KNOWN = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP ")
_GIF_EXTENSION, _GIF_IMAGE, _GIF_TRAILER = 0x21, 0x2C, 0x3B
_GIF_CONTROL, _GIF_COMMENT, _GIF_APPLICATION = 0xF9, 0xFE, 0xFF
_GIF_XMP, _GIF_LOOP = b"XMP DataXMP", (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_XMP_TRAILER = b"\1\xff\xfe"  # 01, ff, fe, ... 00 let a decoder of blocks get through a packet that is none
_PNM_HEAD = re.compile(rb"P([1-6])((?:\s|#[^\n]*\n)+\d+){2}((?:\s|#[^\n]*\n)+\d+)?")
_PNM_COMMENT = re.compile(rb"#([^\n]*)\n")
_HEAD = 1 << 16
_C_END = re.compile(rb"[\"0-9a-fA-F,]\s*\}\s*;?")


def jpeg_ranges(file: BinaryIO, found: dict[str, Any]) -> Iterator[Range]:
    """The first picture of a JPEG; what is kept of the segments before its scan is for `segments` to say.

    found: whether there is a segment of a colour profile.
    """
    file.seek(0)
    data = file.read()
    place, in_scans = 2, False
    while match := _MARKER.match(data, place) if place < len(data) else None:
        kind, start, place = match[1][0], match.start(), match.end()
        if kind == _END_OF_IMAGE:
            yield Range(0, place)
            return
        if kind in _STANDALONE:
            continue
        if place + 2 > len(data):
            break
        place += struct.unpack_from(">H", data, place)[0]
        found["has_profile"] = found.get("has_profile") or data.startswith(b"ICC_PROFILE\0", match.end() + 2)
        if in_scans and (kind >> 4 == 0xE or kind == _COMMENT):
            yield Range(start, place, "of a segment between the scans")
        if kind == _START_OF_SCAN:
            in_scans = True
            following = _MARKER.search(data, place)
            if following is None:
                break
            place = following.start()
    yield Range(0, len(data))  # cut


def webp_ranges(file: BinaryIO, _: dict[str, Any]) -> Iterator[Range]:
    """The chunks of a RIFF file."""
    file.seek(0)
    head = file.read(12)
    end = 8 + int.from_bytes(head[4:8], "little")
    place = 12
    yield Range(0, place)
    while place + 8 <= end:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        size = int.from_bytes(head[4:], "little")
        known = head[:4] in _WEBP_KNOWN
        yield Range(place, place + 8 + size + size % 2, "" if known else f"of a chunk {_named(head[:4])}")
        place += 8 + size + size % 2
    yield Range(place, end)


def gif_ranges(file: BinaryIO, found: dict[str, Any]) -> Iterator[Range]:
    """The blocks of a GIF. found: its XMP packet, its comments joined, as `Image.info` would have them."""
    file.seek(0)
    data = file.read()
    comments = []
    place = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    yield Range(0, place)
    while place < len(data) and data[place] != _GIF_TRAILER:
        start, lost = place, ""
        if data[place] == _GIF_IMAGE:
            place += 10 + (3 << (data[place + 9] & 7) + 1 if data[place + 9] & 0x80 else 0) + 1
            content, place = _gif_blocks(data, place)
        elif data[place] == _GIF_EXTENSION:
            kind = data[place + 1]
            content, place = _gif_blocks(data, place + 2)
            name = content[:11]
            if kind == _GIF_COMMENT:
                comments.append(content)
            elif kind == _GIF_APPLICATION and name == _GIF_XMP:
                found["xmp"] = data[start + 14 : max(start + 14, data.rfind(_XMP_TRAILER, start, place))]
            elif kind != _GIF_CONTROL and name not in _GIF_LOOP:
                lost = f"of an extension {_named(name)}" if kind == _GIF_APPLICATION else "of an extension"
        else:
            yield Range(place, len(data))  # damaged
            return
        yield Range(start, place, lost)
    if comments:
        found["comment"] = b"\n".join(comments)
    yield Range(place, place + 1)


def _gif_blocks(data: bytes, place: int) -> tuple[bytes, int]:
    """(contents of the blocks at a place, the place behind them)."""
    content = bytearray()
    while size := data[place]:
        content += data[place + 1 : place + 1 + size]
        place += 1 + size
    return bytes(content), place + 1


def pnm_ranges(file: BinaryIO, found: dict[str, Any]) -> Iterator[Range]:
    """A picture of PBM, PGM or PPM. found: the comments of its head, bits per channel."""
    file.seek(0)
    head = file.read(_HEAD)
    match = _PNM_HEAD.match(head)
    if match is None:
        yield Range(0, file.seek(0, os.SEEK_END))
        return
    comments = _PNM_COMMENT.findall(match[0])
    if comments:
        found["comment"] = b"\n".join(comment.strip() for comment in comments)
    kind = int(match[1])
    bits = kind in (1, 4)
    start = match.start(3) if bits and match[3] else match.end()
    numbers = [int(number) for number in re.sub(rb"#[^\n]*\n", b" ", head[2:start]).split()]
    width, height = numbers[:2]
    if bits:
        size = height * (-(-width // 8) if kind == 4 else width)
    else:
        found["depth"] = numbers[2].bit_length()
        size = width * height * (3 if kind in (3, 6) else 1) * (2 if kind > 3 and numbers[2] > 255 else 1)
    yield Range(0, start + 1 + size if kind > 3 else _plain_end(file, start, size, digits=bits))


def _plain_end(file: BinaryIO, start: int, count: int, *, digits: bool) -> int:
    """Where so many numbers written out end; of digits each is one."""
    file.seek(start)
    text = re.sub(rb"#[^\n]*", lambda match: b" " * len(match[0]), file.read())
    if count == 0:
        return start
    place = 0
    for number, match in enumerate(re.finditer(rb"\d" if digits else rb"\d+", text), 1):
        place = match.end()
        if number == count:
            break
    return start + place


def _named(name: bytes) -> str:
    """A name in a file, in quotation marks where it is none of letters and digits."""
    text = name.decode("latin-1").strip(" \0")
    return text if text.isalnum() else ascii(text)


def c_source_ranges(file: BinaryIO, _: dict[str, Any]) -> Iterator[Range]:
    """XBM and XPM: an array of C, up to its end."""
    file.seek(0)
    data = file.read()
    match = _C_END.search(data)
    yield Range(0, match.end() if match else len(data))
