"""Packs of which a part is out of reach: what is there comes out, and no command that reads all of one ends well."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmvqzip.format.packheader import slot_offset
from gmvqzip.format.packindex import Kind
from gmvqzip.format.packrecord import seal_record
from gmvqzip.pack import PackFile
from gmvqzip.pack.appending import Appender

Cli = Callable[..., Any]
NAMES = ["a", "b", "c"]


@pytest.fixture
def appended(cli: Cli, tmp_path: Path, pixels: np.ndarray) -> Path:
    """A pack of three pictures; the last one was appended."""
    path = tmp_path / "set.gmvqp"
    for name in NAMES:
        picture = tmp_path / "in" / f"{name}.png"
        picture.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(picture)
    assert cli("pack", *(tmp_path / "in" / f"{name}.png" for name in NAMES[:2]), "-o", path).code == 0
    assert cli("pack", tmp_path / "in" / "c.png", "-o", path, "--append").code == 0
    return path


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


class TestHeader:
    @pytest.mark.parametrize("command", ["test", "list", "unpack", "merge"])
    def test_pictures_out_of_reach_are_a_failure(self, cli: Cli, appended: Path, tmp_path: Path, command: str) -> None:
        flip(appended, slot_offset(1))
        words = {
            "unpack": ("unpack", appended, "--output-dir", tmp_path / "out"),
            "merge": ("pack", "--merge", appended, "-o", tmp_path / "all.gmvqp"),
        }
        done = cli(*words.get(command, (command, appended)))
        assert done.code == 1
        assert f"gmvqzip: {appended}: the header is damaged: the last " in done.err
        assert b": ok" not in done.out
        if command == "list":
            assert done.out.decode().split() == NAMES[:2]
        if command == "unpack":
            assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == NAMES[:2]
        if command == "merge":
            with PackFile(tmp_path / "all.gmvqp") as pack:
                assert pack.names == NAMES[:2]

    def test_a_picture_that_is_asked_for_by_name(self, cli: Cli, appended: Path, tmp_path: Path) -> None:
        flip(appended, slot_offset(1))
        done = cli("unpack", appended, "b", "-o", tmp_path / "b.png")
        assert done.code == 0
        assert "warning: the header is damaged" in done.err
        assert cli("unpack", appended, "c", "-o", tmp_path / "c.png").code == 1

    @pytest.mark.parametrize("command", ["test", "list"])
    def test_damage_that_loses_nothing_is_said(self, cli: Cli, appended: Path, command: str) -> None:
        flip(appended, slot_offset(0))
        done = cli(command, appended)
        assert done.code == 0
        assert done.err == (
            f"gmvqzip: {appended}: warning: the header is damaged in a part that is not in use: no picture is lost\n"
        )


class TestPictures:
    def test_a_disk_that_cannot_read_one(
        self, cli: Cli, appended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with PackFile(appended) as pack:
            bad = pack.entry("b").offset
        pread = os.pread

        def failing(descriptor: int, size: int, offset: int) -> bytes:
            if offset == bad:
                raise OSError(errno.EIO, "Input/output error")
            return pread(descriptor, size, offset)

        monkeypatch.setattr(os, "pread", failing)
        done = cli("test", appended, "--json")
        assert done.code == 1
        assert done.err.splitlines()[0] == f"gmvqzip: {appended}: b: input/output error"
        fields = json.loads(done.out.splitlines()[-1])
        assert (fields["pictures"], fields["damaged"], fields["ok"]) == (3, 1, False)
        done = cli("pack", "--merge", appended, "-o", tmp_path / "all.gmvqp")
        assert done.code == 1
        assert f"{appended}: b: input/output error" in done.err
        with PackFile(tmp_path / "all.gmvqp") as pack:
            assert pack.names == ["a", "c"]

    def test_a_model_that_is_missing_keeps_no_other_from_the_test(self, cli: Cli, appended: Path) -> None:
        appender = Appender(appended, append=True)
        for name in "xyz":
            kind = Kind(bytes.fromhex("c0ffee1100000000"), 8, 8, 0)
            appender.add(name, kind, seal_record(8, 8, 0, b""))
        appender.finish()
        with PackFile(appended) as pack:
            flip(appended, pack.entry("a").offset)
        done = cli("test", appended)
        lines = done.err.splitlines()
        assert (done.code, done.out) == (1, b"")
        assert lines[0].startswith(f"gmvqzip: {appended}: a: the picture's record is damaged")
        assert lines[1].startswith(f"gmvqzip: {appended}: x and 2 more: made with model c0ffee1100000000, which is")

    def test_counts_are_of_pictures(self, cli: Cli, appended: Path) -> None:
        with PackFile(appended) as pack:
            places = [pack.entry(name).offset for name in NAMES]
        whole = appended.with_name("whole.gmvqp")
        whole.write_bytes(appended.read_bytes())
        for place in places:
            flip(appended, place)
        done = cli("test", appended, whole)
        assert (done.code, done.out.decode()) == (1, f"{whole}: ok, 3 pictures\n")
        assert done.err.splitlines()[-1] == "gmvqzip: 3 of 6 files failed"
