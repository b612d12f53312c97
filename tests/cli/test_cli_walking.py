"""What `-r` takes from directories, and what it says of the rest; inputs that never end."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmvqzip.format import source
from gmvqzip.images import formats

Cli = Callable[..., Any]


@pytest.fixture
def holiday(tmp_path: Path, pixels: np.ndarray) -> Path:
    """A folder as it comes from a telephone, by way of a Mac."""
    folder = tmp_path / "holiday"
    (folder / "__MACOSX" / "deep").mkdir(parents=True)
    Image.fromarray(pixels).save(folder / "IMG_1.JPG")
    for name in ("IMG_2.HEIC", "IMG_3.heic", "IMG_4.jxl", "raw.NEF", "notes.txt", "clip.mov", "LICENSE"):
        (folder / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    for name in ("._IMG_1.JPG", "__MACOSX/._IMG_1.JPG", "__MACOSX/deep/._x.png"):
        (folder / name).write_bytes(b"\0\x05\x16\x07" + bytes(60))
    os.mkfifo(folder / "pipe.png")
    return folder


@pytest.fixture
def no_add_ons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "ADD_ONS", {"HEIF": ("no_such_module", "pillow-heif"), "JXL": ("no_such", "pillow-x")})


@pytest.mark.usefixtures("no_add_ons")
def test_what_is_passed_over_is_counted_and_named(cli: Cli, holiday: Path) -> None:
    done = cli("compress", "-r", holiday)
    assert done.code == 0 and (holiday / "IMG_1.gmvq").is_file()
    lines = done.err.splitlines()
    assert [line.partition("holiday: ")[2] for line in lines] == [
        "3 side files of macOS (._*, __MACOSX) passed over",
        "1 pipes, sockets or devices passed over",
        "pictures passed over: 2 .heic (install pillow-heif), 1 .jxl (install pillow-x), 1 .nef",
    ]
    assert (
        "no pictures, passed over: 1 .mov, 1 .txt, 1 without ending" in cli("compress", "-f", "-v", "-r", holiday).err
    )
    assert cli("compress", "-f", "-r", holiday, "--quiet").err == ""
    assert "pictures passed over" in cli("pack", holiday, "-o", holiday / "x.gmvqp").err
    (holiday / "._a.gmvq").write_bytes(b"\0\x05\x16\x07")
    done = cli("decompress", "-r", holiday)
    assert done.code == 0 and "pictures passed over" not in done.err and "4 side files" in done.err


def test_a_picture_that_needs_an_add_on_names_it(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gmvqzip.images import opening

    monkeypatch.setattr(opening, "register_add_ons", lambda: None)
    monkeypatch.setattr(opening, "_uncommon_formats", lambda: ["TGA"])
    for start, words in (
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC/HEIF picture: install pillow-heif"),
        (b"\xff\x0a" + bytes(30), "a JPEG XL picture: install pillow-jxl-plugin"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "an AVIF picture: install a Pillow"),
        (b"gimp xcf v011\0" + bytes(30), "XCF"),
        (b"IIRO\x08\0\0\0" + bytes(30), "camera's raw file"),
    ):
        (tmp_path / "a.img").write_bytes(start)
        done = cli("compress", tmp_path / "a.img")
        assert (done.code, done.err.count("\n")) == (1, 1) and words in done.err


def test_links_to_folders_are_counted_and_not_followed(cli: Cli, tmp_path: Path, picture: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture.rename(folder / "a.png")
    for name, target in (("album", tmp_path), ("itself", folder)):
        (folder / name).symlink_to(target)
    done = cli("compress", "-r", folder)
    assert (done.code, done.err) == (
        0,
        f"gmvqzip: {folder}: 2 links to folders passed over: name them to follow them\n",
    )
    assert cli("compress", "-r", folder / "itself", "--output-dir", tmp_path / "out").code == 0


@pytest.mark.usefixtures("no_add_ons")
@pytest.mark.parametrize("command", ["compress", "test", "pack"])
def test_a_folder_that_cannot_be_read_is_one_of_those_that_failed(
    cli: Cli, holiday: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    (holiday / "closed").mkdir()
    for name in ("IMG_1.png", "IMG_5.gmvq"):
        (holiday / name).write_bytes(b"none")
    scandir = os.scandir

    def refused(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    inputs = {"compress": ["--output-dir", holiday / "out", "--keep-ending", "-r"], "test": ["-r"]}
    done = cli(command, *inputs.get(command, ["-o", holiday / "x.gmvqp", "--keep-ending"]), holiday)
    assert done.code == 1
    assert f"gmvqzip: {holiday / 'closed'}: permission denied" in done.err
    assert done.err.splitlines()[-1] == f"gmvqzip: 2 of {2 if command == 'test' else 3} files failed"


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_folders_are_as_closed_as_those_that_they_mirror(cli: Cli, tmp_path: Path, picture: Path, command: str) -> None:
    """But open to whoever writes into them, and to nobody to whom the umask closes all."""
    modes = {"closed": 0o700, "closed/deep": 0o750, "full": 0o555, "open": 0o777}
    if command == "decompress":
        assert cli("compress", "--rm", picture).code == 0
        picture = picture.with_suffix(".gmvq")
    for name in modes:
        (tmp_path / "in" / name).mkdir(parents=True)
        shutil.copy(picture, tmp_path / "in" / name)
    for name, mode in modes.items():
        (tmp_path / "in" / name).chmod(mode)
    before = os.umask(0o022)
    try:
        assert cli(command, "-r", tmp_path / "in", "--output-dir", tmp_path / "new" / "out").code == 0
    finally:
        os.umask(before)
    found = {name: (tmp_path / "new" / "out" / name).stat().st_mode & 0o777 for name in modes}
    assert found == {"closed": 0o700, "closed/deep": 0o750, "full": 0o755, "open": 0o755}
    assert (tmp_path / "new" / "out").stat().st_mode & 0o777 == 0o755


def test_all_endings_of_what_is_read_are_taken() -> None:
    Image.init()
    read = {*formats.COMMON_FORMATS, *formats.OTHER_FORMATS, formats.LAST_FORMAT}
    usual = {ending[1:] for ending, name in Image.registered_extensions().items() if name in read}
    assert usual - {"pfm"} <= formats.ENDINGS  # whose floats have no agreed white
    assert not formats.ENDINGS & formats.UNREAD_ENDINGS


def test_a_name_that_the_system_refuses_fails_alone(cli: Cli, tmp_path: Path, picture: Path) -> None:
    long = "x" * 300
    (tmp_path / "long.png").symlink_to(long)
    done = cli("compress", "-r", tmp_path / long, tmp_path)
    assert (done.code, (tmp_path / "img.gmvq").is_file()) == (1, True)
    assert done.err.splitlines() == [
        f"gmvqzip: {tmp_path / long}: the file name is too long",
        f"gmvqzip: {tmp_path / 'long.png'}: the file name is too long",
        "gmvqzip: 2 of 3 files failed",
    ]
    for option in ("--skip-existing", "--force"):
        done = cli("compress", picture, "--output-dir", tmp_path / long, option)
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert f"img.png: cannot write {tmp_path / long / 'img.gmvq'}: the file name is too long" in done.err


def test_what_never_ends_ends_at_a_limit(
    cli: Cli, tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source.read_bounded, "__defaults__", (1 << 21,))
    done = cli("compress", "/dev/zero", "-o", tmp_path / "x.gmvq")
    assert (done.code, done.err.count("\n")) == (1, 1) and "more than 2097152 bytes" in done.err
    done = cli("decompress", "/dev/zero", "-o", tmp_path / "x.png")
    assert (done.code, done.err.count("\n")) == (1, 1)
    done = cli("compress", "-", "-o", tmp_path / "x.gmvq", stdin=bytes(1 << 22))
    assert (done.code, done.err.count("\n")) == (1, 1) and "more than" in done.err
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def feed() -> None:
        with contextlib.suppress(BrokenPipeError), pipe.open("wb", buffering=0) as file:
            file.write(packed.read_bytes())
            while True:
                file.write(bytes(1 << 16))

    for command in ("decompress", "test"):
        feeder = threading.Thread(target=feed)
        feeder.start()
        options = ("-o", tmp_path / "x.png") if command == "decompress" else ()
        done = cli(command, pipe, *options)
        feeder.join()
        assert (done.code, done.err.count("\n")) == (1, 1) and "more than" in done.err

    def feed_zeros() -> None:
        with contextlib.suppress(BrokenPipeError):
            pipe.write_bytes(bytes(1 << 22))

    feeder = threading.Thread(target=feed_zeros)
    feeder.start()
    done = cli("codes", "--pack", pipe, "-o", tmp_path / "x.gmvq")
    feeder.join()
    assert (done.code, done.err.count("\n")) == (1, 1) and "more than" in done.err
    assert not (tmp_path / "x.gmvq").exists() and not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("command", ["compress", "pack"])
def test_a_signal_ends_the_wait_for_a_pipe(command: str, tmp_path: Path, tiny_path: Path) -> None:
    """Nobody ever opens the other end, or it is open and nothing comes."""
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    output = tmp_path / ("x.gmvqp" if command == "pack" else "x.gmvq")
    process = subprocess.Popen(
        [sys.executable, "-m", "gmvqzip", command, str(pipe), "-o", str(output), "-v", "-q", "50"],
        stderr=subprocess.PIPE,
        env={**os.environ, "GMVQZIP_MODELS": str(tiny_path.parent)},
    )
    with process:
        assert process.stderr is not None and b"single rate" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait() == 143
        finally:
            process.kill()
    assert not output.exists()
