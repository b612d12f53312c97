"""gmvqzip pack, unpack, list, and test of packs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmvqzip.codec import Codec
from gmvqzip.pack import PackFile, PackReader

Cli = Callable[..., Any]


def names_in(path: Path) -> list[str]:
    with PackFile(path) as pack:
        return list(pack.names)


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def records(done: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


@pytest.fixture
def tree(tmp_path: Path, pixels: np.ndarray) -> Path:
    for number, name in enumerate(("a.png", "sub/b.jpg", "sub/Grüße 日本.PNG", "sub/deep/c.webp", "notes.txt")):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("no picture")
        else:
            Image.fromarray(np.roll(pixels, number, axis=0)).save(path)
    return tmp_path / "tree"


NAMES = ["a", "sub/Grüße 日本", "sub/b", "sub/deep/c"]


@pytest.fixture
def packed_tree(cli: Cli, tree: Path) -> Path:
    assert cli("pack", tree).code == 0
    return tree.with_name("tree.gmvqp")


class TestPack:
    @pytest.mark.parametrize("options", [(), ("--gmvq",), ("--merge",), ("--append",)])
    def test_nothing_to_pack(self, cli: Cli, tmp_path: Path, options: tuple[str, ...]) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "notes.txt").write_text("no picture")
        done = cli("pack", *options, tmp_path / "in", "-o", tmp_path / "out.gmvqp")
        assert done.code == 1
        assert done.err.splitlines()[-1].startswith("gmvqzip: nothing to pack was found")
        assert files_in(tmp_path) == {"in/notes.txt"}

    @pytest.mark.parametrize("name", ["/dev/stdin", "/dev/fd/0"])
    def test_what_has_no_name_is_refused(self, cli: Cli, tree: Path, tmp_path: Path, name: str) -> None:
        done = cli("pack", name, tree / "a.png", "-o", tmp_path / "out.gmvqp")
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "has no name to use in a pack" in done.err
        assert not (tmp_path / "out.gmvqp").exists()

    def test_a_folder(self, cli: Cli, tree: Path, tiny: Codec) -> None:
        done = cli("pack", tree)
        assert (done.code, done.out, done.err) == (0, b"", "")
        path = tree.with_name("tree.gmvqp")
        assert names_in(path) == NAMES
        assert (tree / "a.png").exists()
        with PackReader(path) as reader:
            assert reader.gmvq("a") == tiny.compress(tree / "a.png")
            assert reader.gmvq("sub/Grüße 日本") == tiny.compress(tree / "sub/Grüße 日本.PNG")

    @pytest.mark.parametrize("jobs", [1, 3])
    def test_results(self, cli: Cli, tree: Path, jobs: int) -> None:
        done = cli("pack", tree, "-o", tree / "x.gmvqp", "--json", "-j", jobs)
        fields = records(done)
        assert [entry["name"] for entry in fields] == NAMES
        assert {entry["output"] for entry in fields} == {str(tree / "x.gmvqp")}
        assert all(entry["width"] == 37 and entry["model"] == "photo" for entry in fields)
        with PackFile(tree / "x.gmvqp") as pack:
            assert [entry["out_bytes"] for entry in fields] == [pack.entry(number).size for number in range(4)]
        done = cli("pack", tree, "-o", tree / "y.gmvqp", "-v")
        assert "sub/b: 37x23" in done.err
        assert "4 pictures added" in done.err

    def test_single_files_and_two_folders(self, cli: Cli, tree: Path) -> None:
        path = tree / "x.gmvqp"
        assert cli("pack", tree / "a.png", tree / "sub", "-o", path).code == 0
        assert names_in(path) == ["a", "Grüße 日本", "b", "deep/c"]

    def test_quality_and_effort(self, cli: Cli, tree: Path, hyper_path: Path, hyper: Codec) -> None:
        path = tree / "x.gmvqp"
        assert cli("pack", tree, "-o", path, "-m", hyper_path, "-q", 30, "-e", 2, "-j", 2).code == 0
        with PackReader(path, model=hyper_path) as reader:
            assert reader.gmvq("a") == hyper.compress(tree / "a.png", quality=30, effort=2)

    def test_append(self, cli: Cli, tree: Path, packed_tree: Path, pixels: np.ndarray) -> None:
        before = packed_tree.read_bytes()
        Image.fromarray(pixels).save(tree / "new.png")
        done = cli("pack", tree, "--append")
        assert done.code == 1
        assert "a.png: the pack has a picture named a already" in done.err
        assert "4 of 5 files failed" in done.err
        assert names_in(packed_tree) == [*NAMES, "new"]
        assert packed_tree.read_bytes()[100 : len(before)] == before[100:]

    def test_append_to_nothing(self, cli: Cli, tree: Path) -> None:
        assert cli("pack", tree, "--append").code == 0
        assert names_in(tree.with_name("tree.gmvqp")) == NAMES

    def test_append_of_nothing_new_changes_nothing(self, cli: Cli, tree: Path, packed_tree: Path) -> None:
        before = packed_tree.read_bytes()
        assert cli("pack", tree, "--append", "--quiet").code == 1
        assert packed_tree.read_bytes() == before

    def test_finished_files(self, cli: Cli, tree: Path, packed_tree: Path) -> None:
        assert cli("compress", "-r", tree, "--output-dir", tree / "out").code == 0
        done = cli("pack", "--gmvq", tree / "out", "-o", tree / "x.gmvqp", "--json")
        assert [fields["name"] for fields in records(done)] == NAMES
        assert (tree / "x.gmvqp").read_bytes() == packed_tree.read_bytes()
        damaged = tree / "out" / "a.gmvq"
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"\xff")
        done = cli("pack", "--gmvq", tree / "out", "-o", tree / "y.gmvqp")
        assert (done.code, names_in(tree / "y.gmvqp")) == (1, NAMES[1:])

    def test_an_existing_pack(self, cli: Cli, tree: Path, packed_tree: Path) -> None:
        packed_tree.write_bytes(b"mine")
        done = cli("pack", tree)
        assert (done.code, packed_tree.read_bytes()) == (1, b"mine")
        assert "exists: -f replaces it" in done.err
        done = cli("pack", tree, "--append")
        assert (done.code, packed_tree.read_bytes()) == (1, b"mine")
        assert "tree.gmvqp: not a .gmvqp pack" in done.err
        assert cli("pack", tree, "-f").code == 0
        assert names_in(packed_tree) == NAMES

    def test_one_bad_picture_among_others(self, cli: Cli, tree: Path) -> None:
        (tree / "bad.png").write_bytes(b"no picture")
        (tree / os.fsdecode(b"caf\xe9.png")).write_bytes((tree / "a.png").read_bytes())
        done = cli("pack", tree, "--json")
        assert done.code == 1
        assert "bad.png: not a picture" in done.err
        assert "caf\\xe9.png: the name is not UTF-8" in done.err
        assert "2 of 6 files failed" in done.err
        assert names_in(tree.with_name("tree.gmvqp")) == NAMES
        assert len([fields for fields in records(done) if "error" in fields]) == 2

    def test_nothing_but_bad_pictures(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
        done = cli("pack", tmp_path / "in")
        assert done.code == 1
        assert "there is no pack" in done.err
        assert files_in(tmp_path) == {"in/bad.png"}

    def test_an_empty_folder(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        assert cli("pack", tmp_path / "in").code == 1
        assert files_in(tmp_path) == set()

    def test_two_pictures_of_one_name(self, cli: Cli, tree: Path, pixels: np.ndarray) -> None:
        Image.fromarray(pixels).save(tree / "a.webp")
        done = cli("pack", tree)
        assert done.code == 2
        assert "would both be a in the pack" in done.err
        assert not tree.with_name("tree.gmvqp").exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-"], "standard input and output"),
            (["TREE", "-o", "-"], "standard input and output"),
            (["TREE", "-o", ""], "empty"),
            (["TREE", "TREE/a.png"], "with -o FILE"),
            (["TREE/a.png"], "with -o FILE"),
            (["TREE", "--append", "-f"], "contradict"),
            (["TREE", "--gmvq", "-q", "5"], "leave --strip"),
        ],
    )
    def test_usage(self, cli: Cli, tree: Path, arguments: list[str], message: str) -> None:
        done = cli("pack", *(part.replace("TREE", str(tree)) for part in arguments))
        assert done.code == 2
        assert message in done.err

    def test_a_picture_that_a_batch_cannot_take(
        self, cli: Cli, tree: Path, tiny: Codec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where a batch fails for want of memory, each picture is tried alone."""
        from gmvqzip.engines.staged import StagedNetwork

        def small(network: StagedNetwork, pixels: np.ndarray, *rest: Any) -> Any:
            if len(pixels) > 1 or np.array_equal(pixels[0, :23, :37], refused):
                raise RuntimeError("not enough memory")
            return whole(network, pixels, *rest)

        refused = np.asarray(Image.open(tree / "a.png"))
        whole = StagedNetwork.analyse
        monkeypatch.setattr(StagedNetwork, "analyse", small)
        done = cli("pack", tree)
        assert done.code == 1
        assert "a.png: not enough memory" in done.err
        assert names_in(tree.with_name("tree.gmvqp")) == NAMES[1:]


@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str)
@pytest.mark.parametrize("append", [False, True])
def test_interrupted(
    tree: Path, packed_tree: Path, tiny_path: Path, number: int, code: int, append: bool, pixels: np.ndarray
) -> None:
    """The pack is as it was before, and no temporary stays."""
    before = packed_tree.read_bytes()
    new = tree.with_name("new")
    new.mkdir()
    Image.fromarray(pixels).save(new / "0.png")
    os.mkfifo(new / "1.png")  # reading it takes for ever
    target = packed_tree if append else tree / "x.gmvqp"
    arguments = [
        "pack",
        str(new / "0.png"),
        str(new / "1.png"),
        "-o",
        str(target),
        "-v",
        "-q",
        "50",
        *["--append"] * append,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "gmvqzip", *arguments],
        stderr=subprocess.PIPE,
        env={**os.environ, "GMVQZIP_MODELS": str(tiny_path.parent)},
    )
    with process:
        assert process.stderr is not None
        assert b"single rate" in process.stderr.readline()
        process.send_signal(number)
        while process.poll() is None:
            with contextlib.suppress(OSError):  # nobody reads yet, or any more
                os.close(os.open(new / "1.png", os.O_WRONLY | os.O_NONBLOCK))  # lets the reader go on
            time.sleep(0.02)
        assert process.returncode == code
        assert b"Traceback" not in process.stderr.read()
    assert packed_tree.read_bytes() == before
    assert not (tree / "x.gmvqp").exists()
    assert not list(tree.parent.rglob("*.part"))


class TestUnpack:
    def test_all(self, cli: Cli, tree: Path, packed_tree: Path, tiny: Codec) -> None:
        path = packed_tree.rename(packed_tree.with_name("set.gmvqp"))
        assert cli("unpack", path, "-j", 2).code == 0
        assert files_in(path.with_name("set")) == {f"{name}.png" for name in NAMES}
        expected = np.asarray(tiny.decompress(tiny.compress(tree / "a.png")))
        assert np.array_equal(np.asarray(Image.open(path.with_name("set") / "a.png")), expected)

    def test_some(self, cli: Cli, packed_tree: Path, tmp_path: Path) -> None:
        done = cli("unpack", packed_tree, "sub/b", "-n", 3, "-n", -4, "--output-dir", tmp_path / "x", "--json")
        assert done.code == 0
        assert files_in(tmp_path / "x") == {"sub/b.png", "sub/deep/c.png", "a.png"}
        assert [(fields["number"], fields["name"]) for fields in records(done)] == [
            (2, "sub/b"),
            (3, "sub/deep/c"),
            (0, "a"),
        ]

    def test_one(self, cli: Cli, packed_tree: Path, tmp_path: Path) -> None:
        assert cli("unpack", packed_tree, "a", "-o", tmp_path / "one.webp").code == 0
        assert (tmp_path / "one.webp").read_bytes()[8:12] == b"WEBP"
        done = cli("unpack", packed_tree, "-n", 0, "-c", "--format", "ppm")
        assert (done.code, done.out[:2]) == (0, b"P6")
        done = cli("unpack", packed_tree, "-n", 0, "-o", "-", tty_out=True)
        assert done.code == 2
        assert "terminal" in done.err

    def test_finished_files(self, cli: Cli, tree: Path, packed_tree: Path, tmp_path: Path, tiny: Codec) -> None:
        assert cli("unpack", packed_tree, "--output-dir", tmp_path / "x", "--format", "gmvq").code == 0
        assert (tmp_path / "x" / "sub" / "b.gmvq").read_bytes() == tiny.compress(tree / "sub" / "b.jpg")

    def test_existing_outputs(self, cli: Cli, packed_tree: Path, tmp_path: Path) -> None:
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "a.png").write_bytes(b"mine")
        done = cli("unpack", packed_tree, "--output-dir", tmp_path / "x")
        assert done.code == 0
        assert "a.png exists: skipped" in done.err
        assert (tmp_path / "x" / "a.png").read_bytes() == b"mine"
        assert len(files_in(tmp_path / "x")) == 4
        assert cli("unpack", packed_tree, "--output-dir", tmp_path / "x", "-f").code == 0
        assert (tmp_path / "x" / "a.png").read_bytes() != b"mine"

    def test_what_is_not_there(self, cli: Cli, packed_tree: Path, tmp_path: Path) -> None:
        done = cli("unpack", packed_tree, "nobody", "a", "-n", 9, "--output-dir", tmp_path / "x")
        assert done.code == 1
        assert "tree.gmvqp: nobody: there is no such picture" in done.err
        assert "2 of 3 files failed" in done.err
        assert files_in(tmp_path / "x") == {"a.png"}
        done = cli("unpack", tmp_path / "missing.gmvqp")
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert "missing.gmvqp: no such file" in done.err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-o", "x.png", "--output-dir", "y"], "contradict"),
            (["-c"], "4 pictures cannot go into one output"),
            (["a", "-o", "x.gif"], "gif holds at most 256 colours"),
            (["a", "-o", "x.xyz"], "no format is known"),
            (["-o", ""], "empty"),
            (["a", "-c", "--json"], "both go to standard output"),
        ],
    )
    def test_usage(self, cli: Cli, packed_tree: Path, arguments: list[str], message: str) -> None:
        done = cli("unpack", packed_tree, *arguments)
        assert done.code == 2
        assert message in done.err

    def test_a_pack_without_its_ending(self, cli: Cli, packed_tree: Path, tmp_path: Path) -> None:
        path = packed_tree.rename(packed_tree.with_name("set"))
        done = cli("unpack", path)
        assert done.code == 2
        assert "use --output-dir" in done.err
        assert cli("unpack", path, "--output-dir", tmp_path / "x").code == 0

    def test_a_damaged_picture_leaves_the_others(self, cli: Cli, packed_tree: Path, tmp_path: Path) -> None:
        with PackFile(packed_tree) as pack:
            entry = pack.entry("sub/b")
        data = bytearray(packed_tree.read_bytes())
        data[entry.offset + 3] ^= 1
        packed_tree.write_bytes(data)
        done = cli("unpack", packed_tree, "--output-dir", tmp_path / "x")
        assert done.code == 1
        assert "tree.gmvqp: sub/b: the picture's record is damaged" in done.err
        assert files_in(tmp_path / "x") == {"a.png", "sub/Grüße 日本.png", "sub/deep/c.png"}
        done = cli("test", packed_tree)
        assert (done.code, done.out) == (1, b"")
        assert "sub/b" in done.err
        assert records(cli("test", packed_tree, "--json"))[-1]["damaged"] == 1


@pytest.mark.parametrize("command", ["list", "unpack", "test"])
def test_a_cut_pack_is_refused_in_one_line(cli: Cli, packed_tree: Path, command: str) -> None:
    data = packed_tree.read_bytes()
    for size in (0, 1, 30, 60, len(data) - 1):
        packed_tree.write_bytes(data[:size])
        done = cli(command, packed_tree)
        assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1), size
        assert str(packed_tree) in done.err


class TestList:
    def test_names(self, cli: Cli, packed_tree: Path) -> None:
        done = cli("list", packed_tree)
        assert (done.code, done.out.decode().splitlines()) == (0, NAMES)

    def test_verbose(self, cli: Cli, packed_tree: Path) -> None:
        done = cli("list", packed_tree, "-v")
        first = done.out.decode().splitlines()[0].split()
        assert (first[0], first[1], first[-2], first[-1]) == ("0", "37x23", "photo", "a")
        assert "4 pictures" in done.err

    def test_json(self, cli: Cli, packed_tree: Path, tiny: Codec) -> None:
        fields = records(cli("list", packed_tree, "--json"))
        assert [entry["name"] for entry in fields] == NAMES
        assert fields[0]["model_id"] == tiny.model_id[:16]
        assert fields[0]["bpp"] == 8 * fields[0]["bytes"] / (37 * 23)

    def test_a_model_that_is_not_installed(self, cli: Cli, packed_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GMVQZIP_MODELS", "")
        assert records(cli("list", packed_tree, "--json"))[0]["model"] is None

    def test_an_interrupted_append_is_said(self, cli: Cli, packed_tree: Path) -> None:
        with packed_tree.open("ab") as pack:
            pack.write(b"rest")
        for arguments in (["list"], ["test"]):
            done = cli(*arguments, packed_tree)
            assert done.code == 0
            assert "warning: an append was not finished" in done.err

    def test_several_packs_one_missing(self, cli: Cli, packed_tree: Path, tmp_path: Path) -> None:
        done = cli("list", tmp_path / "missing", packed_tree)
        assert (done.code, done.out.decode().splitlines()) == (1, NAMES)
        assert "1 of 2 files failed" in done.err


def test_other_commands_say_that_it_is_a_pack(cli: Cli, packed_tree: Path) -> None:
    for command in ("info", "decompress", "codes"):
        done = cli(command, packed_tree)
        assert done.code == 1
        assert "a pack of pictures: `gmvqzip list`" in done.err


def test_test(cli: Cli, packed_tree: Path) -> None:
    done = cli("test", packed_tree)
    assert (done.code, done.out.decode()) == (0, f"{packed_tree}: ok, 4 pictures\n")
