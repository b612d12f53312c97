"""Names of outputs, lists of files, pipes, what is skipped or left alone, and how an interrupted command ends."""

from __future__ import annotations

import json
import os
import re
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

from gmvqzip.cli import batch
from gmvqzip.cli.naming import namer
from gmvqzip.cli.plan import image_to_gmvq
from gmvqzip.cli.run import UsageError
from gmvqzip.codec import Codec
from gmvqzip.images.writing import picture_bytes

Cli = Callable[..., Any]


def objects(out: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def pair(tmp_path: Path, pixels: np.ndarray) -> Path:
    """A folder with a.png, a.jpg and b.png."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "a.jpg", "b.png"):
        Image.fromarray(pixels).save(folder / name)
    return folder


class TestNames:
    def test_equal_names_with_other_endings(self, cli: Cli, pair: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        done = cli("compress", "-r", pair, "--output-dir", out)
        assert (done.code, done.err.count("\n"), out.exists()) == (2, 1, False)
        assert "nothing was done; --keep-ending keeps them apart" in done.err
        shutil.copytree(pair, tmp_path / "more")
        for command in (("compress", "-r", "--output-dir", out), ("pack", "-o", tmp_path / "s.gmvqp")):
            done = cli(*command, "--keep-ending", pair, tmp_path / "more")
            assert (done.code, done.err.endswith("nothing was done\n")) == (2, True)  # that option cannot help
        assert cli("compress", "-r", pair, "--output-dir", out, "--keep-ending").code == 0
        assert sorted(path.name for path in out.iterdir()) == ["a.jpg.gmvq", "a.png.gmvq", "b.png.gmvq"]
        back = tmp_path / "back"
        assert cli("decompress", "-r", out, "--output-dir", back).code == 0
        assert sorted(path.name for path in back.iterdir()) == ["a.jpg.png", "a.png.png", "b.png.png"]

    def test_equal_names_in_a_pack(self, cli: Cli, pair: Path, tmp_path: Path) -> None:
        done = cli("pack", pair, "-o", tmp_path / "s.gmvqp")
        assert (done.code, (tmp_path / "s.gmvqp").exists()) == (2, False)
        assert "--keep-ending keeps them apart" in done.err
        assert cli("pack", pair, "-o", tmp_path / "s.gmvqp", "--keep-ending").code == 0
        assert cli("list", tmp_path / "s.gmvqp").out.decode().split() == ["a.jpg", "a.png", "b.png"]

    def test_templates(self, cli: Cli, pair: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        arguments = ("-r", pair, "--output-dir", out, "--output-name", "{stem}-{suffix}.small.{ending}")
        assert cli("compress", *arguments).code == 0
        assert sorted(path.name for path in out.iterdir()) == [
            "a-jpg.small.gmvq", "a-png.small.gmvq", "b-png.small.gmvq"
        ]  # fmt: skip
        assert (
            cli("decompress", out / "b-png.small.gmvq", "--output-name", "{name}.{ending}", "--format", "webp").code
            == 0
        )
        assert (out / "b-png.small.gmvq.webp").is_file()
        again = cli("compress", "-r", pair, "--output-dir", out, "--output-name", "x.gmvq")
        assert again.code == 2
        assert "would both be written" in again.err
        assert "--keep-ending" not in again.err

    @pytest.mark.parametrize(
        "template", ["{stm}.gmvq", "{stem.x}", "{stem!r}", "{", "{stem}}", "", "a/{stem}.gmvq", "{stem}.webp"]
    )
    def test_bad_templates(self, template: str) -> None:
        with pytest.raises(UsageError):
            namer(image_to_gmvq, "gmvq", template, output=None)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("compress", "b.png", "--output-name", "{name}"), "written to b.png: give a name that ends in .gmvq"),
            (("compress", "b.png", "--output-name", "{stem}.{suffix}"), "give a name that ends in .gmvq"),
            (("decompress", "b.jpg.gmvq", "--output-name", "{stem}"), "to b.jpg: give a name that ends in .png"),
            (("decompress", "b.jpg.gmvq", "--output-name", "{name}"), "give a name that ends in .png"),
            (("compress", "plain", "--output-name", "{suffix}"), "gives plain no name"),
            (("compress", "b.png", "--output-name", "."), "gives b.png no name"),
            (("compress", "b.png", "--output-name", ".."), "gives b.png no name"),
        ],
    )
    def test_names_that_only_the_fields_make_bad(
        self, cli: Cli, pair: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
    ) -> None:
        monkeypatch.chdir(pair)
        shutil.copy("b.png", "plain")
        assert cli("compress", "b.png", "-o", "b.jpg.gmvq").code == 0
        done = cli(*arguments, "--output-dir", "out")
        assert (done.code, done.err.count("\n")) == (2, 1) and words in done.err
        assert not Path("out").exists()

    def test_contradictions(self, cli: Cli, pair: Path) -> None:
        for arguments in (
            ("--keep-ending", "--output-name", "{stem}"),
            ("-o", "x.gmvq", "--output-name", "{stem}.gmvq"),
            ("--filelist", "-", "-"),
            ("-0",),
        ):
            assert cli("compress", pair / "b.png", *arguments).code == 2, arguments

    @pytest.mark.parametrize(
        ("arguments", "output"),
        [
            (("compress", "b.png"), "x.webp"),
            (("compress", "b.png"), "x.PNG"),
            (("compress", "b.png"), "x.npz"),
            (("compress", "b.png"), "x.gmvqp"),
            (("pack", "b.png"), "x.gmvq"),
            (("decompress", "b.gmvq", "--format", "webp"), "x.png"),
            (("codes", "b.gmvq"), "x.png"),
            (("view", "b.gmvq"), "x.png"),
        ],
        ids=str,
    )
    def test_an_ending_of_another_format(
        self, cli: Cli, pair: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], output: str
    ) -> None:
        monkeypatch.chdir(pair)
        (pair / "b.gmvq").touch()
        done = cli(*arguments, "-o", output)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert f"would be written to {output}: give a name that ends in ." in done.err
        assert not (pair / output).exists()

    @pytest.mark.parametrize("output", ["out/", "out/.", "out/x/.."])
    @pytest.mark.parametrize(
        "arguments",
        [("compress", "b.png"), ("decompress", "b.gmvq"), ("pack", "b.png"), ("view", "b.gmvq"), ("codes", "b.gmvq")],
        ids=" ".join,
    )
    def test_a_file_is_not_written_to_the_name_of_a_folder(
        self, cli: Cli, pair: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], output: str
    ) -> None:
        monkeypatch.chdir(pair)
        (pair / "b.gmvq").touch()
        done = cli(*arguments, "-o", output)
        assert (done.code, done.err) == (2, f"gmvqzip: output {output} is a directory: name a file in it\n")
        assert not (pair / "out").exists()

    def test_other_endings_are_left_to_the_user(self, cli: Cli, pair: Path) -> None:
        assert cli("compress", pair / "b.png", "-o", pair / "b.bin").code == 0
        assert cli("decompress", pair / "b.bin", "--format", "jpg", "-o", pair / "b.jpeg").code == 0
        done = cli("decompress", pair / "b.bin", "--format", "jpg", "-o", pair / "b.png", "-f")
        assert done.err.endswith("give a name that ends in .jpg\n")


class TestLists:
    def test_lines_and_zero_bytes(self, cli: Cli, pair: Path, tmp_path: Path) -> None:
        names = [pair / "b.png", pair / "a.jpg"]
        (tmp_path / "lines").write_text("".join(f"{name}\n" for name in names) + "\n")
        (tmp_path / "dos").write_text("".join(f"{name}\r\n" for name in names))
        (tmp_path / "zeros").write_bytes(b"\0".join(os.fsencode(name) for name in names))
        for arguments in (("--filelist", tmp_path / "lines"), ("--filelist", tmp_path / "dos"),
                          ("-0", "--filelist", tmp_path / "zeros")):  # fmt: skip
            done = cli("compress", "--json", "-f", *arguments)
            assert [fields["input"] for fields in objects(done.out)] == [str(name) for name in names]
        done = cli("compress", "--filelist", tmp_path / "zeros")
        assert (done.code, done.err.count("\n")) == (2, 1) and "has zero bytes: add -0" in done.err
        (tmp_path / "none").write_text("\n\n")
        for command in ("compress", "decompress", "codes", "info", "test"):
            done = cli(command, "--filelist", tmp_path / "none")
            assert (done.code, done.err) == (0, "gmvqzip: the list names no file: nothing to do\n"), command
        for output in ((), ("-o", tmp_path / "x.gmvqp")):
            done = cli("pack", "--filelist", tmp_path / "none", *output)
            assert (done.code, done.err.startswith("gmvqzip: nothing to pack was found"), done.err.count("\n")) == (
                1,
                True,
                1,
            )
        done = cli("test", "--filelist", "-", stdin=f"{pair / 'b.gmvq'}\n".encode())
        assert done.out.startswith(os.fsencode(pair / "b.gmvq") + b": ok")
        done = cli("compress", pair / "a.png", "--filelist", tmp_path / "lines", "--keep-ending", "--json")
        assert len(objects(done.out)) == 3

    def test_odd_names(self, cli: Cli, pair: Path, pixels: np.ndarray) -> None:
        odd = pair / os.fsdecode(b"two\nlines \xff.png")
        with odd.open("wb") as file:
            Image.fromarray(pixels).save(file, "PNG")
        assert cli("compress", "-0", "--filelist", "-", stdin=os.fsencode(odd) + b"\0").code == 0
        assert odd.with_suffix(".gmvq").is_file()

    def test_what_is_missing(self, cli: Cli, tmp_path: Path) -> None:
        for command in ("compress", "decompress", "info", "test", "codes", "pack"):
            done = cli(command)
            assert (done.code, done.err) == (2, "gmvqzip: name a file, or give --filelist\n"), command
        done = cli("compress", "--filelist", tmp_path / "none")
        assert (done.code, done.err) == (2, f"gmvqzip: the list {tmp_path / 'none'} cannot be read: no such file\n")
        (tmp_path / "empty").touch()
        assert cli("compress", "--filelist", tmp_path / "empty").code == 0
        (tmp_path / "one").write_text("nowhere.png\n")
        assert cli("compress", "--filelist", tmp_path / "one").code == 1


class TestPipes:
    def run(self, script: str, folder: Path, tiny_path: Path) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "GMVQZIP_MODELS": str(tiny_path.parent)}
        command = ["bash", "-o", "pipefail", "-c", f'gmvqzip() {{ "{sys.executable}" -m gmvqzip "$@"; }}\n{script}']
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, timeout=600)

    def test_descriptors_and_process_substitution(self, picture: Path, tiny: Codec, tiny_path: Path) -> None:
        data = tiny.compress(picture)
        (picture.parent / "s.gmvq").write_bytes(data)
        png, _ = picture_bytes(tiny.decompress_picture(data), "png")
        done = self.run(
            "gmvqzip decompress s.gmvq -o >(cat >one); wait $!\n"
            "gmvqzip decompress s.gmvq -o /dev/fd/1 | cat >two\n"
            "gmvqzip decompress s.gmvq -o /dev/fd/5 5>three\n"
            "echo before >four; gmvqzip decompress s.gmvq -o /dev/stdout >>four\n"
            "gmvqzip compress <(cat img.png) >five\n"
            "cat img.png | gmvqzip compress /dev/stdin >six\n"
            "gmvqzip decompress s.gmvq --format ppm -o /dev/fd/1 | head -c 2",
            picture.parent,
            tiny_path,
        )
        assert (done.stderr, done.stdout) == (b"", b"P6")
        for name, content in (
            ("one", png),
            ("two", png),
            ("three", png),
            ("four", b"before\n" + png),
            ("five", data),
            ("six", data),
        ):
            assert (picture.parent / name).read_bytes() == content, name
        assert not list(picture.parent.glob("*stdin*"))

    def test_a_named_pipe(self, cli: Cli, picture: Path, tiny: Codec) -> None:
        pipe, link = picture.parent / "pipe", picture.parent / "link.gmvq"
        os.mkfifo(pipe)
        link.symlink_to(pipe)
        for output in (pipe, link):
            got: list[bytes] = []
            thread = threading.Thread(target=lambda found=got: found.append(pipe.read_bytes()))
            thread.start()
            assert cli("compress", picture, "-o", output, "--skip-existing").code == 0
            thread.join()
            assert got == [tiny.compress(picture)]

    def test_a_stream_keeps_its_source(self, cli: Cli, picture: Path) -> None:
        read, write = os.pipe()
        try:
            done = cli("compress", picture, "-o", f"/dev/fd/{write}", "--rm")
            assert done.code == 1
            assert "the source is kept" in done.err
            assert picture.is_file()
        finally:
            os.close(read)
            os.close(write)
        assert cli("compress", "/dev/stdin", "--output-dir", picture.parent, stdin=b"").code == 2


class TestLeftAlone:
    @pytest.fixture
    def flat(self, tmp_path: Path) -> Path:
        """A picture that a PNG holds in fewer bytes."""
        path = tmp_path / "flat.png"
        Image.new("RGB", (64, 64), (1, 2, 3)).save(path)
        return path

    def test_one_that_gets_larger(self, cli: Cli, flat: Path) -> None:
        done = cli("compress", flat, "--only-if-smaller", "--rm")
        assert (done.code, flat.is_file(), flat.with_suffix(".gmvq").exists()) == (0, True, False)
        size = flat.stat().st_size
        last = done.err.splitlines()[-1]
        assert re.fullmatch(rf"gmvqzip: .*: left alone: its {size} bytes would become [0-9,]+", last)
        (fields,) = objects(cli("compress", flat, "--only-if-smaller", "--json").out)
        assert (fields["input"], fields["left_alone"]) == (str(flat), True)
        noted = cli("compress", flat)
        assert noted.code == 0
        assert "it got larger" in noted.err
        assert "--only-if-smaller" in noted.err

    def test_one_that_gets_too_bad(self, cli: Cli, picture: Path, tiny: Codec) -> None:
        done = cli("compress", picture, "--min-psnr", 60)
        assert (done.code, picture.with_suffix(".gmvq").exists()) == (0, False)
        assert "dB, less than 60" in done.err
        assert cli("compress", picture, "--min-psnr", 1).code == 0
        assert picture.with_suffix(".gmvq").read_bytes() == tiny.compress(picture)
        for value in ("0", "-1", "nan", "101"):
            assert cli("compress", picture, "--min-psnr", value).code == 2

    def test_the_summary_counts(self, cli: Cli, flat: Path, picture: Path) -> None:
        done = cli("compress", flat, picture, "--only-if-smaller", "-v")
        assert done.code == 0
        assert "1 files, " in done.err
        assert ", 1 left alone" in done.err
        again = cli("compress", flat, picture, "-v")
        assert again.code == 0
        assert ", 1 skipped" in again.err

    def test_psnr(self, cli: Cli, picture: Path, tiny: Codec) -> None:
        (fields,) = objects(cli("compress", picture, "--json").out)
        assert "psnr" not in fields
        (fields,) = objects(cli("compress", picture, "--json", "--psnr", "-f").out)
        from gmvqzip.bench.metrics import psnr

        decoded = np.asarray(tiny.decompress(picture.with_suffix(".gmvq")))
        assert fields["psnr"] == pytest.approx(psnr(np.asarray(Image.open(picture)), decoded))
        assert f"PSNR {fields['psnr']:.2f} dB" in cli("compress", picture, "-v", "--psnr", "-f").err

    def test_ssimulacra2(self, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "p.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(path)
        with monkeypatch.context() as patch:
            patch.setattr("gmvqzip.cli.compress.find_spec", lambda name: None)
            done = cli("compress", path, "--ssimulacra2")
            assert done.code == 2
            assert "pip install ssimulacra2" in done.err
        pytest.importorskip("ssimulacra2")
        small = tmp_path / "small.png"
        Image.fromarray(np.zeros((30, 20), dtype=np.uint8)).save(small)
        done = cli("compress", small, "--ssimulacra2", "--json")
        assert "ssimulacra2" not in objects(done.out)[0]
        assert f"gmvqzip: {small}: 20x30 is too small for SSIMULACRA2" in done.err
        (fields,) = objects(cli("compress", path, "--ssimulacra2", "--json").out)
        assert fields["ssimulacra2"] < 100
        assert "psnr" not in fields

    def test_existing_outputs_and_json(self, cli: Cli, picture: Path) -> None:
        assert cli("compress", picture).code == 0
        done = cli("compress", picture, "--json")
        assert done.code == 0
        assert "exists: skipped; -f overwrites it" in done.err
        output = str(picture.with_suffix(".gmvq"))
        assert objects(done.out) == [{"input": str(picture), "output": output, "skipped": True}]


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_says_how_many_are_done(
    cli: Cli, tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    names = [tmp_path / f"{number}.png" for number in range(4)]
    for name in names:
        Image.fromarray(pixels).save(name)
    shown = 0
    finish = batch.finish

    def interrupted(*arguments: Any) -> Any:
        nonlocal shown
        shown += 1
        if shown == 3:
            raise KeyboardInterrupt
        return finish(*arguments)

    monkeypatch.setattr("gmvqzip.cli.pipeline.finish", interrupted)
    done = cli("compress", *names, "-j", jobs)
    assert done.code == 128 + signal.SIGINT
    there = len(list(tmp_path.glob("*.gmvq")))  # those that others wrote meanwhile are done, too
    assert there >= 2
    assert done.err.splitlines() == [
        f"gmvqzip: {there} of 4 files were done before it ended; run it again with --skip-existing to go on",
        "gmvqzip: interrupted",
    ]


def test_the_version(cli: Cli) -> None:
    assert cli("-V").out == cli("--version").out
