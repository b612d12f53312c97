"""The hyperprior model as it is trained: its pieces, its two forms, its gradients, and the codec that it stands for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_hyperprior import CONFIG, made, smooth

from gmvqzip.codec import Codec
from gmvqzip.entropy.codes import NO_OFFSETS
from gmvqzip.models.context import assemble, pieces, straight_round
from gmvqzip.models.hyperprior import HyperpriorModel, gaussian_bits
from gmvqzip.models.hyperstore import dump_hyperprior
from gmvqzip.models.quality import ANCHORS, QualityVector, hat_weights
from gmvqzip.models.registry import read_info
from gmvqzip.models.store import round_weights

QUALITIES = torch.tensor([0.0, 0.6])


def images(count: int = 2, side: int = 64) -> torch.Tensor:
    """Pictures [B, 3, side, side] in [0, 1]."""
    pixels = np.stack([smooth(side, side, seed) for seed in range(count)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


class TestPieces:
    @pytest.mark.parametrize("step", range(4))
    def test_assemble_undoes_pieces(self, step: int) -> None:
        parts = torch.randn(4, 2, 3, 5, 6)
        assert torch.equal(pieces(assemble(parts, step), step), parts)

    def test_the_four_steps_make_the_whole(self) -> None:
        latent = torch.randn(2, 12, 6, 8)
        parts = [assemble(pieces(latent, step), step) for step in range(4)]
        assert torch.equal(sum(parts), latent)
        assert all((part != 0).float().mean() == 0.25 for part in parts)

    def test_each_step_codes_another_phase_of_each_quarter(self) -> None:
        one = torch.ones(1, 4, 2, 2)
        for step in range(4):
            phases = [tuple(where.tolist()) for where in assemble(pieces(one, step), step)[0].nonzero()]
            assert len({phase[1:] for phase in phases}) == 4


class TestQuality:
    def test_anchors(self) -> None:
        vector = QualityVector(3)
        with torch.no_grad():
            vector.anchors.normal_()
        places = torch.linspace(0, 1, ANCHORS)
        torch.testing.assert_close(vector(places)[:, :, 0, 0], vector.anchors)
        between = vector(places[3:4] + 0.25 / (ANCHORS - 1))[0, :, 0, 0]
        torch.testing.assert_close(between, 0.75 * vector.anchors[3] + 0.25 * vector.anchors[4])

    def test_weights_sum_to_one(self) -> None:
        torch.testing.assert_close(hat_weights(torch.rand(100)).sum(1), torch.ones(100))


class TestForward:
    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("scalar", [False, True])
    def test_shapes(self, scalar: bool, training: bool) -> None:
        model = made().train(training)
        output = model(images(), QUALITIES, scalar=scalar, collect=True)
        assert output.reconstruction.shape == (2, 3, 64, 64)
        for bits in (output.bits, output.hyper_bits):
            assert bits.shape == (2,)
            assert (bits > 0).all()
        assert (output.distance == 0) == scalar
        assert [[tuple(part.shape) for part in parts] for parts in output.residuals] == [
            [(2, 8, 4)],
            *[[(4, 8, 4), (8, 8, 2)]] * 4,
        ]
        if not scalar:
            assert [[tuple(part.shape) for part in parts] for parts in output.indices] == [
                [(2, 8)],
                *[[(4, 8), (8, 8)]] * 4,
            ]

    @pytest.mark.parametrize("scalar", [False, True])
    def test_pictures_of_a_batch_do_not_touch(self, scalar: bool) -> None:
        model = made()
        pair = model(images(), QUALITIES, scalar=scalar)
        for number in range(2):
            one = slice(number, number + 1)
            single = model(images()[one], QUALITIES[one], scalar=scalar)
            torch.testing.assert_close(single.bits, pair.bits[one], rtol=1e-4, atol=1e-3)
            torch.testing.assert_close(single.hyper_bits, pair.hyper_bits[one], rtol=1e-4, atol=1e-3)
            torch.testing.assert_close(single.reconstruction, pair.reconstruction[one], rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("scalar", [False, True])
    def test_gradients_reach_every_parameter(self, scalar: bool) -> None:
        model = made().train()
        output = model(images(4), torch.tensor([0.01, 0.3, 0.7, 0.99]), scalar=scalar)
        error = (output.reconstruction - images(4)).square().mean()
        (1e3 * error + (output.bits + output.hyper_bits).mean() + output.distance).backward()
        spared = ("groups.", "hyper_groups.", "hyper_scale.") if scalar else ()
        for name, parameter in model.named_parameters():
            if name.startswith(spared) and spared:
                assert parameter.grad is None
            else:
                assert parameter.grad is not None, name
                assert torch.isfinite(parameter.grad).all(), name
                assert parameter.grad.any(), name

    def test_gradient_of_the_rate_reaches_the_encoder_in_both_forms(self) -> None:
        for scalar in (False, True):
            model = made().train()
            output = model(images(), QUALITIES, scalar=scalar)
            (output.bits + output.hyper_bits).mean().backward()
            for layer in (model.transform.analysis.latent, model.transform.analysis.hyper):
                assert layer.weight.grad is not None
                assert layer.weight.grad.any()

    def test_bits_of_the_quantised_form_are_those_of_its_codes(self) -> None:
        """The surrogate lends its gradient, not its value."""
        model = made()
        output = model(images(1), QUALITIES[1:], scalar=False)
        with torch.no_grad():
            model.hyper_spread.add_(1)
            again = model(images(1), QUALITIES[1:], scalar=False)
        torch.testing.assert_close(again.hyper_bits, output.hyper_bits)


def test_rounding_keeps_the_gradient() -> None:
    x = torch.tensor([0.4, -1.6], requires_grad=True)
    y = straight_round(x)
    assert y.tolist() == [0, -2]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 1]


def test_gaussian_bits() -> None:
    """Cells of all integers have all the mass."""
    distance = torch.arange(-40, 41, dtype=torch.float64) + 0.3
    for deviation in (0.3, 1.0, 5.0):
        mass = 2 ** -gaussian_bits(distance, torch.tensor(deviation, dtype=torch.float64))
        assert mass.sum().item() == pytest.approx(1, abs=1e-6)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[HyperpriorModel, Codec]:
    """A model in the form that its file holds, and the codec of that file."""
    model = made(spread=2, octaves=2)
    round_weights(model.transform)
    model.set_rounding(True)
    path = tmp_path_factory.mktemp("twins") / "m.safetensors"
    path.write_bytes(dump_hyperprior("m", model, {}))
    return model, Codec(read_info(path), "cpu")


@pytest.mark.parametrize("quality", [1, 30, 70])
def test_evaluation_gives_what_the_codec_gives(twins: tuple[HyperpriorModel, Codec], quality: int) -> None:
    """Up to the rounding of means, classes and codewords, which may turn a code here and there."""
    model, codec = twins
    pixels = smooth(96, 128, seed=3)
    codes = replace(codec.encode(pixels, quality=quality, effort=1), offsets=NO_OFFSETS)  # of which a model knows none
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        output = model(image, torch.tensor([(quality - 1) / 99]), scalar=False)
    agreement = float(
        np.mean([(a == b).mean() for a, b in zip(stages(output.indices, codes), codes.stages, strict=True)])
    )
    assert agreement > 0.9
    bits = float(output.bits.sum() + output.hyper_bits.sum())
    assert bits == pytest.approx(sum(codec.follow(codes).bits()), rel=0.02)
    decoded = np.asarray(codec.decode(codes), dtype=np.float64) / 255
    mine = output.reconstruction[0].clamp(0, 1).permute(1, 2, 0).double().numpy()
    assert math.sqrt(((decoded - mine) ** 2).mean()) < 0.02
    assert np.median(np.abs(decoded - mine)) < 0.005


def stages(indices: list[list[torch.Tensor]], codes: Any) -> list[np.ndarray[Any, Any]]:
    """The index arrays of a forward pass on one picture, as the codec lays them out."""
    found = [np.full(stage.shape, -1) for stage in codes.stages]
    hyper, *steps = indices
    rows, columns = codes.stages[0].shape
    stage = 0
    for part in hyper:
        for group in part:
            found[stage][:] = group.reshape(rows, columns).numpy()
            stage += 1
    places = ((0, 0), (1, 1), (0, 1), (1, 0))
    for step, parts in enumerate(steps):
        number = stage
        for part, config in zip(parts, CONFIG.quarter, strict=True):
            for index, group in enumerate(part):
                row, column = places[(index // config.count) ^ step]
                found[number][row::2, column::2] = group.reshape(rows, columns).numpy()
                number += 1
    return found
