"""Decode a .gmvq file without gmvqzip: a second decoder, which follows docs/format.md.

It is short and slow, and shares no line with the package, so that a test can hold document and program to each other.
Numbers in comments are the document's sections. Transparency, profile and metadata it leaves.
"""

from __future__ import annotations

import argparse
from math import pi, sqrt
from pathlib import Path

import numpy as np
from indices import Array, File, Model, decode, products, read_file, shuffled
from numpy.typing import NDArray
from PIL import Image


class Network:
    """The transform from indices or latent to a picture, 14.2."""

    def __init__(self, model: Model, quality: int) -> None:
        self.model, self.quality, self.config = model, quality, model.config

    def weight(self, name: str) -> Array:
        return self.model.tensors[f"network.{name}"].astype(np.float64)

    def convolved(self, name: str, v: Array) -> Array:
        out = products(self.weight(f"{name}.weight"), v)
        return out + self.weight(f"{name}.bias")[:, None, None] if f"network.{name}.bias" in self.model.tensors else out

    def blocks(self, name: str, count: int, v: Array) -> Array:
        for n in range(count):
            x = self.convolved(f"{name}.{n}.spatial", v)
            v = v + self.convolved(f"{name}.{n}.mix", x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2)
        return v

    def at(self, name: str) -> Array:
        anchors = self.weight(f"{name}.anchors")
        place = (self.quality - 1) / 99 * (len(anchors) - 1)
        p = min(int(place), len(anchors) - 2)
        value: Array = anchors[p] * (p + 1 - place) + anchors[p + 1] * (place - p)
        return value[:, None, None]

    def staged(self, arrays: list[Array]) -> Array:
        rest, levels, blocks = iter(arrays), self.model.levels, self.config["decoder_blocks"]
        stages = {grid["stride"]: grid["stages"] for grid in self.config["grids"]}
        v = self.weight("start")[0] + np.zeros(arrays[0].shape)
        for level in reversed(range(levels.index(self.config["grids"][0]["stride"]) + 1)):
            for n in range(stages.get(levels[level], 0)):
                stage = f"stages.{level}.{n}"
                words = np.moveaxis(self.weight(f"{stage}.quantizer.codebook")[next(rest)], -1, 0)
                v = v + self.convolved(f"{stage}.project", words)
                v = self.blocks(f"{stage}.refine", self.config["stage_blocks"], v)
            v = self.blocks(f"levels.{level}", blocks[level], v)
            if level:
                v = shuffled(self.convolved(f"up.{level - 1}", v), levels[level] // levels[level - 1])
        return shuffled(self.convolved("final", v), levels[0])

    def hyperprior(self, latent: Array) -> Array:
        levels, blocks, linear = self.model.levels, self.config["decoder_blocks"], self.config.get("linear", False)
        latent = latent / 32 * np.exp(-self.at("gain"))
        v = self.convolved("synthesis.project", latent)
        patches = shuffled(self.convolved("synthesis.linear", latent), levels[-1] // levels[0]) if linear else v[:0]
        for level in reversed(range(len(levels))):
            if linear and not level:
                v = v + self.convolved("synthesis.join", patches)
            film = f"synthesis.films.{level}"
            v = self.blocks(
                f"synthesis.levels.{level}",
                blocks[level],
                v * (1 + self.at(f"{film}.scale")) + self.at(f"{film}.shift"),
            )
            if level:
                v = shuffled(self.convolved(f"synthesis.up.{level - 1}", v), 2)
        v = np.concatenate([v, patches]) if linear else v
        return shuffled(self.convolved("synthesis.final", v), levels[0])


def enlarged(line: Array, size: int) -> Array:  # 3.3
    """Along the first axis."""
    scale, j = len(line) / size, np.arange(len(line))
    x = (np.arange(size)[:, None] + 0.5) * scale - j - 0.5
    lobes = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    return np.rint(np.tensordot(lobes / lobes.sum(1, keepdims=True), line, 1)).clip(0, 255)


def pixels(file: File, model: Model) -> NDArray[np.uint8]:
    """[height, width, 3]."""
    arrays, network = decode(file, model), Network(model, file.quality)
    picture = network.hyperprior(arrays[-1]) if model.hyperprior else network.staged(arrays)
    picture = np.moveaxis(picture + 0.5, 0, -1)[: file.coded[1], : file.coded[0]].clip(0, 1)
    if file.gray:
        picture = picture.mean(2, keepdims=True).repeat(3, 2)
    picture = np.rint(picture * 255)
    if file.halvings:
        wide = enlarged(picture.swapaxes(0, 1), file.width).swapaxes(0, 1)
        picture = enlarged(wide, file.height)
    return picture.astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="its .safetensors file")
    parser.add_argument("--out", type=Path, required=True, help="a picture; its ending decides")
    options = parser.parse_args()
    Image.fromarray(pixels(read_file(options.file.read_bytes()), Model(options.model))).save(options.out)


if __name__ == "__main__":
    main()
