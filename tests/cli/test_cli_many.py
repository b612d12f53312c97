"""Many files: batches, what fails among them, interruptions and going on, the summary."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmvqzip.cli.pipeline import Steps, results, run_steps
from gmvqzip.cli.plan import Task
from gmvqzip.cli.report import MANY, Report
from gmvqzip.codec import Codec
from gmvqzip.engines.staged import StagedNetwork

Cli = Callable[..., Any]
COUNT = 44


def shot(number: int) -> np.ndarray:
    """Pictures of two sizes."""
    side = 20 if number % 5 else 28
    return np.random.default_rng(number).integers(0, 256, (side, 24, 3), dtype=np.uint8)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """COUNT pictures in two folders."""
    folder = tmp_path / "tree"
    for number in range(COUNT):
        path = folder / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(shot(number)).save(path)
    return folder


@pytest.fixture(scope="module")
def compressed(tiny: Codec) -> dict[int, bytes]:
    """What the pictures of `tree` are in .gmvq files."""
    return {number: tiny.compress(shot(number), effort=1) for number in range(COUNT)}


def outputs(folder: Path) -> dict[int, bytes]:
    return {int(path.stem): path.read_bytes() for path in folder.rglob("*.gmvq")}


class TestBatches:
    @pytest.mark.parametrize("jobs", [1, 3])
    def test_a_tree(self, cli: Cli, tree: Path, tiny: Codec, compressed: dict[int, bytes], jobs: int) -> None:
        out = tree.with_name("out")
        done = cli("compress", "-r", tree, "-e", 1, "--output-dir", out, "-j", jobs, "--json")
        assert done.code == 0
        assert outputs(out) == compressed
        fields = [json.loads(line) for line in done.out.splitlines()]
        assert [one["input"] for one in fields] == sorted(map(str, tree.rglob("*.png")))
        assert all(one["seconds"] > 0 for one in fields)
        back = tree.with_name("back")
        assert cli("decompress", "-r", out, "--output-dir", back, "-j", jobs).code == 0
        with Image.open(back / "b" / "07.png") as image:
            assert np.array_equal(np.asarray(image), np.asarray(tiny.decompress(compressed[7])))

    def test_the_network_takes_several_at_once(self, cli: Cli, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes, whole = [], StagedNetwork.analyse

        def noted(network: StagedNetwork, pixels: np.ndarray, *rest: Any) -> Any:
            sizes.append(len(pixels))
            return whole(network, pixels, *rest)

        monkeypatch.setattr(StagedNetwork, "analyse", noted)
        assert cli("compress", "-r", tree).code == 0
        assert sum(sizes) == COUNT
        assert len(sizes) <= 4  # two workers, two sizes

    def test_one_that_a_batch_cannot_take(
        self, cli: Cli, tree: Path, compressed: dict[int, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A batch fails for want of memory: each picture of it is tried alone, and the failures are said again."""
        whole, refused = StagedNetwork.analyse, shot(11)

        def small(network: StagedNetwork, pixels: np.ndarray, *rest: Any) -> Any:
            if len(pixels) > 1 or np.array_equal(pixels[0, :20, :24], refused):
                raise RuntimeError("not enough memory")
            return whole(network, pixels, *rest)

        expected = {number: data for number, data in compressed.items() if number not in (11, 12)}
        (tree / "a" / "12.png").write_text("no picture")
        monkeypatch.setattr(StagedNetwork, "analyse", small)
        done = cli("compress", "-r", tree, "-e", 1, "-j", 2)
        assert done.code == 1
        assert outputs(tree) == expected
        lines = done.err.splitlines()
        assert len(lines) == 6
        assert "a/12.png" in lines[0]
        assert "b/11.png: not enough memory" in lines[1]
        assert lines[2].startswith(f"gmvqzip: {COUNT - 2} files, ")
        assert lines[3:5] == [line.replace("gmvqzip: ", "gmvqzip: failed: ") for line in lines[:2]]
        assert lines[5] == f"gmvqzip: 2 of {COUNT} files failed"


class TestHeld:
    @pytest.mark.parametrize(("pixels", "batch"), [(1, 64), (100, 10), (10**6, 1)])
    @pytest.mark.parametrize("jobs", [1, 3])
    def test_the_items_held_are_few(self, tmp_path: Path, pixels: int, batch: int, jobs: int) -> None:
        """However many files there are: those of jobs + 1 batches, in the order of the files."""
        files = [tmp_path / f"{number:03}" for number in range(400)]
        for path in files:
            path.touch()
        held, most, working, most_working, shown = 0, 0, 0, 0, []
        lock = threading.Lock()

        def read(task: Task) -> str:
            nonlocal held, most
            with lock:
                held += 1
                most = max(most, held)
            return task.name

        def work(items: Sequence[str]) -> list[str]:
            nonlocal held, working, most_working
            with lock:
                working += 1
                most_working = max(most_working, working)
            assert len(items) <= batch
            first = int(items[0])
            assert list(items) == [f"{number:03}" for number in range(first, first + len(items))]
            time.sleep(0.001)
            with lock:
                held -= len(items)
                working -= 1
            return list(items)

        def write(task: Task, product: str) -> dict[str, Any]:
            assert product == task.name
            return {"name": product}

        tasks = [Task(path.name, path, None) for path in files]
        steps = Steps(read, lambda name: pixels, 1000, work, write)
        report = Report(progress=False)
        run_steps(
            tasks,
            steps,
            lambda fields: shown.append(fields["name"]),
            report,
            jobs=jobs,
            what="testing",
            in_thread=lambda: None,
        )
        assert shown == [path.name for path in files]
        assert batch <= most <= (jobs + 1) * batch
        assert most_working <= jobs
        assert (held, report.failures) == (0, 0)


def test_no_batch_waits_for_a_later_one(tmp_path: Path) -> None:
    """What is shown, counted and let go in the order of the files would else wait for the last of all."""
    files = [tmp_path / f"{number:03}" for number in range(200)]
    for path in files:
        path.touch()
    begun: list[str] = []

    def work(batch: Sequence[Task]) -> list[dict[str, Any]]:
        begun.append(batch[0].name)
        time.sleep(0.0001)  # lets the other worker take its batch, and wait
        return [{} for _ in batch]

    steps = Steps[Task, dict[str, Any], dict[str, Any]](lambda task: task, lambda _: 1, 1, work, lambda _, done: done)
    tasks = [Task(path.name, path, None) for path in files]
    with results(tasks, steps, 1, lambda: None) as found:
        for result in found:
            result()
    assert begun == [path.name for path in files]


class Product:
    """Something that a weak reference can watch."""


def test_results_are_let_go(tmp_path: Path) -> None:
    """Whoever takes them one by one holds few, however many there are."""
    files = [tmp_path / f"{number:03}" for number in range(100)]
    for path in files:
        path.touch()
    tasks = [Task(path.name, path, None) for path in files]
    steps = Steps[Task, Product, Product](
        lambda task: task, lambda _: 1, 1, lambda batch: [Product() for _ in batch], lambda _, product: product
    )
    taken: list[weakref.ref[Product]] = []
    with results(tasks, steps, 2, lambda: None) as found:
        for result in found:
            taken.append(weakref.ref(result()))
    assert len(taken) == 100
    assert sum(reference() is not None for reference in taken[:-1]) <= 8


# A signal comes at a sync in the middle. Each file takes two, and at most 16 files are at it; those behind it are slow.
INTERRUPTED = """
import itertools, os, signal, sys, time
from gmvqzip.__main__ import main
fsync, calls, number = os.fsync, itertools.count(1), int(sys.argv.pop(1))
def counted(descriptor):
    call = next(calls)
    if call == 33:
        os.kill(os.getpid(), number)
    if call >= 33:
        while signal.getsignal(signal.SIGTERM) != signal.SIG_IGN:  # until the main thread has heard of it
            time.sleep(0.01)
        time.sleep(0.3)
    fsync(descriptor)
os.fsync = counted
main()
"""


class TestGoingOn:
    @pytest.mark.usefixtures("default_signals")
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=str)
    def test_after_an_interruption(
        self, tree: Path, compressed: dict[int, bytes], tiny_path: Path, number: int
    ) -> None:
        out = tree.with_name("out")
        arguments = ["compress", "-r", str(tree), "-e", "1", "--output-dir", str(out), "--jobs", "2"]
        environment = {**os.environ, "GMVQZIP_MODELS": str(tiny_path.parent)}
        command = [sys.executable, "-c", INTERRUPTED, str(int(number)), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert done.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL)
        first = outputs(out)
        assert 5 <= len(first) < COUNT
        assert all(data == compressed[which] for which, data in first.items())
        if number == signal.SIGTERM:
            assert not list(out.rglob("*.part"))
            assert f"gmvqzip: {len(first)} of {COUNT} files were done before it ended" in done.stderr.decode()
        inodes = {path: path.stat().st_ino for path in out.rglob("*.gmvq")}
        again = [sys.executable, "-m", "gmvqzip", *arguments, "--skip-existing"]
        done = subprocess.run(again, env=environment, capture_output=True, check=True)
        assert f"{COUNT - len(first)} files, " in done.stderr.decode()
        assert f", {len(first)} skipped" in done.stderr.decode()
        assert outputs(out) == compressed
        assert {path: path.stat().st_ino for path in inodes} == inodes

    def test_nothing_left_to_do(self, cli: Cli, tree: Path) -> None:
        """Neither the pictures nor a model are needed."""
        assert cli("compress", "-r", tree).code == 0
        before = outputs(tree)
        for path in tree.rglob("*.png"):
            path.write_text("no picture")
        done = cli("compress", "-r", tree, "--skip-existing", "-m", "missing")
        assert (done.code, done.err) == (0, f"gmvqzip: 0 files, {COUNT} skipped\n")
        assert outputs(tree) == before
        assert cli("compress", "-r", tree, "--skip-existing", "--quiet").err == ""
        done = cli("compress", "-r", tree / "b", "--skip-existing", "--json")
        first = {"input": str(tree / "b" / "01.png"), "output": str(tree / "b" / "01.gmvq"), "skipped": True}
        assert json.loads(done.out.splitlines()[0]) == first
        assert len(done.out.splitlines()) == COUNT // 2

    def test_decompress(self, cli: Cli, tree: Path) -> None:
        out = tree.with_name("out")
        assert cli("compress", "-r", tree / "a", "--output-dir", out).code == 0
        (out / "00.png").write_bytes(b"kept")
        done = cli("decompress", "-r", out, "--skip-existing")
        assert done.code == 0
        assert f"{COUNT // 2 - 1} files, " in done.err
        assert (out / "00.png").read_bytes() == b"kept"
        with Image.open(out / "02.png") as image:
            assert image.size == (24, 20)

    def test_an_empty_output_is_not_taken_for_one(self, cli: Cli, tree: Path) -> None:
        (tree / "a" / "00.gmvq").touch()
        done = cli("compress", tree / "a" / "00.png", "--skip-existing")
        assert done.code == 1
        assert "exists and is empty" in done.err

    @pytest.mark.parametrize("command", ["compress", "decompress"])
    def test_contradictions(self, cli: Cli, tree: Path, command: str) -> None:
        done = cli(command, "-r", tree, "--skip-existing", "-f")
        assert done.code == 2
        assert "contradict" in done.err


class TestSummary:
    def test_of_many_files(self, cli: Cli, tree: Path) -> None:
        done = cli("compress", "-r", tree)
        in_bytes = sum(path.stat().st_size for path in tree.rglob("*.png")) / 1e6
        out_bytes = sum(path.stat().st_size for path in tree.rglob("*.gmvq")) / 1e6
        assert done.err.startswith(f"gmvqzip: {COUNT} files, ")
        ratio = f"{100 * out_bytes / in_bytes:.1f} % of their size"
        assert done.err.endswith(f" files/s, {in_bytes:.2f} -> {out_bytes:.2f} MB, {ratio}\n")
        assert done.err.count("\n") == 1

    def test_of_a_few_files_only_for_somebody_who_watches(self, cli: Cli, tree: Path) -> None:
        few = sorted(tree.rglob("*.png"))[:MANY]
        assert cli("compress", *few).err == ""
        err = cli("compress", "-f", "--no-progress", *few, tty_err=True).err
        assert err.count("\n") == MANY + 1
        assert f"gmvqzip: {MANY} files, " in err.splitlines()[-1]

    @pytest.mark.parametrize(("name", "value"), [("COLUMNS", "0"), ("TERM", "dumb")])
    def test_a_terminal_that_has_no_room_for_a_bar(
        self, cli: Cli, tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)
        (tmp_path / "bad.png").touch()
        err = cli("compress", tmp_path / "bad.png", picture, tty_err=True).err
        assert f"gmvqzip: {tmp_path / 'bad.png'}: the file is empty\n" in err
        assert "\x1b" not in err and "\n\n" not in err

    def test_the_bar(self, cli: Cli, tree: Path) -> None:
        """Somebody who watches many files sees the bar and the summary, and no line for each."""
        err = cli("compress", "-r", tree, tty_err=True).err
        assert "compressing" in err
        assert f"{COUNT}/{COUNT}" in err
        assert err.count("files/s") >= 2
        assert ".gmvq" not in err
