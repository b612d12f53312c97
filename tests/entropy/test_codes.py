from __future__ import annotations

import copy
import pickle
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gmvqzip.entropy.codes import Codes, codes_crc32
from gmvqzip.errors import FormatError

BASE: dict[str, Any] = {
    "stages": (np.array([[1, 2]]), np.array([[3, 65535, 0, 7], [4, 5, 6, 8]])),
    "width": 100,
    "height": 30,
    "model_id": "ab" * 32,
    "quality": 0,
}


def codes(**changes: Any) -> Codes:
    return Codes(**{**BASE, **changes})


def test_stages_are_kept_apart_from_the_caller() -> None:
    mine = np.arange(6, dtype=np.int32).reshape(2, 3)
    kept = codes(stages=(mine, np.asfortranarray(mine))).stages
    mine[0, 0] = 9
    assert kept[0][0, 0] == 0
    assert all(stage.dtype == np.int32 and stage.flags.c_contiguous for stage in kept)
    with pytest.raises(ValueError, match="read-only"):
        kept[0][0, 0] = 1


def test_an_array_that_nobody_can_write_to_is_not_copied() -> None:
    fixed = np.arange(6, dtype=np.int32).reshape(2, 3).copy()
    fixed.flags.writeable = False
    assert codes(stages=(fixed,)).stages[0] is fixed
    assert codes(stages=(fixed.astype(np.int64),)).stages[0].dtype == np.int32


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda known: pickle.loads(pickle.dumps(known))])
def test_copies_are_as_fixed(duplicate: Callable[[Codes], Codes]) -> None:
    changes = {"gray": True, "tile": 64, "offsets": [[0, 1, 2, -3]]}
    other = duplicate(codes(**changes))
    assert other == codes(**changes)
    assert other != codes(**changes | {"offsets": [[0, 1, 2, 3]]})
    with pytest.raises(ValueError, match="read-only"):
        other.stages[0][0, 0] = 1


@pytest.mark.parametrize("name", ["stages", "width", "height", "model_id", "quality", "gray", "halvings", "tile"])
@pytest.mark.parametrize("value", [None, "5", 5.0, b"a", [None], np.array([1, 2])], ids=repr)
def test_what_is_not_of_its_kind(name: str, value: Any) -> None:
    if name == "gray" and not isinstance(value, np.ndarray):
        assert isinstance(codes(gray=value).gray, bool)
        return
    with pytest.raises(FormatError) as caught:
        codes(**{name: value})
    assert "\n" not in str(caught.value)


def test_numbers_of_any_integer_type() -> None:
    found = codes(width=np.int64(100), quality=np.uint8(7), tile=np.int16(64), halvings=np.array(1))
    assert found == codes(width=100, quality=7, tile=64, halvings=1)
    assert {type(value) for value in (found.width, found.quality, found.tile, found.halvings)} == {int}


def test_any_integers_and_any_sequence() -> None:
    plain = codes()
    assert codes(stages=[stage.astype(np.uint16) for stage in BASE["stages"]]) == plain
    assert codes(stages=[stage.tolist() for stage in BASE["stages"]]) == plain


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 101},
        {"height": 31},
        {"model_id": "cd" * 32},
        {"quality": 5},
        {"gray": True},
        {"stages": BASE["stages"][:1]},
        {"stages": (BASE["stages"][0], BASE["stages"][1] // 2)},
        {"stages": (BASE["stages"][0], BASE["stages"][1].T)},
    ],
)
def test_equality_is_of_contents(changes: dict[str, Any]) -> None:
    assert codes() == codes()
    assert codes(**changes) != codes()
    assert codes() != "codes"


def test_crc32_is_over_big_endian_words() -> None:
    expected = zlib.crc32(bytes.fromhex("0001 0002  0003 ffff 0000 0007  0004 0005 0006 0008"))
    assert codes().crc32() == codes_crc32(BASE["stages"]) == expected
    assert codes_crc32([]) == 0
    assert codes_crc32([np.asfortranarray(stage) for stage in BASE["stages"]]) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": (np.zeros(3, dtype=int),)}, r"stage 0 is int64 \[3\]"),
        ({"stages": (np.zeros((1, 1)),)}, "stage 0 is float64"),
        ({"stages": (BASE["stages"][0], np.array([[2**31]]))}, "stage 1 has an index outside 0 to 2147483647"),
        ({"stages": (np.array([[-1]]),)}, "stage 0 has an index outside"),
        ({"width": 0}, "codes of 0x30 pixels"),
        ({"height": 2**21 + 1}, "pixels: sides run from 1 to 2097152"),
        ({"model_id": "AB" * 32}, "64 hexadecimal digits"),
        ({"model_id": "ab" * 4}, "64 hexadecimal digits"),
        ({"quality": 101}, "quality 101"),
        ({"quality": -1}, "quality -1"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        codes(**changes)


@pytest.mark.parametrize(
    "offsets",
    [
        [1, 2, 3, 4],
        [[1, 2, 3]],
        [[1.0, 2, 3, 4]],
        [[0, 0, 0, 0]],
        [[0, 0, 0, 32768]],
        [[0, 0, 0, -32768]],
        [[0, 0, 0, -(2**63)]],
        np.array([[0, 0, 0, 2**64 - 1]], dtype=np.uint64),
        [[-1, 0, 0, 1]],
        [[0, 0, 1, 1], [0, 0, 0, 1]],
        [[0, 0, 1, 1], [0, 0, 1, 1]],
        [[1, 0, 0, 1], [0, 9, 9, 1]],
        None,
    ],
)
def test_offsets_are_places_in_order_and_steps(offsets: Any) -> None:
    with pytest.raises(FormatError, match="offset"):
        codes(offsets=offsets)


def test_offsets_are_kept_apart_from_the_caller() -> None:
    mine = np.array([[0, 0, 1, 5], [0, 1, 0, -5], [2, 0, 0, 32767]])
    kept = codes(offsets=mine).offsets
    mine[0, 3] = 9
    assert kept.dtype == np.int32 and kept[0, 3] == 5
    with pytest.raises(ValueError, match="read-only"):
        kept[0, 0] = 1
