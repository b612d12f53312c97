"""The package, and a second decoder that follows docs/format.md without it, come to the same."""

from __future__ import annotations

import json
import sys
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gmvqzip.codec import Codec
from gmvqzip.errors import GmvqError
from gmvqzip.format.checksum import crc8
from gmvqzip.format.container import read_header
from gmvqzip.models.registry import read_info

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
HYPERPRIOR: dict[str, Any] = json.loads((GOLDEN / "hyperprior" / "expected.json").read_text())
MODELS = {path.stem: path for folder in (GOLDEN / "files", GOLDEN / "hyperprior") for path in folder.glob("*.safet*")}
FILES = {path.stem: path for folder in (GOLDEN / "files", GOLDEN / "hyperprior") for path in folder.glob("*.gmvq")}
MODEL_OF = {name: HYPERPRIOR.get(name, {"model": "tables-1"})["model"] for name in FILES}
CODECS = {name: Codec(read_info(path), "cpu") for name, path in MODELS.items()}

sys.path.append(str(ROOT / "scripts" / "reference"))  # its modules share each other
indices, decode = import_module("indices"), import_module("decode")
READ = {name: indices.Model(path) for name, path in MODELS.items()}


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether pixels differ by nothing but where a sum is rounded one way or the other, here and there."""
    apart = np.abs(found.astype(np.int16) - wanted)
    return bool(apart.max() <= 1 and np.count_nonzero(apart) <= apart.size / 1000)


def test_all_golden_files_are_here() -> None:
    assert len(FILES) >= 14 and set(MODEL_OF.values()) == set(MODELS)


@pytest.mark.parametrize("name", FILES)
def test_indices(name: str) -> None:
    data, model = FILES[name].read_bytes(), READ[MODEL_OF[name]]
    found = indices.decode(indices.read_file(data), model)
    wanted = CODECS[MODEL_OF[name]].decode_codes(data).stages
    assert len(found) == len(wanted) + model.hyperprior
    assert all(np.array_equal(own, other) for own, other in zip(found, wanted, strict=False))
    if model.hyperprior:
        latent = np.moveaxis(found[-1], 0, -1).astype(">i4")
        assert f"{zlib.crc32(latent.tobytes()):08x}" == HYPERPRIOR[name]["latent_crc32"]


@pytest.mark.parametrize("name", HYPERPRIOR)
def test_pixels(name: str) -> None:
    data, model = FILES[name].read_bytes(), MODEL_OF[name]
    assert close(decode.pixels(indices.read_file(data), READ[model]), CODECS[model].decompress(data).convert("RGB"))


@pytest.mark.parametrize("name", ["cifar10", "celeba", "photo", "faces"])
def test_pictures_of_the_models_that_are_shipped(name: str, pixels: np.ndarray) -> None:
    path = ROOT / "models" / f"{name}.safetensors"
    codec = Codec(read_info(path), "cpu")
    data = codec.compress(pixels, quality=80, effort=1)
    assert close(decode.pixels(indices.read_file(data), indices.Model(path)), codec.decompress(data))


def test_a_staged_model_of_several_grids(tiny: Codec, pixels: np.ndarray) -> None:
    data = tiny.compress(pixels)
    found = decode.pixels(indices.read_file(data), indices.Model(tiny.info.path))
    assert close(found, tiny.decompress(data)) and found.std() > 1


@pytest.mark.parametrize("path", [*MODELS.values(), *(ROOT / "models").glob("*.safetensors")], ids=lambda p: p.stem)
def test_identities(path: Path) -> None:
    model = indices.Model(path)
    assert model.identity().hex() == model.metadata["model_id"]


@settings(max_examples=150)
@given(st.data())
def test_what_one_refuses_the_other_does(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["pixel-1", "sections-1", "rgb-1", "gray-1", "coarse-1", "tiled-1", "offsets-1"]))
    damaged = bytearray(FILES[name].read_bytes())
    _, front = read_header(damaged)
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.integers(2, min(front + 40, len(damaged) - 1)) | st.integers(2, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255) | st.sampled_from([0, 1, 127, 128, 255]))
    damaged += data.draw(st.binary(max_size=2))
    if data.draw(st.integers(0, 7)):
        damaged[front - 1] = crc8(bytes(damaged[:3] + damaged[4 : front - 1]))
        damaged[3] = crc8(bytes(damaged[:3] + damaged[4:]))
    model = MODEL_OF[name]
    try:
        file = indices.read_file(bytes(damaged))
        assume(np.prod(file.coded) < 1 << 16)
        found = indices.decode(file, READ[model])
    except indices.Damaged:
        with pytest.raises(GmvqError):
            CODECS[model].decode_codes(bytes(damaged))
    else:
        wanted = CODECS[model].decode_codes(bytes(damaged)).stages
        assert all(np.array_equal(own, other) for own, other in zip(found, wanted, strict=False))
