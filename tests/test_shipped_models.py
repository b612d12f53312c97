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
from gmvqzip import ModelError
from gmvqzip.bench.metrics import psnr
from gmvqzip.codec import Codec
from gmvqzip.images.pixels import Picture
from gmvqzip.images.preparing import prepared
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


def test_a_psnr_is_that_of_the_picture_given(photo: Codec) -> None:
    """Not that of the gray one which stands for it; where gray does not have so much, colour is coded."""
    sign = np.random.default_rng(1).choice([-1, 1], (16, 16, 3)).repeat(4, 0).repeat(4, 1)
    row, column = np.mgrid[:64, :64] // 2
    picture = (120 + 9 * sign * (-1) ** (row + column)[..., None]).astype(np.uint8)  # whose blocks have no tint
    best = psnr(picture, prepared(Picture(picture)).pixels)
    for target, gray in ((best - 3, True), (best + 0.04, False)):
        data = photo.compress(picture, target_psnr=target, effort=1)
        assert photo.decode_codes(data).gray == gray
        assert psnr(picture, np.asarray(photo.decompress(data).convert("RGB"))) >= target
    with pytest.raises(ModelError, match="the finest file"):
        photo.compress(picture, target_psnr=40, effort=1)


@pytest.mark.parametrize("effort", [1, 2])
def test_no_offset_makes_a_picture_worse(effort: int) -> None:
    """A checkerboard of pixels in red and green, far from what the model was trained on; half of it is flat magenta."""
    codec = gmvqzip.load(MODELS / "photo-psnr.safetensors", device="cpu")
    row, column = np.mgrid[:64, :128]
    odd = (row + column) % 2
    picture = np.stack([odd * 255, (1 - odd) * 255, 0 * odd], 2).astype(np.uint8)
    checker = codec.compress(picture[:, :64], quality=55, effort=effort)
    assert not len(codec.decode_codes(checker).offsets)
    picture[:, 64:] = (255, 0, 255)
    both = codec.compress(picture, quality=90, effort=effort)
    offsets = codec.decode_codes(both).offsets
    assert len(offsets) and (offsets[:, 2] >= 3).all()  # at the columns of the flat half, 4 to 7, and next to it
    back = np.asarray(codec.decompress(both)).astype(int)
    assert np.abs(back - picture)[:, 80:].mean() < 8


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
