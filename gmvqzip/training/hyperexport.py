"""From a trained hyperprior model to its file, with a card of measured results, and a verdict beside other codecs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmvqzip.models.hyperprior import HyperpriorModel
from gmvqzip.models.hyperstore import dump_hyperprior
from gmvqzip.training.export import Origin
from gmvqzip.training.splits import DataSplits
from gmvqzip.training.verdict import Curve, Verdict, blob_curve, chosen, measured_pixels, psnr_at, rival_curves


def export_hyperprior(
    origin: Origin, model: HyperpriorModel, data: DataSplits, *, say: Callable[[str], None]
) -> tuple[bytes, dict[str, Any], Verdict]:
    """The bytes of a model file, its card, and what it is worth; results are of files coded by that file on the CPU."""
    card = origin.card(data, next(model.parameters()).device)
    blob = dump_hyperprior(origin.name, model, card)
    verdict = origin.verdict(data, blob, say, 1.0 if data.test is None else 0.6)
    card["results"] = {"validation": _results(verdict.pictures, verdict.model, verdict.rivals)}
    if data.test is not None:
        held = chosen(data.test, measured_pixels(origin.config))
        say(f"measuring files of {len(held)} test pictures")
        curve, count = blob_curve(origin.name, blob, held, origin.patience, 0.8)
        card["results"]["test"] = _results(count, curve, rival_curves(held[:count]))
    card["verdict"] = verdict.to_dict()
    return dump_hyperprior(origin.name, model, card), card, verdict


def _results(pictures: int, model: Curve, rivals: dict[str, Curve]) -> dict[str, Any]:
    """A split's results for the card, with WebP's PSNR at the model's rates."""
    webp = [psnr_at(rivals["WebP"], rate) for rate in model.bpp]
    return {"pictures": pictures, **model.to_dict(), "webp_psnr_mean": webp}
