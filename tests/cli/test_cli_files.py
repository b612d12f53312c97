"""Nothing is ever lost: existing outputs, failing disks, signals in the middle, files that vanish."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmvqzip.codec import Codec
from gmvqzip.engines.staged import StagedNetwork

Cli = Callable[..., Any]


def listing(folder: Path) -> dict[str, bytes | str]:
    """Every file below a folder with its content, every link with its target."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def unchanged(before: dict[str, bytes | str], folder: Path, done: Any, message: str, code: int = 1) -> None:
    assert (done.code, done.out) == (code, b"")
    assert done.err.count("\n") == 1, done.err
    assert message in done.err
    assert listing(folder) == before


class TestExistingOutputs:
    def test_skipped_unless_forced(self, cli: Cli, picture: Path, tiny: Codec) -> None:
        output = picture.with_suffix(".gmvq")
        output.write_bytes(b"kept")
        message = "exists: skipped; -f overwrites"
        unchanged(listing(picture.parent), picture.parent, cli("compress", picture), message, code=0)
        assert cli("compress", "-f", picture).code == 0
        assert output.read_bytes() == tiny.compress(picture)

    def test_the_others_are_done(self, cli: Cli, picture: Path) -> None:
        for number in range(3):
            shutil.copy(picture, picture.parent / f"{number}.png")
        (picture.parent / "1.gmvq").write_bytes(b"kept")
        for jobs in (1, 3):
            done = cli("compress", "-r", picture.parent, "-j", jobs)
            assert done.code == 0
        assert (picture.parent / "1.gmvq").read_bytes() == b"kept"
        assert (picture.parent / "2.gmvq").is_file()
        assert done.err.count("exists: skipped") == 4

    def test_the_input_itself(self, cli: Cli, picture: Path) -> None:
        (picture.parent / "hard.gmvq").hardlink_to(picture)
        (picture.parent / "soft.gmvq").symlink_to(picture)
        before = listing(picture.parent)
        for name in ("hard.gmvq", "soft.gmvq"):
            done = cli("compress", "-f", picture, "-o", picture.parent / name)
            unchanged(before, picture.parent, done, "is the input itself")

    def test_a_directory_in_the_way(self, cli: Cli, picture: Path) -> None:
        (picture.parent / "img.gmvq").mkdir()
        for options in ((), ("-f",)):
            done = cli("compress", picture, *options)
            unchanged(listing(picture.parent), picture.parent, done, "is a directory")

    def test_links_in_the_way(self, cli: Cli, picture: Path, tiny: Codec) -> None:
        real, link = picture.parent / "real.bin", picture.with_suffix(".gmvq")
        real.write_bytes(b"kept")
        link.symlink_to("real.bin")
        unchanged(listing(picture.parent), picture.parent, cli("compress", picture), "exists", code=0)
        assert cli("compress", "-f", picture).code == 0
        assert link.is_symlink()
        assert real.read_bytes() == tiny.compress(picture)
        link.unlink()
        link.symlink_to("nowhere")
        unchanged(listing(picture.parent), picture.parent, cli("compress", picture), "is a link to nothing")
        assert cli("compress", "-f", picture).code == 0
        assert link.read_bytes() == tiny.compress(picture)

    def test_an_output_that_appears_meanwhile(self, cli: Cli, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        output, fsync = picture.with_suffix(".gmvq"), os.fsync

        def slow(descriptor: int) -> None:
            output.write_bytes(b"another's")
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", slow)
        done = cli("compress", picture)
        assert done.code == 1
        assert "exists" in done.err
        assert listing(picture.parent) == {"img.png": picture.read_bytes(), "img.gmvq": b"another's"}


class TestInputs:
    def test_missing_and_broken(self, cli: Cli, picture: Path) -> None:
        folder = picture.parent
        (folder / "broken.png").symlink_to("nowhere.png")
        (folder / "loop.png").symlink_to("loop.png")
        before = listing(folder)
        for name, message in (
            ("missing.png", "no such file"),
            ("broken.png", "a broken link to nowhere.png"),
            ("loop.png", "link"),
            ("img.png/x.png", "not a directory"),
        ):
            for command in ("compress", "decompress", "test", "info", "codes"):
                unchanged(before, folder, cli(command, folder / name), message)

    def test_one_bad_file_does_not_stop_the_others(self, cli: Cli, picture: Path) -> None:
        folder = picture.parent
        (folder / "broken.png").symlink_to("nowhere.png")
        (folder / "text.png").write_text("no picture")
        for jobs in (1, 2):
            done = cli("compress", "-f", "-j", jobs, folder / "broken.png", folder / "text.png", picture)
            assert done.code == 1
            assert done.err.count("\n") == 3
            assert done.err.endswith("gmvqzip: 2 of 3 files failed\n")
            assert picture.with_suffix(".gmvq").is_file()
            picture.with_suffix(".gmvq").unlink()

    def test_a_file_that_vanishes(self, cli: Cli, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from gmvqzip.cli import compress

        def vanish(*arguments: Any, **options: Any) -> None:
            picture.unlink()

        monkeypatch.setattr(compress, "prepare", vanish)
        done = cli("compress", picture)
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert "no such file" in done.err
        assert not listing(picture.parent)

    def test_a_pipe(self, cli: Cli, picture: Path, tiny: Codec, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=lambda: pipe.write_bytes(picture.read_bytes()))
        writer.start()
        assert cli("compress", pipe, "-o", tmp_path / "x.gmvq").code == 0
        writer.join()
        assert (tmp_path / "x.gmvq").read_bytes() == tiny.compress(picture)


class TestRemoval:
    def test_only_after_success(self, cli: Cli, picture: Path, tiny: Codec) -> None:
        data = tiny.compress(picture)
        assert cli("compress", "--rm", picture).code == 0
        assert listing(picture.parent) == {"img.gmvq": data}
        assert cli("decompress", "--rm", picture.with_suffix(".gmvq")).code == 0
        assert set(listing(picture.parent)) == {"img.png"}

    def test_the_source_stays_where_anything_fails(
        self, cli: Cli, picture: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = listing(picture.parent)
        (picture.parent / "img.gmvq").mkdir()
        unchanged(before, picture.parent, cli("compress", "--rm", picture), "is a directory")
        (picture.parent / "img.gmvq").rmdir()

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        unchanged(before, picture.parent, cli("compress", "--rm", picture), "no space left")

    def test_the_source_stays_where_the_output_is_no_file(self, cli: Cli, picture: Path) -> None:
        before = listing(picture.parent)
        unchanged(before, picture.parent, cli("compress", "--rm", picture, "-o", "/dev/null"), "the source is kept")

    def test_a_link_is_removed_and_not_what_it_points_to(self, cli: Cli, picture: Path) -> None:
        link = picture.parent / "link.png"
        link.symlink_to(picture)
        assert cli("compress", "--rm", link).code == 0
        assert not link.is_symlink()
        assert picture.is_file()

    def test_a_source_that_is_not_kept_whole_stays(self, cli: Cli, tmp_path: Path, pixels: np.ndarray) -> None:
        first, second = Image.fromarray(pixels), Image.fromarray(pixels[::-1])
        for name in ("doc.tif", "anim.gif", "anim.png"):
            first.save(tmp_path / name, save_all=True, append_images=[second])
            done = cli("compress", "--rm", tmp_path / name, "-o", tmp_path / f"{name}.gmvq", "--quiet")
            assert (done.code, done.err.count("\n")) == (0, 1), done.err
            assert "the source is not removed: only one of 2" in done.err
            assert (tmp_path / name).is_file() and (tmp_path / f"{name}.gmvq").is_file()
        first.save(tmp_path / "whole.tif")
        assert cli("compress", "--rm", tmp_path / "whole.tif").code == 0
        assert not (tmp_path / "whole.tif").exists()
        done = cli("compress", "-v", "--rm", "-f", tmp_path / "doc.tif", tmp_path / "anim.gif")
        assert "2 sources not removed" in done.err

    def test_a_source_with_something_beside_its_picture_stays(
        self, cli: Cli, tmp_path: Path, pixels: np.ndarray
    ) -> None:
        jpeg, credentials = tmp_path / "signed.jpg", b"\xff\xeb\0\x16JP\0\1\0\0\0\1signature..."
        Image.fromarray(pixels).save(jpeg, extra=credentials)
        for ending in ("webp", "gif", "bmp", "tga", "qoi", "jp2"):
            path = tmp_path / f"motion.{ending}"
            Image.fromarray(pixels).save(path)
            path.write_bytes(path.read_bytes() + b"a video" * 9)
            done = cli("compress", "--rm", "-f", path)
            assert (done.code, path.exists()) == (0, True) and "63 bytes behind the picture are not kept" in done.err
        done = cli("compress", "--rm", jpeg)
        assert (done.code, jpeg.exists()) == (0, True) and "JUMBF" in done.err
        Image.fromarray(pixels).save(jpeg, comment=b"last", extra=b"\xff\xfe\0\x07first\xff\xec\0\x06word")
        assert cli("compress", "--rm", "-f", jpeg).code == 0 and not jpeg.exists()
        back = tmp_path / "back.jpg"
        assert cli("decompress", tmp_path / "signed.gmvq", "-o", back).err == ""
        assert all(word in back.read_bytes() for word in (b"last", b"first", b"word"))

    def test_a_file_that_is_not_decompressed_whole_stays(self, cli: Cli, tmp_path: Path, pixels: np.ndarray) -> None:
        Image.fromarray(np.dstack([pixels, pixels[:, :, 0]])).save(tmp_path / "a.png")
        cli("compress", tmp_path / "a.png")
        for options in (("--format", "jpg"), ("--region", "0,0,8,8"), ("--scale", "1/2")):
            done = cli("decompress", "-f", "--rm", *options, tmp_path / "a.gmvq")
            assert (done.code, done.err.count("\n")) == (0, 1), done.err
            assert "the source is not removed" in done.err
            assert (tmp_path / "a.gmvq").is_file()


class TestDisks:
    def test_an_output_directory_that_is_missing(self, cli: Cli, picture: Path) -> None:
        done = cli("compress", picture, "-o", picture.parent / "no" / "x.gmvq")
        unchanged(listing(picture.parent), picture.parent, done, "does not exist")

    def test_an_output_directory_that_is_a_file(self, cli: Cli, picture: Path) -> None:
        for folder in (picture, picture / "below"):
            done = cli("compress", picture, "--output-dir", folder)
            assert (done.code, done.err.count("\n")) == (1, 1)
        assert set(listing(picture.parent)) == {"img.png"}

    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        folder = tmp_path / "disk"
        folder.mkdir()
        mounted = shutil.which("mount") and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
        )
        if not mounted or mounted.returncode:
            pytest.skip("no small file system can be mounted here")
        try:
            yield folder
        finally:
            subprocess.run(["umount", str(folder)], check=True)

    def test_a_full_disk(self, cli: Cli, small_disk: Path, packed: Path) -> None:
        (small_disk / "filler").write_bytes(b"x" * 60_000)
        Image.new("RGB", (200, 200)).save(small_disk.parent / "big.png")
        cli("compress", small_disk.parent / "big.png")
        before = listing(small_disk)
        done = cli("decompress", "--format", "ppm", small_disk.parent / "big.gmvq", "--output-dir", small_disk)
        unchanged(before, small_disk, done, "no space left")

    def test_a_full_disk_keeps_the_old_output(self, cli: Cli, small_disk: Path, tiny: Codec) -> None:
        source, output = small_disk.parent / "big.gmvq", small_disk / "big.ppm"
        source.write_bytes(tiny.compress(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)))
        output.write_bytes(b"old")
        before = listing(small_disk)
        unchanged(before, small_disk, cli("decompress", "-f", source, "-o", output), "no space left")

    def test_dev_full(self, cli: Cli, packed: Path) -> None:
        done = cli("decompress", packed, "-o", "/dev/full")
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert "no space left" in done.err

    @contextlib.contextmanager
    def as_nobody(self) -> Iterator[None]:
        """Without the rights of root, which no permission stops."""
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    def test_no_permission(self, cli: Cli, pixels: np.ndarray) -> None:
        folder = Path(tempfile.mkdtemp())
        try:
            Image.fromarray(pixels).save(folder / "img.png")
            assert cli("compress", "-c", folder / "img.png").code == 0  # all is imported
            assert cli("decompress", "-", stdin=cli("compress", "-c", folder / "img.png").out).code == 0
            (folder / "secret.png").write_bytes((folder / "img.png").read_bytes())
            (folder / "secret.png").chmod(0o000)
            folder.chmod(0o555)
            before = listing(folder) if os.geteuid() == 0 else {}
            with self.as_nobody():
                closed = cli("compress", folder / "img.png")
                secret = cli("compress", "-c", folder / "secret.png")
            assert (closed.code, closed.out, closed.err.count("\n")) == (1, b"", 1)
            assert "permission" in closed.err
            assert (secret.code, secret.out, secret.err.count("\n")) == (1, b"", 1)
            assert "ermission denied" in secret.err
            if before:
                assert listing(folder) == before
        finally:
            folder.chmod(0o755)
            shutil.rmtree(folder)


@pytest.mark.usefixtures("default_signals")
class TestSignals:
    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
    )
    @pytest.mark.parametrize("jobs", [1, 2])
    def test_while_the_output_is_written(
        self, cli: Cli, picture: Path, number: int, code: int, jobs: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The temporary is there when the signal comes, and gone afterwards."""
        shutil.copy(picture, picture.parent / "second.png")
        before, seen, fsync, lock = listing(picture.parent), [], os.fsync, threading.Lock()

        def interrupted(descriptor: int) -> None:
            with lock:
                first = not seen
                seen.append([path.name for path in picture.parent.iterdir() if path.name not in before])
            fsync(descriptor)
            if first:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(os, "fsync", interrupted)
        handlers = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        done = cli("compress", "--rm", "-r", picture.parent, "-j", jobs)
        assert done.code == code
        assert done.out == b""
        assert seen[0]
        after = listing(picture.parent)
        assert not [name for name in after if name.endswith(".part")]
        for name in before:  # each is done, or as it was
            assert (name in after) != (Path(name).with_suffix(".gmvq").name in after)
        assert {which: signal.getsignal(which) for which in handlers} == handlers

    def test_an_ignored_signal_stays_ignored(self, cli: Cli, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fsync = os.fsync

        def hung_up(descriptor: int) -> None:
            os.kill(os.getpid(), signal.SIGHUP)
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", hung_up)
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            assert cli("compress", picture).code == 0
        finally:
            signal.signal(signal.SIGHUP, before)


class TestTrouble:
    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (MemoryError(), "not enough memory"),
            (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
            (ZeroDivisionError("two\nlines"), "internal error, ZeroDivisionError: two lines"),
        ],
    )
    def test_errors_from_below_are_one_line(
        self, cli: Cli, picture: Path, error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*arguments: Any, **options: Any) -> None:
            raise error

        monkeypatch.setattr(StagedNetwork, "analyse", fail)
        before = listing(picture.parent)
        unchanged(before, picture.parent, cli("compress", picture), message)
        assert "Traceback" in cli("compress", "-vv", picture).err
