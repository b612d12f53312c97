"""The scales at which a hyperprior model begins, from what its transform makes of the first pictures.

A hyper-latent far below the noise that stands for rounding tells the hyper-synthesis nothing, whose weights then decay
to zero: it never comes to life. So its layers begin with outputs well above the noise, and those between it and the
first context's head with weights that keep the size of what passes (He et al. 2015): four layers of the usual ones
leave a hundredth of its variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gmvqzip.models.context import ContextLayer
from gmvqzip.models.hyperprior import SPREAD_FLOOR, SPREAD_SHIFT, HyperpriorModel
from gmvqzip.quantizers import ranks

HIDDEN_DEVIATION, HYPER_DEVIATION = 2.0, 4.0  # of what the layers of the hyper-analysis give, in each channel
_LEAST_LATENT, _LEAST_HYPER = 0.05, 1e-4  # deviations that count for no less, as those of pictures without detail
_HIDDEN_GAIN = math.sqrt(6)  # from the usual variance of weights, 1 / (3 inputs), to 2 / inputs
_HEAD_START = 0.1  # factor of the weights of means and scales


@torch.no_grad()
def start_scales(model: HyperpriorModel, pictures: Sequence[Tensor]) -> None:
    """Of a fresh model, by batches of pictures [B, 3, H, W]: each channel of the hyper-latent gets mean 0 and
    HYPER_DEVIATION, hidden layers up to the first context pass it on, and the context's first guess of each latent
    channel's log2 scale is that of the latents."""
    analysis = model.transform.analysis
    _, hidden, _ = _outputs(model, pictures)
    _bring(analysis.hyper_down, hidden, HIDDEN_DEVIATION)
    latent, _, hyper = _outputs(model, pictures)
    _bring(analysis.hyper, hyper, HYPER_DEVIATION)
    for layer in (*model.hyper_decoder.modules(), *model.steps()[0].modules()):
        if isinstance(layer, ContextLayer) and layer.hidden:
            layer.conv.weight.mul_(_HIDDEN_GAIN)
    model.hyper_decoder.spread.conv.weight.div_(HYPER_DEVIATION)
    model.hyper_spread.fill_(math.log(math.expm1(HYPER_DEVIATION - SPREAD_FLOOR)) - SPREAD_SHIFT)
    scale = latent.std(1).clamp_min(_LEAST_LATENT).log2()
    for step in model.steps():
        step.head.conv.weight.mul_(_HEAD_START)
        step.head.conv.bias[len(scale) :] = scale  # type: ignore[index]


def _outputs(model: HyperpriorModel, pictures: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """What latent, first layer of the hyper-analysis and hyper-latent have in each channel [C, N], on all processes."""
    found: list[list[Tensor]] = [[], [], []]
    hook = model.transform.analysis.hyper_down.register_forward_hook(lambda *call: found[1].append(call[2]))
    for image in pictures:
        latent, hyper = model.transform.analyse(image, torch.zeros(len(image), device=image.device))
        found[0].append(latent)
        found[2].append(hyper)
    hook.remove()
    latents, hidden, hypers = ([ranks.gathered(x).transpose(0, 1).flatten(1) for x in each] for each in found)
    return torch.cat(latents, 1), torch.cat(hidden, 1), torch.cat(hypers, 1)


def _bring(layer: nn.Conv2d, outputs: Tensor, deviation: float) -> None:
    """Make a layer's outputs [C, N] of mean `deviation` in each channel."""
    factor = deviation / outputs.std(1).clamp_min(_LEAST_HYPER)
    layer.weight.mul_(factor[:, None, None, None])
    assert layer.bias is not None
    layer.bias.sub_(outputs.mean(1)).mul_(factor)
