"""Tables of mixtures under classes, against the formula in whole numbers of any size."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from context_tensors import group_tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from gmvqzip.entropy.mixture import EXPONENTIAL, LIMITS, MAX_CLASSES, GroupMixtures, load_mixtures
from gmvqzip.entropy.tables import TOTAL, check_table
from gmvqzip.errors import ModelError

SHAPE = (2, 7, 4)


def exact_exponential() -> list[Decimal]:
    """2^(30 - f/1024) for f = 0 .. 1023, to 40 digits."""
    with localcontext() as context:
        context.prec = 50
        return [Decimal(2) ** (Decimal(30) - Decimal(f) / 1024) for f in range(1024)]


def reference(tensors: dict[str, Any], group: int, first: int, second: int) -> list[int]:
    """The table of a group under a class pair, as the module's docstring writes it, in Python's integers."""
    scores = []
    for code, word in enumerate(tensors["codebook"][group].tolist()):
        weighted, reach = 0, 16 * (2 ** int(tensors["extra"][code]) - 1) if "extra" in tensors else 0
        word = [max(0, abs(v) - reach) for v in word]
        for half, t in enumerate((first, second)):
            part = word[: len(word) // 2] if half == 0 else word[len(word) // 2 :]
            weighted += int(tensors["precision"][group][half][t]) * sum(v * v for v in part)
            weighted += int(tensors["slope"][group][half][t]) * sum(abs(v) for v in part)
        scores.append(int(tensors["bias"][group][code]) - weighted // 2**16)
    best = max(scores)
    weights = [int(EXPONENTIAL[(best - s) % 1024]) >> (best - s) // 1024 for s in scores]
    table = [1 + e * (TOTAL - len(scores)) // sum(weights) for e in weights]
    table[scores.index(best)] += TOTAL - sum(table)
    return table


def drawn(seed: int, shape: tuple[int, int, int] = SHAPE, classes: int = 5) -> dict[str, Any]:
    return group_tensors(np.random.default_rng(seed), "", shape, classes)


class TestExponential:
    def test_each_entry_is_the_nearest_integer(self) -> None:
        assert EXPONENTIAL.dtype == np.int64
        for found, exact in zip(EXPONENTIAL.tolist(), exact_exponential(), strict=True):
            assert abs(found - exact) < Decimal("0.5")

    def test_no_entry_is_near_a_tie(self) -> None:
        fractions = [abs(exact % 1 - Decimal("0.5")) for exact in exact_exponential()]
        assert min(fractions) > Decimal("1e-4")  # a float64 power is off by less than 10^-6


class TestTables:
    @given(seed=st.integers(0, 2**32 - 1), codes=st.integers(2, 40), half=st.integers(1, 4))
    @settings(max_examples=40, deadline=None)
    def test_against_the_reference(self, seed: int, codes: int, half: int) -> None:
        shape = (2, codes, 2 * half)
        tensors = drawn(seed, shape)
        mixtures = load_mixtures(tensors, shape)
        pairs = np.random.default_rng(seed).permutation(25)[:6]
        for group in range(2):
            for pair, table in zip(pairs.tolist(), mixtures.tables(group, pairs), strict=True):
                assert table.tolist() == reference(tensors, group, *divmod(pair, 5))
                check_table(table)

    @given(seed=st.integers(0, 2**32 - 1), codes=st.integers(2, 40))
    @settings(max_examples=20, deadline=None)
    def test_a_shared_codebook_with_extra_bits(self, seed: int, codes: int) -> None:
        generator = np.random.default_rng(seed)
        tensors = group_tensors(generator, "", (1, codes, 2), 5)
        tensors["extra"] = generator.integers(0, 4, codes).astype(np.int8)
        tensors["extra"][0] = 0
        mixtures = load_mixtures(tensors, (7, codes, 2), shared=True)
        pairs = generator.permutation(25)[:6]
        for pair, table in zip(pairs.tolist(), mixtures.tables(0, pairs), strict=True):
            assert table.tolist() == reference(tensors, 0, *divmod(pair, 5))

    @pytest.mark.parametrize("sign", [1, -1])
    def test_extreme_numbers(self, sign: int) -> None:
        tensors = drawn(0)
        tensors["codebook"][:, 1:] = sign * LIMITS["codebook"]
        tensors["codebook"][:, 2, 1:] = 0
        tensors["bias"][:] = sign * LIMITS["bias"]
        tensors["bias"][:, 3] *= -1
        tensors["precision"][:] = sign * LIMITS["precision"]
        tensors["slope"][:] = LIMITS["slope"]
        mixtures = load_mixtures(tensors, SHAPE)
        for pair, table in enumerate(mixtures.tables(0, np.arange(25))):
            assert table.tolist() == reference(tensors, 0, *divmod(pair, 5))
            check_table(table)

    def test_equal_scores_share_and_the_first_takes_the_rest(self) -> None:
        tensors = drawn(0, (1, 3, 2))
        tensors["codebook"][:] = 0
        tensors["bias"][:] = 5
        (table,) = load_mixtures(tensors, (1, 3, 2)).tables(0, np.array([0]))
        third = 1 + (TOTAL - 3) // 3
        assert table.tolist() == [TOTAL - 2 * third, third, third]

    def test_a_worthless_code_keeps_one(self) -> None:
        tensors = drawn(0, (1, 3, 2))
        tensors["codebook"][:] = 0
        tensors["bias"][:] = [[0, 1 << 20, 0]]
        (table,) = load_mixtures(tensors, (1, 3, 2)).tables(0, np.array([0]))
        assert table.tolist() == [1, TOTAL - 2, 1]

    def test_the_largest_table(self) -> None:
        shape = (1, 65536, 2)
        mixtures = load_mixtures(drawn(1, shape), shape)
        (table,) = mixtures.tables(0, np.array([7]))
        check_table(table)

    def test_tables_are_kept(self) -> None:
        mixtures = load_mixtures(drawn(0), SHAPE)
        first = mixtures.tables(1, np.array([3, 8]))
        again = mixtures.tables(1, np.array([8, 2, 3]))
        assert again[0] is first[1]
        assert again[2] is first[0]
        assert not np.array_equal(mixtures.tables(0, np.array([3]))[0], first[0])


def changed(name: str, value: Any) -> dict[str, Any]:
    return drawn(0) | {name: value}


class TestRefusals:
    def test_what_is_drawn_is_taken(self) -> None:
        mixtures = load_mixtures(drawn(0), SHAPE)
        assert isinstance(mixtures, GroupMixtures)
        assert mixtures.classes == 5
        assert {part.dtype for part in (mixtures.codebook, mixtures.bias, mixtures.slope)} == {np.dtype(np.int64)}

    @pytest.mark.parametrize("name", ["codebook", "bias", "precision", "slope"])
    def test_each_tensor(self, name: str) -> None:
        good = drawn(0)[name]
        wrong = [
            good[:1],
            good[..., :-1],
            good.astype(np.float32),
            good.astype(np.uint32),
            good[0, 0, ..., None],
            good[:0],
        ]
        wrong.append(np.int32(3) * np.ones((), np.int32))
        for value in wrong:
            with pytest.raises(ModelError, match="wrong tensor"):
                load_mixtures(changed(name, value), SHAPE)
        for extreme in (LIMITS[name] + 1, -LIMITS[name] - 1, np.iinfo(np.int64).min, np.iinfo(np.int64).max):
            large = good.astype(np.int64)
            large.reshape(-1)[-1] = extreme
            with pytest.raises(ModelError, match=f"'{name}' of groups is out of range"):
                load_mixtures(changed(name, large), SHAPE)

    def test_the_name_is_told_with_its_prefix(self) -> None:
        tensors = {f"groups.7.{name}": value for name, value in drawn(0).items()}
        assert load_mixtures(tensors, SHAPE, "groups.7.").classes == 5
        with pytest.raises(ModelError, match=r"'groups\.7\.bias'"):
            load_mixtures(tensors | {"groups.7.bias": np.zeros(3, np.int32)}, SHAPE, "groups.7.")

    def test_code_0(self) -> None:
        tensors = drawn(0)
        tensors["codebook"][1, 0, 2] = 1
        with pytest.raises(ModelError, match="zero vector"):
            load_mixtures(tensors, SHAPE)

    def test_classes(self) -> None:
        for classes, good in ((0, False), (1, True), (MAX_CLASSES, True), (MAX_CLASSES + 1, False)):
            sides = {name: np.zeros((2, 2, classes), np.int32) for name in ("precision", "slope")}
            if good:
                assert load_mixtures(drawn(0) | sides, SHAPE).classes == classes
            else:
                with pytest.raises(ModelError, match="wrong tensor"):
                    load_mixtures(drawn(0) | sides, SHAPE)

    def test_scores_beyond_64_bits(self) -> None:
        shape = (1, 2, 2048)
        tensors = group_tensors(np.random.default_rng(0), "", shape, 1)
        tensors["codebook"][:, 1] = LIMITS["codebook"]
        tensors["precision"][:] = LIMITS["precision"] // 256
        load_mixtures(tensors, shape)
        tensors["precision"][:] = LIMITS["precision"] // 64
        with pytest.raises(ModelError, match="64 bits"):
            load_mixtures(tensors, shape)
