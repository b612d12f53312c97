"""Packs of every format version, whose pictures must decode to the same codes for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gmvqzip.pack import PackFile, PackReader

GOLDEN = Path(__file__).parent / "golden"
MODEL = GOLDEN / "files" / "tables-1.safetensors"
EXPECTED = json.loads((GOLDEN / "packs" / "expected.json").read_text(encoding="utf-8"))
SEGMENTS = {"one-1": 1, "appended-1": 3, "empty-1": 1}


def test_every_pack_is_listed() -> None:
    assert {path.stem for path in (GOLDEN / "packs").glob("*.gmvqp")} == set(EXPECTED) == set(SEGMENTS)


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("coder", ["", "python"])
def test_pictures(name: str, coder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMVQZIP_CODER", coder)
    with PackReader(GOLDEN / "packs" / f"{name}.gmvqp", model=MODEL) as reader:
        assert list(reader.names) == [expected["name"] for expected in EXPECTED[name]]
        assert (reader.segments, reader.warnings) == (SEGMENTS[name], [])
        for number, expected in enumerate(EXPECTED[name]):
            coded = reader.coded(number)
            codes, sections = coded.codes, coded.box.sections
            assert (codes.width, codes.height, codes.gray) == (expected["width"], expected["height"], expected["gray"])
            assert f"{codes.crc32():08x}" == expected["codes_crc32"]
            assert {str(kind): content.decode() for kind, content in sections.items()} == expected["sections"]


def test_the_pictures_are_the_golden_files() -> None:
    """A picture taken out is, byte for byte, the file that was made with it."""
    with PackReader(GOLDEN / "packs" / "appended-1.gmvqp", model=MODEL) as reader:
        for name in reader.names:
            assert reader.gmvq(name) == (GOLDEN / "files" / f"{Path(name).name}.gmvq").read_bytes()


def test_the_listing_needs_no_model() -> None:
    with PackFile(GOLDEN / "packs" / "one-1.gmvqp") as pack:
        assert [(pack.entry(n).kind.width, pack.entry(n).kind.height) for n in range(len(pack))] == [(100, 61), (1, 1)]
