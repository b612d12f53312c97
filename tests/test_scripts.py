"""Every script starts, and is in the index."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
MODULES = {"experiments.py", "documents.py", "indices.py"}  # of other scripts
ALL = sorted(path.relative_to(SCRIPTS) for path in SCRIPTS.rglob("*.py"))


@pytest.mark.parametrize("name", [name for name in ALL if name.name not in MODULES], ids=str)
def test_it_says_what_it_does(name: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = SCRIPTS / name
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.syspath_prepend(str(path.parent))
    before, environment = set(sys.modules), dict(os.environ)
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(path), run_name="__main__")
    finally:
        for module in set(sys.modules) - before:
            if Path(getattr(sys.modules[module], "__file__", None) or "/").is_relative_to(SCRIPTS):
                del sys.modules[module]  # names such as `files` are others' in the next folder
        os.environ.clear()
        os.environ.update(environment)
    assert ended.value.code == 0
    assert f"usage: {path.name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ALL, ids=str)
def test_it_is_in_the_index(name: Path) -> None:
    index = (SCRIPTS / "README.md").read_text(encoding="utf-8")
    named = f"[{name}]({name})" in index or f"`{name}`" in index
    assert named or (f"[{name.parent}/]" in index and f"`{name.stem}`" in index)
