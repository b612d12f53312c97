"""The content of metadata sections."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmvqzip.errors import FormatError
from gmvqzip.format import metadata as module
from gmvqzip.format.limits import MAX_METADATA_BYTES
from gmvqzip.format.metadata import (
    Metadata,
    Part,
    Text,
    iptc_resource,
    read_metadata,
    read_resources,
    without_resources,
    write_metadata,
    write_resource,
)
from gmvqzip.format.metadict import DICTIONARY
from gmvqzip.format.varint import write_varint

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
resolutions = st.integers(1, 2**32 - 1).map(lambda units: units / 10_000)
moments = st.tuples(st.integers(0, 65535), *[st.integers(0, 255)] * 5)
everything = st.builds(
    Metadata,
    exif=st.binary(max_size=300),
    xmp=st.binary(max_size=300),
    resources=st.binary(max_size=50),
    dpi=st.none() | st.tuples(resolutions, resolutions),
    time=st.none() | moments,
    comment=st.binary(max_size=50),
    texts=st.lists(st.builds(Text, words, words, words, words), max_size=4).map(tuple),
    parts=st.lists(st.builds(Part, st.integers(0, 255), st.binary(max_size=30)), max_size=4).map(tuple),
)


@settings(max_examples=200)
@given(everything)
def test_round_trip(known: Metadata) -> None:
    assert read_metadata(write_metadata(known)) == known


@settings(max_examples=200)
@given(st.binary(max_size=100), st.sampled_from([b"\0", b"\1", b""]))
def test_any_bytes_are_read_or_refused(data: bytes, method: bytes) -> None:
    try:
        read_metadata(method + data)
    except FormatError as error:
        assert "\n" not in str(error)


def test_nothing_is_falsy() -> None:
    assert not Metadata()
    assert Metadata(comment=b"x")


def test_kinds_that_are_not_known_are_passed_over() -> None:
    known = Metadata(comment=b"x")
    assert read_metadata(b"\0" + b"\6\1x" + b"\x63\2ab" + b"\xff\0") == known


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not known"),
        (b"\2abc", "not known"),
        (b"\0\6\2x", "cut, repeated or out of order"),
        (b"\0\6\1x\6\1x", "cut, repeated or out of order"),
        (b"\0\6\1x\1\1x", "cut, repeated or out of order"),
        (b"\0\6", "cut inside the metadata"),
        (b"\0\x08\0", "cut, repeated or out of order"),
        (b"\0\4\0", "cut inside the metadata"),
        (b"\0\4\1\0", "resolution in the metadata is damaged"),
        (b"\0\4\3\1\1\1", "resolution in the metadata is damaged"),
        (b"\0\5\3abc", "time in the metadata is damaged"),
        (b"\0\7\3abc", "text in the metadata is damaged"),
        (b"\0\7\4\0\0\0\xff", "text in the metadata is damaged"),
        (b"\1\xff\xff\xff", "metadata are damaged"),
    ],
)
def test_refusals(content: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_metadata(content)


def test_a_stream_must_be_whole_and_alone() -> None:
    content = write_metadata(Metadata(xmp=DICTIONARY[:500]))
    assert content[0] == 1
    assert len(content) < 20  # the dictionary is at work
    with pytest.raises(FormatError, match="cut, or something follows"):
        read_metadata(content[:-1])
    with pytest.raises(FormatError, match="cut, or something follows"):
        read_metadata(content + b"\0")


def test_limits() -> None:
    with pytest.raises(FormatError, match=r"--strip"):
        write_metadata(Metadata(xmp=bytes(MAX_METADATA_BYTES)))
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    stream = b"\1" + bomb.compress(b"\6" + write_varint(2**30) + bytes(2**26)) + bomb.flush()
    with pytest.raises(FormatError, match="inflate to more than"):
        read_metadata(stream)
    for dpi in ((0, 72), (72, 1e6)):
        with pytest.raises(FormatError, match="resolution of"):
            write_metadata(Metadata(dpi=dpi))


def test_what_compresses_nothing_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = bytes((i * i * 7919 >> 5) % 256 for i in range(40))
    assert write_metadata(Metadata(comment=noise))[0] == module.STORED


def test_resources() -> None:
    blocks = write_resource(0x0BB7, b"odd") + iptc_resource(b"\x1c\2\5\0\2hi")
    assert list(read_resources(blocks)) == [(0x0BB7, b"odd"), (0x0404, b"\x1c\2\5\0\2hi")]
    named = b"8BIM\4\4\5named" + bytes((0, 0, 0, 2)) + b"xy"
    assert list(read_resources(named)) == [(0x0404, b"xy")]
    assert Metadata(resources=named).iptc == b"xy"
    assert without_resources(named + blocks, {0x0BB7}) == (named + iptc_resource(b"\x1c\2\5\0\2hi"), b"")
    assert without_resources(named + b"8BIM\0", ()) == (named, b"8BIM\0")
    assert without_resources(b"MeSa" + named, ()) == (b"", b"MeSa" + named)
    for size in range(len(blocks)):
        list(read_resources(blocks[:size]))  # ends
        kept, rest = without_resources(blocks[:size], ())
        assert len(kept) + len(rest) in (size, size + 1)  # an odd block may lack its last zero
