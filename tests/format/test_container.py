from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmvqzip.errors import FormatError
from gmvqzip.format.checksum import crc8
from gmvqzip.format.container import pack, read_header, unpack
from gmvqzip.format.limits import MAX_HALVINGS, MAX_HEADER_BYTES, MAX_PIXELS, MAX_SIDE

BASE: dict[str, Any] = {
    "width": 300,
    "height": 7,
    "model_id": bytes.fromhex("0123456789abcdef"),
    "quality": 42,
    "gray": False,
    "codes_crc32": 0xDEADBEEF,
    "payload": b"payload",
}


def file(**changes: Any) -> bytes:
    return pack(**{**BASE, **changes})


def mend(data: bytes, header_bytes: int) -> bytes:
    """The file with both checks made right again after a change."""
    end = header_bytes - 1
    data = data[:end] + bytes([crc8(data[:3] + data[4:end])]) + data[end + 1 :]
    return data[:3] + bytes([crc8(data[:3] + data[4:])]) + data[4:]


sides = st.integers(1, MAX_SIDE) | st.integers(1, 300) | st.sampled_from([128, 129, 256, 257, 16384, 16385, MAX_SIDE])
content = st.dictionaries(st.sampled_from([1, 2, 64, 200]), st.binary(max_size=200), max_size=3)


@settings(max_examples=200, deadline=None)
@given(
    sides,
    sides,
    st.binary(min_size=4, max_size=32),
    st.integers(0, 100),
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=300),
    content,
    st.integers(0, MAX_HALVINGS),
)
def test_round_trip(
    width: int,
    height: int,
    model_id: bytes,
    quality: int,
    gray: bool,
    crc: int,
    payload: bytes,
    sections: dict[int, bytes],
    halvings: int,
) -> None:
    data = pack(
        width=width,
        height=height,
        model_id=model_id,
        quality=quality,
        gray=gray,
        codes_crc32=crc,
        payload=payload,
        sections=sections,
        halvings=halvings,
    )
    box = unpack(data, max_pixels=MAX_SIDE**2)
    header = box.header
    short = max(width, height) <= 256
    assert (header.width, header.height, header.quality, header.gray) == (width, height, quality, gray)
    assert (header.short, header.version, header.has_sections) == (short, 1, bool(sections))
    assert header.model_id == model_id[: 2 if short else 4]
    assert header.accepts(crc)
    assert not header.accepts(crc ^ 1)
    assert header.accepts(crc ^ 0x10000) == short
    assert (box.sections, box.payload) == (sections, payload)
    assert box.header_bytes + box.sections_bytes + len(payload) == len(data)
    more = int(halvings > 0)
    assert box.header_bytes == 12 + more if short else 16 + more <= box.header_bytes < MAX_HEADER_BYTES + more
    assert header.halvings == halvings
    assert header.coded_size == (math.ceil(width / 2**halvings), math.ceil(height / 2**halvings))
    assert read_header(data[:MAX_HEADER_BYTES]) == (header, box.header_bytes)


def test_sizes_of_the_header() -> None:
    assert read_header(file(width=1, height=1))[1] == 12
    assert read_header(file(width=256, height=256))[1] == 12
    assert read_header(file(width=257, height=1))[1] == 17
    assert read_header(file(width=768, height=512))[1] == 18
    assert read_header(file(width=MAX_SIDE, height=MAX_SIDE))[1] == 20
    assert read_header(file(width=MAX_SIDE, height=MAX_SIDE, halvings=1))[1] == 21 == MAX_HEADER_BYTES
    assert read_header(file(width=256, height=256, halvings=16))[1] == 13


@pytest.mark.parametrize("stored", [0, 17, 255])
def test_halvings_out_of_range(stored: int) -> None:
    data = file(halvings=3)
    assert data[12] == 3
    with pytest.raises(FormatError, match=f"{stored} halvings are out of range, 1 to 16"):
        unpack(mend(data[:12] + bytes([stored]) + data[13:], 18))
    with pytest.raises(FormatError, match="17 halvings of a picture: 0 to 16 is wanted"):
        file(halvings=17)


def test_a_reader_takes_the_long_form_for_small_pictures() -> None:
    data = file()
    small = mend(data[:8] + bytes([19]) + data[10:], 16)  # the width, 300 in two bytes, becomes 20 in one
    header = unpack(small).header
    assert (header.width, header.height, header.short) == (20, 7, False)


def test_bytearrays_and_memoryviews_will_do() -> None:
    data = file(sections={1: b"x" * 300})
    assert unpack(bytearray(data)) == unpack(memoryview(data)) == unpack(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\x9d", "cut after 1 bytes"),
        (b"\x9dG", "cut after 2 bytes"),
        (b"\x9dG\x20", "cut after 3 bytes"),
        (b"\x9dG\x20\x00", "cut after 4 bytes"),
        (b"G", "not a .gmvq file: it starts with 47, not with 9d 47"),
        (b"\x89PNG\r\n\x1a\n", "not a .gmvq file: it starts with 89 50"),
        (b"\x9dH" + bytes(30), "not a .gmvq file"),
        (b"\x9dG\x40" + bytes(30), "format version 2; this gmvqzip reads version 1: use a newer one"),
        (b"\x9dG\xff" + bytes(30), "format version 7"),
        (b"\x9dG\x00" + bytes(30), "format version 0 does not exist"),
        (b"\x9dG\x21" + bytes(30), "reserved bits"),
        (b"\x9dG\x20\x00abc", "cut inside the model id in the header, at byte 7"),
        (b"\x9dG\x20\x00abcd\x80", "cut inside the width in the header, at byte 9"),
        (b"\x9dG\x20\x00abcd\x80\x80\x80", "width in the header takes more than 3 bytes"),
        (b"\x9dG\x20\x00abcd\x80\x00", "width in the header is not written in the fewest bytes"),
        (b"\x9dG\x20\x00abcd\x01\x01\x00abc", "cut inside the codes check in the header, at byte 14"),
        (b"\x9dG\x20\x00abcd\x01\x01\x00abcd", "cut before the header's check, at byte 15"),
        (b"\x9dG\x20\x00abcd\x01\x01\x00abcd\x00", "the header is damaged"),
    ],
)
def test_refusals(data: bytes, message: str) -> None:
    for read in (unpack, read_header):
        with pytest.raises(FormatError, match=message) as caught:
            read(data)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bit", range(8))
def test_each_flag_bit_with_right_checks(bit: int) -> None:
    data = file()
    data = mend(data[:2] + bytes([data[2] ^ 1 << bit]) + data[3:], 17)
    if bit == 3:
        assert unpack(data).header.gray
        return
    wrong = {
        0: "reserved",
        1: "header is damaged",
        2: "section",
        4: "damaged",
        5: "version 0",
        6: "version 3",
        7: "version 5",
    }
    with pytest.raises(FormatError, match=wrong[bit]):
        unpack(data)


@pytest.mark.parametrize("quality", [101, 128, 255])
def test_quality_beyond_its_range(quality: int) -> None:
    data = file()
    with pytest.raises(FormatError, match=f"quality {quality} is out of range"):
        unpack(mend(data[:11] + bytes([quality]) + data[12:], 17))


def test_pixel_limit_comes_before_the_rest() -> None:
    data = file(width=20000, height=20000)
    with pytest.raises(FormatError, match=f"20000x20000 pixels are more than the limit of {MAX_PIXELS}"):
        unpack(data)
    with pytest.raises(FormatError, match="limit"):
        unpack(data[:25])  # cut, but its size is known
    assert unpack(data, max_pixels=400_000_000).header.width == 20000
    with pytest.raises(FormatError, match="limit of 399999999"):
        unpack(data, max_pixels=399_999_999)
    assert unpack(file(width=8192, height=8192)).header.height == 8192


def test_damage_behind_the_header() -> None:
    data = file(sections={1: b"abc"})
    with pytest.raises(FormatError, match="the file is damaged or cut"):
        unpack(data[:-1] + b"?")
    with pytest.raises(FormatError, match="the file is damaged or cut"):
        unpack(data + b"\0")
    assert read_header(data[:-1] + b"?")[0].has_sections


def test_unknown_sections() -> None:
    data = file(sections={64: b"abc"})
    header_bytes = 17
    assert unpack(data).sections == {64: b"abc"}
    with pytest.raises(FormatError, match="section type 63 is not known"):
        unpack(mend(data[:header_bytes] + b"\x3f" + data[header_bytes + 1 :], header_bytes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "a picture of 0x7 pixels does not fit: sides run from 1 to 2097152"),
        ({"height": MAX_SIDE + 1}, "does not fit"),
        ({"height": -1}, "does not fit"),
        ({"quality": 101}, "quality 101 does not fit"),
        ({"quality": -1}, "quality -1 does not fit"),
        ({"model_id": b"abc"}, "a model id of 3 bytes is too short"),
        ({"codes_crc32": 2**32}, "does not fit in 32 bits"),
        ({"codes_crc32": -1}, "does not fit in 32 bits"),
        ({"sections": {5: b""}}, "section type 5"),
    ],
)
def test_writer_refuses_what_does_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        file(**changes)


def test_the_room_needs_the_standard_library_only() -> None:
    code = "import sys, gmvqzip.format.container; print(sorted({'numpy', 'torch', 'constriction'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
