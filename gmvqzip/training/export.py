"""From a trained network to a model file: the frozen prior, the measured results, the card."""

from __future__ import annotations

import math
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gmvqzip.entropy.tables import frequencies
from gmvqzip.models.config import NetworkConfig
from gmvqzip.models.network import StagedAutoencoder
from gmvqzip.models.plain import plain_network
from gmvqzip.models.registry import ModelInfo, read_info
from gmvqzip.models.store import dump_model, round_weights
from gmvqzip.training.config import StagedTraining, TrainConfig
from gmvqzip.training.evaluation import evaluate, first_pictures
from gmvqzip.training.imagesets import ImageSet
from gmvqzip.training.patience import Patience
from gmvqzip.training.splits import DataSplits
from gmvqzip.training.start import described
from gmvqzip.training.verdict import Curve, Pixels, Verdict, affordable, chosen, model_curve, rival_curves

SMOOTHING = 0.5  # added to each code's count over the training set (Krichevsky and Trofimov)
_BATCH_PIXELS = 1 << 18  # pixels per evaluation batch
_SHARE = 0.7  # of the time that is left, for files; those of other codecs have the rest


@dataclass(frozen=True)
class Origin:
    """What a model comes from, for its file: its name, the run's configuration, the model that it started from.

    history: what the run adds to its configuration, `steps_done` among it, and `passes` over the training set; note: on
    the licence of the data; patience: of the measuring.
    """

    name: str
    config: TrainConfig
    start: ModelInfo | None
    history: dict[str, Any]
    note: str = ""
    patience: Patience = field(default_factory=Patience)

    def card(self, data: DataSplits, device: torch.device) -> dict[str, Any]:
        """The card without results."""
        return {
            "name": self.name,
            "training": self.config.to_dict() | self.history,
            "machine": machine(device),
            **described(self.start, data.description, self.note, self.config.start),
        }

    def verdict(
        self, data: DataSplits, blob: bytes, say: Callable[[str], None]
    ) -> tuple[Verdict, tuple[int, Curve, dict[str, Curve]] | None]:
        """What a model file is worth on held-back pictures, coded by it on the CPU, beside its start and others.

        The number of test pictures, its curve and others' on them come with it, where the set has a test part.
        """
        single = isinstance(self.config.network, NetworkConfig)
        with _filed(self.name, blob) as info:

            def pictures(held_back: ImageSet) -> list[Pixels]:
                found, models = chosen(held_back), 2 if self.start else 1
                both = held_back is data.validation and data.test is not None and not single
                seconds = self.patience.left(_SHARE / 2 if both else _SHARE)
                return found if seconds == math.inf else affordable(info, found, models, seconds)

            held = pictures(data.validation)
            say(f"measuring files of {len(held)} held-back pictures")
            verdict = Verdict(
                pictures=len(held),
                side=max(max(picture.shape[:2]) for picture in held),
                model=model_curve(info, held),
                rivals=rival_curves(held, single=single),
                start=self.start.name if self.start else "",
                start_curve=model_curve(self.start, held) if self.start else None,
                trained=len(data.train),
                passes=self.history["passes"],
            )
            if data.test is None or single:
                return verdict, None
            held = pictures(data.test)
            say(f"measuring files of {len(held)} test pictures")
            return verdict, (len(held), model_curve(info, held), rival_curves(held))


@contextmanager
def _filed(name: str, blob: bytes) -> Iterator[ModelInfo]:
    """A model file that is not written yet, in a folder for the time being."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.safetensors"
        path.write_bytes(blob)
        yield read_info(path)


def export_model(
    origin: Origin,
    network: StagedAutoencoder,
    data: DataSplits,
    *,
    say: Callable[[str], None],
) -> tuple[bytes, dict[str, Any], Verdict]:
    """The bytes of a model file, its card, and what it is worth.

    The network is brought to its plain form and its weights are rounded as in the file first, so that prior and results
    are those of the model as shipped. The aggregated categorical prior of each stage is the smoothed count of its hard
    codes over the training set, or over its first `prior_images` pictures, frozen into an integer table.
    """
    network, device = plain_network(network), next(network.parameters()).device
    round_weights(network)
    assert isinstance(origin.config, StagedTraining)
    counted = min(len(data.train), origin.config.prior_images or len(data.train))
    say(f"aggregated prior over {'up to ' if origin.patience.until else ''}{counted} training pictures")
    patience = origin.patience
    seen = evaluate(network, patience.within(first_pictures(_batches(data.train), counted), 0.3), device)
    tables = [frequencies(counts + SMOOTHING) for counts in seen.counts]
    results = {"training": seen.summary()}
    for name, pictures in (("validation", data.validation), ("test", data.test)):
        if pictures is not None:
            results[name] = _measure(network, patience.within(_batches(pictures), 0.2), tables, device)
    card = origin.card(data, device) | {"results": results}
    verdict, _ = origin.verdict(data, dump_model(origin.name, network, tables, card), say)
    card["verdict"] = verdict.to_dict()
    return dump_model(origin.name, network, tables, card), card, verdict


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
    network: StagedAutoencoder,
    batches: Iterable[np.ndarray[Any, Any]],
    tables: list[np.ndarray[Any, Any]],
    device: torch.device,
) -> dict[str, Any]:
    """Results on batches of pictures, with the bits under the frozen tables."""
    evaluation = evaluate(network, batches, device)
    bits = sum(
        float((counts * (24 - np.log2(table))).sum()) for counts, table in zip(evaluation.counts, tables, strict=True)
    )
    return evaluation.summary() | {"bpp": bits / evaluation.pixels}
