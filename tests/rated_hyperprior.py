"""A tiny hyperprior model whose files grow steadily with the quality, as those of a trained one do."""

from __future__ import annotations

import torch
from tiny_hyperprior import CONFIG

from gmvqzip.models.hyperprior import HyperpriorModel
from gmvqzip.models.hyperstore import dump_hyperprior


def rated_model(name: str) -> bytes:
    """The bytes of a model file: random weights, groups started on the residuals of random pictures."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = HyperpriorModel(CONFIG).eval()
        model.transform.analysis.latent.weight.mul_(6)
        for step in model.steps():
            step.growth.anchors.zero_()
        images = torch.nn.functional.interpolate(torch.rand(8, 3, 16, 16), scale_factor=4.0)
        hyper, *steps = model(images, torch.linspace(0, 1, 8), scalar=True, collect=True).residuals
        latent = [torch.cat(parts, 1) for parts in zip(*steps, strict=True)]
        for groups, residuals in zip(model.all_groups(), [*hyper, *latent], strict=True):
            groups.initialise(residuals)
    return dump_hyperprior(name, model, {"description": "random weights, for tests"})
