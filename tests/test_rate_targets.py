"""Targets of size and PSNR, and efforts: the search over fake files, and a tiny model's real ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rated_hyperprior import rated_model
from tiny_hyperprior import smooth

import gmvqzip
from gmvqzip import ModelError
from gmvqzip.bench.codecs import SINGLE_RATE, Gmvq
from gmvqzip.bench.metrics import psnr
from gmvqzip.codec import Codec, load
from gmvqzip.engines.coded import Coded
from gmvqzip.entropy.codes import Codes
from gmvqzip.format.tiles import Box
from gmvqzip.images.pixels import Picture
from gmvqzip.rates import PsnrTarget, SizeTarget, Target, Wish, reach, reach_reduced, single
from gmvqzip.setting import DEFAULT_QUALITY, EFFORT_ROUNDS, EFFORTS, Setting, rounds_of

MOST_TRIES = 14
PIXELS = 1_000_000
Measure = Callable[[Setting], float]


class Files:
    """A fake encoder: numbers of files by a function of their setting, and what was asked for."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.asked: list[Setting] = []

    def __call__(self, setting: Setting) -> tuple[float, Setting]:
        assert 1 <= setting.quality <= 100
        assert 0.79 < setting.trade < 1.26
        assert setting not in self.asked
        self.asked.append(setting)
        return self.measure(setting), setting


def noise(setting: Setting, seed: int) -> float:
    """Between -1 and 1, always the same for one setting."""
    return math.sin(1e4 * math.sin(setting.quality * 12.9898 + setting.trade * 78.233 + setting.rounds + seed))


@st.composite
def rising(draw: st.DrawFn, *, most_noise: float = 0.0) -> Measure:
    """Sizes that rise by 0.5 to 5 % a quality, some of them faster at one end, with trades that bridge each gap."""
    step = draw(st.floats(0.005, 0.05))
    bend = draw(st.floats(-0.5, 0.5))
    grip = draw(st.floats(0.8, 2.0)) * step / 0.15  # what a model's trade does, as measured
    amount, seed = draw(st.floats(0, most_noise)), draw(st.integers(0, 99))

    def size(setting: Setting) -> int:
        part = (setting.quality - 1) / 99
        logarithm = step * 99 * (part + bend * part * (part - 1)) - grip * math.log(setting.trade)
        return round(50_000 * math.exp(logarithm) * (1 + amount * noise(setting, seed)))

    return size


def falling_error(size: Measure) -> Measure:
    """PSNR that rises with the size, 6 dB for four times as much."""
    return lambda setting: 10 * math.log10(size(setting)) - 20


class TestSizes:
    @given(rising(most_noise=0.004), st.floats(0, 1))
    def test_a_ceiling_is_kept_and_met(self, size: Measure, share: float) -> None:
        ends = size(Setting(1)), size(Setting(100))
        limit = math.ceil(ends[0] * 1.01 * (ends[1] / ends[0] / 1.01) ** share)
        files = Files(size)
        found = reach(files, SizeTarget(limit, PIXELS))
        assert found.measured == size(found.setting) <= limit
        assert found.product == found.setting
        assert found.measured >= 0.97 * limit
        assert len(files.asked) <= MOST_TRIES

    @given(rising(), st.floats(0, 1))
    def test_few_tries_where_sizes_are_regular(self, size: Measure, share: float) -> None:
        files = Files(size)
        reach(files, SizeTarget(round(size(Setting(1)) ** (1 - share) * size(Setting(100)) ** share), PIXELS))
        assert len(files.asked) <= 8

    @pytest.mark.parametrize("rounds", [0, 4])
    def test_five_files_at_most_of_a_usual_model(self, rounds: int) -> None:
        def size(setting: Setting) -> int:
            return round(20_000 * math.exp(0.025 * setting.quality - 0.17 * math.log(setting.trade)))

        for limit in range(25_000, 200_000, 5_000):
            files = Files(size)
            assert 0.97 * limit <= reach(files, SizeTarget(limit, PIXELS), rounds).measured <= limit
            assert len(files.asked) <= 5

    @given(rising(most_noise=0.004), st.sampled_from(EFFORT_ROUNDS[1:]), st.floats(-0.3, 0.3), st.floats(0, 1))
    def test_an_effort_that_moves_the_sizes(self, size: Measure, rounds: int, move: float, share: float) -> None:
        def moved(setting: Setting) -> int:
            along = 0.5 + setting.quality / 200
            return round(size(setting) * (1 + move * along * setting.rounds / 16))

        least, most = moved(Setting(1, rounds=rounds)), moved(Setting(100, rounds=rounds))
        limit = math.ceil(least * 1.05 * (most / least / 1.05) ** share)
        files = Files(moved)
        found = reach(files, SizeTarget(limit, PIXELS), rounds)
        assert 0.97 * limit <= found.measured <= limit
        assert found.setting.rounds == rounds
        assert len(files.asked) <= MOST_TRIES

    @given(st.integers(0, 99), st.floats(0.05, 3), st.floats(0, 1), st.sampled_from((0, 4)))
    def test_whatever_the_sizes_no_ceiling_is_broken(self, seed: int, amount: float, share: float, rounds: int) -> None:
        def size(setting: Setting) -> int:
            return round(1000 * math.exp(setting.quality / 50 + amount * noise(setting, seed)))

        limit = round(200 * 100**share)
        files = Files(size)
        try:
            found = reach(files, SizeTarget(limit, PIXELS), rounds)
        except ModelError:
            assert min(size(setting) for setting in files.asked if setting.rounds == rounds) > limit
        else:
            assert size(found.setting) <= limit
        assert len(files.asked) <= 2 * MOST_TRIES

    @pytest.mark.parametrize("rounds", [0, 4])
    def test_more_than_the_largest_gives_quality_100(self, rounds: int) -> None:
        found = reach(Files(lambda setting: 1000 * setting.quality), SizeTarget(200_000, PIXELS), rounds)
        assert found.setting == Setting(100, 1.0, rounds)

    def test_the_last_quality_needs_not_be_the_largest(self) -> None:
        found = reach(
            Files(lambda setting: 1000 * min(setting.quality, 180 - setting.quality)), SizeTarget(99_000, PIXELS)
        )
        assert found.setting == Setting(100)

    def test_less_than_the_smallest_is_refused_with_its_size(self) -> None:
        files = Files(lambda setting: round(1000 * setting.quality / setting.trade))
        with pytest.raises(ModelError, match=r"smallest file of this picture has 800 bytes \(0.0064 bpp\), above"):
            reach(files, SizeTarget(799, PIXELS))
        assert reach(Files(files.measure), SizeTarget(801, PIXELS)).measured == 800

    def test_below_the_first_quality_the_trade_still_helps(self) -> None:
        found = reach(
            Files(lambda setting: round(100_000 * setting.quality / setting.trade)), SizeTarget(90_000, PIXELS)
        )
        assert found.setting.quality == 1
        assert 87_300 <= found.measured <= 90_000

    def test_only_the_wanted_effort_fits(self) -> None:
        def size(setting: Setting) -> int:
            return round(1000 * setting.quality / setting.trade * (0.5 if setting.rounds else 1))

        assert 407 <= reach(Files(size), SizeTarget(420, PIXELS), 4).measured <= 420
        with pytest.raises(ModelError, match="has 400 bytes"):
            reach(Files(size), SizeTarget(399, PIXELS), 4)

    def test_where_the_wanted_effort_never_fits_the_search_s_file_is_taken(self) -> None:
        files = Files(lambda setting: 10**6 if setting.rounds else 1000 * setting.quality)
        found = reach(files, SizeTarget(50_500, PIXELS), 4)
        assert found.setting.rounds == 0
        assert found.measured <= 50_500

    def test_a_gap_that_no_trade_bridges(self) -> None:
        files = Files(lambda setting: 1000 if setting.quality < 60 else 5000)
        assert reach(files, SizeTarget(4999, PIXELS)).measured == 1000
        assert len(files.asked) <= MOST_TRIES


class TestPsnr:
    @given(rising(most_noise=0.002), st.floats(0, 1))
    def test_a_floor_is_kept_and_met(self, size: Measure, share: float) -> None:
        decibels = falling_error(size)
        least, most = decibels(Setting(1)), decibels(Setting(100)) - 0.05
        files = Files(decibels)
        found = reach(files, PsnrTarget(least + share * (most - least)))
        assert found.measured >= least + share * (most - least)
        assert found.measured <= least + share * (most - least) + 0.1
        assert len(files.asked) <= MOST_TRIES

    def test_less_than_the_worst_gives_quality_1(self) -> None:
        assert reach(Files(lambda setting: 20 + setting.quality / 5), PsnrTarget(10)).setting == Setting(1)

    def test_more_than_the_best_is_refused_with_its_psnr(self) -> None:
        files = Files(lambda setting: 20 + setting.quality / 5 - math.log(setting.trade))
        with pytest.raises(ModelError, match=r"finest file of this picture has 40\.22 dB, below the target of 45 dB"):
            reach(files, PsnrTarget(45), 4)
        assert len(files.asked) == 1


@pytest.mark.parametrize("target", [SizeTarget(1, 1), PsnrTarget(30)])
def test_the_axis_runs_over_all_qualities_and_the_trades_between(target: Target) -> None:
    length = abs(target.end - target.start)
    settings = [target.setting(length * part / 1000, 3) for part in range(1001)]
    assert {setting.quality for setting in settings} == set(range(1, 101))
    assert all(0.79 < setting.trade < 1.26 and setting.rounds == 3 for setting in settings)
    dearness = [math.log(setting.trade) - 0.15 * setting.quality for setting in settings]
    assert dearness == sorted(dearness, reverse=isinstance(target, SizeTarget))
    assert settings[-1] == Setting(100 if isinstance(target, SizeTarget) else 1, 1.0, 3)


class TestWish:
    def test_a_bpp_is_a_ceiling_in_bytes(self) -> None:
        assert Wish(target_bpp=0.25).target(768, 512) == SizeTarget(12288, 768 * 512)
        assert Wish(target_size=12288).target(768, 512) == SizeTarget(12288, 768 * 512)
        assert Wish(target_psnr=30.5).target(768, 512) == PsnrTarget(30.5)
        assert not Wish(quality=3).has_target

    @given(st.floats(1e-6, 100), st.integers(1, 10**7))
    def test_a_bpp_is_never_exceeded(self, bpp: float, pixels: int) -> None:
        target = Wish(target_bpp=bpp).target(pixels, 1)
        assert isinstance(target, SizeTarget)
        assert 8 * target.limit / pixels <= bpp
        assert 8 * (target.limit + 1.001) / pixels >= bpp

    def test_a_ceiling_of_nothing_is_refused_as_others_are(self) -> None:
        target = Wish(target_bpp=1e-6).target(3, 3)
        with pytest.raises(ModelError, match="the smallest file of this picture has 20 bytes"):
            reach(Files(lambda setting: 20), target)

    @pytest.mark.parametrize(
        ("wish", "message"),
        [
            ({"quality": 5, "target_bpp": 0.1}, "quality and target_bpp contradict each other: give one"),
            ({"target_size": 5, "target_psnr": 30}, "target_size and target_psnr contradict"),
            ({"target_bpp": 0}, "target_bpp 0 is out of range"),
            ({"target_bpp": math.nan}, "target_bpp nan is out of range"),
            ({"target_size": -1}, "target_size -1 is out of range"),
            ({"target_psnr": math.inf}, "target_psnr inf is out of range"),
            ({"target_psnr": 101}, "target_psnr 101 is out of range: give dB, more than 0 and at most 100"),
            ({"effort": 0}, "effort 0 is out of range: give 1 to 9"),
            ({"effort": 10}, "effort 10 is out of range"),
        ],
    )
    def test_refusals(self, wish: dict[str, float], message: str, hyper: Codec, pixels: np.ndarray) -> None:
        with pytest.raises(ModelError, match=message):
            hyper.compress(pixels, **wish)

    def test_efforts(self) -> None:
        rounds = [rounds_of(effort) for effort in EFFORTS]
        assert rounds[0] == 0
        assert rounds == sorted(set(rounds))


def test_a_single_rate_fits_or_is_refused() -> None:
    assert single(Files(lambda setting: 500), SizeTarget(500, PIXELS), 1, 0).measured == 500
    with pytest.raises(ModelError, match=r"has 500 bytes .* above the target of 499 bytes .* single rate"):
        single(Files(lambda setting: 500), SizeTarget(499, PIXELS), 1, 3)


@pytest.fixture(scope="module")
def rated_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rated") / "rated.safetensors"
    path.write_bytes(rated_model("rated"))
    return path


@pytest.fixture(scope="module")
def rated(rated_path: Path) -> Codec:
    return load(rated_path, device="cpu")


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    return smooth(150, 203, seed=3)


class TestRealFiles:
    def test_quality_and_effort_take_effect(self, rated: Codec, scene: np.ndarray) -> None:
        sizes = [len(rated.compress(scene, quality=quality)) for quality in (1, 30, 60, 100)]
        assert sizes == sorted(set(sizes))
        assert rated.compress(scene) == rated.compress(scene, quality=DEFAULT_QUALITY)
        plain, refined = (rated.compress_picture(Picture(scene), quality=60, effort=effort) for effort in (1, 4))
        assert plain.data != refined.data
        assert refined.codes == rated.encode(scene, quality=60, effort=4)
        decoded = [np.asarray(rated.decompress(done.data)) for done in (plain, refined)]
        assert psnr(scene, decoded[0]) < psnr(scene, decoded[1])

    @pytest.mark.parametrize("effort", [1, 4])
    def test_sizes(self, rated: Codec, scene: np.ndarray, effort: int) -> None:
        for limit in (700, 1500, 2200):
            data = rated.compress(scene, target_size=limit, effort=effort)
            assert 0.97 * limit <= len(data) <= limit
            assert rated.decompress(data).size == (203, 150)

    def test_bits_per_pixel_count_the_whole_file(self, rated: Codec, scene: np.ndarray) -> None:
        noisy = np.random.default_rng(1).integers(0, 256, scene.shape[:2], dtype=np.uint8)
        pixels = np.dstack([scene, noisy >> 5 << 5 | 16])  # nowhere 0, where colours do not count
        done = rated.compress_picture(Picture(pixels[:, :, :3], alpha=pixels[:, :, 3]), target_bpp=4.1)
        assert done.sections_bytes > 10_000
        assert 0.97 * 4.1 <= done.bpp <= 4.1
        assert rated.compress(pixels, target_bpp=4.1) == done.data

    def test_ends(self, rated: Codec, scene: np.ndarray) -> None:
        assert rated.compress(scene, target_bpp=50) == rated.compress(scene, quality=100)
        assert rated.compress(scene, target_psnr=1) == rated.compress(scene, quality=1)
        with pytest.raises(ModelError, match=r"the smallest file of this picture has \d+ bytes .* above the target"):
            rated.compress(scene, target_size=14)
        with pytest.raises(
            ModelError, match=r"the finest file of this picture has \d+\.\d\d dB, below the target of 60"
        ):
            rated.compress(scene, target_psnr=60)

    @pytest.mark.parametrize(("limit", "halvings"), [(400, 1), (120, 2), (60, 3)])
    def test_below_the_smallest_the_picture_is_reduced(
        self, rated: Codec, scene: np.ndarray, limit: int, halvings: int
    ) -> None:
        done = rated.compress_picture(Picture(scene), target_size=limit)
        assert done.codes.halvings == halvings
        assert 0.9 * limit <= len(done.data) <= limit
        assert done.codes.coded_size == (-(-203 // 2**halvings), -(-150 // 2**halvings))
        picture = rated.decompress(done.data)
        assert picture.size == (203, 150)
        small = Codes(done.codes.stages, *done.codes.coded_size, rated.model_id, done.codes.quality)
        enlarged = rated.decode(small).resize((203, 150), Image.Resampling.LANCZOS)
        assert np.array_equal(np.asarray(picture), np.asarray(enlarged))

    def test_other_errors_of_a_model_are_not_tried_again(self) -> None:
        tried: list[int] = []

        def attempt(halvings: int, setting: Setting) -> tuple[float, None]:
            tried.append(halvings)
            raise ModelError("the weights are missing")

        with pytest.raises(ModelError, match="the weights are missing"):
            reach_reduced(attempt, SizeTarget(100, PIXELS), 0, 5)
        assert tried == [0]

    def test_an_erratic_model_never_exceeds(self, hyper: Codec, scene: np.ndarray) -> None:
        for limit in (2400, 2700, 3000):
            assert len(hyper.compress(scene, target_size=limit, effort=2)) <= limit

    def test_psnr(self, rated_path: Path, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
        """The decoder is replaced by one whose error falls with the bits: its weights were never trained."""
        codec = Codec(gmvqzip.codec.registry.read_info(rated_path), "cpu")
        grain = np.random.default_rng(2).uniform(-1, 1, scene.shape)

        def synthesised(coded: Coded, region: Box) -> Iterator[tuple[Box, np.ndarray]]:
            error = 150_000 / sum(coded.bits()) * grain
            yield region, np.moveaxis(((scene / 2 + 64 + error) / 255)[region.cells()].astype(np.float32), 2, 0)

        monkeypatch.setattr(Coded, "_synthesised", synthesised)
        picture = Picture((scene / 2 + 64).astype(np.uint8))
        for target, effort in ((26, 1), (32, 1), (32, 3)):
            done = codec.compress_picture(picture, target_psnr=target, effort=effort)
            reached = psnr(picture.pixels, codec.decompress_picture(done.data).pixels)
            assert done.psnr == reached
            assert target <= reached <= target + 0.1
        assert codec.compress_picture(picture, quality=60).psnr is None

    def test_the_module_s_functions(self, rated_path: Path, rated: Codec, scene: np.ndarray) -> None:
        options = {"model": rated_path, "device": "cpu"}
        assert gmvqzip.compress(scene, **options, target_size=900, effort=2) == rated.compress(
            scene, target_size=900, effort=2
        )
        assert gmvqzip.encode(scene, **options, quality=9, effort=2) == rated.encode(scene, quality=9, effort=2)


class TestQualities:
    def test_a_model_with_qualities(self, rated: Codec, scene: np.ndarray) -> None:
        assert rated.qualities == range(1, 101)
        bench = Gmvq(rated)
        assert list(bench.ladder) == list(range(1, 101))
        assert bench.encode(scene, 30) == rated.compress(scene, quality=30)

    def test_a_model_with_a_single_rate(self, tiny: Codec, pixels: np.ndarray) -> None:
        assert not tiny.qualities
        assert list(Gmvq(tiny).ladder) == [SINGLE_RATE]
        data = tiny.compress(pixels)
        first = tiny.compress(pixels, effort=1)
        assert tiny.compress(pixels, target_size=max(len(data), len(first))) == data
        assert tiny.compress(pixels, target_bpp=8 * len(data) / (37 * 23)) == data
        with pytest.raises(ModelError, match="single rate"):
            tiny.compress(pixels, target_size=min(len(data), len(first)) - 1)
        reached = psnr(pixels, np.asarray(tiny.decompress(data)))
        assert tiny.compress_picture(Picture(pixels), target_psnr=reached).psnr == reached
        with pytest.raises(ModelError, match="single rate"):
            tiny.compress(pixels, target_psnr=reached + 0.01)
