"""Encoding without a search, in NumPy: torch's latents but for rounding, files as good, and torch never imported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from test_synthesis import LINEAR, SHARED
from tiny_hyperprior import CONFIG, made, smooth
from without_torch import run_without_torch

from gmvqzip.bench.metrics import psnr
from gmvqzip.codec import Codec
from gmvqzip.engines.base import image_tensor
from gmvqzip.errors import ModelError
from gmvqzip.models import registry
from gmvqzip.models.analysis import load_analysis
from gmvqzip.models.hyperconfig import HyperpriorConfig
from gmvqzip.models.hyperstore import dump_hyperprior, load_transform

PHOTOGRAPH = Path(__file__).parents[2] / "docs" / "pictures" / "otter.jpg"
SHIPPED = ["photo", "faces"]


def compare(info: registry.ModelInfo, pixels: NDArray[np.uint8], quality: float) -> float:
    """The largest difference from torch's latents and hyper-latents, beside the largest of them."""
    config = HyperpriorConfig.from_dict(info.config)
    with torch.no_grad():
        both = load_transform(info, config).analyse(image_tensor(pixels, torch.device("cpu")), torch.tensor([quality]))
    wanted = [x.permute(0, 2, 3, 1).numpy() for x in both]
    found = load_analysis(info, config)(pixels, quality)
    assert [x.shape for x in found] == [x.shape for x in wanted]
    return max(float(np.abs(f - w).max() / np.abs(w).max()) for f, w in zip(found, wanted, strict=True))


@pytest.mark.parametrize("config", [CONFIG, LINEAR, SHARED], ids=["network", "linear", "shared"])
@pytest.mark.parametrize("quality", [0.0, 0.37, 1.0])
@pytest.mark.parametrize("size", [(1, 32, 32), (1, 160, 192), (3, 32, 64), (2, 96, 128)], ids=str)
def test_layouts(config: HyperpriorConfig, quality: float, size: tuple[int, int, int], tmp_path: Path) -> None:
    count, rows, columns = size
    path = tmp_path / "made.safetensors"
    path.write_bytes(dump_hyperprior("made", made(config), {}))
    pixels = np.stack([smooth(rows, columns, seed) for seed in range(count)])
    assert compare(registry.find(path), pixels, quality) < 1e-5


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("quality", [0.0, 0.54, 1.0])
def test_shipped_models(name: str, quality: float) -> None:
    pixels = np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))[:224, :288]
    assert compare(registry.find(name), pixels[None], quality) < 1e-5


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize(("quality", "size", "tile"), [(20, (201, 333), 0), (55, (301, 519), 256), (95, (157, 99), 0)])
def test_files_are_as_good(name: str, quality: int, size: tuple[int, int], tile: int) -> None:
    pixels = np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))[: size[0], : size[1]]
    own, by_torch = (Codec(registry.find(name), "cpu") for _ in range(2))
    by_torch.engine.network.needs_torch = lambda rounds: True  # type: ignore[method-assign]
    found, wanted = (codec.compress(pixels, quality=quality, effort=1, tile=tile) for codec in (own, by_torch))
    assert abs(len(found) - len(wanted)) < 0.005 * len(wanted)
    errors = [psnr(pixels, np.asarray(own.decompress(data))) for data in (found, wanted)]
    assert abs(errors[0] - errors[1]) < 0.02


def test_tensors_that_do_not_fit(hyper_path: Path) -> None:
    info = registry.find(hyper_path)
    for change in ({"linear": True}, {"channels": (16, 32, 48)}, {"encoder_blocks": (1, 2, 1)}, {"edge_kernel": 1}):
        with pytest.raises(ModelError, match="do not fit"):
            load_analysis(info, HyperpriorConfig(**{**CONFIG.__dict__, **change}))


LINES = """
codec = gmvqzip.load(model, device="cpu")
codec.compress_batch([path, path], effort=1)
codec.compress(path, effort=1, target_bpp=4)
Image.open(path).save(path + ".gmvq", model=model, device="cpu", effort=1)
"""


def test_encoding_without_a_search_does_not_import_torch(hyper: Codec, tmp_path: Path) -> None:
    path, out = tmp_path / "a.png", tmp_path / "out"
    Image.fromarray(smooth(200, 300)).save(path)
    out.mkdir()
    device = ["--device", "cpu", "--model", str(hyper.info.path), "-e", "1"]
    commands = [
        ["compress", str(path), "-o", str(out / "a.gmvq"), "--psnr", *device],
        ["compress", str(path), "-o", str(out / "b.gmvq"), "-T", "2", "-q", "30", *device],
        ["compress", str(path), "-o", str(out / "c.gmvq"), "-j", "2", "--target-size", "20k", *device],
        ["pack", str(tmp_path), "-o", str(out / "d.gmvqp"), *device],
    ]
    run_without_torch(commands, LINES, path, hyper.info)
    assert len(list(out.iterdir())) == 4
    assert hyper.decompress(out / "b.gmvq").size == (300, 200)
