"""Make the golden files in tests/golden/hyperprior: models and `.gmvq` files that must decode to the same for ever.

python scripts/golden/hyperprior.py           add the files that are missing
python scripts/golden/hyperprior.py --check   only compare; exit 1 if a file is missing or would differ

The models' weights are random, and their files are never made again: another machine might draw others. The codes of
the pictures are drawn from the models' tables by a generator that is written out here, so that the rest is the same
everywhere. A file that exists is never changed: a change of the format adds files of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from gmvqzip.codec import Codec
from gmvqzip.entropy.blocks import Block
from gmvqzip.entropy.codes import Codes
from gmvqzip.format.tiles import TileGrid
from gmvqzip.models.hyperconfig import GroupsConfig, HyperpriorConfig
from gmvqzip.models.registry import read_info

FILES = Path(__file__).resolve().parents[2] / "tests" / "golden" / "hyperprior"
EXPECTED = "expected.json"
MODELS = {
    "hyperprior-1": HyperpriorConfig(
        channels=(4, 4, 4),
        encoder_blocks=(0, 0, 0),
        decoder_blocks=(0, 0, 0),
        quarter=(GroupsConfig(1, 32, 4), GroupsConfig(2, 16, 2)),
        hyper=(GroupsConfig(2, 16, 4),),
        context_width=8,
    ),
    "shared-1": HyperpriorConfig(
        strides=(8, 16),
        channels=(4, 4),
        encoder_blocks=(0, 0),
        decoder_blocks=(0, 0),
        quarter=(GroupsConfig(3, 256, 2, shared=True), GroupsConfig(1, 16, 4)),
        hyper=(GroupsConfig(3, 100, 2, shared=True),),
        context_width=8,
        edge_kernel=1,
    ),
}
# Name, model, width, height, gray, quality, halvings, side of the tiles.
CASES = (
    ("coarse-1", "hyperprior-1", 100, 61, False, 20, 0, 0),
    ("fine-1", "hyperprior-1", 300, 70, True, 97, 0, 0),
    ("halved-1", "hyperprior-1", 301, 202, False, 35, 1, 0),
    ("tiled-1", "hyperprior-1", 290, 135, False, 60, 0, 64),
    ("shared-1", "shared-1", 150, 90, False, 40, 0, 0),
    ("shared-tiled-1", "shared-1", 130, 70, True, 90, 0, 64),
    ("offsets-1", "shared-1", 140, 75, False, 100, 0, 64),
)
OFFSETS = {"offsets-1": [[0, 0, 0, 700], [3, 1, 8, -1], [3, 2, 0, 32767], [24, 5, 9, -32767]]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    check = parser.parse_args().check
    wrong = []
    for name in MODELS:
        if not check and not (FILES / f"{name}.safetensors").exists():
            FILES.mkdir(parents=True, exist_ok=True)
            (FILES / f"{name}.safetensors").write_bytes(model_bytes(name))
    for path, content in golden_files():
        if path.exists() and (check or path.name != EXPECTED):
            wrong += [f"{path.name} would change"] * (path.read_bytes() != content)
        elif check:
            wrong.append(f"{path.name} is missing")
        else:
            path.write_bytes(content)
    print("\n".join(wrong) or "golden files agree")
    return 1 if wrong else 0


def golden_files() -> Iterator[tuple[Path, bytes]]:
    """Each file that is made with a model, and its content."""
    codecs = {model: Codec(read_info(FILES / f"{model}.safetensors"), "cpu") for model in MODELS}
    expected = {}
    for number, (name, model, width, height, gray, quality, halvings, tile) in enumerate(CASES):
        codec = codecs[model]
        empty = Codes((), width, height, codec.model_id, quality, gray, halvings, tile)
        codes, latent = random_codes(codec, empty, seed=number)
        if name in OFFSETS:
            codes = replace(codes, offsets=np.array(OFFSETS[name]))
        for channel, row, column, value in codes.offsets:
            latent[row, column, channel] += 32 * value
        yield FILES / f"{name}.gmvq", codec.pack_codes(codes).data
        expected[name] = {
            "model": model,
            "width": width,
            "height": height,
            "gray": gray,
            "quality": quality,
            "halvings": halvings,
            "tile": tile,
            "codes_crc32": f"{codes.crc32():08x}",
            "latent_crc32": f"{zlib.crc32(latent.astype('>i4').tobytes()):08x}",
            "first": [int(stage[0, 0]) for stage in codes.stages],
            "offsets": codes.offsets.tolist(),
        }
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(fields)}" for name, fields in expected.items())
    yield FILES / EXPECTED, f"{{\n{lines}\n}}\n".encode()


def model_bytes(name: str) -> bytes:
    """A model file with random weights, spread so that all context classes occur."""
    import torch

    from gmvqzip.models.hyperprior import HyperpriorModel
    from gmvqzip.models.hyperstore import dump_hyperprior
    from gmvqzip.models.quality import QualityVector
    from gmvqzip.quantizers.shared import SharedGMVQ

    torch.manual_seed(1)
    model = HyperpriorModel(MODELS[name]).eval()
    with torch.no_grad():
        model.hyper_mean.normal_()
        for module in model.modules():
            if isinstance(module, QualityVector):
                module.anchors.add_(0.5 * torch.randn_like(module.anchors))
        for step in model.steps():
            step.head.conv.weight.mul_(24)
        for groups in model.all_groups():
            if isinstance(groups, SharedGMVQ):  # which starts as a whole
                groups.code_bias.add_(torch.randn_like(groups.code_bias))
                groups.slope.normal_(0, 0.2).mul_((groups.log_precision / 2).exp())
                continue
            groups.codebook.mul_(2)
            groups.code_bias.normal_()
            groups.slope.normal_(0, 0.2)
        if name == "shared-1":
            for scales in (vector.anchors for vector in model.hyper_scales()):
                scales.add_(torch.linspace(-4, 5, scales.shape[1]))
            for step in model.steps():
                scale_bias = step.head.conv.bias[model.config.latents :]  # type: ignore[index]
                scale_bias.add_(torch.linspace(-5, 3, len(scale_bias)))
    return dump_hyperprior(name, model, {})


def random_codes(codec: Codec, empty: Codes, seed: int) -> tuple[Codes, np.ndarray]:
    """Codes drawn from the tables of their contexts, 0 where 0 is implied, and the decoded latent [H, W, M].

    empty: the codes without their stages.
    """
    config, prior = MODELS[codec.name], codec.engine.prior
    rows, columns = config.stage_shapes(*empty.coded_size)[-1]
    stride = config.strides[-1]
    arrays = [
        np.zeros((grid.stages, rows * stride // grid.stride, columns * stride // grid.stride), dtype=np.int32)
        for grid in config.grids
    ]
    latent = np.zeros((rows, columns, config.latents), dtype=np.int32)
    grid = TileGrid(columns * stride, rows * stride, empty.tile or max(rows, columns) * stride)
    state = seed + 1

    def drawn(bits: int) -> int:
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return state >> (64 - bits)

    for tile in map(grid.box, range(len(grid))):
        windows = [
            array[(slice(None), *tile.cells(part.stride))] for array, part in zip(arrays, config.grids, strict=True)
        ]

        def visit(block: Block, windows: list[np.ndarray] = windows) -> np.ndarray:
            indices = np.zeros(block.pairs.shape, dtype=np.int64)
            for place, pair in np.ndenumerate(block.pairs):
                sample = drawn(24)
                if pair:
                    mixtures = block.mixtures
                    (table,) = mixtures.tables(0 if mixtures.shared else place[0], np.array([pair]))
                    code = int(np.searchsorted(np.cumsum(table), sample, side="right"))
                    bits = int(mixtures.point_bits[code])
                    indices[place] = code + (mixtures.codes * drawn(bits) if bits else 0)
            block.put(windows[block.part], indices)
            return indices

        latent[tile.cells(stride)] = prior.walk(*windows[0].shape[1:], empty.quality, visit)
    stages = tuple(group for array in arrays for group in array)
    return replace(empty, stages=stages), latent


if __name__ == "__main__":
    sys.exit(main())
