"""Whole files of every format version, which must decode to the same codes for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gmvqzip
from gmvqzip.codec import Codec
from gmvqzip.format import container
from gmvqzip.format.metadata import JPEG_SEGMENT, PNG_CHUNK, Part, Text
from gmvqzip.models.registry import read_info

FILES = Path(__file__).parent / "golden" / "files"
EXPECTED = json.loads((FILES / "expected.json").read_text())


@pytest.fixture(scope="module")
def golden() -> Codec:
    return Codec(read_info(FILES / "tables-1.safetensors"))


def test_every_file_is_listed() -> None:
    assert {path.stem for path in FILES.glob("*.gmvq")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("coder", ["", "python"])
def test_codes(golden: Codec, name: str, coder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMVQZIP_CODER", coder)
    expected = EXPECTED[name]
    data = (FILES / f"{name}.gmvq").read_bytes()
    box = container.unpack(data)
    codes = golden.open(box).codes
    assert (codes.width, codes.height, codes.gray) == (expected["width"], expected["height"], expected["gray"])
    assert f"{codes.crc32():08x}" == expected["codes_crc32"]
    assert [int(stage[0, 0]) for stage in codes.stages] == expected["first"]
    assert golden.pack_codes(codes, box.sections).data == data


@pytest.mark.parametrize("name", EXPECTED)
def test_info(name: str) -> None:
    found = gmvqzip.info(FILES / f"{name}.gmvq", model=FILES / "tables-1.safetensors")
    assert (found.width, found.height) == (EXPECTED[name]["width"], EXPECTED[name]["height"])
    assert found.codes_crc32 in (None, EXPECTED[name]["codes_crc32"])
    assert found.alpha == found.icc == (name == "sections-1")


def test_gray_that_was_given_as_rgb() -> None:
    found = gmvqzip.info(FILES / "rgb-1.gmvq", model=FILES / "tables-1.safetensors")
    assert (found.gray, found.sections, found.sections_bytes) == (True, {"rgb": 0}, 3)


def test_metadata() -> None:
    found = gmvqzip.info(FILES / "metadata-1.gmvq", model=FILES / "tables-1.safetensors").metadata
    assert found is not None
    assert (found.dpi, found.time, found.texts) == ((300, 300), (2024, 5, 6, 7, 8, 9), (Text("Title", "Lake"),))
    assert found.exif.hex() == "4d4d002a00000008000101120003000000010001000000000000"


def test_parts() -> None:
    found = gmvqzip.info(FILES / "parts-1.gmvq", model=FILES / "tables-1.safetensors").metadata
    assert found is not None
    assert (found.comment, [text.text for text in found.texts]) == (b"second", ["one", "two"])
    assert found.parts[0] == Part(JPEG_SEGMENT, b"\xfefirst") and found.parts[2].kind == PNG_CHUNK
