"""Crops follow the set: little padding, every picture equally often, steps of about equal size."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import CPU, HYPERPRIOR, TINY, pictures, train

from gmvqzip.quantizers import ranks
from gmvqzip.training.crops import Layout, crop_shape, layout
from gmvqzip.training.hyperprior import HyperpriorTrainer
from gmvqzip.training.imagesets import Batch, MixedSet, UniformSet
from gmvqzip.training.loop import shown_pixels
from gmvqzip.training.splits import DataSplits
from gmvqzip.training.streamed import StreamedSet

ALIGNMENT, CROP = 32, 128


def made(sizes: list[tuple[int, int]], batch_size: int = 12) -> Layout:
    return layout(np.array(sizes), batch_size, CROP, lambda w, h: crop_shape(w, h, CROP, ALIGNMENT))


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((200, 300), (128, 128)), ((128, 128), (128, 128)), ((64, 64), (64, 64)), ((48, 64), (64, 64)),
        ((72, 72), (64, 64)), ((100, 100), (96, 96)), ((120, 120), (128, 128)), ((20, 20), (32, 32)),
        ((40, 40), (32, 32)), ((60, 60), (64, 64)), ((400, 72), (64, 128)), ((1, 1000), (128, 32)),
    ],
)  # fmt: skip
def test_shapes(size: tuple[int, int], shape: tuple[int, int]) -> None:
    assert crop_shape(*size, CROP, ALIGNMENT) == shape


def test_whole_pictures() -> None:
    assert crop_shape(96, 64, None, 32) == (64, 96)
    assert crop_shape(130, 290, None, 32) == (288, 128)


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([1, 4, 8, 32]))
def test_any_shape(width: int, height: int, alignment: int) -> None:
    """Multiples of the alignment, no larger than the crop; never an avoidable row of padding for more than half."""
    shape = crop_shape(width, height, CROP, alignment)
    for side, extent in zip(shape, (height, width), strict=True):
        assert side % alignment == 0 and alignment <= side <= CROP
        assert side < extent + alignment
        assert extent >= side / 2 or extent < alignment


def test_an_epoch_has_every_picture_once_on_an_average() -> None:
    """700 pictures of three kinds, and three small ones, of which a batch is made once in many epochs."""
    found = made([(64, 64)] * 300 + [(128, 128)] * 250 + [(100, 140)] * 147 + [(30, 30)] * 3)
    assert [(group.rows, group.columns, group.batch) for group in found.groups] == [
        (128, 128, 12), (128, 96, 12), (64, 64, 48), (32, 32, 192),
    ]  # fmt: skip
    steps = sum(200 * len(group.members) // group.batch for group in found.groups)  # 200 epochs
    count = Counter(found.place(step, 5)[0] for step in range(steps))
    for number, group in enumerate(found.groups):
        assert count[number] * group.batch == pytest.approx(200 * len(group.members), rel=0.02, abs=group.batch)
    for number in range(len(found.groups)):
        own = [batch for kind, batch in (found.place(step, 5) for step in range(steps)) if kind == number]
        assert sorted(own) == list(range(len(own)))  # none left out, none twice


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=30), st.integers(0, 10**6))
def test_any_set(sizes: list[tuple[int, int]], step: int) -> None:
    found = made(sizes)
    assert sorted(np.concatenate([group.members for group in found.groups])) == list(range(len(sizes)))
    number, batch = found.place(step, 1)
    assert 0 <= batch <= step
    assert found.place(step, 1) == (number, batch)
    for group in found.groups:
        assert group.batch % 12 == 0  # who shares a batch of 12 shares any
        assert 0.65 <= group.batch * group.rows * group.columns / (12 * CROP * CROP) <= 1.4


def test_a_set_of_large_pictures_is_drawn_as_ever() -> None:
    found = MixedSet("m", [np.zeros((40, 50, 3), np.uint8)] * 5, crop=32)
    assert [len(found.layout(4, 32, alignment).groups) for alignment in (None, 8)] == [1, 1]
    for step in range(6):
        one, other = found.plan(step, 4, 3, 32, None)[1], found.plan(step, 4, 3, 32, 8)[1]
        assert np.array_equal(one.indices, other.indices) and np.array_equal(one.row, other.row)


def random_pictures(sizes: list[tuple[int, int]]) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in sizes]


def test_crops_of_all_sets_are_the_same() -> None:
    sizes = [(48, 64), (72, 72), (100, 100), (20, 9), (200, 150)]
    drawn = random_pictures(sizes)
    memory = MixedSet("m", drawn, crop=CROP)
    disk = StreamedSet("s", ["x"] * 5, drawn.__getitem__, crop=CROP, scaled=True, sizes=sizes, say=print)
    shapes = set()
    for step in (0, 1, 2, 3, 9, 4):
        one, other = (each.drawn(step, 4, CROP, 7, alignment=ALIGNMENT) for each in (memory, disk))
        assert np.array_equal(one.pixels, other.pixels) and np.array_equal(one.extents, other.extents)
        parts = [memory.batch(step, 4, CROP, 7, alignment=ALIGNMENT, share=share(r)) for r in range(2)]
        assert np.array_equal(np.concatenate(parts), one.pixels)
        shapes.add(one.pixels.shape[1:3])
    assert len(shapes) > 2


def share(rank: int):
    return lambda size: slice(rank * size // 2, (rank + 1) * size // 2)


def test_padding_is_on_the_right_and_at_the_bottom_also_of_what_is_mirrored() -> None:
    (picture,) = random_pictures([(48, 60)])
    found = MixedSet("m", [picture], crop=CROP)
    batch, plan = found.drawn(0, 16, CROP, 0, alignment=ALIGNMENT), found.plan(0, 16, 0, CROP, ALIGNMENT)[1]
    assert batch.pixels.shape == (64, 64, 64, 3) and batch.padded
    assert (batch.extents == (60, 48)).all()
    for pixels, flip in zip(batch.pixels, plan.flips, strict=True):
        shown = picture[:, ::-1] if flip else picture
        assert np.array_equal(pixels, np.pad(shown, ((0, 4), (0, 16), (0, 0)), mode="edge"))


def test_faces_smaller_than_the_crop() -> None:
    found = UniformSet("u", np.stack(random_pictures([(100, 100)] * 6)))
    batch = found.drawn(0, 8, 128, 0, alignment=32)
    assert batch.pixels.shape == (16, 96, 96, 3) and not batch.padded


class TestTraining:
    def test_padding_has_no_error_and_no_pixels(self, tmp_path: Path) -> None:
        pixels, extents = np.zeros((2, 16, 32, 3), np.uint8), np.array([(16, 32), (10, 24)])
        trainer = HyperpriorTrainer(HYPERPRIOR, UniformSet("t", pictures(4)), tmp_path, CPU)
        trainer._shown = shown_pixels(Batch(pixels, extents), CPU)
        image = torch.zeros(2, 3, 16, 32)
        wrong = image.clone()
        wrong[1, :, 10:], wrong[1, :, :, 24:] = 9.0, 9.0  # in the padding alone
        assert trainer._errors(wrong, image).tolist() == [0.0, 0.0]
        wrong[1, 0, 3, 4] = 1.0
        assert trainer._errors(wrong, image)[1].item() == pytest.approx(1 / (3 * 10 * 24))
        assert trainer._pixels(image).tolist() == [16 * 32, 10 * 24]

    @pytest.mark.parametrize("config", [replace(HYPERPRIOR, crop=48), replace(TINY, crop=48)])
    def test_a_run_on_mixed_sizes_ends_with_a_model(self, tmp_path: Path, config) -> None:
        """None as large as the crop; resumed it goes on as it would have."""
        sizes = [(20, 24), (17, 17), (33, 40), (5, 9), (60, 30), (16, 16)]
        mixed = [pictures(1, number, 64)[0][:height, :width] for number, (width, height) in enumerate(sizes * 3)]
        data = DataSplits(MixedSet("train", mixed, crop=48), MixedSet("held", mixed[:5], crop=48), None, "mixed")
        card = train(tmp_path, config, data)
        assert card is not None
        assert card["results"]["validation"]["pictures"] == 5
        with ranks.shared_batch():
            trainer = HyperpriorTrainer(replace(HYPERPRIOR, crop=48), data.train, tmp_path, CPU)
            shapes = {tuple(trainer._share(step, 16).shape[2:]) for step in range(12)}
        assert len(shapes) > 2
