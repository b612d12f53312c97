"""Full disks, several writers of one output, very many readers, and codes that do not depend on any of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_files import files_of_at_most

from gmvqzip.codec import Codec
from gmvqzip.entropy.codes import Codes
from gmvqzip.errors import TrainingError
from gmvqzip.images.picture import read_picture
from gmvqzip.pack import PackReader
from gmvqzip.training.checkpoint import load_checkpoint, save_checkpoint

Cli = Callable[..., Any]
SMALL_DISK = 64 << 10  # bytes; a tmpfs takes whole pages of 4 KiB


def picture_file(path: Path, seed: int = 0, side: int = 200) -> Path:
    """A picture of noise, the compressed form of which is some KB with the tiny models."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


class TestFullDisk:
    @pytest.fixture(params=["a small disk", "a limit of file sizes"])
    def disk(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Callable[[], Any]]]:
        """A folder, and a context in which there is no room in it."""
        folder = tmp_path / "disk"
        folder.mkdir()
        if request.param == "a limit of file sizes":
            yield folder, lambda: files_of_at_most(100)
            return
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("no right to mount a small file system")
        try:
            yield folder, lambda: _filled(folder)
        finally:
            subprocess.run(["umount", str(folder)], check=True)

    @pytest.fixture
    def cases(self, tmp_path: Path, cli: Cli) -> dict[str, tuple[object, ...]]:
        """Commands that write to DISK; what they read lies elsewhere."""
        source = picture_file(tmp_path / "img.png")
        pictures = tmp_path / "pictures"
        pictures.mkdir()
        picture_file(pictures / "new.png", 1, side=400)
        assert cli("compress", source).code == 0
        packed = tmp_path / "img.gmvq"
        return {
            "compress": ("compress", "-f", source, "-o"),
            "decompress": ("decompress", "-f", packed, "-o"),
            "codes": ("codes", "-f", packed, "-o"),
            "pack": ("pack", "-f", pictures, "-o"),
            "append": ("pack", "--append", pictures, "-o"),
            "view": ("view", "-f", packed, "-o"),
        }

    @pytest.mark.parametrize("case", ["compress", "decompress", "codes", "pack", "append", "view"])
    def test_what_was_there_stays(
        self, cli: Cli, disk: tuple[Path, Callable[[], Any]], cases: dict[str, Any], case: str, tmp_path: Path
    ) -> None:
        folder, full = disk
        ending = {"decompress": "ppm", "codes": "npz", "pack": "gmvqp", "append": "gmvqp", "view": "html"}
        target = folder / f"out.{ending.get(case, 'gmvq')}"
        if case in ("pack", "append"):
            first = tmp_path / "first"
            first.mkdir()
            picture_file(first / "old.png", 2, side=40)
            assert cli("pack", first, "-o", target).code == 0
        else:
            target.write_bytes(b"old")
        before = target.read_bytes()
        with full():
            done = cli(*cases[case], target)
        assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1), done.err
        assert "Traceback" not in done.err
        assert any(words in done.err for words in ("no space left", "file too large")), done.err
        assert target.read_bytes() == before
        assert list(folder.iterdir()) == [target]

    def test_the_last_checkpoint_stays(self, disk: tuple[Path, Callable[[], Any]]) -> None:
        folder, full = disk
        save_checkpoint(folder, 1, {"step": 1, "tensor": torch.ones(1000)})
        with full(), pytest.raises(TrainingError, match="the last good one is kept"):
            save_checkpoint(folder, 2, {"step": 2, "tensor": torch.ones(10_000)})
        assert load_checkpoint(folder)["step"] == 1
        assert len(list(folder.iterdir())) == 1


@contextmanager
def _filled(folder: Path) -> Iterator[None]:
    """Nothing but the last bytes of files that are there already can be written."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(512)):
                pass
        except OSError:
            pass
    try:
        yield
    finally:
        ballast.unlink()


# For each line, a list of command lines: processes that have loaded torch already, and start at the same time.
WARM = """
import json, os, sys, tempfile
import torch
from gmvqzip import __main__, codec
from gmvqzip.cli.commands import command_line
command_line()
for line in sys.stdin:
    running = []
    for arguments in json.loads(line):
        said = tempfile.TemporaryFile()
        child = os.fork()
        if not child:
            os.dup2(said.fileno(), 2)
            sys.argv, code = ["gmvqzip", *arguments], 1
            try:
                __main__.main()
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                sys.stderr.flush()
                os._exit(code)
        running.append((child, said))
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child, _ in running]
    for _, said in running:
        said.seek(0)
    print(json.dumps([ended, [said.read().decode() for _, said in running]]), flush=True)
"""
AtOnce = Callable[[list[list[str]]], tuple[list[int], list[str]]]


@pytest.fixture(scope="module")
def at_once(tiny_path: Path) -> Iterator[AtOnce]:
    """at_once(argument lists) -> exit codes and standard error of commands that run at the same time."""
    environment = {**os.environ, "GMVQZIP_MODELS": str(tiny_path.parent)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", WARM], **pipes, text=True, env=environment) as process:

        def ask(commands: list[list[str]]) -> tuple[list[int], list[str]]:
            assert process.stdin is not None and process.stdout is not None
            print(json.dumps(commands), file=process.stdin, flush=True)
            codes, errors = json.loads(process.stdout.readline())
            return codes, errors

        yield ask


class TestTwoWriters:
    @pytest.mark.parametrize("force", [False, True])
    def test_of_one_file(self, tmp_path: Path, tiny: Codec, at_once: AtOnce, force: bool) -> None:
        """One of the two, whole; without -f the other is refused."""
        sources = [picture_file(tmp_path / f"{number}.png", number) for number in range(2)]
        output = tmp_path / "out.gmvq"
        options = ["-f"] if force else []
        commands = [["compress", *options, str(source), "-o", str(output)] for source in sources]
        codes, errors = at_once(commands)
        assert sorted(codes) == ([0, 0] if force else [0, 1]), errors
        assert force or any("exists" in error for error in errors)
        wanted = [tiny.compress(source) for source in sources]
        assert output.read_bytes() in (wanted if force else [wanted[codes.index(0)]])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "out.gmvq"]

    def test_of_one_file_again_and_again(self, tmp_path: Path) -> None:
        """A reader never sees anything but one whole file."""
        code = """
import sys
from pathlib import Path
from gmvqzip.images.files import atomic_write
for _ in range(100):
    atomic_write(Path(sys.argv[1]), sys.argv[2].encode() * 50_000, force=True)
"""
        output = tmp_path / "out"
        output.write_bytes(b"a" * 50_000)
        commands = [[sys.executable, "-c", code, str(output), letter] for letter in "ab"]
        writers = [subprocess.Popen(command) for command in commands]
        seen = set[bytes]()
        while any(writer.poll() is None for writer in writers):
            seen.add(output.read_bytes())
        assert [writer.wait() for writer in writers] == [0, 0]
        assert seen <= {letter * 50_000 for letter in (b"a", b"b")}
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    @pytest.mark.parametrize("option", ["--append", "-f", None])
    def test_of_one_pack(self, tmp_path: Path, cli: Cli, tiny_path: Path, at_once: AtOnce, option: str | None) -> None:
        """An append that meets another is refused or waits its turn; a new pack is one of the two."""
        names = ["old", "first", "second"]
        for number, name in enumerate(names):
            (tmp_path / name).mkdir()
            picture_file(tmp_path / name / f"{name}.png", number, side=60)
        pack = tmp_path / "set.gmvqp"
        if option:
            assert cli("pack", tmp_path / "old", "-o", pack).code == 0
        options = [option] if option else []
        commands = [["pack", *options, str(tmp_path / n), "-o", str(pack)] for n in names[1:]]
        codes, errors = at_once(commands)
        done = [name for name, code in zip(names[1:], codes, strict=True) if code == 0]
        assert done, errors
        with PackReader(pack, model=tiny_path, device="cpu") as reader:
            found = list(reader.names)
            for number in range(len(found)):
                reader.picture(number)
        if option == "--append":
            assert found[0] == "old"
            assert sorted(found[1:]) == done
            assert len(done) == 2 or any("another process" in error for error in errors)
        else:
            assert found in [[name] for name in done]
            assert len(done) == 2 if option else len(done) == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "set.gmvqp"])


class TestManyReaders:
    @pytest.mark.parametrize("kind", ["tiny", "hyper"])
    def test_200_at_once(self, kind: str, request: pytest.FixtureRequest) -> None:
        """In as many threads, with one codec that loads its model under their feet."""
        shared: Codec = request.getfixturevalue(kind)
        generator = np.random.default_rng(0)
        pictures = [generator.integers(0, 256, (20 + n, 40 - n, 3), dtype=np.uint8) for n in range(8)]
        files = [shared.compress(picture) for picture in pictures]
        wanted = [np.asarray(shared.decompress(data)) for data in files]
        fresh, start = Codec(shared.info, "cpu"), threading.Barrier(200)

        def read(number: int) -> bool:
            start.wait()
            return np.array_equal(np.asarray(fresh.decompress(files[number % 8])), wanted[number % 8])

        with ThreadPoolExecutor(200) as pool:
            assert all(pool.map(read, range(200)))

    def test_8_processes(self, tmp_path: Path, tiny: Codec, at_once: AtOnce) -> None:
        source = picture_file(tmp_path / "img.png")
        (tmp_path / "img.gmvq").write_bytes(tiny.compress(source))
        outputs = [tmp_path / f"{number}.npy" for number in range(8)]
        commands = [["decompress", str(tmp_path / "img.gmvq"), "-o", str(output)] for output in outputs]
        codes, errors = at_once(commands)
        assert codes == [0] * 8, errors
        wanted = np.asarray(tiny.decompress(tmp_path / "img.gmvq"))
        assert all(np.array_equal(np.load(output), wanted) for output in outputs)


@pytest.mark.parametrize("kind", ["tiny", "hyper"])
class TestDeterminism:
    """The same picture gives the same codes, and the same file the same codes, whatever surrounds it."""

    @pytest.fixture
    def codec(self, kind: str, request: pytest.FixtureRequest) -> Codec:
        found: Codec = request.getfixturevalue(kind)
        return found

    @pytest.fixture
    def pictures(self) -> list[np.ndarray]:
        generator = np.random.default_rng(1)
        sizes = [(60, 80), (60, 80), (33, 200), (1, 1), (60, 80)]
        return [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]

    def test_threads(self, codec: Codec, pictures: list[np.ndarray]) -> None:
        before, found = torch.get_num_threads(), list[list[Codes]]()
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                found.append([codec.encode(picture) for picture in pictures])
        finally:
            torch.set_num_threads(before)
        assert found[0] == found[1] == found[2]

    def test_order(self, codec: Codec, pictures: list[np.ndarray]) -> None:
        forwards = [codec.compress(picture) for picture in pictures]
        assert [codec.compress(picture) for picture in reversed(pictures)] == forwards[::-1]
        assert [Codec(codec.info, "cpu").compress(picture) for picture in pictures] == forwards
        backwards = [codec.decode_codes(data) for data in reversed(forwards)]
        assert backwards[::-1] == [codec.encode(picture) for picture in pictures]

    def test_batches(self, codec: Codec, pictures: list[np.ndarray]) -> None:
        alone = [codec.encode(picture) for picture in pictures]
        read = [read_picture(picture) for picture in pictures]
        assert codec.encode_pictures(read) == alone
        assert codec.encode_pictures(read[::-1]) == alone[::-1]
        assert codec.encode_pictures(read[:2]) == alone[:2]

    def test_deterministic_algorithms(self, codec: Codec, pictures: list[np.ndarray]) -> None:
        usual = [codec.compress(picture) for picture in pictures]
        torch.use_deterministic_algorithms(True)
        try:
            assert [codec.compress(picture) for picture in pictures] == usual
            assert [codec.decode_codes(data).crc32() for data in usual] == [codec.encode(p).crc32() for p in pictures]
        finally:
            torch.use_deterministic_algorithms(False)

    def test_jobs(
        self, codec: Codec, pictures: list[np.ndarray], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GMVQZIP_MODELS", str(codec.info.path.parent))
        sources = [tmp_path / f"{number}.png" for number in range(len(pictures))]
        for path, picture in zip(sources, pictures, strict=True):
            Image.fromarray(picture).save(path)
        for jobs in (1, 4):
            folder = tmp_path / str(jobs)
            assert cli("compress", "-j", jobs, "-m", codec.name, "--output-dir", folder, *sources).code == 0
            assert [(folder / f"{n}.gmvq").read_bytes() for n in range(5)] == [codec.compress(p) for p in pictures]

    @pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="no CUDA device")
    def test_devices(self, codec: Codec, pictures: list[np.ndarray]) -> None:
        """A file has the same codes on both; the encoders' codes may differ where two are as good."""
        other = Codec(codec.info, "cuda")
        for picture in pictures:
            for data in (codec.compress(picture), other.compress(picture)):
                assert codec.decode_codes(data) == other.decode_codes(data)
                assert other.compress(picture) == other.compress(picture)
