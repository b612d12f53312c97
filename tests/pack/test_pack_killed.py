"""kill -9 at every step of writing a pack: what was there before is there afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packs import made, write_pack

from gmvqzip.pack import PackFile

# For each line, a fork of it writes a pack. The fork counts the calls that change something on the disk, and is killed
# before one of them, or in the middle of it. Prints how the fork ended.
NURSERY = """
import os, signal, sys, traceback
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from packs import made
from gmvqzip.format.packheader import PACK_HEADER_BYTES
from gmvqzip.format.packrecord import seal_record
from gmvqzip.pack import appending

calls = 0

def deadly(name, step, torn):
    real = getattr(os, name)
    def call(*arguments, **options):
        global calls
        if calls == step:
            if torn and name == "pwrite" and arguments[2] >= PACK_HEADER_BYTES:
                real(arguments[0], arguments[1][: len(arguments[1]) // 2], arguments[2])
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return real(*arguments, **options)
    setattr(os, name, call)

def work(mode, step, kind, path):
    for name in ("pwrite", "fsync", "ftruncate", "fchmod", "link", "replace", "unlink"):
        deadly(name, int(step), kind == "torn")
    appending._WRITE_BYTES = 8
    appender = appending.Appender(Path(path), append=mode == "append", force=mode == "force")
    for name, kind, payload in made(4, 8):
        appender.add(name, kind, seal_record(kind.width, kind.height, 0, payload))
    appender.finish()

for line in sys.stdin:
    child = os.fork()
    if not child:
        code = 1
        try:
            work(*line.rstrip().split(" ", 3))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
Run = Callable[[Path, str, int, str], bool]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """run(path, mode, step, kind): write the pack in a process that dies at that step; whether it was killed."""
    command = [sys.executable, "-c", NURSERY, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask(path: Path, mode: str, step: int, kind: str) -> bool:
            assert process.stdin is not None and process.stdout is not None
            print(mode, step, kind, path, file=process.stdin, flush=True)
            code = int(process.stdout.readline())
            assert code in (0, -signal.SIGKILL)
            return code != 0

        yield ask


def names(path: Path) -> list[str]:
    """All names, after every record has been read."""
    with PackFile(path) as pack:
        for number in range(len(pack)):
            pack.record(number)
        return list(pack.names)


OLD = [name for name, _, _ in made(8)]
NEW = [name for name, _, _ in made(4, 8)]


@pytest.mark.parametrize("kind", ["between", "torn"])
def test_append(run: Run, tmp_path: Path, kind: str) -> None:
    fresh = write_pack(tmp_path / "fresh.gmvqp", [made(5), made(3, 5)]).read_bytes()
    path, seen = tmp_path / "set.gmvqp", set()
    for step in range(100):
        path.write_bytes(fresh)
        killed = run(path, "append", step, kind)
        found = names(path)
        assert found in (OLD, OLD + NEW)
        seen.add(len(found))
        if not killed:
            break
        if found == OLD:  # what is left of it does not stand in the way
            assert not run(path, "append", 1000, kind)
            assert names(path) == OLD + NEW
    assert not killed
    assert step > 6
    assert seen == {8, 12}


@pytest.mark.parametrize("mode", ["new", "force"])
def test_a_new_pack(run: Run, tmp_path: Path, mode: str) -> None:
    fresh = write_pack(tmp_path / "fresh.gmvqp", [made(8)]).read_bytes()
    path = tmp_path / "set.gmvqp"
    for step in range(100):
        path.unlink(missing_ok=True)
        if mode == "force":
            path.write_bytes(fresh)
        killed = run(path, mode, step, "torn")
        assert (names(path) if path.exists() else None) in ([OLD if mode == "force" else None, NEW])
        if not killed:
            break
    assert not killed
    assert names(path) == NEW
    assert step > 6
