"""docs/training.md lists every field of a configuration, with its default."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.quantizers import GMVQSettings
from gmvqzip.training.config import HyperpriorTraining, StagedTraining
from gmvqzip.training.presets import PRESETS, load_config

DOCUMENT = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
PARTS = (
    ("", StagedTraining),
    ("", HyperpriorTraining),
    ("quantizer.", GMVQSettings),
    ("network.", NetworkConfig),
    ("network.grids.", GridConfig),
)


def shown(value: Any) -> str:
    """A default as the table shows it."""
    if value is MISSING:
        return ""
    return "none" if value is None else f"`{json.dumps(value)}`"


def test_the_table_lists_every_field_with_its_default() -> None:
    table = DOCUMENT[DOCUMENT.index("## Fields\n") : DOCUMENT.index("## Fields of a hyperprior")]
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| *(.*?) *\|", table, re.MULTILINE))
    expected = {
        prefix + field.name: shown(field.default)
        for prefix, part in PARTS
        for field in fields(part)
        if field.name not in ("network", "quantizer")
    }
    assert rows == expected


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_listed(name: str) -> None:
    assert f"| `{name}` |" in DOCUMENT


def test_the_example_is_a_configuration(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    path = tmp_path / "example.toml"
    path.write_text(example)
    config = load_config(path)
    assert (config.seconds, config.steps) == (3600, None)
    assert config.network.channels == (64, 96)
