"""The models that ship: whole, small enough, described, and good for a real photograph."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gmvqzip
from gmvqzip.codec import Codec
from gmvqzip.models import registry
from gmvqzip.models.store import verify

MODELS = Path(__file__).parents[1] / "models"
PHOTOGRAPH = Path(__file__).parents[1] / "docs" / "pictures" / "otter.jpg"
NAMES = ("celeba", "cifar10", "faces", "photo", "photo-psnr")
MAX_BYTES, MAX_BYTES_IN_ALL = 10_000_000, 36_000_000


@pytest.fixture(scope="module")
def photo() -> Codec:
    return gmvqzip.load(MODELS / "photo.safetensors", device="cpu")


@pytest.mark.parametrize("name", NAMES)
def test_each_model_is_whole(name: str) -> None:
    info = registry.read_info(MODELS / f"{name}.safetensors")
    verify(info)
    assert info.name == name
    assert info.path.stat().st_size <= MAX_BYTES
    assert {"trained_on", "results"} <= set(info.card)


def test_together_they_are_small() -> None:
    assert sum(path.stat().st_size for path in MODELS.iterdir()) <= MAX_BYTES_IN_ALL


def test_a_real_photograph(photo: Codec) -> None:
    from gmvqzip.images.picture import read_picture

    picture = read_picture(PHOTOGRAPH)
    done = photo.compress_picture(picture)
    assert done.header_bytes <= 20
    assert 8 * done.payload_bytes <= done.ideal_bits * 1.001 + 16
    assert len(done.data) < PHOTOGRAPH.stat().st_size / 2
    back = np.asarray(photo.decompress(done.data), dtype=np.float64)
    error = np.mean((back - picture.pixels) ** 2)
    assert 10 * np.log10(255**2 / error) > 25


def test_threads_change_no_code(photo: Codec) -> None:
    import torch

    data = photo.compress(PHOTOGRAPH)
    expected, before = photo.decode_codes(data), torch.get_num_threads()
    pictures = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert photo.decode_codes(data) == expected
            pictures.append(np.asarray(photo.decompress(data), dtype=np.int16))
    finally:
        torch.set_num_threads(before)
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_the_command_line_uses_it(cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMVQZIP_MODELS", str(MODELS))
    packed, back = tmp_path / "otter.gmvq", tmp_path / "otter.png"
    fields = json.loads(cli("compress", "--json", PHOTOGRAPH, "-o", packed).out)
    assert fields["model"] == registry.DEFAULT_MODEL
    assert cli("test", packed).code == 0
    assert cli("decompress", packed, "-o", back).code == 0
    with Image.open(back) as image:
        assert image.size == (fields["width"], fields["height"])


@pytest.mark.parametrize("name", ["faces", "photo", "photo-psnr"])
@pytest.mark.parametrize("colour", [(0, 255, 0), (255, 0, 255), (0, 0, 255), (255, 255, 0)])
def test_the_strongest_colours_come_back_at_all_qualities(name: str, colour: tuple[int, int, int]) -> None:
    """Their latents lie beyond the reach of codes."""
    codec = gmvqzip.load(MODELS / f"{name}.safetensors", device="cpu")
    picture = np.full((64, 64, 3), colour, dtype=np.uint8)
    for quality in (55, 85, 100):
        back = np.asarray(codec.decompress(codec.compress(picture, quality=quality, effort=1)))
        assert np.abs(back.astype(int) - picture).mean() < 6


def test_offsets_go_wherever_codes_go(photo: Codec, tmp_path: Path) -> None:
    """Tiles, parts of a picture, packs, archives of codes, refinement."""
    from gmvqzip.npz import dump_npz, load_npz
    from gmvqzip.pack import PackReader, PackWriter

    picture = np.zeros((100, 230, 3), dtype=np.uint8)
    picture[10:, :150] = (255, 0, 255)
    picture[:60, 170:] = (0, 255, 0)
    whole = photo.compress(picture, quality=100, effort=1)
    assert len(photo.decode_codes(whole).offsets) > 20
    data = photo.compress(picture, quality=100, effort=2, tile=64)
    codes = photo.decode_codes(data)
    assert codes.tile == 64 and len(codes.offsets) > 20
    expected = np.asarray(photo.decompress(data))
    assert np.abs(expected.astype(int) - picture).mean() < 6
    part = np.asarray(photo.decompress(data, region=(90, 30, 100, 60)))
    assert np.abs(part.astype(int) - expected[30:90, 90:190]).max() <= 1
    kept, _ = load_npz(dump_npz(codes))
    assert kept == codes
    assert photo.pack_codes(kept).data == data
    assert np.array_equal(np.asarray(photo.decode(kept)), expected)
    with PackWriter(tmp_path / "colours.gmvqp", model=MODELS / "photo.safetensors") as writer:
        writer.add_gmvq("a", data)
    reader = PackReader(tmp_path / "colours.gmvqp")
    assert reader.gmvq("a") == data
    assert np.array_equal(np.asarray(reader.image("a")), expected)
