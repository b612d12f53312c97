"""From trained networks to integers: bounds that always hold, and a form that follows the floating-point one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_hyperprior import CONFIG, made

from gmvqzip.entropy.context import (
    ACTIVATION_LIMIT,
    CODED_LIMIT,
    PHASES,
    Block,
    ContextModel,
    GroupShape,
)
from gmvqzip.entropy.layers import IntegerLayer
from gmvqzip.entropy.mixture import EXPONENTIAL, LATENT_UNIT, LIMITS
from gmvqzip.errors import ModelError
from gmvqzip.models.context import pieces
from gmvqzip.models.hyperprior import HyperpriorModel
from gmvqzip.models.integer import integer_layer, integer_tensors
from gmvqzip.quantizers.groups import CLASS_OFFSET, CLASSES, CLASSES_PER_OCTAVE

Tensors = dict[str, NDArray[Any]]


def context_of(model: HyperpriorModel) -> ContextModel:
    config = model.config
    hyper, quarter = ([GroupShape(g.count, g.codes, g.dimensions) for g in p] for p in (config.hyper, config.quarter))
    return ContextModel(integer_tensors(model), hyper, quarter, config.context_width)


def drawn_layer(seed: int, size: float, inputs: int, kernel: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Weight, bias and limits; some channels much larger than others, some all zero."""
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=(5, inputs, kernel, kernel)) * size * 10.0 ** generator.integers(-3, 4, (5, 1, 1, 1))
    weight[generator.random(5) < 0.2] = 0
    bias = generator.normal(size=(3, 5)) * size * 10.0 ** generator.integers(-3, 6, 5)
    bias[:, generator.random(5) < 0.2] = 0
    return weight, bias, generator.choice([ACTIVATION_LIMIT, CODED_LIMIT], inputs)


class TestLayers:
    @given(
        seed=st.integers(0, 2**32 - 1),
        exponent=st.integers(-12, 30),
        inputs=st.integers(1, 400),
        kernel=st.sampled_from([1, 3]),
    )
    @settings(max_examples=80, deadline=None)
    def test_bounds_always_hold(self, seed: int, exponent: int, inputs: int, kernel: int) -> None:
        """The reader, which refuses inexact sums, takes whatever the writer makes; signs are kept."""
        weight, bias, limits = drawn_layer(seed, 10.0**exponent, inputs, kernel)
        tensors = integer_layer("a", weight, bias, limits)
        IntegerLayer(tensors, "a", limits, 5, kernel)
        assert (tensors["a.weight"] * np.sign(weight) >= 0).all()
        assert (tensors["a.bias"] * np.sign(bias) >= 0).all()

    @given(seed=st.integers(0, 2**32 - 1))
    @settings(max_examples=30, deadline=None)
    def test_outputs_follow_the_floats(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        weight, bias = generator.normal(size=(4, 20, 3, 3)) / 10, generator.normal(size=(1, 4)) * 50
        limits = np.full(20, ACTIVATION_LIMIT)
        tensors = integer_layer("a", weight, bias, limits)
        x = generator.integers(0, 256, (3, 3, 20))
        found = IntegerLayer(tensors, "a", limits, 4, 3)(x.astype(np.float32), 1)[1, 1]
        exact = np.einsum("oiyx,yxi->o", weight, x) + bias[0]
        step = 2.0 ** -tensors["a.shift"].astype(float)
        assert (np.abs(found - exact) <= 0.5 + step / 2 * (x.sum() + 1)).all()
        assert np.abs(found - exact).max() < 12  # 180 inputs of up to 255, weights off by half of 1/256 at most

    def test_the_shift_is_the_largest_that_fits(self) -> None:
        """One more would break 8 bits, the sums or the biases."""
        weight, bias, limits = drawn_layer(3, 0.01, 50, 3)
        tensors = integer_layer("a", weight, bias, limits)
        shift = tensors["a.shift"].astype(int)
        assert ((shift >= 1) & (shift <= 24)).all()
        double = 2.0 ** (shift + 1)
        room = (2**24 - limits.sum() * 4.5 - 1) / np.maximum((np.abs(weight).sum((2, 3)) @ limits), 1e-300)
        fits = (double * np.abs(weight).max((1, 2, 3)) <= 127) & (double <= room)
        fits &= double * np.abs(bias).max(0) <= 1 << 28
        assert (~fits | (shift == 24)).all()

    def test_too_many_inputs(self) -> None:
        with pytest.raises(ModelError, match="'a' has too many inputs"):
            integer_layer("a", np.ones((1, 4000, 3, 3)), np.zeros((1, 1)), np.full(4000, CODED_LIMIT))


class Follower:
    """Gives random codes; keeps the decoded latent of finished steps, and compares each step with the float form."""

    def __init__(self, model: HyperpriorModel, rows: int, columns: int, quality: int) -> None:
        self.model, self.position = model, torch.tensor([(quality - 1) / 99])
        self.generator = np.random.default_rng(quality)
        self.hyper = np.zeros((rows, columns, model.config.hyper_latents), int)
        self.coded = np.zeros((2 * rows, 2 * columns, model.config.latents), int)
        self.pending: list[tuple[Block, NDArray[Any]]] = []
        self.step = -1
        self.means: list[NDArray[Any]] = []  # differences of means, in 1/32
        self.classes: list[NDArray[Any]] = []  # differences of classes

    def __call__(self, block: Block) -> NDArray[Any]:
        codes = self.generator.integers(0, block.mixtures.codes, block.pairs.shape)
        points = block.means + block.mixtures.points(codes)
        first = len(self.model.config.hyper)
        if block.part < first:
            block.put_channels(self.hyper, points)
            return codes
        if block.part == first:  # of a step
            for earlier, values in self.pending:
                earlier.put_channels(self.coded, values)
            self.pending = []
            self._predict()
        self.pending.append((block, points))
        self._compare(block)
        return codes

    @torch.no_grad()
    def _predict(self) -> None:
        self.step += 1
        hyper, coded = (torch.from_numpy(x).permute(2, 0, 1)[None].float() / 32 for x in (self.hyper, self.coded))
        features = self.model.hyper_decoder(hyper, self.position)
        pair = self.model.steps()[self.step](features, coded, self.position)
        self.mean, self.scale = (part[0].permute(1, 2, 0).numpy() for part in pair)

    def _compare(self, block: Block) -> None:
        self.means.append((block.means - block.cut_channels(self.mean) * LATENT_UNIT).ravel())
        scale = block.cut_channels(self.scale)
        scale = scale.reshape(*block.pairs.shape, 2, -1).mean(-1)
        classes = (CLASSES_PER_OCTAVE * scale + CLASS_OFFSET).round().clip(0, block.mixtures.classes - 1)
        found = np.stack(np.divmod(block.pairs, block.mixtures.classes), -1)
        self.classes.append((found - classes).ravel())


@pytest.mark.parametrize("quality", [1, 37, 100])
def test_the_integer_form_follows_the_float_form(quality: int) -> None:
    model = made(spread=4)
    model.set_rounding(True)
    follower = Follower(model, 3, 4, quality)
    context_of(model).walk(3, 4, quality, follower)
    assert follower.step == 3
    means, classes = np.concatenate(follower.means), np.concatenate(follower.classes)
    assert len(means) == 48 * CONFIG.latents
    assert np.abs(means).max() < 8
    assert np.sqrt((means**2).mean()) < 1.5
    assert (classes == 0).mean() > 0.9
    assert np.abs(classes).max() <= 1


class TestGroups:
    def test_tables_follow_the_prior(self) -> None:
        model = made()
        context = context_of(model)
        groups = model.all_groups()[1]
        classes = torch.tensor([[[3.0, 9.0]]]).expand(groups.groups, -1, -1)
        prior = groups.log_prior(classes).exp().detach().numpy()[:, 0]
        mixtures = context.mixtures[1]
        for group in range(groups.groups):
            (table,) = mixtures.tables(group, np.array([3 * CLASSES + 9]))
            assert np.abs(table / 2**24 - prior[group]).max() < 0.05 * prior[group].max()

    def test_extremes_are_limited_to_what_is_read(self) -> None:
        model = made()
        with torch.no_grad():
            for groups in model.all_groups():
                groups.codebook.mul_(1e6)
                groups.code_bias.mul_(1e9)
                groups.log_precision.add_(60)
                groups.slope.mul_(1e9)
            model.hyper_mean.mul_(1e9)
            for vector in model.hyper_scale:
                vector.anchors.mul_(1e6)
            for step in model.steps():
                step.head.conv.weight.mul_(1e9)
        tensors = integer_tensors(model)
        context_of(model)
        for name, limit in LIMITS.items():
            assert np.abs(tensors[f"groups.0.{name}"].astype(np.int64)).max() == limit
        assert set(tensors["hyper.classes"].flat) <= {0, *range(CLASSES)}

    def test_code_0_is_the_zero_vector(self) -> None:
        tensors = integer_tensors(made())
        for name in ("hyper.groups.0", "groups.0", "groups.1"):
            assert not tensors[f"{name}.codebook"][:, 0].any()
            assert tensors[f"{name}.codebook"][:, 1:].any()

    def test_hyper_classes_follow_the_quality(self) -> None:
        model = made()
        with torch.no_grad():
            model.hyper_scale[0].anchors.copy_(torch.linspace(-3, 3.5, 9)[:, None].expand(-1, 4))
        classes = integer_tensors(model)["hyper.classes"]
        assert classes.shape == (100, 2, 2)
        expected = np.rint(2 * np.linspace(-3, 3.5, 100) + 6).clip(0, 13)
        assert np.abs(classes[:, 1, 0] - expected).max() <= 1
        assert (classes[0, 0, 0], classes[-1, 1, 1]) == (0, 13)


@pytest.mark.parametrize("name", ["hyper_mean", "context.2.mix.conv.bias", "groups.1.code_bias", "groups.0.weight"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_weight_that_is_not_finite(name: str, value: float) -> None:
    model = made()
    with torch.no_grad():
        model.state_dict()[name].view(-1)[0] = value
    with pytest.raises(ModelError, match=f"weight '{name}' is not finite"):
        integer_tensors(model)


def test_phases_and_pieces_agree() -> None:
    """Training cuts the latent as the codec does."""
    latent = torch.arange(8 * 4 * 4, dtype=torch.float32).reshape(1, 8, 4, 4)
    for step in range(4):
        parts = pieces(latent, step)
        for quarter in range(4):
            row, column = PHASES[quarter ^ step]
            expected = latent[:, 2 * quarter : 2 * quarter + 2, row::2, column::2]
            assert torch.equal(parts[quarter], expected)


def test_the_exponential_halves_at_its_end() -> None:
    assert EXPONENTIAL[0] == 1 << 30
    assert EXPONENTIAL[-1] > 1 << 29
