"""From a trained network to a model file: the frozen prior, the measured results, the card."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from gmvqzip.entropy.tables import frequencies
from gmvqzip.models.network import StagedAutoencoder
from gmvqzip.models.plain import plain_network
from gmvqzip.models.store import dump_model, round_weights
from gmvqzip.training.config import TrainConfig
from gmvqzip.training.evaluation import evaluate, first_pictures
from gmvqzip.training.imagesets import ImageSet
from gmvqzip.training.splits import DataSplits

SMOOTHING = 0.5  # added to each code's count over the training set (Krichevsky and Trofimov)
_BATCH_PIXELS = 1 << 18  # pixels per evaluation batch


def export_model(
    name: str,
    network: StagedAutoencoder,
    config: TrainConfig,
    data: DataSplits,
    device: torch.device,
    *,
    history: dict[str, Any],
    note: str,
    say: Callable[[str], None],
) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a model file, and its card.

    The network is brought to its plain form and its weights are rounded as in the file first, so that prior and results
    are those of the model as shipped. The aggregated categorical prior of each stage is the smoothed count of its hard
    codes over the training set, or over its first `prior_images` pictures, frozen into an integer table.
    """
    network = plain_network(network)
    round_weights(network)
    counted = min(len(data.train), config.prior_images or len(data.train))
    say(f"aggregated prior over {counted} training pictures")
    seen = evaluate(network, first_pictures(_batches(data.train), counted), device)
    tables = [frequencies(counts + SMOOTHING) for counts in seen.counts]
    results = {"training": seen.summary(), "validation": _measure(network, data.validation, tables, device)}
    if data.test is not None:
        results["test"] = _measure(network, data.test, tables, device)
    card: dict[str, Any] = {
        "name": name,
        "trained_on": data.description,
        "note": note,
        "results": results,
        "training": config.to_dict() | history,
        "machine": machine(device),
    }
    return dump_model(name, network, tables, card), card


def machine(device: torch.device) -> str:
    """What a run was made on, for its card."""
    return f"{platform.machine()}, {torch.get_num_threads()} threads, {device.type}, torch {torch.__version__}"


def _batches(pictures: ImageSet) -> Iterable[np.ndarray[Any, Any]]:
    """Whole pictures, several at once where they have one size."""
    if pictures.array is None:
        return (image[None] for image in pictures.all_images())
    _, height, width, _ = pictures.array.shape
    return pictures.evaluation_batches(max(1, _BATCH_PIXELS // (height * width)))


def _measure(
    network: StagedAutoencoder, pictures: ImageSet, tables: list[np.ndarray[Any, Any]], device: torch.device
) -> dict[str, Any]:
    """Results on pictures, with the bits under the frozen tables."""
    evaluation = evaluate(network, _batches(pictures), device)
    bits = sum(
        float((counts * (24 - np.log2(table))).sum()) for counts, table in zip(evaluation.counts, tables, strict=True)
    )
    return evaluation.summary() | {"bpp": bits / evaluation.pixels}
