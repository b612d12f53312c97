"""Batches are a function of the step, exact crops of the pictures, and the same from memory and from disk."""

from __future__ import annotations

import subprocess
import sys
import zlib
from queue import SimpleQueue

import numpy as np
import pytest

from gmvqzip.errors import ImageError, TrainingError
from gmvqzip.training.imagesets import MixedSet, UniformSet, plan_batch, rescale, scaled_sizes
from gmvqzip.training.streamed import StreamedSet

NAMES = [f"{number}.png" for number in range(50)]


def numbered(count: int, side: int = 8) -> np.ndarray:
    """Pictures [N, side, side, 3] that show their number, row and column."""
    pixels = np.zeros((count, side, side, 3), dtype=np.uint8)
    pixels[..., 0] = np.arange(count)[:, None, None]
    pixels[..., 1] = np.arange(side)[None, :, None]
    pixels[..., 2] = np.arange(side)[None, None, :]
    return pixels


def random_pictures(sizes: list[tuple[int, int]]) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in sizes]


def test_an_epoch_holds_every_picture_once_whatever_the_batch_size():
    for count, batch_size in ((10, 5), (10, 3), (10, 25), (1, 4)):
        epochs = 6 * batch_size // count
        drawn = np.concatenate([plan_batch(count, s, batch_size, 7, flip=True).indices for s in range(6)])
        assert len(drawn) == 6 * batch_size
        for epoch in range(epochs):
            assert sorted(drawn[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_epochs_and_seeds_differ():
    first, second = (plan_batch(100, s, 100, 7, flip=True) for s in (0, 1))
    other = plan_batch(100, 0, 100, 8, flip=True)
    for one, two in ((first, second), (first, other)):
        assert not np.array_equal(one.indices, two.indices)
        assert not np.array_equal(one.flips, two.flips)


def test_plans_that_cannot_be():
    for step, batch_size, seed in ((-1, 4, 0), (0, 0, 0), (0, 4, -1)):
        with pytest.raises(TrainingError):
            plan_batch(10, step, batch_size, seed, flip=True)


def test_batches_do_not_depend_on_what_was_asked_before():
    uniform = UniformSet("u", numbered(20))
    mixed = MixedSet("m", random_pictures([(40, 30), (20, 64), (16, 16)]), crop=16)
    for images, crop in ((uniform, None), (uniform, 4), (mixed, 16)):
        in_order = [images.batch(step, 6, crop, 3) for step in range(5)]
        for step in (4, 1, 3, 0, 2):
            assert np.array_equal(images.batch(step, 6, crop, 3), in_order[step])


def test_batches_are_the_same_in_another_process():
    code = (
        "import zlib, numpy as np; from gmvqzip.training.imagesets import UniformSet;"
        "a = np.arange(50 * 192, dtype=np.uint32).astype(np.uint8).reshape(50, 8, 8, 3);"
        "print(zlib.crc32(UniformSet('u', a).batch(11, 8, 5, 42).tobytes()))"
    )
    pixels = np.arange(50 * 192, dtype=np.uint32).astype(np.uint8).reshape(50, 8, 8, 3)
    here = zlib.crc32(UniformSet("u", pixels).batch(11, 8, 5, 42).tobytes())
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(there) == here


def test_uniform_batches_are_whole_pictures_or_crops_some_mirrored():
    pixels = numbered(20)
    images = UniformSet("u", pixels)
    plan, batch = images.plan(5, 64, 0)[1], images.batch(5, 64, None, 0)
    assert batch.shape == (64, 8, 8, 3) and batch.dtype == np.uint8 and 16 < plan.flips.sum() < 48
    for piece, index, flip in zip(batch, plan.indices, plan.flips, strict=True):
        assert np.array_equal(piece, pixels[index, :, ::-1] if flip else pixels[index])
    seen = set()
    for piece, flip in zip(images.batch(5, 64, 3, 0), plan.flips, strict=True):
        upright = piece[:, ::-1] if flip else piece
        top, left = int(upright[0, 0, 1]), int(upright[0, 0, 2])
        seen.add((top, left))
        assert np.array_equal(upright, pixels[upright[0, 0, 0], top : top + 3, left : left + 3])
    assert {top for top, _ in seen} == set(range(6)) == {left for _, left in seen}  # borders included
    assert np.array_equal(images.array, pixels)


def test_without_flips_the_crops_stay_where_they_are():
    pixels = numbered(20)
    plain, flipping = UniformSet("u", pixels, flip=False), UniformSet("u", pixels)
    flips = flipping.plan(2, 32, 9)[1].flips
    one, two = plain.batch(2, 32, 4, 9), flipping.batch(2, 32, 4, 9)
    assert not plain.plan(2, 32, 9)[1].flips.any()
    assert np.array_equal(one[~flips], two[~flips]) and np.array_equal(one[flips], two[flips, :, ::-1])


def test_several_processes_share_one_batch():
    pictures = random_pictures([(40, 30), (20, 64), (33, 16)])
    sets = [
        UniformSet("u", numbered(20, 16)),
        MixedSet("m", pictures, crop=16),
        StreamedSet("s", NAMES[:3], pictures.__getitem__, crop=16, scaled=True, say=print),
    ]
    for images in sets:
        whole = images.batch(3, 8, 12, 1)
        parts = [images.batch(3, 8, 12, 1, share=lambda size, first=rank: slice(first, size, 2)) for rank in range(2)]
        assert np.array_equal(whole[0::2], parts[0]) and np.array_equal(whole[1::2], parts[1])


def test_a_batch_may_be_written_into():
    images = UniformSet("u", numbered(4))
    images.batch(0, 4, None, 0)[:] = 99
    assert np.array_equal(images.array, numbered(4))


def test_scaled_sizes():
    assert scaled_sizes(100, 60, 64) == [(100, 60)]
    assert scaled_sizes(200, 100, 64) == [(200, 100), (159, 79)]
    assert scaled_sizes(200, 400, 100) == [(200, 400), (159, 317), (126, 252), (100, 200)]
    assert scaled_sizes(5, 5, 128) == [(5, 5)]


def test_mixed_batches_are_crops_of_scaled_versions():
    pictures = random_pictures([(64, 48), (40, 80)])
    images = MixedSet("m", pictures, crop=24)
    versions = [[rescale(p, s) for s in scaled_sizes(p.shape[1], p.shape[0], 24)] for p in pictures]
    assert [len(v) for v in versions] == [4, 3]
    found = set()
    plan, batch = images.plan(0, 80, 0, 24)[1], images.batch(0, 80, 24, 0)
    for piece, index, flip in zip(batch, plan.indices, plan.flips, strict=True):
        upright = piece[:, ::-1] if flip else piece
        for number, version in enumerate(versions[index]):
            windows = np.lib.stride_tricks.sliding_window_view(version, (24, 24, 3))[:, :, 0]
            if (windows == upright).all(axis=(2, 3, 4)).any():
                found.add((int(index), number))
                break
        else:
            pytest.fail("a crop is of no version of its picture")
    assert len(found) == 7  # every version comes up


def test_small_pictures_are_padded_by_their_edges():
    (picture,) = random_pictures([(10, 6)])
    images = MixedSet("m", [picture], crop=16, flip=False)
    piece = images.batch(0, 1, 16, 0)[0]
    assert np.array_equal(piece, np.pad(picture, ((0, 10), (0, 6), (0, 0)), mode="edge"))


def test_a_crop_may_differ_from_the_one_at_loading():
    pictures = random_pictures([(100, 90), (70, 200)])
    memory = MixedSet("m", pictures, crop=32)
    disk = StreamedSet("s", NAMES[:2], pictures.__getitem__, crop=32, scaled=True, say=print)
    for crop in (16, 32, 64, 80):
        batch = memory.batch(1, 16, crop, 5)
        assert batch.shape == (16, crop, crop, 3) and np.array_equal(batch, disk.batch(1, 16, crop, 5))


def test_memory_and_disk_give_the_same_pixels():
    pictures = random_pictures([(100, 90), (70, 200), (9, 40), (33, 32)])
    memory = MixedSet("m", pictures, crop=32)
    disk = StreamedSet("s", NAMES[:4], pictures.__getitem__, crop=32, scaled=True, say=print)
    for step in (0, 1, 2, 3, 9, 4, 5):  # in order, then not
        assert np.array_equal(memory.batch(step, 8, 32, 5), disk.batch(step, 8, 32, 5))
    faces = numbered(9, 16)
    uniform = UniformSet("u", faces)
    disk = StreamedSet("s", NAMES[:9], faces.__getitem__, crop=16, scaled=False, say=print)
    for crop in (None, 12):
        assert np.array_equal(uniform.batch(3, 8, crop, 5), disk.batch(3, 8, crop, 5))


def test_streaming_works_ahead():
    read = SimpleQueue[int]()

    def noted(index: int) -> np.ndarray:
        read.put(index)
        return numbered(50)[index]

    images = StreamedSet("s", NAMES[:50], noted, crop=8, scaled=False, say=print)
    images.batch(0, 4, None, 0)
    wanted = np.concatenate([plan_batch(50, step, 4, 0, flip=True).indices for step in range(3)])
    assert sorted(read.get() for _ in range(12)) == sorted(wanted)  # two batches are read that nobody asked for
    images.batch(1, 4, None, 0)
    assert read.qsize() <= 4  # what was read ahead is not read again


def test_damaged_pictures_are_replaced_and_named_once():
    said = list[str]()

    def read(index: int) -> np.ndarray:
        if index == 3:
            raise ImageError("cut")
        return numbered(5)[index]

    images = StreamedSet("s", NAMES[:5], read, crop=8, scaled=False, say=said.append)
    values = {int(images.batch(step, 5, None, 0)[slot, 0, 0, 0]) for step in range(4) for slot in range(5)}
    assert values == {0, 1, 2, 4}
    assert len(list(images.all_images())) == 4
    assert said == ["skipped 3.png: cut"]

    def never(index: int) -> np.ndarray:
        raise ImageError("cut")

    with pytest.raises(TrainingError, match="not one"):
        StreamedSet("s", NAMES[:3], never, crop=8, scaled=False, say=said.append).batch(0, 1, None, 0)


def test_evaluation_goes_in_order_over_centre_crops():
    images = UniformSet("u", numbered(7, 9))
    assert np.array_equal(np.stack(list(images.all_images())), numbered(7, 9))
    batches = list(images.evaluation_batches(3))
    assert [len(batch) for batch in batches] == [3, 3, 1] and np.array_equal(np.concatenate(batches), numbered(7, 9))
    crops = np.concatenate(list(images.evaluation_batches(4, 5)))
    assert np.array_equal(crops, numbered(7, 9)[:, 2:7, 2:7])
    mixed = MixedSet("m", random_pictures([(20, 30), (8, 8)]), crop=16)
    assert [p.shape for p in mixed.all_images()] == [(30, 20, 3), (8, 8, 3)]
    # Those of one shape together, none padded, none larger than the crop.
    assert [batch.shape for batch in mixed.evaluation_batches(2, 16)] == [(1, 16, 16, 3), (1, 8, 8, 3)]
    assert [batch.shape for batch in mixed.evaluation_batches(2, 8)] == [(2, 8, 8, 3)]
    assert [batch.shape for batch in mixed.evaluation_batches(2, 16, count=1)] == [(1, 16, 16, 3)]


def test_sets_that_cannot_be():
    with pytest.raises(TrainingError):
        UniformSet("u", np.zeros((0, 8, 8, 3), np.uint8))
    with pytest.raises(TrainingError):
        MixedSet("m", [], crop=8)
    with pytest.raises(TrainingError, match="crop"):
        UniformSet("u", numbered(3)).batch(0, 1, 9, 0)
    with pytest.raises(TrainingError, match="need a crop"):
        MixedSet("m", random_pictures([(8, 8)]), crop=8).batch(0, 1, None, 0)


def test_pictures_in_memory_are_scaled_once(monkeypatch: pytest.MonkeyPatch):
    images = MixedSet("m", random_pictures([(64, 48), (40, 80)]), crop=24)
    monkeypatch.setattr("gmvqzip.training.imagesets.rescale", None)
    for step in range(3):
        assert images.batch(step, 80, 24, 0).shape == (80, 24, 24, 3)
