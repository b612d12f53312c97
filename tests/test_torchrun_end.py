"""Processes that were joined with others end with their exit code, and with all that they wrote."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from gmvqzip import torchrun
from gmvqzip.__main__ import main
torchrun.Company.joined = sys.argv.pop(1) == "joined"
main()
"""


@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["info", "missing.gmvq"], 1)])
def test_exit_codes_and_outputs_are_those_of_one_process(words: list[str], code: int) -> None:
    alone, beside = (
        subprocess.run([sys.executable, "-c", PROGRAM, company, *words], capture_output=True)
        for company in ("alone", "joined")
    )
    assert alone.returncode == beside.returncode == code
    assert (alone.stdout, alone.stderr) == (beside.stdout, beside.stderr)
    assert alone.stdout or alone.stderr
