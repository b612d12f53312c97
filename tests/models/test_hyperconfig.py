"""The configuration of a hyperprior model: round trip, shapes, refusals; and the choice among kinds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_hyperprior import CONFIG

from gmvqzip.errors import ModelError
from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.hyperconfig import GroupsConfig, HyperpriorConfig
from gmvqzip.models.kinds import read_config

JSON = json.loads(json.dumps(CONFIG.to_dict()))


def test_round_trip() -> None:
    assert HyperpriorConfig.from_dict(JSON) == CONFIG
    assert read_config(JSON) == CONFIG
    assert HyperpriorConfig.from_dict(HyperpriorConfig().to_dict()) == HyperpriorConfig()
    assert HyperpriorConfig.from_dict({"context_width": 64}) == HyperpriorConfig(context_width=64)


def test_channels_and_groups() -> None:
    assert (CONFIG.latents, CONFIG.hyper_latents, CONFIG.alignment) == (4 * (4 + 2 * 2), 2 * 4, 32)
    assert CONFIG.stages() == [
        *[GridConfig(32, 1, 16, 4)] * 2,
        *[GridConfig(16, 1, 32, 4)] * 4,
        *[GridConfig(16, 1, 16, 2)] * 8,
    ]
    assert CONFIG.grids == (GridConfig(32, 2, 16, 4), GridConfig(16, 4, 32, 4), GridConfig(16, 8, 16, 2))
    assert CONFIG.parts() == [("hyper", 2), ("part 0", 4), ("part 1", 8)]
    assert [title for title, _ in replace(CONFIG, hyper=CONFIG.hyper * 2).parts()[:2]] == ["hyper", "hyper 1"]


@given(width=st.integers(1, 5000), height=st.integers(1, 5000))
def test_shapes(width: int, height: int) -> None:
    shapes = CONFIG.stage_shapes(width, height)
    rows, columns = shapes[0]
    assert 32 * (rows - 1) < height <= 32 * rows
    assert 32 * (columns - 1) < width <= 32 * columns
    assert shapes == [(rows, columns)] * 2 + [(2 * rows, 2 * columns)] * 12


@pytest.mark.parametrize(
    "change",
    [
        {"strides": []},
        {"strides": [4, 8]},
        {"strides": [4, 8, 32]},
        {"strides": [3, 6, 12]},
        {"strides": [8, 16, 16]},
        {"strides": [4.0, 8, 16]},
        {"strides": 4},
        {"strides": "abc"},
        {"strides": None},
        {"channels": [16, 32]},
        {"channels": [16, 32, 0]},
        {"channels": [16, 32, 10**9]},
        {"channels": [16, 32, True]},
        {"channels": [[16], 32, 32]},
        {"encoder_blocks": [1, 1, -1]},
        {"decoder_blocks": [1, 1, 10**9]},
        {"context_width": 0},
        {"context_width": 1e9},
        {"context_width": None},
        {"lambda_first": 0},
        {"lambda_first": 1},
        {"lambda_first": "small"},
        {"lambda_last": float("nan")},
        {"lambda_last": float("inf")},
        {"quarter": []},
        {"hyper": []},
        {"quarter": 3},
        {"quarter": None},
        {"quarter": "ab"},
        {"quarter": [3]},
        {"quarter": [[1, 2, 4]]},
        {"quarter": [{}]},
        {"quarter": [{"count": 1, "colour": 2}]},
        {"quarter": [{"count": 0}]},
        {"quarter": [{"count": -5}]},
        {"quarter": [{"count": 10**15}]},
        {"quarter": [{"count": 256}]},
        {"hyper": [{"count": 10**15}]},
        {"hyper": [{"count": 2**63}]},
        {"hyper": [{"count": 1.0}]},
        {"hyper": [{"count": "1"}]},
        {"hyper": [{"count": 1, "codes": 1}]},
        {"hyper": [{"count": 1, "codes": 65537}]},
        {"hyper": [{"count": 1, "dimensions": 3}]},
        {"hyper": [{"count": 1, "dimensions": 0}]},
        {"hyper": [{"count": 1, "dimensions": 4098}]},
        {"quarter": [{"count": 2, "dimensions": 1024}]},
        {"hyper": [{"count": 2, "dimensions": 4096}]},
        {"kind": "hyper"},
        {"kind": None},
        {"kind": ["hyperprior"]},
        {"version": 2},
        {"version": "1"},
        {"extra": 1},
    ],
    ids=str,
)
def test_refusals(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"[cC]onfiguration|kind") as caught:
        read_config(JSON | change)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError):
        HyperpriorConfig.from_dict(JSON | change)


def test_a_newer_version_is_named() -> None:
    with pytest.raises(ModelError, match="version 2; this gmvqzip reads up to 1"):
        read_config(JSON | {"version": 2})


def test_the_largest_number_of_groups() -> None:
    small = replace(CONFIG, hyper=(GroupsConfig(4, 16, 2),), quarter=(GroupsConfig(255, 16, 2),))
    assert len(small.stages()) == 1024
    with pytest.raises(ModelError, match="1 to 1024 groups"):
        replace(small, hyper=(GroupsConfig(5, 16, 2),))


class TestKinds:
    def test_a_staged_model_has_no_kind(self) -> None:
        staged = NetworkConfig((4,), (6,), (1,), (2,), (GridConfig(4),))
        assert read_config(staged.to_dict()) == staged

    def test_an_unknown_kind(self) -> None:
        with pytest.raises(ModelError, match="kind 'pyramid', which this gmvqzip does not know: update"):
            read_config({"kind": "pyramid"})

    @pytest.mark.parametrize("data", [None, 3, "hyperprior", [], ["kind"]])
    def test_no_table_of_fields(self, data: Any) -> None:
        for read in (read_config, HyperpriorConfig.from_dict):
            with pytest.raises(ModelError, match="not a table of fields"):
                read(data)
