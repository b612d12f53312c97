"""The integer context model: exact layers, refusals, qualities, and the order and causality of the walk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from context_tensors import CHANNELS, HYPER, QUARTER, WIDTH, context_model, context_tensors
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gmvqzip import blas
from gmvqzip.entropy import context
from gmvqzip.entropy.blocks import Block
from gmvqzip.entropy.context import PHASES, ContextModel
from gmvqzip.entropy.layers import IntegerLayer
from gmvqzip.errors import ModelError

EXACT = 1 << 24


def layer_tensors(weight: Any, bias: Any, shift: Any) -> dict[str, NDArray[Any]]:
    return {
        "a.weight": np.asarray(weight, np.int8),
        "a.bias": np.asarray(bias, np.int32),
        "a.shift": np.asarray(shift, np.int8),
    }


def reference(tensors: dict[str, NDArray[Any]], x: NDArray[np.int64], quality: int) -> NDArray[np.int64]:
    """The layer as docs/format.md writes it, tap by tap in 64-bit integers."""
    weight, bias, shift = (tensors[f"a.{part}"].astype(np.int64) for part in ("weight", "bias", "shift"))
    place, rest = divmod((quality - 1) * (len(bias) - 1), 99)
    following = min(place + 1, len(bias) - 1)
    offset = (bias[place] * (99 - rest) + bias[following] * rest) // 99
    rows, columns, _ = x.shape
    margin = weight.shape[2] // 2
    out = np.zeros((rows, columns, len(weight)), dtype=np.int64)
    for row in range(rows):
        for column in range(columns):
            for i in range(weight.shape[2]):
                for j in range(weight.shape[3]):
                    y, z = row + i - margin, column + j - margin
                    if 0 <= y < rows and 0 <= z < columns:
                        out[row, column] += weight[:, :, i, j] @ x[y, z]
    return (out + offset + 2 ** (shift - 1)) >> shift


class TestLayer:
    @given(
        seed=st.integers(0, 2**32 - 1),
        kernel=st.sampled_from([1, 3]),
        quality=st.integers(1, 100),
        anchors=st.sampled_from([1, 2, 9]),
        side=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    )
    @settings(max_examples=40, deadline=None)
    def test_against_the_reference(
        self, seed: int, kernel: int, quality: int, anchors: int, side: tuple[int, int]
    ) -> None:
        generator = np.random.default_rng(seed)
        tensors = layer_tensors(
            generator.integers(-128, 128, (4, 3, kernel, kernel)),
            generator.integers(-(1 << 20), 1 << 20, (anchors, 4)),
            generator.integers(1, 25, 4),
        )
        layer = IntegerLayer(tensors, "a", np.full(3, 1023), 4, kernel)
        x = generator.integers(-1023, 1024, (*side, 3))
        assert np.array_equal(layer(x.astype(np.float32), quality), reference(tensors, x, quality))

    @pytest.mark.parametrize("sign", [1, -1])
    def test_the_largest_sums_are_exact(self, sign: int) -> None:
        """Inputs at their limits, whose sum is 2^24 - 1, the largest that float32 holds for certain."""
        weight, limits = np.full((2, 519, 1, 1), 127), np.full(519, 255)
        weight[:, -1] = 7
        weight[1, ::2] *= -1
        assert 255 * int(weight[0].sum()) == EXACT - 1
        tensors = layer_tensors(sign * weight, [[(1 << 29) - 1, -(1 << 29) + 1]], [1, 1])
        layer = IntegerLayer(tensors, "a", limits, 2, 1)
        x = limits[None, None].copy()
        shuffled = np.concatenate([x, np.where(np.arange(519) % 2, x, -x)])
        assert np.array_equal(layer(shuffled.astype(np.float32), 1), reference(tensors, shuffled, 1))

    def test_a_sum_of_two_to_the_24_is_refused(self) -> None:
        weight = np.full((1, 64, 1, 1), 64)
        tensors = layer_tensors(weight, [[0]], [1])
        assert EXACT == 64 * 64 * 4096
        with pytest.raises(ModelError, match="might not be exact"):
            IntegerLayer(tensors, "a", np.full(64, 4096), 1, 1)
        limits = np.full(64, 4096)
        limits[0] -= 1
        IntegerLayer(tensors, "a", limits, 1, 1)
        with pytest.raises(ModelError, match="might not be exact"):
            IntegerLayer(layer_tensors(-weight, [[0]], [1]), "a", np.full(64, 4096), 1, 1)

    @pytest.mark.parametrize("threads", [1, 3])
    def test_strips_and_threads_change_nothing(self, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
        generator = np.random.default_rng(0)
        tensors = layer_tensors(
            generator.integers(-128, 128, (4, 3, 3, 3)), generator.integers(-999, 999, (1, 4)), [3, 4, 5, 6]
        )
        layer = IntegerLayer(tensors, "a", np.full(3, 255), 4, 3)
        x = generator.integers(0, 256, (2, 11, 7, 3)).astype(np.float32)
        whole = layer(x, 1)
        assert np.array_equal(whole[1], layer(x[1], 1))
        monkeypatch.setattr(blas, "_most_threads", threads)
        for numbers in (1, 800, 1600):  # rows of two pictures have 378
            monkeypatch.setattr(blas, "_STRIP", numbers)
            with blas.workers() as share:
                assert np.array_equal(layer(x, 1, share), whole)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("weight", np.zeros((4, 3, 3), np.int8), "shapes"),
            ("weight", np.zeros((4, 3, 1, 1), np.int8), "shapes"),
            ("weight", np.zeros((4, 3, 3, 3), np.int16), "types"),
            ("weight", np.zeros((4, 3, 3, 3), np.float32), "types"),
            ("bias", np.zeros(4, np.int32), "shapes"),
            ("bias", np.zeros((), np.int32), "shapes"),
            ("bias", np.zeros((0, 4), np.int32), "shapes"),
            ("bias", np.zeros((2, 4), np.int64), "types"),
            ("bias", np.full((2, 4), 1 << 29, np.int32), "exact"),
            ("bias", np.full((2, 4), -(1 << 31), np.int32), "exact"),
            ("shift", np.ones(3, np.int8), "shapes"),
            ("shift", np.ones(4, np.uint8), "types"),
            ("shift", np.array([1, 2, 0, 4], np.int8), "shift"),
            ("shift", np.array([1, 2, 25, 4], np.int8), "shift"),
            ("shift", np.array([1, 2, -128, 4], np.int8), "shift"),
        ],
    )
    def test_refusals(self, name: str, value: NDArray[Any], message: str) -> None:
        good = layer_tensors(np.ones((4, 3, 3, 3)), np.ones((2, 4)), [1, 24, 5, 6])
        IntegerLayer(good, "a", np.full(3, 255), 4, 3)
        with pytest.raises(ModelError, match=message):
            IntegerLayer(good | {f"a.{name}": value}, "a", np.full(3, 255), 4, 3)


class TestQuality:
    def bias(self, anchors: list[int], quality: int) -> int:
        """What a layer without weights gives: its bias, halved and rounded up at halves."""
        layer = IntegerLayer(layer_tensors([[[[0]]]], [[a] for a in anchors], [1]), "a", np.ones(1, int), 1, 1)
        return int(layer(np.zeros((1, 1, 1), np.float32), quality)[0, 0, 0])

    def test_anchors_are_met_and_lines_run_between_them(self) -> None:
        anchors = [0, 198, -198, 1980]
        assert [self.bias(anchors, quality) for quality in (1, 34, 67, 100)] == [0, 99, -99, 990]
        assert [self.bias(anchors, quality) for quality in (2, 3, 35)] == [3, 6, 93]

    def test_rounding_is_down(self) -> None:
        # At quality 2 two anchors stand at 98/99 and 1/99: -1/99 is rounded down to -1.
        assert self.bias([0, -1], 2) == 0  # floor((-1 + 1) / 2)
        assert self.bias([0, 1], 2) == 0  # floor((0 + 1) / 2)
        assert self.bias([0, -2], 2) == 0
        assert self.bias([0, -100], 2) == -1  # floor((-2 + 1) / 2)

    def test_one_anchor_stands_for_all(self) -> None:
        assert {self.bias([7], quality) for quality in range(1, 101)} == {4}


def expected_order() -> Iterator[tuple[int, tuple[Any, ...], list[int]]]:
    """Part, windows of the quarters, channels of all groups, as docs/format.md orders them."""
    channel = 0
    for part, shape in enumerate(HYPER):
        width = shape.count * shape.dimensions
        yield part, ((slice(None), slice(None)),), list(range(channel, channel + width))
        channel += width
    for step in range(4):
        first = 0
        phases = [PHASES[quarter ^ step] for quarter in range(4)]
        windows = tuple((slice(row, None, 2), slice(column, None, 2)) for row, column in phases)
        for part, shape in enumerate(QUARTER):
            width = shape.count * shape.dimensions
            starts = [quarter * CHANNELS // 4 + first for quarter in range(4)]
            yield len(HYPER) + part, windows, [channel for start in starts for channel in range(start, start + width)]
            first += width


def codes_of(seed: int, rows: int, columns: int) -> list[NDArray[np.int64]]:
    """Random codes of the groups of each part [G, rows, columns]."""
    generator = np.random.default_rng(seed)
    hyper = [generator.integers(0, s.codes, (s.count, rows, columns)) for s in HYPER]
    return hyper + [generator.integers(0, s.codes, (4 * s.count, 2 * rows, 2 * columns)) for s in QUARTER]


class Follower:
    """A visitor that gives known codes and keeps what it was asked."""

    def __init__(self, codes: list[NDArray[np.int64]]) -> None:
        self.codes, self.blocks = codes, list[Block]()

    def __call__(self, block: Block) -> NDArray[Any]:
        self.blocks.append(block)
        return block.cut(self.codes[block.part])


class TestBlocks:
    def test_put_undoes_cut(self) -> None:
        codes = codes_of(0, 2, 3)
        latents = {True: np.zeros((4, 6, CHANNELS), int), False: np.zeros((2, 3, 10), int)}
        follower = Follower(codes)
        context_model().walk(2, 3, 1, follower)
        copies = [np.full_like(part, -1) for part in codes]
        number = 0
        for block in follower.blocks:
            block.put(copies[block.part], block.cut(codes[block.part]))
            latent = latents[block.part >= len(HYPER)]
            values = block.cut_channels(latent)
            assert values.shape == block.means.shape
            assert not values.any()
            values = number + np.arange(values.size).reshape(values.shape)
            block.put_channels(latent, values)
            assert np.array_equal(block.cut_channels(latent), values)
            number += values.size
        assert all(map(np.array_equal, copies, codes))
        everything = np.concatenate([latent.reshape(-1) for latent in latents.values()])
        assert np.array_equal(np.sort(everything), np.arange(number))


class TestWalk:
    def test_every_group_and_site_is_visited_once_in_order(self) -> None:
        rows, columns = 2, 3
        codes = codes_of(0, rows, columns)
        follower = Follower(codes)
        visits = [np.zeros(part.shape, int) for part in codes]
        context_model().walk(rows, columns, 40, follower)
        for block in follower.blocks:
            block.put(visits[block.part], block.cut(visits[block.part]) + 1)
            assert block.pairs.shape == block.cut(visits[block.part]).shape
            assert block.means.shape == (*block.pairs.shape, block.mixtures.dimensions)
            assert 0 <= block.pairs.min() <= block.pairs.max() < block.mixtures.classes**2
        assert all((part == 1).all() for part in visits)
        found = [
            (block.part, block.windows, [n for own in block.channels for n in range(own.start, own.stop)])
            for block in follower.blocks
        ]
        assert found == list(expected_order())

    def test_the_result_is_means_and_codewords(self) -> None:
        codes = codes_of(1, 1, 2)
        follower = Follower(codes)
        decoded = context_model().walk(1, 2, 1, follower)
        assert decoded.shape == (2, 4, CHANNELS)
        for block in follower.blocks[len(HYPER) :]:
            found = block.cut_channels(decoded)
            for group, indices in enumerate(block.cut(codes[block.part])):
                words = block.mixtures.codebook[group][indices]
                assert np.array_equal(found[group], block.means[group] + words)

    def test_classes_and_means_vary(self) -> None:
        """So that the tests here see something."""
        follower = Follower(codes_of(2, 3, 3))
        context_model().walk(3, 3, 50, follower)
        latent = follower.blocks[len(HYPER) :]
        assert len({int(pair) for block in latent for pair in block.pairs.flat}) > 50
        assert np.std([group.mean() for block in latent for group in block.means]) > 5

    @pytest.mark.parametrize("step", range(4))
    def test_a_step_depends_on_earlier_steps_only(self, step: int) -> None:
        """Another code in a step changes nothing up to the step's end, and something after it."""
        model, codes = context_model(), codes_of(3, 2, 2)
        each = len(QUARTER)
        before = Follower(codes)
        model.walk(2, 2, 60, before)
        start = len(HYPER) + step * each
        block = before.blocks[start]
        other = [part.copy() for part in codes]
        indices = block.cut(other[block.part])
        indices[1] = (indices[1] + 1) % block.mixtures.codes
        block.put(other[block.part], indices)
        after = Follower(other)
        model.walk(2, 2, 60, after)
        same = [
            np.array_equal(a.means, b.means) and np.array_equal(a.pairs, b.pairs)
            for a, b in zip(before.blocks, after.blocks, strict=True)
        ]
        assert all(same[: start + each])
        assert step == 3 or not all(same[start + each :])

    def test_the_hyper_latent_s_contexts_depend_on_the_quality_alone(self) -> None:
        model = context_model()
        first, second = Follower(codes_of(4, 2, 2)), Follower(codes_of(5, 2, 2))
        model.walk(2, 2, 60, first)
        model.walk(2, 2, 60, second)
        for a, b in zip(first.blocks[:2], second.blocks[:2], strict=True):
            assert np.array_equal(a.pairs, b.pairs)
            assert np.array_equal(a.means, b.means)
        assert not np.array_equal(first.blocks[2].means, second.blocks[2].means)
        third = Follower(first.codes)
        model.walk(2, 2, 61, third)
        assert not all(np.array_equal(a.pairs, b.pairs) for a, b in zip(first.blocks, third.blocks, strict=True))

    def test_decoded_latents_are_limited_for_the_layers(self) -> None:
        """Two codewords that both lie beyond 32 steps look alike to the later steps."""
        tensors = context_tensors()
        for number, shape in enumerate(QUARTER):
            tensors[f"groups.{number}.codebook"][:, 1:3] = np.array([3000, 4000])[None, :, None]
            assert shape.codes > 2
        model = ContextModel(tensors, HYPER, QUARTER, WIDTH)
        followers = []
        for code in (1, 2):
            codes = codes_of(6, 1, 1)
            for part in codes[len(HYPER) :]:
                part[:] = code
            followers.append(Follower(codes))
            model.walk(1, 1, 9, followers[-1])
        for a, b in zip(*(follower.blocks for follower in followers), strict=True):
            assert np.array_equal(a.means, b.means)
            assert np.array_equal(a.pairs, b.pairs)


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("hyper.mean", np.zeros(9, np.int16)),
            ("hyper.mean", np.zeros(10, np.int64)),
            ("hyper.mean", np.full(10, np.nan, np.float32)),
            ("hyper.classes", np.zeros((99, 3, 2), np.int8)),
            ("hyper.classes", np.zeros((100, 3, 2), np.float32)),
            ("hyper.classes", np.full((100, 3, 2), 14, np.int8)),
            ("hyper.classes", np.full((100, 3, 2), -1, np.int8)),
            ("groups.1.codebook", np.zeros((8, 6, 3), np.int16)),
            ("step.2.mix.weight", np.zeros((WIDTH, WIDTH, 3, 3), np.int8)),
        ],
    )
    def test_tensors(self, name: str, value: NDArray[Any]) -> None:
        with pytest.raises(ModelError, match=name.removesuffix(".weight")):
            ContextModel(context_tensors() | {name: value}, HYPER, QUARTER, WIDTH)

    def test_a_missing_tensor(self) -> None:
        for name in context_tensors():
            tensors = context_tensors()
            del tensors[name]
            with pytest.raises(KeyError) as caught:
                ContextModel(tensors, HYPER, QUARTER, WIDTH)
            assert caught.value.args == (name,)


def test_tables_that_would_not_fit_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """All tables of all groups are kept once they are made."""
    tensors = context_tensors(0)
    biases = [name for name in tensors if "groups" in name and name.endswith(".bias")]
    classes = {name: tensors[name.removesuffix("bias") + "precision"].shape[2] for name in biases}
    entries = sum(tensors[name].size * classes[name] ** 2 for name in biases)
    monkeypatch.setattr(context, "MAX_ENTRIES", entries)
    context_model()
    monkeypatch.setattr(context, "MAX_ENTRIES", entries - 1)
    with pytest.raises(ModelError, match="tables of all groups"):
        context_model()
