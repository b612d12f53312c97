"""From a trained hyperprior model to its file, with a card of measured results beside WebP's."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gmvqzip.bench.metrics import psnr
from gmvqzip.engines.base import Search
from gmvqzip.engines.hyperprior import HyperpriorEngine
from gmvqzip.models.hyperprior import HyperpriorModel
from gmvqzip.models.hyperstore import dump_hyperprior
from gmvqzip.models.registry import read_info
from gmvqzip.rates import DEFAULT_EFFORT, rounds_of
from gmvqzip.training.config import TrainConfig
from gmvqzip.training.export import machine
from gmvqzip.training.imagesets import ImageSet
from gmvqzip.training.splits import DataSplits

MEASURED = (1, 15, 30, 50, 70, 85, 100)  # qualities
_PICTURES = 24  # measured at most of each split
_SEARCH = Search(rounds=rounds_of(DEFAULT_EFFORT))
_HEADER_BYTES = 12  # of a small file; larger ones take up to 20
_WEBP_QUALITIES = (0, 5, 10, 20, 35, 50, 65, 80, 90, 95)

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def export_hyperprior(
    name: str,
    model: HyperpriorModel,
    config: TrainConfig,
    data: DataSplits,
    *,
    history: dict[str, Any],
    note: str,
    say: Callable[[str], None],
) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a model file, and its card; results are of files coded by that file on the CPU."""
    card: dict[str, Any] = {
        "name": name,
        "trained_on": data.description,
        "note": note,
        "training": config.to_dict() | history,
        "machine": machine(next(model.parameters()).device),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.safetensors"
        path.write_bytes(dump_hyperprior(name, model, card))
        engine = HyperpriorEngine(read_info(path), model.config, "cpu")
        say("measuring the model's files and WebP's")
        card["results"] = {"validation": _measure(engine, data.validation)}
        if data.test is not None:
            card["results"]["test"] = _measure(engine, data.test)
    return dump_hyperprior(name, model, card), card


def _measure(engine: HyperpriorEngine, pictures: ImageSet) -> dict[str, Any]:
    """Bits per pixel and PSNR, means over pictures, at MEASURED qualities; and WebP's PSNR at the same rates."""
    chosen = [pictures.image(index) for index in range(min(_PICTURES, len(pictures)))]
    points = np.array([[code(engine, pixels, quality) for pixels in chosen] for quality in MEASURED])  # [Q, N, 2]
    rivals = np.array([[webp(pixels, quality) for pixels in chosen] for quality in _WEBP_QUALITIES])
    rate, quality = points.mean(1).T
    return {
        "pictures": len(chosen),
        "quality": list(MEASURED),
        "bpp": rate.tolist(),
        "psnr_mean": quality.tolist(),
        "webp_psnr_mean": [interpolated(float(at), rivals.mean(1)) for at in rate],
    }


def code(engine: HyperpriorEngine, pixels: Pixels, quality: int) -> tuple[float, float]:
    """Bits per pixel and PSNR of one picture [H, W, 3]."""
    height, width, _ = pixels.shape
    down, right = -height % engine.config.alignment, -width % engine.config.alignment
    stages = engine.analyse(np.pad(pixels, ((0, down), (0, right), (0, 0)), mode="edge"), quality, _SEARCH)
    size = len(engine.pack(stages, quality)) + _HEADER_BYTES
    with torch.inference_mode():
        image = engine.synthesise(stages, quality)[:, :height, :width].permute(1, 2, 0).cpu().numpy()
    return 8 * size / (height * width), psnr(pixels, np.rint(image * 255).astype(np.uint8))


def webp(pixels: Pixels, quality: int) -> tuple[float, float]:
    """Bits per pixel and PSNR of WebP at its slowest setting."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=quality, method=6)
    decoded = np.asarray(Image.open(buffer).convert("RGB"))
    return 8 * len(buffer.getvalue()) / (pixels.shape[0] * pixels.shape[1]), psnr(pixels, decoded)


def interpolated(rate: float, points: np.ndarray[Any, Any]) -> float | None:
    """PSNR at a rate, linear in the logarithm of the rate between points [N, 2]; None outside of them."""
    if not points[0, 0] <= rate <= points[-1, 0]:
        return None
    return float(np.interp(np.log(rate), np.log(points[:, 0]), points[:, 1]))
