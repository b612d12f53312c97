"""gmvqzip view: names, refusals, one page; its bits are those that info tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_hyperprior import smooth

from gmvqzip.codec import Codec

Run = Callable[..., Any]


def bits_of(page: str) -> dict[str, float]:
    parts = page.split('data-part="')[1:]
    return {part.split('"')[0]: float(part.split('data-bits="')[1].split('"')[0]) for part in parts}


def test_a_page_beside_the_file(cli: Run, packed: Path, picture: Path) -> None:
    done = cli("view", packed, picture)
    assert (done.code, done.out, done.err) == (0, b"", "")
    made = packed.with_suffix(".html").read_text()
    assert 'class="original"' in made
    assert "PSNR" in made
    assert "<h1>img.gmvq</h1>" in made


def test_the_bits_are_those_of_info(cli: Run, packed: Path, tmp_path: Path) -> None:
    stages = json.loads(cli("info", "-v", "--json", packed).out)["stages"]
    assert cli("view", packed, "-o", tmp_path / "page.html").code == 0
    bits = bits_of((tmp_path / "page.html").read_text())
    assert [bits[f"stage {number}"] for number in range(3)] == pytest.approx([stage["bits"] for stage in stages])


def test_the_bits_of_a_hyperprior_model(cli: Run, hyper: Codec, hyper_path: Path, tmp_path: Path) -> None:
    (tmp_path / "a.gmvq").write_bytes(hyper.compress(smooth(70, 100), quality=60))
    made = cli("view", tmp_path / "a.gmvq", "-m", hyper_path, "-o", "-")
    assert made.code == 0
    bits = bits_of(made.out.decode())
    total = sum(hyper.follow(hyper.decode_codes((tmp_path / "a.gmvq").read_bytes())).bits())
    assert bits["all parts"] == pytest.approx(total)
    assert bits["hyper"] + bits["part 0"] + bits["part 1"] == pytest.approx(total)
    assert bits["hyper"] + sum(bits[f"latent, step {step}"] for step in (1, 2, 3, 4)) == pytest.approx(total)


def test_streams(cli: Run, packed: Path) -> None:
    done = cli("view", "-", stdin=packed.read_bytes())
    assert done.code == 0
    assert done.out.startswith(b"<!DOCTYPE html>")


def test_it_says_where_the_page_is(cli: Run, packed: Path) -> None:
    done = cli("view", "-v", packed)
    assert done.err == f"gmvqzip: {packed}: see {packed.with_suffix('.html')}\n"


def test_an_existing_page_stays_unless_forced(cli: Run, packed: Path) -> None:
    page = packed.with_suffix(".html")
    page.write_text("mine")
    done = cli("view", packed)
    assert (done.code, page.read_text()) == (0, "mine")
    assert "exists: skipped; -f overwrites it" in done.err
    assert cli("view", "-f", packed).code == 0
    assert page.read_text() != "mine"


@pytest.mark.parametrize("force", [[], ["-f"]])
def test_neither_input_is_written_over(cli: Run, packed: Path, picture: Path, force: list[str]) -> None:
    packed, picture = packed.rename(packed.with_name("a.html")), picture.rename(picture.with_name("b.html"))
    before = packed.read_bytes(), picture.read_bytes()
    done = cli("view", packed, picture, "-o", picture, *force)
    assert done.code == 2
    assert "is the original: nothing was done" in done.err
    done = cli("view", packed, picture, "-o", packed, *force)
    assert done.code == 1
    assert "is the input itself" in done.err
    assert before == (packed.read_bytes(), picture.read_bytes())


def test_bad_inputs(cli: Run, packed: Path, picture: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5, 3), dtype=np.uint8)).save(tmp_path / "small.png")
    cases = [
        (["gone.gmvq"], 1, "gone.gmvq: no such file"),
        ([picture], 1, "not a .gmvq file"),
        ([packed, tmp_path / "gone.png"], 1, f"original {tmp_path / 'gone.png'}: cannot be read: No such file"),
        ([packed, packed], 1, "this is a .gmvq file already"),
        ([packed, tmp_path / "small.png"], 1, "the original has 5x4 pixels, the file 37x23"),
        ([packed, "-"], 2, "the original cannot be standard input"),
        ([packed, "--max-pixels", "850"], 1, "37x23 pixels are more than the limit of 850"),
        ([packed, "-o", tmp_path / "none" / "page.html"], 1, "does not exist: create it"),
    ]
    for arguments, code, line in cases:
        done = cli("view", *arguments)
        assert (done.code, done.out) == (code, b""), arguments
        assert line in done.err
        assert len(done.err.splitlines()) == 1
    assert not list(tmp_path.glob("*.html"))
