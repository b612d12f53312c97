"""Kills pieces of work at every step of their writing, and looks at what is left. Run in a process of its own.

python nursery.py FOLDER MODEL SCENARIO...    prints each scenario and how often its work was killed; tests and
                                              tests/training must be among the folders that Python imports from

The work is done in forks of this process: the first dies by SIGKILL before its first call that changes something in
the folder, the next before its second, and so on until one lives. Then the system ends others in the midst of a write,
after ever more bytes (RLIMIT_FSIZE, whose signal Python ignores only unless told otherwise).
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import Foreground, run_in_process
from PIL import Image

from gmvqzip.images.files import TEMPORARY_PREFIX, TEMPORARY_SUFFIX
from gmvqzip.models.registry import read_info
from gmvqzip.pack import PackReader
from gmvqzip.training.checkpoint import checkpoints, load_checkpoint, save_checkpoint

_CHANGES = {"os.rename", "os.link", "os.remove", "os.truncate", "os.chmod", "os.utime", "os.mkdir"}  # audit events
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_MOST_STEPS = 400
Arm = Callable[[Path], None]


def killed_at(step: int) -> Arm:
    """Die before the call of that number, from 0, that changes something in the folder."""

    def arm(folder: Path) -> None:
        calls = itertools.count()

        def count() -> None:
            if next(calls) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event in _CHANGES or (event == "open" and (arguments[2] or 0) & _WRITING):
                named = arguments[0] if isinstance(arguments[0], int) else os.fsdecode(arguments[0])
                if _within(folder, named):
                    count()

        def counted(name: str) -> None:  # what raises no audit event
            real = getattr(os, name)

            def call(descriptor: int, *rest: Any) -> Any:
                if _within(folder, descriptor):
                    count()
                return real(descriptor, *rest)

            setattr(os, name, call)

        for name in ("fsync", "pwrite", "write"):
            counted(name)
        sys.addaudithook(hook)

    return arm


def _within(folder: Path, named: int | str) -> bool:
    path = Path(f"/proc/self/fd/{named}").readlink() if isinstance(named, int) else Path(named).absolute()
    return path.is_relative_to(folder)


def killed_after(size: int) -> Arm:
    """Die in the write that takes a file beyond `size` bytes, once it is that long."""

    def arm(folder: Path) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return arm


def killed(work: Callable[[], None], folder: Path, arm: Arm | None) -> bool:
    """Do the work in a fork; whether it was killed."""
    child = os.fork()
    if not child:
        code = 1
        try:
            if arm:
                arm(folder)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGXFSZ), status
        return True
    assert os.WEXITSTATUS(status) == 0, status
    return False


def deaths(work: Callable[[], None], folder: Path, prepare: Callable[[], None], size: int) -> Iterator[bool]:
    """After each death, and after the one that lived, yield whether it was killed. size: bytes of what is written."""
    for step in range(_MOST_STEPS):
        prepare()
        dead = killed(work, folder, killed_at(step))
        yield dead
        if not dead:
            break
    else:
        raise AssertionError("the work never ended")
    for most in sorted({0, 1, size // 4, size // 2, size - 1}):
        prepare()
        dead = killed(work, folder, killed_after(most))
        assert dead
        yield dead


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def cli(*arguments: object) -> None:
    done = run_in_process(arguments, Foreground())
    assert done.code == 0, done.err


def conversion(
    folder: Path, make: Callable[[Path, Path], None], source: bytes, old: bytes | None, ending: str
) -> Iterator[bool]:
    """One file into another: the source stays as it was, the output is whole, or what it was before."""
    path, output = folder / "source", folder / f"output.{ending}"

    def prepare() -> None:
        emptied(folder)
        path.write_bytes(source)
        if old is not None:
            output.write_bytes(old)

    def work() -> None:
        make(path, output)

    prepare()
    work()
    new = output.read_bytes()
    for dead in deaths(work, folder, prepare, len(new)):
        assert path.read_bytes() == source
        found = output.read_bytes() if output.exists() else None
        assert found in ((old, new) if dead else (new,))
        left = [p.name for p in folder.iterdir() if p not in (path, output)]
        assert all(name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX) for name in left), left
        assert len(left) <= dead
        if dead:
            if old is None and found is not None:
                output.unlink()
            work()  # what is left is in nobody's way
            assert output.read_bytes() == new
        yield dead


def compress(folder: Path, *options: str, old: bytes | None = None) -> Iterator[bool]:
    drawn = folder.parent / "drawn.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(drawn)

    def make(source: Path, output: Path) -> None:
        cli("compress", *options, source, "-o", output)

    yield from conversion(folder, make, drawn.read_bytes(), old, "gmvq")


def decompress(folder: Path, *options: str, old: bytes | None = None) -> Iterator[bool]:
    drawn, file = folder.parent / "drawn.png", folder.parent / "drawn.gmvq"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(drawn)
    cli("compress", "-f", drawn, "-o", file)

    def make(source: Path, output: Path) -> None:
        cli("decompress", *options, source, "-o", output)

    yield from conversion(folder, make, file.read_bytes(), old, "npy")


def compress_rm(folder: Path) -> Iterator[bool]:
    """With --rm there is always the source or the whole output."""
    source, output = folder / "a.png", folder / "a.gmvq"

    def prepare() -> None:
        emptied(folder)
        Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save(source)

    def work() -> None:
        cli("compress", "--rm", source)

    prepare()
    picture = source.read_bytes()
    work()
    new = output.read_bytes()
    for dead in deaths(work, folder, prepare, len(new)):
        assert not source.exists() or source.read_bytes() == picture
        assert not output.exists() or output.read_bytes() == new
        assert source.exists() or output.exists()
        yield dead


def pack(folder: Path, *options: str) -> Iterator[bool]:
    """A pack is absent or whole; what was in it before stays."""
    pictures, path = folder.parent / "pictures", folder / "set.gmvqp"
    more = folder.parent / "more"
    for directory, names in ((pictures, "abc"), (more, "de")):
        directory.mkdir(exist_ok=True)
        for number, name in enumerate(names):
            Image.fromarray(np.full((20, 30, 3), 40 * number, dtype=np.uint8)).save(directory / f"{name}.png")
    append = "--append" in options
    cli("pack", pictures, "-o", folder.parent / "old.gmvqp", "-f")
    old = (folder.parent / "old.gmvqp").read_bytes() if options else None

    def prepare() -> None:
        emptied(folder)
        if old is not None:
            path.write_bytes(old)

    def work() -> None:
        cli("pack", more, "-o", path, *options)

    prepare()
    work()
    size = path.stat().st_size
    whole = {"before": list("abc"), "after": list("abcde") if append else list("de")}
    for dead in deaths(work, folder, prepare, size):
        found = None
        if path.exists():
            with PackReader(path, device="cpu") as reader:
                found = list(reader.names)
                for number in range(len(found)):
                    reader.picture(number)
        assert found in ((whole["before"] if options else None, whole["after"]) if dead else (whole["after"],))
        if dead and found == (whole["before"] if options else None):
            work()
        yield dead


def checkpoint(folder: Path) -> Iterator[bool]:
    """The newest readable checkpoint is the last or the one before, and both are whole."""

    def state(step: int) -> dict[str, Any]:
        return {"step": step, "tensor": torch.full((2000,), float(step))}

    def prepare() -> None:
        emptied(folder)
        for step in (1, 2):
            save_checkpoint(folder, step, state(step))

    def work() -> None:
        save_checkpoint(folder, 3, state(3))

    prepare()
    work()
    size = checkpoints(folder)[-1].stat().st_size
    for dead in deaths(work, folder, prepare, size):
        loaded = load_checkpoint(folder)
        assert loaded["step"] in ((2, 3) if dead else (3,))
        assert torch.equal(loaded["tensor"], state(loaded["step"])["tensor"])
        if dead:
            work()
            assert load_checkpoint(folder)["step"] == 3
            assert [path.suffix for path in folder.iterdir()] == [".pt", ".pt"]
        yield dead


def training(folder: Path) -> Iterator[bool]:
    """A run that was killed anywhere goes on to the same model, log included; an older model file stays till then."""
    import tiny_runs

    from gmvqzip.training import report

    import_module("torch._dynamo")  # an optimizer loads it, as Pillow its plugins: once here, not in every fork
    Image.init()
    setattr(report, "_tensorboard", lambda folder: None)  # noqa: B010
    config = replace(tiny_runs.TINY, steps=8, evaluate_every=4)
    output, run = folder / "tiny.safetensors", folder / "run"

    half_way = folder.parent / "half"

    def prepare() -> None:
        shutil.rmtree(folder)
        shutil.copytree(half_way, folder)

    def work() -> None:
        resume = bool(checkpoints(run))
        tiny_runs.train(folder, config, resume=resume)

    def first_half() -> None:
        recorder = tiny_runs.Recorder(stop_at=4)
        tiny_runs.train(folder, config, recorder=recorder)

    def logged() -> list[tuple[str, int]]:
        return [(line["kind"], line["step"]) for line in report.read_log(run / report.LOG_NAME)]

    def identity() -> str:
        return read_info(output).model_id

    output.write_bytes(b"older")
    assert not killed(first_half, folder, None)
    half = logged()
    shutil.copytree(folder, half_way)
    assert not killed(work, folder, None)
    wanted, lines = identity(), logged()
    for dead in deaths(work, folder, prepare, output.stat().st_size):
        if dead:
            found = logged()
            assert found[: len(half)] == half, (half, found)
            assert output.read_bytes() == b"older" or identity() == wanted
            assert not killed(work, folder, None)
        assert identity() == wanted
        assert [entry for entry in logged() if entry[0] == "step"] == [entry for entry in lines if entry[0] == "step"]
        yield dead


SCENARIOS: dict[str, Callable[[Path], Iterator[bool]]] = {
    "compress": compress,
    "compress-force": lambda folder: compress(folder, "-f", old=b"older"),
    "compress-rm": compress_rm,
    "decompress": decompress,
    "decompress-force": lambda folder: decompress(folder, "-f", old=b"older"),
    "pack": pack,
    "pack-force": lambda folder: pack(folder, "-f"),
    "pack-append": lambda folder: pack(folder, "--append"),
    "checkpoint": checkpoint,
    "training": training,
}


def main() -> None:
    folder, model = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    os.environ["GMVQZIP_MODELS"] = str(model.parent)
    torch.set_num_threads(1)  # so that a fork has all threads that it needs
    for name in sys.argv[3:]:
        own = folder / name / "work"
        own.mkdir(parents=True)
        print(name, sum(SCENARIOS[name](own)), flush=True)


if __name__ == "__main__":
    main()
