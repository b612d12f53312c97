"""Files and payloads of every version of the format, which must be read, and written, for ever."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gmvqzip.entropy import coder
from gmvqzip.format.container import pack, unpack
from gmvqzip.format.limits import MAX_SIDE

ROOT = Path(__file__).parents[2]
CODER: dict[str, Any] = json.loads((ROOT / "tests/golden/coder.json").read_text())
CONTAINER: dict[str, Any] = json.loads((ROOT / "tests/golden/container.json").read_text())


@pytest.mark.parametrize("backend", ["constriction", "python"])
@pytest.mark.parametrize("name", CODER)
def test_payloads(name: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend == "constriction":
        pytest.importorskip("constriction", exc_type=ImportError)
    monkeypatch.setenv("GMVQZIP_CODER", backend)
    payload = bytes.fromhex(CODER[name]["payload"])
    parts = [
        (np.array(part["symbols"], dtype=np.int32), np.repeat(*np.array(part["table"], dtype=np.int64).T))
        for part in CODER[name]["parts"]
    ]
    assert coder.encode(parts) == payload
    found = coder.decode(payload, [(symbols.size, table) for symbols, table in parts])
    assert [f.tolist() for f in found] == [symbols.tolist() for symbols, _ in parts]


@pytest.mark.parametrize("name", CONTAINER)
def test_files(name: str) -> None:
    case = CONTAINER[name]
    data = bytes.fromhex(case["file"])
    sections = {int(kind): bytes.fromhex(content) for kind, content in case.get("sections", {}).items()}
    box = unpack(data, max_pixels=MAX_SIDE**2)
    header = box.header
    assert (header.width, header.height) == (case["width"], case["height"])
    assert (header.quality, header.gray) == (case["quality"], case["gray"])
    assert case["model_id"].startswith(header.model_id.hex())
    assert header.accepts(case["codes_crc32"])
    assert (box.sections, box.payload.hex()) == (sections, case["payload"])
    written = pack(
        width=header.width,
        height=header.height,
        model_id=bytes.fromhex(case["model_id"]),
        quality=header.quality,
        gray=header.gray,
        codes_crc32=case["codes_crc32"],
        payload=box.payload,
        sections=sections,
    )
    assert written == data


def test_the_script_makes_these_vectors(tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "scripts/golden/vectors.py"))
    assert script["coder_vectors"]() == CODER
    assert script["container_vectors"]() == CONTAINER
    path = tmp_path / "golden" / "some.json"
    assert script["update"](path, {"a": {"x": 1}}, check=True) == ["some.json: a is missing"]
    assert script["update"](path, {"a": {"x": 1}}, check=False) == []
    assert script["update"](path, {"a": {"x": 1}, "b": {}}, check=False) == []
    assert json.loads(path.read_text()) == {"a": {"x": 1}, "b": {}}
    assert script["update"](path, {"a": {"x": 2}, "c": {}}, check=False) == ["some.json: a would change"]
    assert json.loads(path.read_text()) == {"a": {"x": 1}, "b": {}}
