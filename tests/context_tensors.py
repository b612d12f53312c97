"""Random integer tensors of a small context model, drawn so that classes, means and tables vary."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.entropy.context import ContextModel, GroupShape

HYPER = (GroupShape(2, 8, 4), GroupShape(1, 5, 2))
QUARTER = (GroupShape(1, 12, 4), GroupShape(2, 6, 2))
WIDTH = 8
CLASSES = 14
CHANNELS = 4 * 8  # of the latent
GROUPS = 4 * 3  # of the latent
Tensors = dict[str, NDArray[Any]]


def context_tensors(seed: int = 0) -> Tensors:
    """All tensors of a context model of HYPER, QUARTER and WIDTH."""
    generator = np.random.default_rng(seed)
    tensors: Tensors = {}

    def layer(name: str, outputs: int, inputs: int, kernel: int, anchors: int = 1) -> None:
        tensors[f"{name}.weight"] = generator.integers(-40, 41, (outputs, inputs, kernel, kernel)).astype(np.int8)
        tensors[f"{name}.bias"] = generator.integers(-9000, 9001, (anchors, outputs)).astype(np.int32)
        tensors[f"{name}.shift"] = generator.integers(6, 9, outputs).astype(np.int8)

    layer("hyper.spread", WIDTH, 10, 3)
    layer("hyper.up", 4 * WIDTH, WIDTH, 1)
    layer("hyper.smooth", WIDTH, WIDTH, 3, anchors=9)
    for step in range(4):
        layer(f"step.{step}.spatial", WIDTH, WIDTH + (CHANNELS if step else 0), 3, anchors=9)
        layer(f"step.{step}.mix", WIDTH, WIDTH, 1)
        layer(f"step.{step}.head", CHANNELS + 2 * GROUPS, WIDTH, 1)
        tensors[f"step.{step}.head.shift"][CHANNELS:] = 11
        tensors[f"step.{step}.head.bias"][:, CHANNELS:] += 6 << 11
    tensors["hyper.mean"] = generator.integers(-50, 51, 10).astype(np.int16)
    tensors["hyper.classes"] = generator.integers(0, CLASSES, (100, 3, 2)).astype(np.int8)
    for number, shape in enumerate(HYPER):
        tensors |= group_tensors(generator, f"hyper.groups.{number}.", (shape.count, shape.codes, shape.dimensions))
    for number, shape in enumerate(QUARTER):
        tensors |= group_tensors(generator, f"groups.{number}.", (4 * shape.count, shape.codes, shape.dimensions))
    return tensors


def group_tensors(
    generator: np.random.Generator, prefix: str, shape: tuple[int, int, int], classes: int = CLASSES
) -> Tensors:
    """Codebook, bias, precision and slope of G groups of K codes in L dimensions."""
    groups, codes, _ = shape
    codebook = generator.integers(-90, 91, shape).astype(np.int16)
    codebook[:, 0] = 0
    scale = 2.0 ** (6 - np.arange(classes))
    return {
        f"{prefix}codebook": codebook,
        f"{prefix}bias": generator.integers(-3000, 3001, (groups, codes)).astype(np.int32),
        f"{prefix}precision": (scale * generator.uniform(800, 8000, (groups, 2, classes))).astype(np.int32),
        f"{prefix}slope": generator.integers(-200_000, 200_001, (groups, 2, classes)).astype(np.int32),
    }


def context_model(seed: int = 0) -> ContextModel:
    """The context model of `context_tensors`."""
    return ContextModel(context_tensors(seed), HYPER, QUARTER, WIDTH)
