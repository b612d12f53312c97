"""Sources that others change meanwhile: what was not read is never removed, and no half of a file is taken for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmvqzip.cli import batch

Cli = Callable[..., Any]
Change = Callable[[Path], None]


def rewritten(path: Path) -> None:
    """The same number of bytes, in the same file."""
    path.write_bytes(path.read_bytes()[::-1])


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replaced(path: Path) -> None:
    """By another file of the same size and time."""
    status = path.stat()
    shutil.copy(path, path.with_name("new"))
    os.utime(path.with_name("new"), ns=(status.st_atime_ns, status.st_mtime_ns))
    path.with_name("new").replace(path)


@pytest.mark.parametrize("change", [rewritten, grown, replaced])
@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_a_source_that_changed_is_not_removed(
    cli: Cli, picture: Path, monkeypatch: pytest.MonkeyPatch, command: str, change: Change
) -> None:
    source = picture
    if command == "decompress":
        assert cli("compress", "--rm", picture).code == 0
        source = picture.with_suffix(".gmvq")
    os.utime(source, (0, 0))
    deliver = batch.deliver

    def late(*arguments: Any, **options: Any) -> None:
        change(source)
        deliver(*arguments, **options)

    monkeypatch.setattr(f"gmvqzip.cli.{command}.deliver", late)
    done = cli(command, "--rm", source)
    assert done.code == 1
    assert done.err == f"gmvqzip: {source}: the source is kept: it was changed meanwhile; its output is written\n"
    assert source.exists()


@pytest.mark.parametrize("command", ["compress", "pack"])
def test_a_picture_that_changes_while_it_is_read(
    cli: Cli, tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """As one does that is still being copied: its size may be right, and its end still empty."""
    path = tmp_path / "img.bmp"
    Image.fromarray(pixels).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    os.utime(path, (0, 0))
    load = Image.Image.load

    def copied(image: Image.Image) -> Any:
        loaded = load(image)
        path.write_bytes(whole)
        return loaded

    monkeypatch.setattr(Image.Image, "load", copied)
    done = cli(command, path, "-o", tmp_path / ("out.gmvqp" if command == "pack" else "out.gmvq"))
    assert done.code == 1
    assert f"gmvqzip: {path}: it was changed while it was read: try again\n" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["img.bmp"]
