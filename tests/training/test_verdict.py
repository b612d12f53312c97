"""What a run is worth: differences in bytes, which pictures are measured, what is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tiny_runs import pictures

from gmvqzip.bench.codecs import WebP
from gmvqzip.bench.metrics import psnr
from gmvqzip.codec import Codec
from gmvqzip.models.registry import find
from gmvqzip.training.imagesets import MixedSet, UniformSet
from gmvqzip.training.verdict import (
    QUALITIES,
    Curve,
    Verdict,
    affordable,
    byte_difference,
    bytes_beside,
    chosen,
    model_curve,
    psnr_at,
    rival_curves,
)

BASE = Curve(QUALITIES, (0.1, 0.2, 0.4, 0.8, 1.6), (25.0, 28.0, 31.0, 33.0, 36.0))


def scaled(factor: float, shift: float = 0.0, curve: Curve = BASE) -> Curve:
    return replace(curve, bpp=tuple(factor * b for b in curve.bpp), psnr=tuple(p + shift for p in curve.psnr))


def verdict(model: Curve, start: Curve | None = None, **changes: object) -> Verdict:
    made = Verdict(40, 64, model, {"WebP": scaled(1.5), "AVIF": scaled(1.2)}, "photo" if start else "", start, 960, 5.0)
    return replace(made, **changes)  # type: ignore[arg-type]


class TestDifferences:
    @pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.3])
    def test_a_curve_of_scaled_rates(self, factor: float) -> None:
        assert byte_difference(BASE, scaled(factor)) == pytest.approx(100 * (factor - 1), abs=1e-9)

    def test_it_is_the_mean_over_the_common_range(self) -> None:
        """Half of the range at half of the rate, half at the same: the mean of logarithms."""
        anchor = Curve((1, 2), (1.0, 1.0 + 1e-12), (30.0, 34.0))
        tested = Curve((1, 2, 3, 4), (0.5, 0.5 + 1e-12, 1.0, 1.0 + 1e-9), (28.0, 32.0, 32.0 + 1e-9, 36.0))
        assert byte_difference(anchor, tested) == pytest.approx(100 * (0.5**0.5 - 1), abs=1e-4)

    def test_points_that_cost_more_for_nothing_are_left_out(self) -> None:
        folded = Curve((*QUALITIES, 100), (*BASE.bpp, 2.0), (*BASE.psnr, 35.0))
        assert byte_difference(folded, scaled(0.9)) == pytest.approx(-10)

    def test_without_a_common_psnr(self) -> None:
        assert byte_difference(BASE, scaled(1.0, 20.0)) is None
        assert bytes_beside(BASE, 0.4, 50.0) is None
        assert psnr_at(BASE, 5.0) is None

    def test_a_single_point(self) -> None:
        assert byte_difference(BASE, Curve((0,), (0.3,), (31.0,))) == pytest.approx(-25)
        assert byte_difference(Curve((0,), (0.3,), (31.0,)), Curve((0,), (0.3,), (31.0,))) is None

    def test_psnr_at_a_rate(self) -> None:
        assert psnr_at(BASE, 0.2) == pytest.approx(28)
        assert psnr_at(BASE, 0.2 * 2**0.5) == pytest.approx(29.5)


class TestPictures:
    def test_small_ones_up_to_the_limit(self) -> None:
        held = UniformSet("held", pictures(30, 0, 64))
        assert len(chosen(held, 10 * 64 * 64)) == 10
        assert len(chosen(held, 1)) == 1
        assert len(chosen(held)) == 30

    def test_of_large_ones_the_middle(self) -> None:
        large = np.zeros((300, 400, 3), dtype=np.uint8)
        large[100:200, 150:250] = 255
        found = chosen(MixedSet("large", [large, pictures(1, 0, 32)[0]], crop=32))
        assert sorted(picture.shape for picture in found) == [(32, 32, 3), (128, 128, 3)]
        assert max(found, key=len)[64, 64].tolist() == [255, 255, 255]

    def test_from_all_over_the_set(self) -> None:
        held = UniformSet(
            "held", np.arange(100, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)
        )
        first = [int(picture[0, 0, 0]) for picture in chosen(held, 20 * 64)]
        assert len(first) == 20
        assert max(first) - min(first) > 60
        assert first == [int(picture[0, 0, 0]) for picture in chosen(held, 30 * 64)][:20]

    def test_an_exact_picture_does_not_decide(self) -> None:
        flat = np.full((32, 32, 3), 128, dtype=np.uint8)
        assert max(rival_curves([flat])["WebP"].psnr) <= 50

    def test_no_more_than_there_is_time_for(self) -> None:
        held = list(pictures(6, 0, 32))
        info = find("cifar10")
        assert len(affordable(info, held, 2, 1e-9)) == 4
        assert len(affordable(info, held, 2, 1e9)) == 6


def test_a_model_s_files_are_those_of_compress() -> None:
    held = list(pictures(2, 0, 32))
    info = find("cifar10")
    codec = Codec(info, "cpu")
    curve = model_curve(info, held)
    files = [codec.compress(picture) for picture in held]
    assert curve.settings == (0,)
    assert curve.bpp[0] == pytest.approx(np.mean([8 * len(file) / 32**2 for file in files]))
    decoded = [np.asarray(codec.decompress(file)) for file in files]
    assert curve.psnr[0] == pytest.approx(np.mean([psnr(a, b) for a, b in zip(held, decoded, strict=True)]), abs=0.05)


def test_webp_is_that_of_the_bench() -> None:
    held = list(pictures(2, 3, 48))
    curve = rival_curves(held)["WebP"]
    place = curve.settings.index(80)
    sizes = [len(WebP().encode(picture, 80)) for picture in held]
    assert curve.bpp[place] == pytest.approx(np.mean([8 * size / 48**2 for size in sizes]))
    assert set(rival_curves(held, single=True)) == {"JPEG", "WebP"}


def test_every_rival_is_there() -> None:
    from PIL import features

    names = {"WebP", "AVIF", "AVIF 4:4:4"} if features.check("avif") else {"WebP"}
    assert set(rival_curves([np.asarray(Image.new("RGB", (16, 16)))])) == names


class TestWords:
    def test_better(self) -> None:
        found = verdict(scaled(0.7), BASE)
        assert not found.worse
        assert found.sentence().startswith(
            "better: 30 % fewer bytes than photo, which it started from, 53 % fewer bytes than WebP, 42 % fewer bytes "
            "than AVIF (bytes at equal PSNR, mean over qualities 20 to 95, 40 held-back pictures of at most 64x64). "
            "Next: more time"
        )

    def test_worse(self) -> None:
        found = verdict(scaled(1.1), BASE)
        assert found.worse
        assert found.sentence().startswith("worse: 10 % more bytes than photo")

    def test_from_scratch(self) -> None:
        found = verdict(scaled(1.8))
        assert not found.worse
        assert found.sentence().startswith("20 % more bytes than WebP, 50 % more bytes than AVIF (bytes")

    @pytest.mark.parametrize("factor", [0.995, 1.005])
    def test_a_hair_is_no_difference(self, factor: float) -> None:
        found = verdict(scaled(factor), BASE)
        assert found.sentence().startswith("level: as many bytes as photo, which it started from, ")
        assert found.worse == (factor > 1)  # the start is kept all the same

    def test_without_a_common_psnr_the_higher_is_better(self) -> None:
        assert not verdict(scaled(1.0, 20.0), BASE).worse
        assert verdict(scaled(1.0, -20.0), BASE).worse

    @pytest.mark.parametrize(
        ("trained", "passes", "words"),
        [
            (960, 5.0, "each picture was seen 5.0 times only, then more pictures"),
            (5000, 5.0, "each picture was seen 5.0 times only."),
            (300, 90.0, "more pictures than these 300, which were seen 90 times each"),
            (5000, 90.0, "more time and pictures of the same kind"),
        ],
    )
    def test_what_to_do_next(self, trained: int, passes: float, words: str) -> None:
        assert words in verdict(scaled(0.7), BASE, trained=trained, passes=passes).sentence()

    def test_what_webp_does_better(self) -> None:
        assert "another preset" in verdict(scaled(1.8), trained=5000, passes=90.0).sentence()

    def test_a_single_rate(self) -> None:
        """Two single rates are compared by what WebP needs for the PSNR of each."""
        found = verdict(Curve((0,), (0.3,), (31.0,)), Curve((0,), (0.2,), (28.0,)))
        assert found.from_start == pytest.approx(100 * (0.5 / (0.2 / 0.3) - 1))
        assert found.sentence().startswith("better: 25 % fewer bytes than photo, which it started from, 50 % fewer")
        assert "mean over qualities" not in found.sentence()
        assert len(found.lines()) == 3

    def test_the_table(self) -> None:
        lines = verdict(scaled(0.75), BASE).lines()
        assert lines[0].split()[:6] == ["quality", "bpp", "PSNR", "WebP", "AVIF", "photo"]
        assert lines[1].split() == ["20", "0.075", "25.00", "-50", "%", "-38", "%", "-25", "%"]
        assert len(lines) == len(QUALITIES) + 2
        beyond = verdict(scaled(0.75, 2.0), BASE).lines()
        assert beyond[5].split() == ["95", "1.200", "38.00", "-", "-", "-"]

    def test_its_dictionary_is_plain(self) -> None:
        import json

        found = verdict(scaled(0.7), BASE).to_dict()
        assert json.loads(json.dumps(found)) == found
        assert found["percent_of_bytes"]["photo"] == pytest.approx(-30)
