"""How far the transforms look, which the margins of tiles depend on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_hyperprior import CONFIG, made

from gmvqzip.models.hyperconfig import HyperpriorConfig

SIDE = 512  # pixels
CONFIGS = (
    CONFIG,
    replace(CONFIG, encoder_blocks=(2, 0, 1), decoder_blocks=(0, 3, 0), linear=True),
    replace(CONFIG, strides=(8, 16), channels=(16, 32), encoder_blocks=(1, 0), decoder_blocks=(2, 1)),
    replace(CONFIG, strides=(8, 16), channels=(16, 32), encoder_blocks=(1, 1), decoder_blocks=(1, 1), edge_kernel=1),
)


def first_seen(seen: torch.Tensor, inputs: torch.Tensor) -> int:
    """The first column of the inputs [1, C, H, W] that an output depends on."""
    (gradient,) = torch.autograd.grad(seen.sum(), inputs)
    return int(gradient.abs().amax((0, 1, 2)).nonzero()[0])


@pytest.mark.parametrize("config", CONFIGS)
def test_the_analysis_sees_as_far_as_its_reach(config: HyperpriorConfig) -> None:
    image = torch.rand(1, 3, SIDE, SIDE, dtype=torch.float64, requires_grad=True)
    _, hyper = made(config).transform.double().analyse(image, torch.tensor([0.5], dtype=torch.float64))
    middle = SIDE // 2
    assert first_seen(hyper[..., middle // config.alignment :], image) == middle - config.analysis_reach


@pytest.mark.parametrize("config", CONFIGS)
def test_the_latent_sees_no_farther_than_the_hyper_latent(config: HyperpriorConfig) -> None:
    image = torch.rand(1, 3, SIDE, SIDE, dtype=torch.float64, requires_grad=True)
    latent, _ = made(config).transform.double().analyse(image, torch.tensor([0.5], dtype=torch.float64))
    middle = SIDE // 2
    seen = first_seen(latent[..., middle // config.strides[-1] :], image)
    assert seen == middle - config.analysis_reach + config.strides[-1]


@pytest.mark.parametrize("config", CONFIGS)
def test_the_synthesis_sees_as_far_as_its_reach(config: HyperpriorConfig) -> None:
    cells = SIDE // config.strides[-1]
    latent = torch.randn(1, config.latents, cells, cells, dtype=torch.float64, requires_grad=True)
    picture = made(config).transform.double().synthesise(latent, torch.tensor([0.5], dtype=torch.float64))
    assert first_seen(picture[..., SIDE // 2 :], latent) == cells // 2 - config.synthesis_reach
