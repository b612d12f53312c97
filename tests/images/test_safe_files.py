"""Files appear whole or not at all, and nothing is lost on the way."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gmvqzip.errors import OutputError
from gmvqzip.images import files
from gmvqzip.images.files import atomic_write

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def refusal(path: Path, data: bytes = b"new", **options: object) -> str:
    """The line with which the write is refused; no temporary file stays behind."""
    with pytest.raises(OutputError) as caught:
        atomic_write(path, data, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("data", [b"", b"x", os.urandom(300_000)], ids=["empty", "one byte", "long"])
@pytest.mark.parametrize("force", [False, True])
def test_a_new_file(tmp_path, data, force):
    path = tmp_path / "out.gmvq"
    atomic_write(path, data, force=force)
    assert path.read_bytes() == data and names(tmp_path) == ["out.gmvq"]
    mask = os.umask(0o022)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_an_existing_file_needs_force(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    path.chmod(0o640)
    assert "exists" in refusal(path)
    assert path.read_bytes() == b"old"
    atomic_write(path, b"new", force=True)
    assert path.read_bytes() == b"new" and names(tmp_path) == ["out"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_time_and_permissions_of_the_source(tmp_path):
    source, path = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"picture")
    source.chmod(0o4604)  # the set-user-id bit is not copied
    os.utime(source, ns=(10**18, 1_234_567_890_123_456_789))
    atomic_write(path, b"new", copy_from=source)
    assert path.stat().st_mtime_ns == source.stat().st_mtime_ns
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_a_source_that_vanished_does_not_matter_any_more(tmp_path):
    atomic_write(tmp_path / "out", b"new", copy_from=tmp_path / "gone")
    assert names(tmp_path) == ["out"]


def test_the_input_is_never_written_over(tmp_path):
    source = tmp_path / "in"
    source.write_bytes(b"precious")
    (tmp_path / "soft").symlink_to(source)
    (tmp_path / "hard").hardlink_to(source)
    for name in ("in", "soft", "hard", "../" + tmp_path.name + "/in"):
        assert "input itself" in refusal(tmp_path / name, force=True, copy_from=source)
    assert source.read_bytes() == b"precious"


def test_directories_are_refused(tmp_path):
    assert "is a directory" in refusal(tmp_path, force=True)
    assert "does not exist" in refusal(tmp_path / "absent" / "out")
    (tmp_path / "file").write_bytes(b"old")
    assert "not a directory" in refusal(tmp_path / "file" / "out")
    assert names(tmp_path) == ["file"]


def test_links(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "real").write_bytes(b"old")
    link, broken = tmp_path / "link", tmp_path / "broken"
    link.symlink_to(folder / "real")
    broken.symlink_to(tmp_path / "absent" / "file")
    assert "exists" in refusal(link)
    assert "link to nothing" in refusal(broken)
    atomic_write(link, b"new", force=True)
    atomic_write(broken, b"new", force=True)
    assert link.is_symlink() and (folder / "real").read_bytes() == b"new" and names(folder) == ["real"]
    assert not broken.is_symlink() and broken.read_bytes() == b"new"
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert "link to nothing" in refusal(tmp_path / "circle")


@pytest.mark.parametrize("name", ["with space", "with\nnewline", "é", os.fsdecode(b"not\xffutf8"), "-dash", "x" * 255])
def test_strange_names(tmp_path, name):
    atomic_write(tmp_path / name, b"new")
    assert names(tmp_path) == [name]
    assert refusal(tmp_path / name).encode("utf-8")


def test_names_that_cannot_be(tmp_path):
    assert "too long" in refusal(tmp_path / ("x" * 300))
    assert refusal(tmp_path / "a\0b")


def test_devices_and_pipes_are_written_directly(tmp_path):
    atomic_write(Path(os.devnull), b"x" * 100_000)
    assert not Path(os.devnull).is_file()
    pipe, got = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    atomic_write(pipe, b"y" * 200_000)
    reader.join()
    assert got == [b"y" * 200_000] and names(tmp_path) == ["pipe"] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_standard_output_by_its_name(tmp_path):
    code = (
        "from pathlib import Path; from gmvqzip.images.files import atomic_write\n"
        "atomic_write(Path('/dev/stdout'), b'to the shell')"
    )
    with (tmp_path / "out").open("wb") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert (tmp_path / "out").read_bytes() == b"to the shell"


def test_a_closed_pipe_is_not_an_error_of_ours(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with pytest.raises(BrokenPipeError):
            atomic_write(Path(f"/dev/fd/{writer}"), b"x" * 100_000)
    finally:
        os.close(writer)


def fail_with(number: int):
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("step", ["fsync", "link", "open"])
@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "no space"), (errno.EROFS, "read-only"), (errno.EIO, "put/output error")]
)
def test_every_failing_step_leaves_things_as_they_were(tmp_path, monkeypatch, step, number, words):
    path = tmp_path / "out"
    monkeypatch.setattr(files.os, step, fail_with(number))
    assert words in refusal(path)
    assert names(tmp_path) == []


def test_a_failing_replacement_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", fail_with(errno.EACCES))
    assert "no permission" in refusal(path, force=True)
    assert path.read_bytes() == b"old" and names(tmp_path) == ["out"]


def test_a_full_disk(tmp_path):
    """A real one, of 64 KiB, where the tests may mount it."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True)
    if done.returncode:
        pytest.skip("no right to mount a small file system")
    try:
        (tmp_path / "out").write_bytes(b"old")
        assert "no space" in refusal(tmp_path / "out", b"x" * 200_000, force=True)
        assert (tmp_path / "out").read_bytes() == b"old" and names(tmp_path) == ["out"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.skipif(AS_ROOT, reason="permissions do not bind the superuser")
def test_a_read_only_directory(tmp_path):
    tmp_path.chmod(0o500)
    try:
        assert "no permission" in refusal(tmp_path / "out")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    path, sync = tmp_path / "out", os.fsync

    def intrude(descriptor: int) -> None:
        path.write_bytes(b"of another program")
        sync(descriptor)

    monkeypatch.setattr(files.os, "fsync", intrude)
    for hard_links in (True, False):
        if not hard_links:
            monkeypatch.setattr(files.os, "link", fail_with(errno.EPERM))
        path.unlink(missing_ok=True)
        assert "exists" in refusal(path)
        assert path.read_bytes() == b"of another program" and names(tmp_path) == ["out"]


def test_file_systems_without_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "link", fail_with(errno.EOPNOTSUPP))
    atomic_write(tmp_path / "out", b"new")
    assert (tmp_path / "out").read_bytes() == b"new" and names(tmp_path) == ["out"]
    monkeypatch.setattr(Path, "replace", fail_with(errno.EIO))
    assert refusal(tmp_path / "other")
    assert names(tmp_path) == ["out"]


def test_metadata_that_cannot_be_kept_is_let_go(tmp_path, monkeypatch):
    source = tmp_path / "in"
    source.write_bytes(b"")
    monkeypatch.setattr(files.os, "utime", fail_with(errno.EPERM))
    monkeypatch.setattr(files.os, "fchmod", fail_with(errno.EPERM))
    atomic_write(tmp_path / "out", b"new", copy_from=source)
    assert (tmp_path / "out").read_bytes() == b"new"


def test_the_time_is_kept_where_permissions_are_not(tmp_path, monkeypatch):
    """As on FAT, which refuses those that it cannot store."""
    source = tmp_path / "in"
    source.write_bytes(b"")
    os.utime(source, (-86_400, -86_400))
    monkeypatch.setattr(files.os, "fchmod", fail_with(errno.EPERM))
    atomic_write(tmp_path / "out", b"new", copy_from=source)
    assert (tmp_path / "out").stat().st_mtime == -86_400


def test_the_temporary_file_is_private_and_lies_beside(tmp_path, monkeypatch):
    seen, sync = list[tuple[str, int]](), os.fsync

    def look(descriptor: int) -> None:
        seen.extend((entry.name, stat.S_IMODE(entry.stat().st_mode)) for entry in tmp_path.iterdir())
        sync(descriptor)

    monkeypatch.setattr(files, "_copy_metadata", lambda *_: None)
    monkeypatch.setattr(files.os, "fsync", look)
    atomic_write(tmp_path / "out", b"new")
    assert seen[0][0].startswith(files.TEMPORARY_PREFIX) and seen[0][1] == 0o600


def test_interrupted_from_the_keyboard(tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "out", b"new")
    assert names(tmp_path) == []


@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_by_a_signal_in_the_middle(tmp_path, number):
    """With the handler that the commands install: a signal becomes an exception, and the temporary file goes."""
    code = f"""
import os, signal, sys
from pathlib import Path
from gmvqzip.images import files
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
files.os.fsync = lambda _: (print("writing", flush=True), sys.stdin.read())
files.atomic_write(Path({str(tmp_path / "out")!r}), b"new")
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == b"writing\n"
        assert len(names(tmp_path)) == 1
        process.send_signal(number)  # and the pipe is closed: without the signal the file would be written
    assert process.returncode == (143 if number == signal.SIGTERM else -number) and names(tmp_path) == []


def test_many_writers_of_one_name(tmp_path):
    """One wins, whole; the others are refused."""
    path, refused = tmp_path / "out", list[int]()

    def write(number: int) -> None:
        try:
            atomic_write(path, bytes([number]) * 10_000)
        except OutputError:
            refused.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 7 and len(set(path.read_bytes())) == 1 and names(tmp_path) == ["out"]
