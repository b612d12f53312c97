"""Rate differences on synthetic curves whose answer is known."""

from __future__ import annotations

import math
import random
import sys

import numpy as np
import pytest

from gmvqzip.bench.rates import LEAST_POINTS, rate_difference, rising

RATES = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6]


def straight(rate: float) -> float:
    """6 dB for each doubling of the rate."""
    return 30 + 6 * math.log2(rate)


def curved(rate: float) -> float:
    return 45 * (1 - math.exp(-rate)) + 10 * math.log10(rate) + 20


@pytest.fixture
def package() -> None:
    pytest.importorskip("bjontegaard")


@pytest.mark.usefixtures("package")
class TestBdRate:
    @pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.25, 2.0])
    @pytest.mark.parametrize("law", [straight, curved])
    @pytest.mark.parametrize("window", [None, (0.1, 0.9), (0.001, 100.0)])
    def test_rates_times_a_factor(self, factor: float, law: object, window: tuple[float, float] | None) -> None:
        anchor = [(rate, law(rate)) for rate in RATES]
        tested = [(rate * factor, quality) for rate, quality in anchor]
        found = rate_difference(anchor, tested, window)
        assert found.percent == pytest.approx(100 * (factor - 1), abs=1e-6)
        assert found.note == ""

    @pytest.mark.parametrize(
        ("window", "low", "high"), [(None, 0.05, 1.6), ((0.1, 0.4), 0.2, 0.4), ((0.3, 3), 0.6, 1.6)]
    )
    def test_the_range_of_quality(self, window: tuple[float, float] | None, low: float, high: float) -> None:
        """At half the rate the tested curve reaches at 0.1 bpp what the anchor reaches at 0.2."""
        anchor = [(rate, straight(rate)) for rate in RATES]
        found = rate_difference(anchor, [(rate / 2, quality) for rate, quality in anchor], window)
        assert (found.low, found.high) == pytest.approx((straight(low), straight(high)))
        assert found.overlap == pytest.approx(math.log2(high / low) / math.log2(1.6 / 0.05))

    def test_a_gain_that_grows_with_quality(self) -> None:
        """log rate lower by (quality - 10) / 100: the mean over a range is that of its middle."""
        anchor = [(10 ** (quality / 20), quality) for quality in (10.0, 15.0, 20.0, 25.0, 30.0)]
        tested = [(10 ** (quality / 20 - (quality - 10) / 100), quality) for quality in (10.0, 16.0, 22.0, 30.0)]
        assert rate_difference(anchor, tested).percent == pytest.approx(100 * (10**-0.1 - 1), abs=1e-6)
        window = (10**0.6, 10**1.0)  # the anchor reaches 12 to 20 dB there, the tested curve 12.5 to 22.5
        found = rate_difference(anchor, tested, window)
        assert (found.low, found.high) == pytest.approx((12.5, 20))
        assert found.percent == pytest.approx(100 * (10 ** (-(16.25 - 10) / 100) - 1), abs=1e-6)

    def test_without_a_window_it_is_the_package_s_number(self) -> None:
        import bjontegaard

        anchor = [(rate, curved(rate)) for rate in RATES]
        tested = [(rate * 0.8 + 0.02, curved(rate) + 1) for rate in RATES[1:]]
        columns = [*zip(*anchor, strict=True), *zip(*tested, strict=True)]
        expected = bjontegaard.bd_rate(*columns, method="pchip", require_matching_points=False, min_overlap=0)
        assert rate_difference(anchor, tested).percent == pytest.approx(expected, rel=1e-9)

    def test_the_order_of_points_does_not_matter(self) -> None:
        anchor = [(rate, curved(rate)) for rate in RATES]
        tested = [(rate * 0.7, quality + 0.3) for rate, quality in anchor]
        expected = rate_difference(anchor, tested, (0.1, 1))
        random.Random(1).shuffle(anchor)
        assert rate_difference(anchor, tested[::-1], (0.1, 1)) == expected

    def test_swapping_the_curves_inverts_the_ratio(self) -> None:
        a = [(rate, curved(rate)) for rate in RATES]
        b = [(rate * 0.7 + 0.01, quality + 0.3) for rate, quality in a]
        there, back = rate_difference(a, b, (0.1, 1)).percent, rate_difference(b, a, (0.1, 1)).percent
        assert there is not None and back is not None
        assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1)

    def test_no_common_quality(self) -> None:
        anchor = [(rate, straight(rate)) for rate in RATES]
        assert "no common" in rate_difference(anchor, [(rate, quality + 100) for rate, quality in anchor]).note
        far = [(rate * 100, quality) for rate, quality in anchor]
        found = rate_difference(anchor, far, (0.1, 0.5))
        assert (found.percent, found.note) == (None, "a curve has no rates from 0.1 to 0.5 bpp")
        near = [(rate * 8, quality) for rate, quality in anchor]
        found = rate_difference(anchor, near, (0.4, 0.8))
        assert (found.percent, found.note) == (None, "the curves reach no common quality in the window")


@pytest.mark.usefixtures("package")
class TestRangeOfQuality:
    anchor = tuple((10 ** (score / 50), score) for score in (-40.0, -5.0, 20.0, 45.0, 70.0, 95.0))

    @pytest.mark.parametrize("factor", [0.6, 1.0, 1.3])
    def test_rates_times_a_factor(self, factor: float) -> None:
        found = rate_difference(self.anchor, [(rate * factor, score) for rate, score in self.anchor], wanted=(30, 80))
        assert found.percent == pytest.approx(100 * (factor - 1), abs=1e-6)
        assert (found.low, found.high, found.overlap) == (30, 80, 1)

    def test_only_the_range_counts(self) -> None:
        """log10 rate lower by (score - 20) / 500: the mean over 30 to 80 is that of 55, whatever lies outside."""
        tested = [(rate * 10 ** (-(score - 20) / 500), score) for rate, score in self.anchor]
        assert rate_difference(self.anchor, tested, wanted=(30, 80)).percent == pytest.approx(100 * (10**-0.07 - 1))
        assert rate_difference(self.anchor, tested, wanted=(0, 40)).percent == pytest.approx(0)

    def test_a_part_of_the_range(self) -> None:
        tested = [(rate * 0.9, score) for rate, score in self.anchor if score < 80]
        found = rate_difference(self.anchor, tested, wanted=(30, 80))
        assert (found.percent, found.low, found.high) == (pytest.approx(-10), 30, 70)
        assert found.overlap == pytest.approx(0.8)

    def test_too_small_a_part_is_said(self) -> None:
        tested = [(rate * 0.9, score) for rate, score in self.anchor if score < 50]
        found = rate_difference(self.anchor, tested, wanted=(30, 80))
        assert (found.percent, found.low) == (None, None)
        assert found.note == "of 30 to 80 both curves reach 30.00 to 45.00 only: less than half"
        assert rate_difference(self.anchor, tested, wanted=(20, 70)).percent == pytest.approx(-10)  # just half

    def test_none_of_the_range(self) -> None:
        tested = [(rate * 0.9, score - 70) for rate, score in self.anchor]
        found = rate_difference(self.anchor, tested, wanted=(30, 80))
        assert (found.percent, found.note) == (None, "the curves reach no common quality from 30 to 80")

    def test_a_single_rate(self) -> None:
        at = rate_difference(self.anchor, [(0.5 * 10 ** (45 / 50), 45.0)], wanted=(30, 80))
        assert (at.percent, at.low, at.high, at.overlap) == (pytest.approx(-50), 45, 45, None)
        assert rate_difference(self.anchor, [(1, 12.5)], wanted=(30, 80)).note == "its 12.50 is outside 30 to 80"


def test_too_few_points() -> None:
    anchor = [(rate, straight(rate)) for rate in RATES]
    for count in range(2, LEAST_POINTS):
        found = rate_difference(anchor, anchor[:count])
        assert found.percent is None
        assert found.note == f"needs 4 points of rising quality on both curves, not {count} and 6"


def test_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bjontegaard", None)
    anchor = [(rate, straight(rate)) for rate in RATES]
    assert rate_difference(anchor, anchor).note.startswith("bjontegaard is not installed: pip install")


class TestSingleRate:
    anchor = tuple((rate, straight(rate)) for rate in RATES)

    @pytest.mark.parametrize("rate", [0.1, 0.15, 0.37, 1.5])
    def test_at_the_point(self, rate: float) -> None:
        found = rate_difference(self.anchor, [(0.6 * rate, straight(rate))])
        assert found.percent == pytest.approx(-40)
        assert found.low == found.high == straight(rate)

    def test_outside(self) -> None:
        for rate in (0.01, 3.0):
            assert "both sides" in rate_difference(self.anchor, [(0.2, straight(rate))]).note
        assert rate_difference(self.anchor, [(0.2, straight(0.3))], (0.1, 0.3)).percent is not None
        assert "outside 0.3 to 0.5" in rate_difference(self.anchor, [(0.2, straight(0.3))], (0.3, 0.5)).note


def test_rising_drops_what_costs_more_for_no_more() -> None:
    curve = [(3.0, 30.0), (1.0, 10.0), (2.0, 9.0), (2.5, 10.0), (1.0, 8.0), (4.0, 31.0)]
    assert rising(curve) == [(1.0, 10.0), (3.0, 30.0), (4.0, 31.0)]
    assert np.all(np.diff(rising(curve), axis=0) > 0)
