"""A tiny hyperprior model with random weights and k-means-started groups, and small smooth pictures for it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gmvqzip.models.hyperconfig import GroupsConfig, HyperpriorConfig
from gmvqzip.models.hyperprior import HyperpriorModel
from gmvqzip.models.quality import QualityVector

CONFIG = HyperpriorConfig(
    channels=(16, 32, 32),
    encoder_blocks=(1, 1, 1),
    decoder_blocks=(1, 1, 1),
    quarter=(GroupsConfig(1, 32, 4), GroupsConfig(2, 16, 2)),
    hyper=(GroupsConfig(2, 16, 4),),
    context_width=16,
)


def made(
    config: HyperpriorConfig = CONFIG, seed: int = 0, spread: float = 8.0, octaves: float = 0.0
) -> HyperpriorModel:
    """A model in evaluation mode.

    spread: factor of the heads' weights, and so of the variety of classes; octaves: added to the scales of the latent.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HyperpriorModel(config).eval()
        with torch.no_grad():
            model.transform.analysis.latent.weight.mul_(6)
            model.transform.analysis.hyper.weight.mul_(20)
            model.hyper_mean.normal_()
            for step in model.steps():
                step.growth.anchors.zero_()
            for module in model.modules():
                if isinstance(module, QualityVector):
                    module.anchors.add_(0.3 * torch.randn_like(module.anchors))
            for step in model.steps():
                step.head.conv.weight.mul_(spread)
                step.head.conv.bias[config.latents :].add_(octaves)
            for groups in model.all_groups():
                groups.slope.normal_(0, 0.2)
            _start(model)
    return model


def _start(model: HyperpriorModel) -> None:
    """k-means start of all groups on the residuals of random pictures."""
    images = torch.nn.functional.interpolate(torch.rand(8, 3, 16, 16), scale_factor=4.0)
    output = model(images, torch.linspace(0, 1, 8), scalar=True, collect=True)
    hyper, *steps = output.residuals
    latent = [torch.cat(parts, 1) for parts in zip(*steps, strict=True)]
    for groups, residuals in zip(model.all_groups(), [*hyper, *latent], strict=True):
        groups.initialise(residuals)


def smooth(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A picture [H, W, 3] of smooth waves with a little noise."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / a + columns / b) for a, b in generator.uniform(3, 20, (3, 2))]
    noisy = 127 + 100 * np.stack(waves, 2) + generator.normal(0, 8, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)
