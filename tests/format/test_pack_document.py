"""The pack in docs/format.md is what the code reads and writes."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from gmvqzip.format import limits
from gmvqzip.format.packheader import PACK_HEADER_BYTES
from gmvqzip.format.packindex import Kind
from gmvqzip.format.packrecord import seal_record
from gmvqzip.pack import PackFile
from gmvqzip.pack.appending import Appender

TEXT = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
BLOCK = re.search(r"^```vector pack\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
assert BLOCK is not None
FIELDS = {key: bytes.fromhex(value) for key, value in (line.split(" = ") for line in BLOCK[1].splitlines())}
MODEL = bytes.fromhex("c0ffee1100000000")
KINDS = [Kind(MODEL, 20, 9, 0), Kind(MODEL, 300, 7, 60, gray=True, has_sections=True)]


def test_the_pack_as_it_is_read(tmp_path: Path) -> None:
    data = FIELDS["file"]
    (tmp_path / "set.gmvqp").write_bytes(data)
    with PackFile(tmp_path / "set.gmvqp") as pack:
        assert list(pack.names) == ["cat/01", "cat/02"]
        entries = [pack.entry(number) for number in range(2)]
        assert [entry.kind for entry in entries] == KINDS
        for number, entry in enumerate(entries):
            assert data[entry.offset : entry.offset + entry.size] == FIELDS[f"record {number}"]
        assert [pack.record(number).payload.hex() for number in range(2)] == ["ed", "c027dac3771a7c"]
        assert pack.record(1).sections == {70: b"note"}
        assert pack.record(0).accepts(0xF1DE0377)
        assert pack.record(1).accepts(0xEB777EE3)
        slot = pack.header.slot
        assert zlib.decompress(data[slot.end - slot.index_bytes : slot.end]) == FIELDS["index"]


def test_the_pack_as_it_is_written(tmp_path: Path) -> None:
    """Header, records and inflated index; another zlib may deflate the index to other bytes."""
    appender = Appender(tmp_path / "set.gmvqp")
    appender.add("cat/01", KINDS[0], seal_record(20, 9, 0xF1DE0377, b"\xed"))
    payload = bytes.fromhex("c027dac3771a7c")
    appender.add("cat/02", KINDS[1], seal_record(300, 7, 0xEB777EE3, payload, {70: b"note"}))
    appender.finish()
    data = (tmp_path / "set.gmvqp").read_bytes()
    end = PACK_HEADER_BYTES + len(FIELDS["record 0"]) + len(FIELDS["record 1"])
    assert data[PACK_HEADER_BYTES:end] == FIELDS["file"][PACK_HEADER_BYTES:end]
    assert zlib.decompress(data[end:]) == FIELDS["index"]


def test_limits() -> None:
    for value in (limits.MAX_SEGMENTS, limits.MAX_SEGMENT_ENTRIES, limits.MAX_INDEX_BYTES, limits.MAX_NAME_BYTES):
        assert f"{value:,}" in TEXT
    assert f"{limits.MAX_ALL_INDEX_BYTES:,} bytes (2^26)" in TEXT
    assert f"{limits.MAX_ALL_NAME_BYTES:,} bytes (2^28)" in TEXT
    assert limits.MAX_PACK_BYTES == 2**40 - 1
