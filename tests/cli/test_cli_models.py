"""gmvqzip models: list, show, path, verify."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gmvqzip.codec import Codec

Cli = Callable[..., Any]


def test_list(cli: Cli, tiny_path: Path, tiny: Codec) -> None:
    for arguments in (("models",), ("models", "list")):
        done = cli(*arguments)
        assert done.code == 0
        first = done.out.decode().splitlines()[0].split()
        assert first[:2] == ["photo", tiny.model_id[:8]]
        assert "2 x 16 codes at 1/8, 1 x 32 codes at 1/4" in done.out.decode()
    assert str(tiny_path) in cli("models", "list", "-v").out.decode()


def test_list_as_json(cli: Cli, tiny_path: Path, tiny: Codec) -> None:
    fields = json.loads(cli("models", "list", "--json").out.splitlines()[0])
    assert (fields["name"], fields["model_id"]) == ("photo", tiny.model_id)
    assert fields["file_bytes"] == tiny_path.stat().st_size
    network, _ = tiny.engine.network.loaded()
    assert fields["parameters"] == sum(value.numel() for value in network.state_dict().values())
    assert fields["max_bpp"] == pytest.approx((2 * 4) / 64 + 5 / 16)


def test_show(cli: Cli, tiny: Codec) -> None:
    text = cli("models", "show", "photo").out.decode()
    assert tiny.model_id in text
    assert "random weights, for tests" in text
    fields = json.loads(cli("models", "show", "--json", "photo").out)
    assert fields["card"]["description"] == "random weights, for tests"
    assert fields["config"]["strides"] == [2, 4, 8]
    done = cli("models", "show", "nonesuch")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "installed: photo" in done.err


def test_path(cli: Cli, tiny_path: Path) -> None:
    assert cli("models", "path", "photo").out == os.fsencode(tiny_path) + b"\n"


def test_verify(cli: Cli, tiny_path: Path, other_path: Path, tmp_path: Path) -> None:
    assert cli("models", "verify", "photo", other_path).code == 0
    assert cli("models", "verify", "photo").out.startswith(b"photo: ok")
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(tiny_path.read_bytes()[:-1] + b"\1")
    done = cli("models", "verify", bad, "photo")
    assert done.code == 1
    assert "identity" in done.err
    assert b"photo: ok" in done.out


def test_verify_takes_every_file_on_the_search_path(
    cli: Cli, tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photo.safetensors").write_bytes(tiny_path.read_bytes())
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    monkeypatch.setattr("gmvqzip.models.registry.search_path", lambda: [tmp_path])
    done = cli("models", "verify")
    assert done.code == 1
    assert done.err.count("\n") == 2
    assert "broken.safetensors" in done.err


def test_none_installed(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gmvqzip.models.registry.search_path", lambda: [tmp_path])
    done = cli("models")
    assert (done.code, done.out) == (0, b"")
    assert "no models are installed" in done.err
