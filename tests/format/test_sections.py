import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmvqzip.errors import FormatError
from gmvqzip.format import sections
from gmvqzip.format.limits import MAX_PROFILE_BYTES, MAX_SECTION_BYTES
from gmvqzip.format.sections import (
    compress_profile,
    decompress_profile,
    inflate,
    read_sections,
    section_name,
    write_sections,
)
from gmvqzip.format.varint import write_varint

kinds = st.sampled_from([1, 2, 3]) | st.integers(64, 16383)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(kinds, st.binary(max_size=300), min_size=1, max_size=5), st.binary(max_size=9), st.binary())
def test_round_trip(content: dict[int, bytes], before: bytes, payload: bytes) -> None:
    written = write_sections(content)
    found, end = read_sections(before + written + payload, len(before))
    assert found == content
    assert list(found) == sorted(found)
    assert end == len(before) + len(written)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut inside the type of a section"),
        (b"\x00", "there is no section"),
        (b"\x01\x00", "cut inside the type of a section"),
        (b"\x01", "cut inside the length of a section"),
        (b"\x01\x05abc", "cut inside section alpha: 5 bytes wanted, 3 left"),
        (b"\x02\x00\x01\x00\x00", "out of order or repeated"),
        (b"\x01\x00\x01\x00\x00", "out of order or repeated"),
        (b"\x05\x00\x00", "section type 5 is not known"),
        (b"\x3f\x00\x00", "section type 63 is not known"),
        (b"\x80\x80\x01", "takes more than 2 bytes"),
        (b"\x01" + write_varint(MAX_SECTION_BYTES + 1), "claims 1073741825 bytes, limit 1073741824"),
        (b"\x01" + write_varint(2**35), "length of a section takes more than 5 bytes"),
        (b"\x81\x00", "not written in the fewest bytes"),
    ],
)
def test_refusals(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_sections(data, 0)


@pytest.mark.parametrize("kind", [-1, 0, 5, 63, 16384])
def test_writer_refuses_types_that_no_reader_takes(kind: int) -> None:
    with pytest.raises(FormatError, match="section"):
        write_sections({kind: b""})


def test_writer_refuses_a_section_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "MAX_SECTION_BYTES", 10)
    assert write_sections({1: bytes(10)})
    with pytest.raises(FormatError, match="section alpha has 11 bytes, limit 10"):
        write_sections({1: bytes(11)})


def test_names() -> None:
    assert [section_name(kind) for kind in (1, 2, 3, 70)] == ["alpha", "icc", "tiles", "70"]


def test_profile_round_trip_and_limit() -> None:
    profile = b"profile" * 1000
    assert decompress_profile(compress_profile(profile)) == profile
    assert compress_profile(bytes(MAX_PROFILE_BYTES))
    with pytest.raises(FormatError, match=r"--strip"):
        compress_profile(bytes(MAX_PROFILE_BYTES + 1))


def test_inflate_stops_at_the_limit() -> None:
    bomb = zlib.compress(bytes(10**6), 9)
    assert inflate(bomb, 10**6, "thing") == bytes(10**6)
    with pytest.raises(FormatError, match="the thing inflates to more than 999999 bytes"):
        inflate(bomb, 10**6 - 1, "thing")


def test_inflate_refuses_all_but_one_whole_stream() -> None:
    stream = zlib.compress(b"some content, and some more content")
    for cut in range(len(stream)):
        with pytest.raises(FormatError, match="the thing is cut"):
            inflate(stream[:cut], 100, "thing")
    with pytest.raises(FormatError, match="2 bytes follow the thing"):
        inflate(stream + b"\0\0", 100, "thing")
    with pytest.raises(FormatError, match="the thing is damaged"):
        inflate(b"no stream at all", 100, "thing")
