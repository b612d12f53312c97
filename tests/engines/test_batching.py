"""Pictures in batches: exactly the integers of single ones, the same codes where sums allow it, files that decode."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_hyperprior import smooth

from gmvqzip.codec import Codec
from gmvqzip.engines import batching
from gmvqzip.engines.staged import StagedNetwork
from gmvqzip.entropy.blocks import Block
from gmvqzip.entropy.context import ContextModel
from gmvqzip.entropy.prior import Piece
from gmvqzip.errors import ImageError, ModelError
from gmvqzip.images.pixels import Picture
from gmvqzip.setting import Setting

SIZES = [(64, 96), (40, 40), (60, 90), (64, 96), (33, 64), (1, 1), (90, 60)]  # height, width; three share 64x96


@pytest.fixture
def shots() -> list[np.ndarray]:
    return [smooth(*size, seed) for seed, size in enumerate(SIZES)]


@pytest.mark.parametrize("quality", [1, 60, 100])
def test_the_context_model_of_several_pictures_is_exact(hyper: Codec, quality: int) -> None:
    generator = np.random.default_rng(quality)
    together: list[tuple[Block, np.ndarray]] = []

    def draw(block: Block) -> np.ndarray:
        codes = generator.integers(0, block.mixtures.codes, block.pairs.shape)
        together.append((block, codes))
        return codes

    context = hyper.engine.prior
    latents = context.walk(2, 3, quality, draw, lead=(4,))
    for number in range(4):
        alone: list[Block] = []

        def follow(block: Block, number: int = number, alone: list[Block] = alone) -> np.ndarray:
            alone.append(block)
            return together[len(alone) - 1][1][:, number]

        assert np.array_equal(context.walk(2, 3, quality, follow), latents[number])
        for mine, (block, _) in zip(alone, together, strict=True):
            assert (mine.part, mine.windows, mine.channels) == (block.part, block.windows, block.channels)
            assert np.array_equal(mine.pairs, block.pairs[:, number])
            assert np.array_equal(mine.means, block.means[:, number])


@pytest.mark.parametrize("rounds", [0, 2])
def test_a_batch_is_as_good_as_single_pictures(hyper: Codec, rounds: int) -> None:
    """The last bit of a sum may differ, so the codes are compared by what they cost."""
    engine, pictures = hyper.engine, np.stack([smooth(64, 64, seed) for seed in range(5)])
    setting = Setting(60, rounds=rounds)
    found = engine.network.analyse(pictures, setting)
    for pixels, piece in zip(pictures, found, strict=True):
        costs = []
        for own in (piece, engine.network.analyse(pixels[None], setting)[0]):
            picture = np.moveaxis(engine.network.synthesise(own.latent, 60), 0, 2)
            error = float(np.square(picture - pixels / np.float32(255)).mean())
            bits = sum(own.bits()) / pixels[..., 0].size
            costs.append(hyper.config.lambda_of(59 / 99) * 255**2 * error + bits)  # type: ignore[union-attr]
        assert costs[0] == pytest.approx(costs[1], rel=0.01)


@pytest.mark.parametrize("effort", [1, 4])
def test_every_file_decodes_to_its_codes(hyper: Codec, shots: list[np.ndarray], effort: int) -> None:
    found = hyper.compress_pictures([Picture(shot) for shot in shots], quality=70, effort=effort)
    for shot, done in zip(shots, found, strict=True):
        assert (done.codes.height, done.codes.width) == shot.shape[:2]
        assert hyper.decode_codes(done.data) == done.codes
        assert done.ideal_bits - 16 <= 8 * done.payload_bytes <= 1.005 * done.ideal_bits + 16


def test_staged_batches_give_the_codes_of_single_pictures(tiny: Codec, shots: list[np.ndarray]) -> None:
    assert tiny.encode_batch(shots * 2) == [tiny.encode(shot) for shot in shots * 2]
    assert tiny.compress_batch(shots) == [tiny.compress(shot) for shot in shots]


def test_batches_have_one_padded_size_and_a_limit(
    tiny: Codec, shots: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    whole = StagedNetwork.analyse

    def noted(network: StagedNetwork, pixels: np.ndarray, *rest: object) -> list[Piece]:
        shapes.append(pixels.shape[:3])
        return whole(network, pixels, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(StagedNetwork, "analyse", noted)
    assert len(tiny.encode_batch([shots[0], shots[1], shots[2], shots[3]])) == 4
    assert shapes == [(3, 64, 96), (1, 40, 40)]
    shapes.clear()
    monkeypatch.setitem(batching._PIXELS, "cpu", 2 * 64 * 96)
    assert len(tiny.encode_batch([shots[0]] * 5)) == 5
    assert shapes == [(2, 64, 96), (2, 64, 96), (1, 64, 96)]
    shapes.clear()
    monkeypatch.setitem(batching._PIXELS, "cpu", 1)
    assert len(tiny.encode_batch(shots[:2])) == 2
    assert shapes == [(1, 64, 96), (1, 40, 40)]


def test_a_batch_is_packed_without_another_walk(hyper: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    walks = []
    whole = ContextModel.walk

    def noted(context: ContextModel, *arguments: object, **options: object) -> np.ndarray:
        walks.append(options)
        return whole(context, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ContextModel, "walk", noted)
    hyper.compress_pictures([Picture(smooth(64, 64, seed)) for seed in range(6)], effort=2)
    assert [options["lead"] for options in walks] == [(6,)] * 2


def test_targets_are_reached_by_each_picture(hyper: Codec, shots: list[np.ndarray]) -> None:
    files = hyper.compress_batch(shots[:2], target_size=400, effort=1)
    assert files == [hyper.compress(shot, target_size=400, effort=1) for shot in shots[:2]]


def test_refusals(hyper: Codec) -> None:
    assert hyper.compress_batch([]) == []
    with pytest.raises(ImageError, match="picture 1: "):
        hyper.compress_batch([smooth(8, 8), b"no picture"])
    with pytest.raises(ImageError, match=r"no/such\.png: "):
        hyper.encode_batch([smooth(8, 8), "no/such.png"])
    with pytest.raises(ModelError, match="out of range"):
        hyper.encode_batch([smooth(8, 8)], quality=101)
