"""The examples in docs/format.md are true."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from gmvqzip.entropy import coder
from gmvqzip.entropy.alpha import decompress_alpha
from gmvqzip.entropy.codes import codes_crc32
from gmvqzip.entropy.layers import at_quality
from gmvqzip.entropy.mixture import GroupMixtures, load_mixtures
from gmvqzip.entropy.offsets import read_offsets, write_offsets
from gmvqzip.entropy.twin import TwinEncoder
from gmvqzip.format import limits
from gmvqzip.format.checksum import crc8
from gmvqzip.format.container import pack, unpack
from gmvqzip.format.metadata import Metadata, Part, Text, read_metadata, write_metadata
from gmvqzip.format.metadict import DICTIONARY
from gmvqzip.format.size import coded_size
from gmvqzip.format.tiles import TileIndex, read_index
from gmvqzip.format.varint import read_varint, write_varint

TEXT = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
Lines = list[tuple[str, str]]


def blocks(kind: str) -> list[Lines]:
    """The `key = value` lines of each fenced block of this kind."""
    found = re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    parsed = [[tuple(part.strip() for part in line.split("=")) for line in block.splitlines()] for block in found]
    assert parsed, kind
    return parsed  # type: ignore[return-value]


def numbers(text: str) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([int(word) for word in text.split()], dtype=np.int64)


def test_varints() -> None:
    for number, data in blocks("vector varint")[0]:
        assert write_varint(int(number)) == bytes.fromhex(data)
        assert read_varint(bytes.fromhex(data), 0, longest=3, what="number") == (int(number), len(data.split()))


def test_checksums() -> None:
    for data, value in blocks("vector crc8")[0]:
        assert f"{crc8(bytes.fromhex(data)):02x}" == value
    for data, value in blocks("vector crc32")[0]:
        assert f"{zlib.crc32(bytes.fromhex(data)):08x}" == value


def test_alpha() -> None:
    for block in blocks("vector alpha"):
        fields = dict(block)
        plane = decompress_alpha(bytes.fromhex(fields["section"]), int(fields["width"]), int(fields["height"]))
        assert plane.tobytes().hex(" ") == fields["plane"]


def test_traces() -> None:
    for block in blocks("trace"):
        table = numbers(block[0][1])
        cumulative = [0, *np.cumsum(table).tolist()]
        twin = TwinEncoder()
        for symbol, state in block[1:-1]:
            twin.encode([int(symbol)], cumulative)
            words, low, width = twin.interval()
            assert f"{words.hex(' ', 4)} | {low:016x} {width:016x}".strip() == state
        symbols = np.array([int(symbol) for symbol, _ in block[1:-1]])
        assert coder.encode([(symbols, table)]).hex(" ") == block[-1][1]


@pytest.mark.parametrize("name", ["constriction", "python"])
def test_payloads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "constriction":
        pytest.importorskip("constriction", exc_type=ImportError)
    monkeypatch.setenv("GMVQZIP_CODER", name)
    for block in blocks("vector coder"):
        values = [numbers(value) for key, value in block if key in ("table", "codes")]
        parts = list(zip(values[1::2], values[::2], strict=True))
        payload = bytes.fromhex(block[-1][1])
        assert coder.encode(parts) == payload
        decoded = coder.decode(payload, [(symbols.size, table) for symbols, table in parts])
        assert all((got == symbols).all() for got, (symbols, _) in zip(decoded, parts, strict=True))


def test_complete_files() -> None:
    tables = [numbers("8388608 4194304 4194304"), numbers("12582912 4194304")]
    for block in blocks("vector file"):
        fields = dict(block)
        width, height, halvings = (int(fields.get(name, 0)) for name in ("width", "height", "halvings"))
        columns, rows = coded_size(width, height, halvings)
        shapes = [(-(-rows // 32) * 32 // stride, -(-columns // 32) * 32 // stride) for stride in (32, 16)]
        stages = [numbers(fields[f"codes {i}"]).reshape(shape) for i, shape in enumerate(shapes)]
        sections = {int(k.split()[1]): bytes.fromhex(v) for k, v in block if k.startswith("section")}
        assert f"{codes_crc32(stages):08x}" == fields["codes crc32"]
        payload = coder.encode(list(zip(stages, tables, strict=True)))
        assert payload.hex(" ") == fields["payload"]
        data = pack(
            width=width,
            height=height,
            model_id=bytes.fromhex("c0ffee11") + bytes(28),
            quality=int(fields["quality"]),
            gray=fields["gray"] == "yes",
            codes_crc32=codes_crc32(stages),
            payload=payload,
            sections=sections,
            halvings=halvings,
        )
        assert data.hex(" ") == fields["file"]
        assert unpack(data).sections == sections


def test_mixtures() -> None:
    for block in blocks("vector mixture"):
        fields = {key: numbers(value) for key, value in block}
        codebook = fields["codebook"].reshape(1, -1, 2)
        tensors = {"codebook": codebook, "bias": fields["bias"][None]}
        for name in ("precision", "slope"):
            tensors[name] = np.stack([fields[f"{name} {half}"] for half in (0, 1)])[None]
        shared = "extra" in fields
        if shared:
            tensors["extra"] = fields["extra"].astype(np.int8)
        mixtures = load_mixtures(tensors, codebook.shape, shared=shared)
        for first in (0, 1):
            for second in (0, 1):
                (table,) = mixtures.tables(0, np.array([2 * first + second]))
                assert np.array_equal(table, fields[f"table {first} {second}"])


def test_points_of_shared_codes() -> None:
    for block in blocks("vector points"):
        fields = dict(block)
        size, word, extra = int(fields["codes"]), numbers(fields["codeword"]), int(fields["extra"])
        codebook = np.zeros((1, size, 2), np.int64)
        codebook[0, 7] = word
        spread = np.zeros((1, 2, 1), np.int64)
        mixtures = GroupMixtures(
            codebook, np.zeros((1, size), np.int64), spread, spread, extra * (codebook[0, :, 0] != 0)
        )
        for title, value in block[3:-1]:
            index = 7 + size * int(title.split()[1])
            assert np.array_equal(mixtures.points(np.array([[index]]))[0, 0], numbers(value))
        title, index = block[-1]
        assert title.split() == ["index", "15", "of", "code", "7"]
        assert 7 + size * 15 == int(index)


def test_codes_checks() -> None:
    for block in blocks("vector codes check"):
        stages = [numbers(value).reshape(1, -1) for title, value in block if title.startswith("stage")]
        assert f"{codes_crc32(stages):08x}" == dict(block)["crc32"]


def test_biases_between_qualities() -> None:
    for block in blocks("vector quality"):
        anchors = numbers(block[0][1])[:, None]
        for title, value in block[1:]:
            assert int(at_quality(anchors, int(title.split()[1]))[0]) == int(value)


def test_tiles() -> None:
    for block in blocks("vector tiles"):
        fields = dict(block)
        checks = tuple(int(check, 16) for check in fields["checks"].split())
        index = TileIndex(int(fields["side"]), tuple(numbers(fields["lengths"]).tolist()), checks)
        assert index.write().hex(" ") == fields["section"]
        assert read_index(bytes.fromhex(fields["section"]), int(fields["width"]), int(fields["height"])) == index


def test_offsets() -> None:
    for block in blocks("vector offsets"):
        fields = dict(block)
        channels, rows, columns = (int(fields[name]) for name in ("channels", "rows", "columns"))
        offsets = np.array([numbers(value) for key, value in block if key == "offset"], dtype=np.int32)
        section = bytes.fromhex(fields["section"])
        assert write_offsets(offsets, rows, columns) == section
        assert [*zlib.decompress(section)] == numbers(fields["numbers"]).tolist()
        assert np.array_equal(read_offsets(section, channels, rows, columns), offsets)


def test_limits() -> None:
    for value in (
        limits.MIN_TILE_SIDE,
        limits.MAX_TILE_SIDE,
        limits.MAX_SIDE,
        limits.MAX_PIXELS,
        limits.MAX_SECTION_TYPE,
        limits.MAX_TABLE,
        limits.MAX_OFFSETS,
        limits.MAX_OFFSET,
    ):
        assert f"{value:,}" in TEXT


def test_metadata() -> None:
    for block in blocks("vector metadata"):
        fields = dict(block)
        texts = [value.split("|") for key, value in block if key == "text"]
        parts = [bytes.fromhex(value) for key, value in block if key == "part"]
        known = Metadata(
            exif=bytes.fromhex(fields.get("exif", "")),
            dpi=(int(fields["resolution"]) / 10_000,) * 2 if "resolution" in fields else None,
            time=tuple(numbers(fields["time"]).tolist()) if "time" in fields else None,
            comment=bytes.fromhex(fields.get("comment", "")),
            texts=tuple(Text(keyword, text, language, translated) for keyword, language, translated, text in texts),
            parts=tuple(Part(part[0], part[1:]) for part in parts),
        )
        assert read_metadata(b"\0" + bytes.fromhex(fields["items"])) == known
        assert read_metadata(bytes.fromhex(fields["section"])) == known
        assert read_metadata(write_metadata(known)) == known


def lines_of(kind: str) -> list[str]:
    """The lines of the one fenced block of this kind."""
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    return found.splitlines()


def test_the_dictionary_of_metadata() -> None:
    """Built from the document alone."""
    texts = "".join(line[1:-1].encode().decode("unicode_escape") for line in lines_of("dictionary texts"))
    built = texts.encode("latin-1")
    for order, end in (("<", b"II*\0"), (">", b"MM\0*")):
        for number in numbers(" ".join(lines_of("dictionary numbers"))).tolist():
            built += struct.pack(f"{order}I", number)
        for entry in "; ".join(lines_of("dictionary entries")).split("; "):
            tag, kind, *rest = entry.split()
            built += struct.pack(f"{order}HH", int(tag, 16), int(kind))
            if rest:
                built += struct.pack(f"{order}I", int(rest[0]))
            if len(rest) > 1:
                value = rest[1]
                raw = struct.pack(f"{order}HH", int(value[1:]), 0) if value[0] == "=" else bytes.fromhex(value)
                built += raw
        built += end + struct.pack(f"{order}IH", 8, 12)
    assert built == DICTIONARY
    assert f"{len(built):,} bytes, of CRC-32 `{zlib.crc32(built):08x}`" in TEXT
