"""Decoders in NumPy: from a decoded latent, or from codewords, to pixels, with no torch.

Feature maps are float32 [rows, columns, channels]. A convolution is a product of the matrix of its patches, strip by
strip, so that a strip stays in a core's cache; the strips are divided among a few threads. The network is the one that
torch's modules are: `walks` has the order of its layers, the configuration what they are, the file their weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.blas import Share, workers
from gmvqzip.errors import ModelError
from gmvqzip.models import walks, winograd
from gmvqzip.models.config import NetworkConfig
from gmvqzip.models.hyperconfig import HyperpriorConfig
from gmvqzip.models.registry import ModelInfo
from gmvqzip.models.store import read_weights

Floats = NDArray[np.float32]
_SYNTHESIS, _GAIN = "synthesis.", "gain.anchors"  # of a hyperprior model
_START, _CODEBOOK = "start", ".quantizer.codebook"  # of a staged one
_MANY_SITES = 1 << 10  # from which on a quarter of the products outweighs four times the weights
_HELD = 4  # arrays of a strip's tiles at work: as they are, transformed, their products, and these transformed
_GELU = math.sqrt(2 / math.pi), 0.044715  # of its form with a hyperbolic tangent


def load_hyperprior(info: ModelInfo, config: HyperpriorConfig) -> HyperpriorSynthesis:
    """The synthesis of a hyperprior model's file. Raises ModelError where its tensors do not fit."""
    with _fitting(info):
        synthesis = HyperpriorSynthesis(info, config)
        synthesis(np.zeros((1, 1, config.latents), np.float32), 0.0)
    return synthesis


def load_staged(info: ModelInfo, config: NetworkConfig) -> StagedSynthesis:
    """The decoder of a staged model's file. Raises ModelError where its tensors do not fit."""
    with _fitting(info):
        synthesis = StagedSynthesis(info, config)
        shapes = config.stage_shapes(config.alignment, config.alignment)
        synthesis([np.full(shape, grid.codes - 1) for shape, grid in zip(shapes, config.stages(), strict=True)])
    return synthesis


@contextmanager
def _fitting(info: ModelInfo) -> Iterator[None]:
    """What a first, tiny picture finds: tensors that are missing, or of other shapes than the configuration says."""
    try:
        yield
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ModelError(f"model {info.name!r} has tensors that do not fit its configuration: {error}") from None


class HyperpriorSynthesis:
    """See `load_hyperprior`."""

    def __init__(self, info: ModelInfo, config: HyperpriorConfig) -> None:
        wanted = (_SYNTHESIS, _GAIN)
        weights = read_weights(info, lambda name: name.startswith(wanted))
        self.config, self._gain = config, weights.pop(_GAIN)
        shuffled = {layer.name.removeprefix(_SYNTHESIS): layer.shuffle for layer in config.layers()}
        self._weights = _Weights({name.removeprefix(_SYNTHESIS): w for name, w in weights.items()}, shuffled)

    def __call__(self, latent: Floats, quality: float) -> Floats:
        """The picture [H, W, 3] in [0, 1] of a latent [h, w, M] in steps; quality in [0, 1]."""
        scaled = latent * np.exp(-_at(self._gain, quality))
        with workers() as share:
            return _finished(walks.synthesise(_Layers(self._weights, share, quality), self.config, scaled))


class StagedSynthesis:
    """See `load_staged`."""

    def __init__(self, info: ModelInfo, config: NetworkConfig) -> None:
        shuffled = {layer.name: layer.shuffle for layer in config.layers() if layer.decodes}
        weights = read_weights(
            info, lambda name: name == _START or name.endswith(_CODEBOOK) or name.rpartition(".")[0] in shuffled
        )
        self._config, self._start = config, weights[_START].reshape(-1)
        self._weights = _Weights(weights, shuffled)

    def __call__(self, stages: Sequence[NDArray[Any]]) -> Floats:
        """The picture [H, W, 3] in [0, 1] of index arrays [h, w] in coding order."""
        queue = iter(stages)
        state = np.broadcast_to(self._start, (*stages[0].shape, len(self._start)))
        with workers() as share:
            layers = _Layers(self._weights, share, 0.0)

            def visit(stage: str, level: int, state: Floats) -> Floats:
                words = self._weights.tensors[stage + _CODEBOOK][next(queue)]
                refined: Floats = layers.run(f"{stage}.refine", state + layers.run(f"{stage}.project", words))
                return refined

            return _finished(walks.finish(layers, self._config, walks.descend(layers, self._config, state, visit)))


def _finished(picture: Floats) -> Floats:
    picture += np.float32(0.5)
    return np.clip(picture, 0, 1, out=picture)


def _at(anchors: Floats, quality: float) -> Floats:
    """A vector [C] at a quality in [0, 1], piecewise linear between its anchors [A, C]."""
    place = quality * (len(anchors) - 1)
    index = min(int(place), len(anchors) - 2)
    rest = np.float32(place - index)
    value: Floats = anchors[index] * (1 - rest) + anchors[index + 1] * rest
    return value


class _Weights:
    """Weights by layer: matrices of convolutions [k * k * I, O] and biases [O]; outputs that are shuffled lie by place,
    and by channel within."""

    def __init__(self, tensors: Mapping[str, Floats], shuffled: Mapping[str, int]) -> None:
        self.tensors = tensors
        self.matrices: dict[str, tuple[Floats, Floats | None, int]] = {}
        for name, weight in tensors.items():
            layer, _, kind = name.rpartition(".")
            if kind != "weight" or weight.ndim != 4:
                continue
            bias = tensors.get(f"{layer}.bias")
            kernel = weight.shape[2]
            matrix = weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))
            if shuffled.get(layer, 1) > 1:
                order = np.arange(len(weight)).reshape(-1, shuffled[layer] ** 2).T.reshape(-1)
                matrix, bias = matrix[:, order], None if bias is None else bias[order]
            self.matrices[layer] = np.ascontiguousarray(matrix), bias, kernel
        self._transformed: dict[str, Floats] = {}
        self.blocks = {
            name: sum(key.startswith(f"{name}.") and key.endswith(".spatial.weight") for key in tensors)
            for name in {key.split(".spatial.")[0].rpartition(".")[0] for key in tensors if ".spatial." in key}
        }

    def transformed(self, layer: str) -> Floats:
        """A convolution's weights as `winograd.convolved` takes them."""
        if layer not in self._transformed:
            self._transformed[layer] = winograd.transformed(self.matrices[layer][0])
        return self._transformed[layer]


class _Layers:
    """`walks.Layers` in NumPy."""

    def __init__(self, weights: _Weights, share: Share, quality: float) -> None:
        self._weights, self._share, self._quality = weights, share, quality

    def run(self, name: str, x: Floats) -> Floats:
        if name in self._weights.matrices:
            return self._convolution(name, x)
        if f"{name}.scale.anchors" in self._weights.tensors:
            scale, shift = (_at(self._weights.tensors[f"{name}.{part}.anchors"], self._quality) for part in _FILM)
            out: Floats = x * (1 + scale)
            out += shift
            return out
        for number in range(self._weights.blocks.get(name, 0)):
            x = self._residual(f"{name}.{number}", x)
        return x

    def shuffle(self, x: Floats, factor: int) -> Floats:
        rows, columns, channels = x.shape
        placed = x.reshape(rows, columns, factor, factor, channels // factor**2).transpose(0, 2, 1, 3, 4)
        return np.ascontiguousarray(placed).reshape(rows * factor, columns * factor, -1)

    def concatenate(self, a: Floats, b: Floats) -> Floats:
        return np.concatenate([a, b], 2)

    def _convolution(self, name: str, x: Floats) -> Floats:
        matrix, bias, kernel = self._weights.matrices[name]
        out = np.empty((*x.shape[:2], matrix.shape[1]), np.float32)
        padded = _padded(x, kernel // 2)

        def work(strip: slice) -> None:
            flat = out[strip].reshape(-1, matrix.shape[1])
            np.matmul(_patches(padded, strip, kernel), matrix, out=flat)
            if bias is not None:
                np.add(flat, bias, out=flat)

        self._share(work, len(x), x.shape[1] * len(matrix))
        return out

    def _residual(self, name: str, x: Floats) -> Floats:
        """x + mix(gelu(spatial(x)))."""
        spatial, first, kernel = self._weights.matrices[f"{name}.spatial"]
        mix, second, _ = self._weights.matrices[f"{name}.mix"]
        assert first is not None and second is not None
        out = np.empty(x.shape, np.float32)

        def finish(strip: slice, hidden: Floats) -> None:
            """From what the kernel gives for a strip of sites [n, C]."""
            hidden += first
            flat = out[strip].reshape(-1, mix.shape[1])
            np.matmul(_gelu(hidden), mix, out=flat)
            flat += second
            out[strip] += x[strip]

        if kernel == 3 and x.shape[0] * x.shape[1] >= _MANY_SITES:
            around, weights = winograd.padded(x), self._weights.transformed(f"{name}.spatial")

            def work(strip: slice) -> None:
                sites = slice(winograd.SIDE * strip.start, min(winograd.SIDE * strip.stop, len(x)))
                hidden = winograd.convolved(around, strip, weights)[: sites.stop - sites.start, : x.shape[1]]
                finish(sites, np.ascontiguousarray(hidden).reshape(-1, hidden.shape[2]))

            wide = winograd.tiles(x.shape[1])
            self._share(work, winograd.tiles(len(x)), _HELD * wide * len(weights) * x.shape[2])
            return out
        padded = _padded(x, kernel // 2)
        self._share(
            lambda strip: finish(strip, _patches(padded, strip, kernel) @ spatial), len(x), x.shape[1] * len(spatial)
        )
        return out


_FILM = ("scale", "shift")


def _padded(x: Floats, margin: int) -> Floats:
    if not margin:
        return np.ascontiguousarray(x)
    rows, columns, channels = x.shape
    out = np.zeros((rows + 2 * margin, columns + 2 * margin, channels), np.float32)
    out[margin:-margin, margin:-margin] = x
    return out


def _patches(padded: Floats, strip: slice, kernel: int) -> Floats:
    """What the kernel sees at each site of a strip of rows [n, k * k * I]."""
    height, width, channels = strip.stop - strip.start, padded.shape[1] - kernel + 1, padded.shape[2]
    if kernel == 1:
        return padded[strip].reshape(-1, channels)
    patches = np.empty((height, width, kernel, kernel * channels), np.float32)
    for row in range(kernel):
        source = padded[strip.start + row : strip.stop + row]
        down, right, along = source.strides
        patches[:, :, row] = np.lib.stride_tricks.as_strided(
            source, (height, width, kernel * channels), (down, right, along), writeable=False
        )
    return patches.reshape(height * width, -1)


def _gelu(x: Floats) -> Floats:
    """x * (1 + tanh(a (x + b x^3))) / 2, in the place of x."""
    first, third = map(np.float32, _GELU)
    y = x * x
    y *= third * first
    y += first
    y *= x
    np.tanh(y, out=y)
    y += np.float32(1)
    y *= np.float32(0.5)
    x *= y
    return x
