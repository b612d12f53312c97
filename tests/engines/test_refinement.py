"""Refined codes of staged models: never worse than the first choice, by their true error and bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from at_work import analysed
from tiny_hyperprior import smooth

from gmvqzip.codec import Codec
from gmvqzip.engines import refinement
from gmvqzip.engines.engine import Engine
from gmvqzip.engines.refinement import Refinement
from gmvqzip.engines.staged import StagedNetwork
from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.network import StagedAutoencoder


def error_of(engine: Engine, stages: tuple[np.ndarray, ...], pixels: np.ndarray) -> float:
    """The squared error of the decoded 8-bit picture, pixels in [0, 1]."""
    decoded = np.rint(np.moveaxis(engine.network.synthesise(stages, 0), 0, 2) * 255) / 255
    return float(((decoded - pixels / 255) ** 2).sum())


def network_of(*grids: GridConfig, seed: int = 0) -> StagedAutoencoder:
    torch.manual_seed(seed)
    config = NetworkConfig((2, 4), (16, 16), (1, 1), (1, 1), grids)
    return StagedAutoencoder(config).eval().requires_grad_(False)


def refiner(network: StagedAutoencoder, trade: float = 0.0) -> Refinement:
    generator = torch.Generator().manual_seed(5)
    return Refinement(network, [8 * torch.rand(q.codes, generator=generator) for q in network.quantizers()], trade)


def cost_of(found: Refinement, images: torch.Tensor, codes: list[torch.Tensor]) -> torch.Tensor:
    decoded = (found.network.decode(codes) * 255).round() / 255
    bits = sum(table[stage].sum((1, 2)) for table, stage in zip(found.bits, codes, strict=True))
    return (decoded - images).square().sum((1, 2, 3)) + found.trade * bits


def test_each_round_makes_the_error_less(tiny: Codec) -> None:
    engine, pixels = tiny.engine, smooth(32, 48, 3)
    errors = [error_of(engine, analysed(engine, pixels, 0, rounds=rounds), pixels) for rounds in (0, 1, 3, 6)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


def test_files_of_an_effort_decode_to_its_codes(tiny: Codec) -> None:
    shots = [smooth(20, 33, seed) for seed in range(3)]
    first, better = (tiny.encode_batch(shots, effort=effort) for effort in (1, 6))
    for shot, a, b, data in zip(shots, first, better, tiny.compress_batch(shots, effort=6), strict=True):
        assert tiny.decode_codes(data) == b
        errors = [((np.asarray(tiny.decode(codes)) - shot.astype(float)) ** 2).sum() for codes in (a, b)]
        assert errors[1] < 1.02 * errors[0]  # the padding around an odd picture counts in the search, not here


@pytest.mark.parametrize("trade", [0.0, 0.05])
def test_several_stages_and_the_price_of_bits(trade: float) -> None:
    network = network_of(GridConfig(4, stages=2, codes=32, dimensions=4), GridConfig(2, codes=16, dimensions=3))
    found = refiner(network, trade)
    images = torch.rand(3, 3, 24, 16, generator=torch.Generator().manual_seed(1))
    codes = network.encode(images)
    better = found.run(images, codes, 4)
    before, after = cost_of(found, images, codes), cost_of(found, images, better)
    assert (after < before).all()
    assert all((a != b).any() for a, b in zip(codes, better, strict=True))  # every stage has moved
    if trade:
        free = refiner(network).run(images, codes, 4)
        assert sum(t[s].sum() for t, s in zip(found.bits, better, strict=True)) < sum(
            t[s].sum() for t, s in zip(found.bits, free, strict=True)
        )
        dear = found.run(images, codes, 4, trade=50.0)
        assert not any(torch.equal(a, b) for a, b in zip(dear, better, strict=True))


def test_windows_of_a_large_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of(GridConfig(4, codes=32, dimensions=4), GridConfig(2, codes=16, dimensions=3))
    found = refiner(network)
    images = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(1))
    codes = network.encode(images)
    whole = cost_of(found, images, found.run(images, codes, 3))
    monkeypatch.setattr(refinement, "_WINDOW", 16)
    shapes = []
    descend = Refinement._descend

    def noted(self: Refinement, seen: torch.Tensor, *rest: object) -> list[torch.Tensor]:
        shapes.append(tuple(seen.shape[2:]))
        return descend(self, seen, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Refinement, "_descend", noted)
    parts = found.run(images, codes, 3)
    assert len(shapes) == 3 * 4
    assert (40, 48) in shapes  # the first 4 columns of sites and a margin of 8
    before = cost_of(found, images, codes)
    assert (cost_of(found, images, parts) < before - 0.8 * (before - whole)).all()
    assert all((a != b).any() for a, b in zip(codes, parts, strict=True))


def test_the_curvature_is_that_of_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """d' G d is the mean growth of the error where a site leaves its place in a picture that was met exactly."""
    monkeypatch.setattr(refinement, "_PROBE_STEP", 1e-2)
    network = network_of(GridConfig(4, codes=32, dimensions=5))
    with torch.no_grad():
        network.final.weight.mul_(0.2)  # no clipping
    found = refiner(network)
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(32, (1, 12, 12), generator=generator)
    words, d = found.books[0][codes], 0.01 * torch.randn(5, generator=generator)
    target, growth = network.synthesise([words]), []
    for row in range(2, 12, 4):
        for column in range(2, 12, 4):
            moved = words.clone()
            moved[0, row, column] += d
            growth.append(float((network.synthesise([moved]) - target).square().sum()))
    assert float(d @ found.slopes[0] @ d) == pytest.approx(np.mean(growth), rel=0.1)


def test_the_price_of_a_bit_is_that_of_the_training(tiny: Codec) -> None:
    engine = tiny.engine
    assert isinstance(engine.config, NetworkConfig)
    for training, price in (
        ({"rate_weight": 2.0, "reconstruction_weight": 100.0}, 0.06),
        ({"rate_weight": 0.0, "reconstruction_weight": 100.0}, 0.0),
        ({"rate_weight": "much", "reconstruction_weight": 0}, 0.0),
        ("none", 0.0),
    ):
        info = replace(engine.info, card={"training": training})
        assert StagedNetwork(info, engine.config, "cpu", lambda: engine.prior)._trade() == pytest.approx(price)
