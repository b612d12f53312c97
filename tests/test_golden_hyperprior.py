"""Whole files of hyperprior models, which must decode to the same codes, and the same latent, for ever."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

import gmvqzip
from gmvqzip.codec import Codec
from gmvqzip.entropy.blocks import Block
from gmvqzip.entropy.codes import Codes
from gmvqzip.format import container
from gmvqzip.format.tiles import TileGrid
from gmvqzip.models.registry import read_info
from gmvqzip.models.store import verify

FILES = Path(__file__).parent / "golden" / "hyperprior"
EXPECTED = json.loads((FILES / "expected.json").read_text())
MODELS = {name: FILES / f"{name}.safetensors" for name in ("hyperprior-1", "shared-1")}
CODECS = {name: Codec(read_info(path), "cpu") for name, path in MODELS.items()}


def codec_of(name: str) -> Codec:
    """The codec of a file."""
    return CODECS[EXPECTED[name]["model"]]


def apart(golden: Codec, codes: Codes) -> list[tuple[tuple[slice, slice], list[np.ndarray]]]:
    """The index arrays that are coded as one, a tile's or all, and where in the latent they lie."""
    config = golden.engine.config
    rows, columns = codes.stages[-1].shape
    grid = TileGrid(16 * columns, 16 * rows, codes.tile or 16 * max(rows, columns))
    boxes = map(grid.box, range(len(grid)))
    strides = [stage.stride for stage in config.stages()]
    return [
        (box.cells(16), [stage[box.cells(stride)] for stage, stride in zip(codes.stages, strides, strict=True)])
        for box in boxes
    ]


def by_part(golden: Codec, stages: list[np.ndarray]) -> list[np.ndarray]:
    """The index arrays of each part's groups [G, rows, columns]."""
    rest = iter(stages)
    return [np.stack([next(rest) for _ in range(grid.stages)]) for grid in golden.config.grids]


def test_every_file_is_listed() -> None:
    assert {path.stem for path in FILES.glob("*.gmvq")} == set(EXPECTED)
    assert {path.stem for path in FILES.glob("*.safetensors")} == set(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_whole_and_small(model: str) -> None:
    verify(read_info(MODELS[model]))
    assert MODELS[model].stat().st_size < 60_000


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("coder", ["", "python"])
def test_codes(name: str, coder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMVQZIP_CODER", coder)
    golden = codec_of(name)
    expected = EXPECTED[name]
    data = (FILES / f"{name}.gmvq").read_bytes()
    box = container.unpack(data)
    codes = golden.open(box).codes
    for field in ("width", "height", "gray", "quality", "halvings"):
        assert getattr(codes, field) == expected[field] == getattr(box.header, field)
    assert codes.tile == expected["tile"]
    assert f"{codes.crc32():08x}" == expected["codes_crc32"]
    assert [int(stage[0, 0]) for stage in codes.stages] == expected["first"]
    assert codes.offsets.tolist() == expected["offsets"]
    assert golden.pack_codes(codes).data == data


@pytest.mark.parametrize("name", EXPECTED)
def test_the_latent_and_the_picture(name: str) -> None:
    golden = codec_of(name)
    codes = golden.decode_codes((FILES / f"{name}.gmvq").read_bytes())
    pairs: list[int] = []

    def visit(block: Block) -> np.ndarray:
        pairs.extend(block.pairs.flat)
        return block.cut(parts[block.part])

    latent = np.zeros((*codes.stages[-1].shape, golden.config.latents), np.int32)
    for place, stages in apart(golden, codes):
        parts = by_part(golden, stages)
        latent[place] = golden.engine.prior.walk(*stages[0].shape, codes.quality, visit)
    for channel, row, column, value in EXPECTED[name]["offsets"]:
        latent[row, column, channel] += 32 * value
    assert f"{zlib.crc32(latent.astype('>i4').tobytes()):08x}" == EXPECTED[name]["latent_crc32"]
    assert len(set(pairs)) > 60  # so that the files say something
    coded = golden.follow(codes)
    for number in range(len(coded.grid)):
        assert np.array_equal(coded.piece(number).latent, latent[coded.grid.box(number).cells(16)])
    image = golden.decode(codes)
    assert image.size == (codes.width, codes.height)
    assert image.mode == ("L" if codes.gray else "RGB")


@pytest.mark.parametrize("model", MODELS)
def test_implied_codes_and_extra_bits_occur(model: str) -> None:
    golden, found, wide = CODECS[model], list[bool](), list[bool]()

    def visit(block: Block) -> np.ndarray:
        found.extend((group == 0).any() for group in block.pairs)
        indices = block.cut(parts[block.part])
        wide.append((indices >= block.mixtures.codes).any())
        return indices

    for name in EXPECTED:
        if EXPECTED[name]["model"] != model:
            continue
        codes = golden.decode_codes((FILES / f"{name}.gmvq").read_bytes())
        for _, stages in apart(golden, codes):
            parts = by_part(golden, stages)
            golden.engine.prior.walk(*stages[0].shape, codes.quality, visit)
    assert any(found)
    assert not all(found)
    assert any(wide) == (model == "shared-1")


@pytest.mark.parametrize("name", EXPECTED)
def test_info(name: str) -> None:
    found = gmvqzip.info(FILES / f"{name}.gmvq", model=MODELS[EXPECTED[name]["model"]])
    assert (found.width, found.height, found.quality) == tuple(
        EXPECTED[name][field] for field in ("width", "height", "quality")
    )
