"""The order of a hyperprior model's latent channels."""

from __future__ import annotations

import torch
from torch import Tensor

from gmvqzip.models.hyperconfig import QUARTERS
from gmvqzip.models.hyperprior import HyperpriorModel


@torch.no_grad()
def order_channels(model: HyperpriorModel, residuals: list[Tensor]) -> None:
    """Sort the latent's channels by energy within each quarter, so that groups hold channels of like energy.

    residuals: of every part, the hyper-latent's first, [G, N, L]. Changes no output of the scalar form.
    """
    config = model.config
    parts = residuals[len(config.hyper) :]
    energies = []
    for quarter in range(QUARTERS):
        own = [
            part.square().mean(1)[quarter * groups.count : (quarter + 1) * groups.count].flatten()
            for part, groups in zip(parts, config.quarter, strict=True)
        ]
        energies.append(torch.cat(own))
    width = config.latents // QUARTERS
    order = torch.cat([energy.argsort(descending=True) + width * n for n, energy in enumerate(energies)])
    transform = model.transform
    analysis, synthesis = transform.analysis, transform.synthesis
    _reorder(analysis.latent, order)
    synthesis.project.weight.copy_(synthesis.project.weight[:, order])
    if analysis.linear is not None:
        analysis.linear.weight.copy_(analysis.linear.weight[order])
        synthesis.linear.weight.copy_(synthesis.linear.weight[:, order])
    transform.gain.anchors.copy_(transform.gain.anchors[:, order])
    features = config.context_width
    for step in model.steps():
        _reorder(step.head.conv, torch.cat([order, order + config.latents]))
        step.growth.anchors.copy_(step.growth.anchors[:, order])
        if not step.first:
            spatial = step.spatial.conv.weight
            spatial[:, features:] = spatial[:, features:][:, order].clone()


def _reorder(layer: torch.nn.Conv2d, order: Tensor) -> None:
    """Permute a convolution's outputs."""
    layer.weight.copy_(layer.weight[order])
    if layer.bias is not None:
        layer.bias.copy_(layer.bias[order])
