"""From a trained hyperprior model to its file, with a card of measured results, and a verdict beside other codecs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmvqzip.models.hyperprior import HyperpriorModel
from gmvqzip.models.hyperstore import dump_hyperprior
from gmvqzip.training.export import Origin
from gmvqzip.training.splits import DataSplits
from gmvqzip.training.verdict import Curve, Verdict, psnr_at


def export_hyperprior(
    origin: Origin, model: HyperpriorModel, data: DataSplits, *, say: Callable[[str], None]
) -> tuple[bytes, dict[str, Any], Verdict]:
    """The bytes of a model file, its card, and what it is worth; results are of files coded by that file on the CPU."""
    model = model.of_one_distortion()
    card = origin.card(data, next(model.parameters()).device)
    verdict, test = origin.verdict(data, dump_hyperprior(origin.name, model, card), say)
    card["results"] = {"validation": _results(verdict.pictures, verdict.model, verdict.rivals)}
    if test is not None:
        card["results"]["test"] = _results(*test)
    card["verdict"] = verdict.to_dict()
    return dump_hyperprior(origin.name, model, card), card, verdict


def _results(pictures: int, model: Curve, rivals: dict[str, Curve]) -> dict[str, Any]:
    """A split's results for the card, with WebP's PSNR at the model's rates."""
    webp = [psnr_at(rivals["WebP"], rate) for rate in model.bpp]
    return {"pictures": pictures, **model.to_dict(), "webp_psnr_mean": webp}
