"""The manual page: current, complete, and good roff; and that completion scripts are made for the usual shells."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from gmvqzip.cli.commands import command_line

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "gmvqzip.1"
SHELLS = ("bash", "zsh", "fish")


@pytest.fixture(scope="module")
def make_man() -> ModuleType:
    path = ROOT / "scripts" / "make_man.py"
    spec = importlib.util.spec_from_file_location("make_man", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def every_command(group: Any, above: str = "gmvqzip") -> dict[str, Any]:
    """Commands by their full names, groups that run without one of theirs included."""
    found = {}
    for name, command in group.commands.items():
        found[f"{above} {name}"] = command
        if hasattr(command, "commands"):
            found |= every_command(command, f"{above} {name}")
    return found


def chapters() -> dict[str, str]:
    """The text of each command, by its full name."""
    commands = PAGE.read_text().split(".SH COMMANDS\n")[1].split("\n.SH ")[0]
    parts = [part.split("\n", 1) for part in f"\n{commands}".split("\n.SS ")[1:]]
    return {head.split("\\fR")[0].removeprefix("\\fB"): text for head, text in parts}


def test_the_page_is_current(make_man: ModuleType) -> None:
    assert PAGE.read_text() == make_man.page(), "run scripts/make_man.py"


def test_the_check_tells(make_man: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["make_man.py", "--check"])
    assert make_man.main() == 0
    monkeypatch.setattr(make_man, "PAGE", tmp_path / "gmvqzip.1")
    assert make_man.main() == 1
    monkeypatch.setattr(sys, "argv", ["make_man.py"])
    assert make_man.main() == 0
    assert (tmp_path / "gmvqzip.1").read_text() == PAGE.read_text()
    (tmp_path / "gmvqzip.1").write_text("old")
    monkeypatch.setattr(sys, "argv", ["make_man.py", "--check"])
    assert make_man.main() == 1


def test_every_command_and_option_is_listed() -> None:
    commands, texts = every_command(typer.main.get_command(command_line())), chapters()
    assert set(texts) == set(commands)
    assert {"gmvqzip compress", "gmvqzip models show"} <= set(texts)
    for name, command in commands.items():
        for parameter in command.params:
            if parameter.param_type_name != "option":
                continue
            assert parameter.opts
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert f"\\fB{option.replace('-', chr(92) + '-')}\\fR" in texts[name], (name, option)


def test_choices_ranges_and_defaults_are_told() -> None:
    text = chapters()["gmvqzip compress"]
    assert "\\fB\\-\\-device\\fR \\fIauto|cpu|cuda\\fR\nWhere the network runs. Default: auto.\n" in text
    assert "\\fB\\-q\\fR, \\fB\\-\\-quality\\fR \\fIN\\fR\n" in text
    assert " 1 to 100.\n" in text


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_nothing_to_say() -> None:
    done = subprocess.run(["groff", "-man", "-ww", "-z", str(PAGE)], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def asked(**variables: str) -> str:
    """What the program prints where a shell asks it for completions, as these environment variables say."""
    environment = {**os.environ, **variables}
    command = [sys.executable, "-m", "gmvqzip"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_the_completion_script(shell: str) -> None:
    script = asked(_GMVQZIP_COMPLETE=f"source_{shell}")
    assert "gmvqzip" in script
    assert f"complete_{shell}" in script
    if shutil.which(shell):  # its syntax is right
        subprocess.run([shell, "-n"], input=script, text=True, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [("gmvqzip comp", ["compress"]), ("gmvqzip decompress --dev", ["--device"]), ("gmvqzip models sh", ["show"])],
)
def test_what_bash_completes(words: str, expected: list[str]) -> None:
    place = str(len(words.split()) - 1)
    found = asked(_GMVQZIP_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=place)
    assert found.split() == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_install_completion(shell: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-m", "gmvqzip", "--install-completion", shell]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"{shell} completion installed in" in done.stdout
    assert any("_GMVQZIP_COMPLETE" in path.read_text() for path in tmp_path.rglob("*") if path.is_file())
