"""PSNR and MS-SSIM: against slow, independent ones, and on cases with a known answer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from fakes import scene
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from gmvqzip.bench import metrics
from gmvqzip.bench.metrics import SSIMULACRA2_SIDE, Pixels, decibels, ms_ssim, psnr, scales_of, ssimulacra2
from gmvqzip.errors import ImageError

WEIGHTS = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]


def slow_ms_ssim(original: Pixels, decoded: Pixels, weights: list[float]) -> float:
    """In double precision, window by window, with variances as means of squared differences."""
    places = np.arange(11) - 5
    bell = np.exp(-(places[:, None] ** 2 + places[None, :] ** 2) / (2 * 1.5**2))
    bell /= bell.sum()
    channels = []
    for c in range(3):
        x, y = original[..., c].astype(float), decoded[..., c].astype(float)
        value = 1.0
        for number, weight in enumerate(weights):
            if number:
                x, y = halved(x), halved(y)
            in_x, in_y = sliding_window_view(x, (11, 11)), sliding_window_view(y, (11, 11))
            mean_x, mean_y = (in_x * bell).sum((2, 3)), (in_y * bell).sum((2, 3))
            off_x, off_y = in_x - mean_x[..., None, None], in_y - mean_y[..., None, None]
            var_x, var_y = (off_x**2 * bell).sum((2, 3)), (off_y**2 * bell).sum((2, 3))
            structure = (2 * (off_x * off_y * bell).sum((2, 3)) + 58.5225) / (var_x + var_y + 58.5225)
            luminance = (2 * mean_x * mean_y + 6.5025) / (mean_x**2 + mean_y**2 + 6.5025)
            last = number == len(weights) - 1
            value *= max((structure * luminance if last else structure).mean(), 0) ** weight
        channels.append(value)
    return float(np.mean(channels))


def halved(plane: np.ndarray) -> np.ndarray:
    rows, columns = plane.shape
    return np.array(
        [
            [
                np.mean([plane[min(r + a, rows - 1), min(c + b, columns - 1)] for a in (0, 1) for b in (0, 1)])
                for c in range(0, columns, 2)
            ]
            for r in range(0, rows, 2)
        ]
    )


def damaged(picture: Pixels, strength: float) -> Pixels:
    noise = np.random.default_rng(9).normal(0, strength, picture.shape)
    return np.clip(picture * 0.9 + 5 + noise, 0, 255).astype(np.uint8)


class TestMsSsim:
    @pytest.mark.parametrize("strength", [0.0, 3.0, 60.0])
    def test_five_scales_as_the_slow_one(self, strength: float) -> None:
        original = scene(163, 166)  # odd sides at several scales
        decoded = damaged(original, strength)
        assert ms_ssim(original, decoded) == pytest.approx(slow_ms_ssim(original, decoded, WEIGHTS), abs=1e-6)

    @pytest.mark.parametrize(("side", "scales"), [(11, 1), (20, 1), (21, 2), (40, 2), (41, 3), (80, 3), (81, 4)])
    def test_small_pictures_have_fewer_scales(self, side: int, scales: int) -> None:
        original = scene(side, 90)
        decoded = damaged(original, 10)
        weights = [weight / sum(WEIGHTS[:scales]) for weight in WEIGHTS[:scales]]
        assert scales_of(side, 90) == scales_of(90, side) == scales
        assert ms_ssim(original, decoded) == pytest.approx(slow_ms_ssim(original, decoded, weights), abs=1e-6)

    @pytest.mark.parametrize(("side", "scales"), [(160, 4), (161, 5), (4000, 5)])
    def test_five_scales_from_161_pixels(self, side: int, scales: int) -> None:
        assert scales_of(side, 5000) == scales

    def test_itself(self) -> None:
        picture = scene(170, 180)
        assert ms_ssim(picture, picture) == 1

    def test_symmetric_and_falling_with_noise(self) -> None:
        original = scene(170, 165)
        values = [ms_ssim(original, damaged(original, strength)) for strength in (0, 5, 20, 80)]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == 4
        other = damaged(original, 20)
        assert ms_ssim(original, other) == pytest.approx(ms_ssim(other, original), abs=1e-6)

    def test_a_negative_counts_as_nothing(self) -> None:
        board = np.indices((30, 30)).sum(axis=0) % 2 * 255
        picture = np.repeat(board[:, :, None], 3, axis=2).astype(np.uint8)
        assert ms_ssim(picture, 255 - picture) == 0

    def test_a_channel_is_a_third(self) -> None:
        original = scene(50, 50)
        decoded = original.copy()
        decoded[..., 1] = damaged(original, 30)[..., 1]
        alone = [np.repeat(part[..., 1:2], 3, axis=2) for part in (original, decoded)]
        assert ms_ssim(original, decoded) == pytest.approx((2 + ms_ssim(*alone)) / 3, abs=1e-6)

    def test_too_small(self) -> None:
        picture = scene(10, 400)
        with pytest.raises(ImageError, match="400x10 is too small to be measured"):
            ms_ssim(picture, picture)


class TestPsnr:
    def test_a_known_error(self) -> None:
        picture = np.full((20, 30, 3), 100, dtype=np.uint8)
        assert psnr(picture, picture + np.uint8(5)) == pytest.approx(20 * math.log10(255 / 5))
        one = picture.copy()
        one[0, 0, 0] = 0
        assert psnr(picture, one) == pytest.approx(10 * math.log10(255**2 / (100**2 / 1800)))

    def test_no_overflow_of_bytes(self) -> None:
        black, white = np.zeros((11, 11, 3), np.uint8), np.full((11, 11, 3), 255, np.uint8)
        assert psnr(black, white) == psnr(white, black) == 0

    def test_itself_is_100(self) -> None:
        assert psnr(scene(20, 20), scene(20, 20)) == 100

    def test_other_shapes_are_refused(self) -> None:
        for measure in (psnr, ms_ssim):
            with pytest.raises(ImageError, match="cannot be compared"):
                measure(scene(20, 20), scene(20, 21))
            with pytest.raises(ImageError, match="cannot be compared"):
                measure(scene(20, 20)[..., 0], scene(20, 20)[..., 0])


class TestSsimulacra2:
    @pytest.fixture(autouse=True)
    def package(self) -> None:
        pytest.importorskip("ssimulacra2")

    def test_itself_is_100(self) -> None:
        picture = scene(225, 230)
        assert ssimulacra2(picture, picture) == 100

    def test_falling_with_noise(self) -> None:
        original = scene(240, 232)
        values = [ssimulacra2(original, damaged(original, strength)) for strength in (0, 5, 20, 80)]
        assert values == sorted(values, reverse=True)
        assert values[0] < 100 and values[-1] < 0

    def test_the_package_s_number_for_files(self, tmp_path: Path) -> None:
        from ssimulacra2 import compute_ssimulacra2

        original = scene(226, 251)
        decoded = damaged(original, 4)
        for name, pixels in (("a.png", original), ("b.png", decoded)):
            Image.fromarray(pixels).save(tmp_path / name)
        assert ssimulacra2(original, decoded) == compute_ssimulacra2(tmp_path / "a.png", tmp_path / "b.png")

    def test_where_the_metric_says_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small = scene(SSIMULACRA2_SIDE - 1, 300)
        with pytest.raises(ImageError, match="300x224 is too small for SSIMULACRA2: a side must have 225 pixels"):
            ssimulacra2(small, small)
        monkeypatch.setattr(metrics, "_half_of_memory", lambda: 50e6)
        large = np.zeros((300, 400, 3), np.uint8)
        with pytest.raises(ImageError, match=r"400x300 is too large for SSIMULACRA2 here: it takes 0\.1 GB of memory"):
            ssimulacra2(large, large)

    def test_fewer_scales_shift_the_weights(self) -> None:
        """Why small pictures are left out: from 224 pixels on, one scale's weights are another's."""
        from ssimulacra2 import compute_ssimulacra2

        picture = scene(SSIMULACRA2_SIDE, SSIMULACRA2_SIDE)
        other = damaged(picture, 10)
        parts = [metrics._as_file(part) for part in (picture, other, picture[:-1], other[:-1])]
        whole, cut = compute_ssimulacra2(*parts[:2]), compute_ssimulacra2(*parts[2:])
        assert whole == ssimulacra2(picture, other)
        assert abs(whole - cut) > 10  # of one row in 225


def test_decibels() -> None:
    assert decibels(0.01) == pytest.approx(20)
    assert decibels(0) == decibels(-1e-9) == 100
    assert sum(metrics.SCALE_WEIGHTS) == pytest.approx(1, abs=2e-4)
