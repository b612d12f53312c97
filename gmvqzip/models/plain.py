"""Any quantiser's network as a model file holds it: every stage with GM-VQ's rule, a codebook and a prior."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from gmvqzip.models.network import EdgeConv2d, Stage, StagedAutoencoder
from gmvqzip.quantizers import GMVQSettings, PlainForm


@torch.no_grad()
def plain_network(network: StagedAutoencoder) -> StagedAutoencoder:
    """The network that picks the same codes, up to rounding, and decodes them to the same images, in plain form.

    It is `network` itself where that is plain already. Otherwise its configuration may have other dimensions, and one
    weight a site; its codes are the same in number and meaning.
    """
    stages = network.ordered_stages()
    forms = [_form_of(stage) for stage in stages]
    if not any(forms):
        return network
    plain = copy.deepcopy(network)
    weights = 0
    for stage, form in zip(plain.ordered_stages(), forms, strict=True):
        if form is not None:
            _replace_quantizer(stage, form)
        weights = stage.widths[1]
    dimensions = [stage.dimensions for stage in plain.ordered_stages()]
    grids, done = [], 0
    for grid in network.config.grids:
        grids.append(replace(grid, dimensions=dimensions[done]))
        done += grid.stages
    plain.config = replace(network.config, grids=tuple(grids), weight_per_dimension=weights > 1)
    return plain


def _form_of(stage: Stage) -> PlainForm | None:
    bias = stage.head.bias
    if bias is None:
        raise TypeError("a stage's head has a bias")
    return stage.quantizer.plain(stage.head.weight.flatten(1), bias, stage.project.weight.flatten(1))


def _replace_quantizer(stage: Stage, form: PlainForm) -> None:
    """Give a stage, in place, the plain quantiser and the head and projection that go with it."""
    codes, dimensions = form.codebook.shape
    outputs, channels = form.head_weight.shape
    device = form.codebook.device
    quantizer = GMVQSettings().build(codes, dimensions).to(device).train(stage.training)
    quantizer.codebook.copy_(form.codebook)
    quantizer.log_prior.copy_(form.log_prior)
    quantizer.precision.copy_(form.precision)
    head = EdgeConv2d(channels, outputs, 1, device=device)
    head.weight.copy_(form.head_weight[:, :, None, None])
    _bias(head).copy_(form.head_bias)
    project = nn.Conv2d(dimensions, len(form.project_weight), 1, device=device)
    project.weight.copy_(form.project_weight[:, :, None, None])
    _bias(project).copy_(_bias(stage.project))
    stage.dimensions, stage.widths = dimensions, (dimensions, outputs - dimensions)
    stage.quantizer, stage.head, stage.project = quantizer, head, project


def _bias(convolution: nn.Conv2d) -> torch.Tensor:
    if convolution.bias is None:
        raise TypeError("the convolutions of a stage have biases")
    return convolution.bias
