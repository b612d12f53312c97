"""A network's layers in NumPy, with no torch.

Feature maps are float32 [rows, columns, channels]. A convolution is a product of the matrix of its patches, strip by
strip, so that a strip stays in a core's cache; the strips are divided among a few threads. The network is the one that
torch's modules are: `walks` has the order of its layers, the configuration what they are, the file their weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count

import numpy as np
from numpy.typing import NDArray

from gmvqzip.blas import Share
from gmvqzip.errors import ModelError
from gmvqzip.models import winograd
from gmvqzip.models.hyperconfig import HyperpriorConfig
from gmvqzip.models.layers import Layer
from gmvqzip.models.registry import ModelInfo
from gmvqzip.models.store import read_weights

Floats = NDArray[np.float32]
_MANY_SITES = 1 << 10  # from which on a quarter of the products outweighs four times the weights
_HELD = 4  # arrays of a strip's tiles at work: as they are, transformed, their products, and these transformed
_GAIN = "gain.anchors"
_GELU = math.sqrt(2 / math.pi), 0.044715  # of its form with a hyperbolic tangent


@contextmanager
def fitting(info: ModelInfo) -> Iterator[None]:
    """What a first, tiny picture finds: tensors that are missing, or of other shapes than the configuration says."""
    try:
        yield
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ModelError(f"model {info.name!r} has tensors that do not fit its configuration: {error}") from None


def at(anchors: Floats, quality: float) -> Floats:
    """A vector [C] at a quality in [0, 1], piecewise linear between its anchors [A, C]."""
    place = quality * (len(anchors) - 1)
    index = min(int(place), len(anchors) - 2)
    rest = np.float32(place - index)
    value: Floats = anchors[index] * (1 - rest) + anchors[index + 1] * rest
    return value


class Weights:
    """Weights by layer: matrices of convolutions [k * k * I, O] and biases [O]; outputs that are shuffled lie by place,
    and by channel within.

    Raises KeyError where a layer has none, ValueError where its own are of another shape.
    """

    def __init__(self, tensors: Mapping[str, Floats], layers: Iterable[Layer], prefix: str = "") -> None:
        """prefix: of the names of layers, which those of tensors lack."""
        self.tensors = tensors
        self.matrices: dict[str, tuple[Floats, Floats | None, Layer]] = {}
        for layer in layers:
            name = layer.name.removeprefix(prefix)
            weight, bias = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
            wanted = layer.outputs, layer.inputs, layer.kernel, layer.kernel
            if weight.shape != wanted:
                raise ValueError(f"{name!r} is {list(weight.shape)}, not {list(wanted)}")
            matrix = weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))
            if layer.shuffle > 1:
                order = np.arange(len(weight)).reshape(-1, layer.shuffle**2).T.reshape(-1)
                matrix, bias = matrix[:, order], None if bias is None else bias[order]
            self.matrices[name] = np.ascontiguousarray(matrix), bias, layer
        self._transformed: dict[str, Floats] = {}

    def transformed(self, layer: str) -> Floats:
        """A convolution's weights as `winograd.convolved` takes them."""
        if layer not in self._transformed:
            self._transformed[layer] = winograd.transformed(self.matrices[layer][0])
        return self._transformed[layer]


def read_part(info: ModelInfo, config: HyperpriorConfig, part: str) -> tuple[Weights, Floats]:
    """The layers of "analysis." or "synthesis." of a hyperprior model's file, and the anchors [A, M] of its gain.

    Raises ModelError, and what `Weights` raises.
    """
    tensors = read_weights(info, lambda name: name.startswith((part, _GAIN)))
    gain = tensors.pop(_GAIN)
    layers = [layer for layer in config.layers() if layer.name.startswith(part)]
    return Weights({name.removeprefix(part): value for name, value in tensors.items()}, layers, part), gain


class Layers:
    """`walks.Layers` in NumPy, at a quality in [0, 1], of so many pictures of one size, one below the other."""

    def __init__(self, weights: Weights, share: Share, quality: float, pictures: int = 1) -> None:
        self._weights, self._share, self._quality, self._pictures = weights, share, quality, pictures

    def run(self, name: str, x: Floats) -> Floats:
        if name in self._weights.matrices:
            return self._apart(self._convolution, name, x, self._weights.matrices[name][2])
        if f"{name}.scale.anchors" in self._weights.tensors:
            scale, shift = (at(self._weights.tensors[f"{name}.{part}.anchors"], self._quality) for part in _FILM)
            out: Floats = x * (1 + scale)
            out += shift
            return out
        for number in count():
            block = f"{name}.{number}"
            if f"{block}.spatial" not in self._weights.matrices:
                break
            x = self._apart(self._residual, block, x, self._weights.matrices[f"{block}.spatial"][2])
        return x

    def gelu(self, x: Floats) -> Floats:
        return _gelu(x)

    def shuffle(self, x: Floats, factor: int) -> Floats:
        rows, columns, channels = x.shape
        placed = x.reshape(rows, columns, factor, factor, channels // factor**2).transpose(0, 2, 1, 3, 4)
        return np.ascontiguousarray(placed).reshape(rows * factor, columns * factor, -1)

    def unshuffle(self, x: Floats, factor: int) -> Floats:
        rows, columns, channels = x.shape[0] // factor, x.shape[1] // factor, x.shape[2]
        placed = x.reshape(rows, factor, columns, factor, channels).transpose(0, 2, 4, 1, 3)
        return np.ascontiguousarray(placed).reshape(rows, columns, -1)

    def concatenate(self, a: Floats, b: Floats) -> Floats:
        return np.concatenate([a, b], 2)

    def _apart(self, compute: Callable[[str, Floats], Floats], name: str, x: Floats, layer: Layer) -> Floats:
        """What `compute` makes of pictures among which no site sees another's."""
        gap, pictures = layer.kernel // 2, self._pictures
        if pictures == 1 or not gap:
            return compute(name, x)
        rows = len(x) // pictures
        apart = np.zeros((pictures, rows + gap, *x.shape[1:]), np.float32)
        apart[:, :rows] = x.reshape(pictures, rows, *x.shape[1:])
        out = compute(name, apart.reshape(-1, *x.shape[1:]))
        each = out.reshape(pictures, -1, *out.shape[1:])[:, : rows // layer.step]
        return np.ascontiguousarray(each).reshape(-1, *out.shape[1:])

    def _convolution(self, name: str, x: Floats) -> Floats:
        matrix, bias, layer = self._weights.matrices[name]
        out = np.empty((len(x) // layer.step, x.shape[1] // layer.step, matrix.shape[1]), np.float32)
        padded = _padded(x, (layer.kernel - layer.step) // 2)

        def work(strip: slice) -> None:
            flat = out[strip].reshape(-1, matrix.shape[1])
            np.matmul(_patches(padded, strip, layer.kernel, layer.step), matrix, out=flat)
            if bias is not None:
                np.add(flat, bias, out=flat)

        self._share(work, len(out), out.shape[1] * len(matrix))
        return out

    def _residual(self, name: str, x: Floats) -> Floats:
        """x + mix(gelu(spatial(x)))."""
        spatial, first, layer = self._weights.matrices[f"{name}.spatial"]
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

        if layer.kernel == 3 and x.shape[0] * x.shape[1] >= _MANY_SITES:
            around, weights = winograd.padded(x), self._weights.transformed(f"{name}.spatial")

            def work(strip: slice) -> None:
                sites = slice(winograd.SIDE * strip.start, min(winograd.SIDE * strip.stop, len(x)))
                hidden = winograd.convolved(around, strip, weights)[: sites.stop - sites.start, : x.shape[1]]
                finish(sites, np.ascontiguousarray(hidden).reshape(-1, hidden.shape[2]))

            wide = winograd.tiles(x.shape[1])
            self._share(work, winograd.tiles(len(x)), _HELD * wide * len(weights) * x.shape[2])
            return out
        padded, numbers = _padded(x, layer.kernel // 2), x.shape[1] * len(spatial)
        self._share(lambda strip: finish(strip, _patches(padded, strip, layer.kernel) @ spatial), len(x), numbers)
        return out


_FILM = ("scale", "shift")


def _padded(x: Floats, margin: int) -> Floats:
    if not margin:
        return np.ascontiguousarray(x)
    rows, columns, channels = x.shape
    out = np.zeros((rows + 2 * margin, columns + 2 * margin, channels), np.float32)
    out[margin:-margin, margin:-margin] = x
    return out


def _patches(padded: Floats, strip: slice, kernel: int, step: int = 1) -> Floats:
    """What the kernel sees at each site of a strip of rows of its outputs [n, k * k * I]; step: between two sites."""
    channels, height, width = padded.shape[2], strip.stop - strip.start, (padded.shape[1] - kernel) // step + 1
    if kernel == 1:
        return padded[strip].reshape(-1, channels)
    patches = np.empty((height, width, kernel, kernel * channels), np.float32)
    for row in range(kernel):
        source = padded[step * strip.start + row :]
        down, right, along = source.strides
        patches[:, :, row] = np.lib.stride_tricks.as_strided(
            source, (height, width, kernel * channels), (step * down, step * right, along), writeable=False
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
