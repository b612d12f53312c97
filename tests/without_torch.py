"""Commands of the tool and lines of Python in one process of their own, which ends without having imported torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from gmvqzip.models.registry import ModelInfo

_SCRIPT = """
import json, sys
from gmvqzip.__main__ import main
commands, lines, path, model = json.loads(sys.argv[1])
for words in commands:
    sys.argv = ["gmvqzip", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
import gmvqzip, gmvqzip.pillow
from PIL import Image
exec(lines)
assert "torch" not in sys.modules
"""


def run_without_torch(commands: Sequence[Sequence[str]], lines: str, path: object, info: ModelInfo) -> None:
    """lines: they know `gmvqzip` and `Image`, and as `path` and `model` the two files."""
    subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps([commands, lines, str(path), str(info.path)])],
        check=True,
        capture_output=True,
        env={**os.environ, "GMVQZIP_MODELS": str(info.path.parent)},
    )
