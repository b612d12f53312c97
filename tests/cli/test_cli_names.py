"""Which output an input gets, what is refused before anything is written, and names as they come."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmvqzip.cli.plan import image_to_gmvq, swap_suffix
from gmvqzip.errors import safe_name

Cli = Callable[..., Any]


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("img.png", "img.gmvq"),
        ("a.b/IMG.JPEG", "a.b/IMG.gmvq"),
        ("photo.2024.jpg", "photo.2024.gmvq"),
        ("version-1.2", "version-1.2.gmvq"),
        ("plain", "plain.gmvq"),
        (".png", ".png.gmvq"),
        ("x.gmvq", "x.gmvq.gmvq"),
    ],
)
def test_image_names(name: str, expected: str) -> None:
    assert image_to_gmvq(Path(name)) == Path(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("img.gmvq", "img.png"), ("IMG.GMVQ", "IMG.png"), ("img.dat", "img.dat.png"), ("a.b.gmvq", "a.b.png")],
)
def test_packed_names(name: str, expected: str) -> None:
    assert swap_suffix(".gmvq", ".png")(Path(name)) == Path(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain name.png", "plain name.png"),
        ("Grüße.png", "Grüße.png"),
        ("two\nlines.png", "two\\nlines.png"),
        ("\x1b[31mred.png", "\\x1b[31mred.png"),
        (os.fsdecode(b"caf\xe9.png"), "caf\\xe9.png"),
        ("right\u202eto-left", "right\\u202eto-left"),
    ],
)
def test_names_are_printed_on_one_line(name: str, expected: str) -> None:
    assert safe_name(name) == expected


class TestDestinations:
    @pytest.fixture
    def tree(self, tmp_path: Path, pixels: np.ndarray) -> Path:
        for name in ("a.png", "sub/b.jpg", "sub/deep/c.PNG", "sub/notes.txt"):
            path = tmp_path / "tree" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".txt":
                path.write_text("no picture")
            else:
                Image.fromarray(pixels).save(path)
        return tmp_path / "tree"

    def test_recursion_beside_the_sources(self, cli: Cli, tree: Path) -> None:
        assert cli("compress", "-r", tree).code == 0
        assert {name for name in files_in(tree) if name.endswith(".gmvq")} == {
            "a.gmvq",
            "sub/b.gmvq",
            "sub/deep/c.gmvq",
        }

    def test_output_dir_mirrors_the_tree(self, cli: Cli, tree: Path) -> None:
        out = tree.parent / "new" / "out"
        assert cli("compress", "-r", tree, "--output-dir", out).code == 0
        assert files_in(out) == {"a.gmvq", "sub/b.gmvq", "sub/deep/c.gmvq"}
        back = tree.parent / "back"
        assert cli("decompress", "-r", out, "--output-dir", back, "-j", 2).code == 0
        assert files_in(back) == {"a.png", "sub/b.png", "sub/deep/c.png"}

    def test_a_directory_needs_r(self, cli: Cli, tree: Path) -> None:
        done = cli("compress", tree, tree / "a.png")
        assert done.code == 1
        assert "is a directory: add -r" in done.err
        assert "1 of 2 files failed" in done.err
        assert (tree / "a.gmvq").exists()

    def test_an_empty_directory_is_no_failure(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        done = cli("compress", "-r", tmp_path / "empty")
        assert done.code == 0
        assert "nothing to do" in done.err

    def test_links_to_directories_are_not_followed(self, cli: Cli, tree: Path) -> None:
        (tree / "sub" / "loop").symlink_to(tree)
        assert cli("compress", "-r", tree).code == 0
        assert len([name for name in files_in(tree) if name.endswith(".gmvq")]) == 3

    def test_two_inputs_for_one_output(self, cli: Cli, tree: Path, pixels: np.ndarray) -> None:
        Image.fromarray(pixels).save(tree / "a.webp")
        before = files_in(tree)
        done = cli("compress", "-r", tree)
        assert done.code == 2
        assert "a.png and" in done.err
        assert "would both be written" in done.err
        assert files_in(tree) == before
        out = tree.parent / "out"
        (tree / "other").mkdir()
        Image.fromarray(pixels).save(tree / "other" / "a.png")
        assert cli("compress", tree / "a.png", tree / "other" / "a.png", "--output-dir", out).code == 2
        assert not out.exists()
        assert cli("compress", tree / "a.png", tree / "sub" / ".." / "a.png").code == 2
        assert not (tree / "a.gmvq").exists()

    def test_two_names_that_are_links_to_one_output(self, cli: Cli, tree: Path, pixels: np.ndarray) -> None:
        Image.fromarray(pixels).save(tree / "z.png")
        (tree / "real.gmvq").write_bytes(b"kept")
        for name in ("a", "z"):
            (tree / f"{name}.gmvq").symlink_to("real.gmvq")
        assert cli("compress", "-f", tree / "a.png", tree / "z.png").code == 2
        assert (tree / "real.gmvq").read_bytes() == b"kept"

    def test_an_output_that_is_another_input(self, cli: Cli, tree: Path) -> None:
        (tree / "a.gmvq").write_bytes(b"kept")
        done = cli("compress", "-f", tree / "a.png", tree / "a.gmvq")
        assert done.code == 2
        assert "another input" in done.err
        assert (tree / "a.gmvq").read_bytes() == b"kept"

    @pytest.mark.parametrize(
        "arguments",
        [
            ("A", "A", "-o", "x.gmvq"),
            ("A", "B", "-c"),
            ("A", "-c", "-o", "x.gmvq"),
            ("A", "-o", "x.gmvq", "--output-dir", "d"),
            ("A", "-c", "--output-dir", "d"),
            ("A", "-o", ""),
            ("-", "-"),
            ("-", "--output-dir", "d"),
            ("A", "-c", "--rm"),
            ("-", "--rm"),
            ("A", "-o", "-", "--rm"),
        ],
        ids=" ".join,
    )
    def test_options_that_contradict(
        self, cli: Cli, tree: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tree.parent)
        before = files_in(tree.parent)
        names = {"A": str(tree / "a.png"), "B": str(tree / "sub" / "b.jpg")}
        done = cli("compress", *(names.get(part, part) for part in arguments))
        assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
        assert files_in(tree.parent) == before


class TestOddNames:
    @pytest.mark.parametrize(
        "name",
        ["with space", "two\nlines", "-dash", "Grüße", os.fsdecode(b"caf\xe9"), "a[red]b", "%s{}", "*?", "\U0001f4f7"],
    )
    def test_there_and_back(
        self, cli: Cli, tmp_path: Path, pixels: np.ndarray, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with Path(f"{name}.png").open("wb") as file:
            Image.fromarray(pixels).save(file, "PNG")
        done = cli("compress", "-v", "--", f"{name}.png")
        assert (done.code, done.err.count("\n")) == (0, 1)
        assert Path(f"{name}.gmvq").is_file()
        assert cli("info", "--", f"{name}.gmvq").out.count(b"\n") == 6
        (fields,) = [json.loads(line) for line in cli("test", "--json", "--", f"{name}.gmvq").out.splitlines()]
        assert fields["input"].encode("utf-8")
        done = cli("decompress", "--", f"{name}.gmvq")
        assert done.code == 0
        assert done.err == (
            f"gmvqzip: {safe_name(name)}.gmvq: output {safe_name(name)}.png exists: skipped; -f overwrites it\n"
        )

    def test_a_file_named_like_the_stream(
        self, cli: Cli, tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Image.fromarray(pixels).save("-", "PNG")
        assert cli("compress", "./-").code == 0
        assert Path("-.gmvq").is_file()
        assert cli("decompress", "./-.gmvq", "-o", "./-", "-f").code == 0

    def test_an_empty_name_and_a_zero_byte(self, cli: Cli) -> None:
        for name, message in (("", "the name is empty"), ("a\0b", "null")):
            done = cli("compress", name)
            assert (done.code, done.err.count("\n")) == (1, 1)
            assert message in done.err

    def test_a_name_that_is_too_long(self, cli: Cli) -> None:
        done = cli("compress", "x" * 300)
        assert done.code == 1
        assert "name is too long" in done.err
