"""The configuration of a network: round trip, refusals, shapes of the index arrays."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from gmvqzip.errors import ModelError
from gmvqzip.models.config import CONFIG_VERSION, MAX_CODES, GridConfig, NetworkConfig

CONFIG = NetworkConfig(
    strides=(2, 4, 8),
    channels=(8, 12, 16),
    encoder_blocks=(1, 0, 2),
    decoder_blocks=(1, 1, 0),
    grids=(GridConfig(stride=8, stages=2, codes=16, dimensions=4), GridConfig(stride=4, codes=32, dimensions=6)),
    stage_blocks=2,
    weight_per_dimension=False,
)


def test_round_trip_through_json() -> None:
    assert NetworkConfig.from_dict(CONFIG.to_dict()) == CONFIG
    assert NetworkConfig.from_dict(json.loads(json.dumps(CONFIG.to_dict()))) == CONFIG


def test_fields_with_defaults_may_be_left_out() -> None:
    data = CONFIG.to_dict()
    for name in ("stage_blocks", "weight_per_dimension", "version"):
        del data[name]
    assert NetworkConfig.from_dict(data) == replace(CONFIG, stage_blocks=1, weight_per_dimension=True)


def test_alignment_stages_and_shapes() -> None:
    assert CONFIG.alignment == 8
    assert [grid.codes for grid in CONFIG.stages()] == [16, 16, 32]
    assert CONFIG.stage_shapes(8, 8) == [(1, 1), (1, 1), (2, 2)]
    assert CONFIG.stage_shapes(1, 1) == [(1, 1), (1, 1), (2, 2)]
    assert CONFIG.stage_shapes(17, 30) == [(4, 3), (4, 3), (8, 6)]


def test_a_grid_finer_than_the_coarsest_level_still_pads_to_that_level() -> None:
    config = replace(CONFIG, grids=(GridConfig(stride=2),))
    assert config.alignment == 8
    assert config.stage_shapes(9, 1) == [(4, 8)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": (8, 8)}, "same, non-zero length"),
        ({"strides": (), "channels": (), "encoder_blocks": (), "decoder_blocks": ()}, "non-zero length"),
        ({"strides": (2, 4, 6)}, "powers of two"),
        ({"strides": (4, 2, 8)}, "ascending"),
        ({"strides": (2, 2, 8)}, "ascending"),
        ({"strides": (0, 4, 8)}, "powers of two"),
        ({"strides": (2.0, 4, 8)}, "whole numbers"),
        ({"strides": (2, 4, 512), "grids": (GridConfig(stride=4),)}, "above 256"),
        ({"grids": ()}, "coarse to fine"),
        ({"grids": (GridConfig(stride=16),)}, "existing strides"),
        ({"grids": (GridConfig(stride=4), GridConfig(stride=8))}, "coarse to fine"),
        ({"grids": (GridConfig(stride=4), GridConfig(stride=4))}, "coarse to fine"),
        ({"grids": (GridConfig(stride=4, codes=1),)}, "2 to 65536 codes"),
        ({"grids": (GridConfig(stride=4, codes=MAX_CODES + 1),)}, "2 to 65536 codes"),
        ({"grids": (GridConfig(stride=4, stages=0),)}, "1 or more stages"),
        ({"grids": (GridConfig(stride=4, dimensions=0),)}, "1 to 4096 dimensions"),
        ({"grids": (GridConfig(stride=4, stages=65),)}, "more than 64 stages"),
        ({"grids": (GridConfig(stride=4, codes=16.0),)}, "whole numbers"),  # type: ignore[arg-type]
        ({"channels": (8, 0, 8)}, "channels"),
        ({"channels": (8, 10**9, 8)}, "channels"),
        ({"channels": (8, "8", 8)}, "whole numbers"),
        ({"encoder_blocks": (1, -1, 1)}, "blocks"),
        ({"decoder_blocks": (1, 10**9, 1)}, "blocks"),
        ({"stage_blocks": -1}, "blocks"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        NetworkConfig(**{field: getattr(CONFIG, field) for field in asdict(CONFIG)} | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": CONFIG_VERSION + 1}, f"version {CONFIG_VERSION + 1}; this gmvqzip reads up to {CONFIG_VERSION}"),
        ({"version": "1"}, "version"),
        ({"colour": 3, "attention": True}, "unknown fields: attention, colour"),
        ({"grids": 5}, "malformed"),
        ({"grids": [5]}, "malformed"),
        ({"grids": [{"codes": 4}]}, "malformed"),
        ({"grids": [{"stride": 4, "size": 4}]}, "malformed"),
        ({"grids": [{"stride": 4, "codes": "16"}]}, "whole numbers"),
        ({"strides": 5}, "malformed"),
        ({"strides": None}, "malformed"),
        ({"channels": [8, [8], 8]}, "whole numbers"),
        ({"weight_per_dimension": "yes"}, "true or false"),
    ],
)
def test_a_damaged_dictionary_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        NetworkConfig.from_dict(CONFIG.to_dict() | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["strides", "channels", "encoder_blocks", "decoder_blocks", "grids"])
def test_a_missing_field_is_refused(field: str) -> None:
    data = CONFIG.to_dict()
    del data[field]
    with pytest.raises(ModelError, match="incomplete"):
        NetworkConfig.from_dict(data)


def test_a_dictionary_is_wanted() -> None:
    with pytest.raises(ModelError, match="not a table"):
        NetworkConfig.from_dict([1, 2])  # type: ignore[arg-type]
