"""gmvqzip pack --merge, and what torchrun makes of gmvqzip pack."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gmvqzip.engines.base import torch_device
from gmvqzip.format.packindex import Kind
from gmvqzip.format.packrecord import seal_record
from gmvqzip.pack import PackFile
from gmvqzip.pack.appending import Appender

Cli = Callable[..., Any]
MODELS = bytes.fromhex("c0ffee1100000000"), bytes.fromhex("c0ffee2200000000")


def pack_of(path: Path, names: list[str], kinds: list[Kind]) -> Path:
    """A pack of made-up records, their kinds in turns; its first picture is in a segment of its own."""
    for start, part in ((0, names[:1]), (1, names[1:])):
        appender = Appender(path, append=True)
        for number, name in enumerate(part, start):
            kind = kinds[number % len(kinds)]
            appender.add(name, kind, seal_record(kind.width, kind.height, number, name.encode()))
        appender.finish()
    return path


def content(*paths: Path) -> list[tuple[str, Kind, bytes]]:
    """Name, kind and stored record of every picture, in order."""
    found = []
    for path in paths:
        with PackFile(path) as pack:
            found += [(name, pack.entry(n).kind, pack.stored(n)) for n, name in enumerate(pack.names)]
    return found


@pytest.fixture
def packs(tmp_path: Path) -> tuple[Path, Path]:
    """Two packs whose kinds are partly the same and differ in number, model, size and profile."""
    small, large = Kind(MODELS[0], 32, 32, 0), Kind(MODELS[0], 300, 20, 60, gray=True)
    other = Kind(MODELS[1], 32, 32, 0, profile=b"a profile")
    first = pack_of(tmp_path / "a.gmvqp", ["x", "sub/y", "z"], [small, large])
    return first, pack_of(tmp_path / "b.gmvqp", ["1", "2", "Grüße", "4"], [other, large, small])


class TestMerge:
    def test_records_are_copied(self, cli: Cli, packs: tuple[Path, Path], tmp_path: Path) -> None:
        before = [path.read_bytes() for path in packs]
        done = cli("pack", "--merge", *packs, "-o", tmp_path / "all.gmvqp")
        assert (done.code, done.out, done.err) == (0, b"", "")
        assert content(tmp_path / "all.gmvqp") == content(*packs)
        with PackFile(tmp_path / "all.gmvqp") as pack:
            assert pack.segments == 1
            assert pack.entry("Grüße").kind.profile == b""
            assert pack.entry("1").kind.profile == b"a profile"
        assert [path.read_bytes() for path in packs] == before

    def test_a_folder_of_packs(self, cli: Cli, packs: tuple[Path, Path]) -> None:
        folder = packs[0].parent
        assert cli("pack", "--merge", folder).code == 0
        assert content(folder.with_suffix(".gmvqp")) == content(*packs)

    def test_append(self, cli: Cli, packs: tuple[Path, Path]) -> None:
        expected = content(*packs)
        done = cli("pack", "--merge", packs[1], "-o", packs[0], "--append", "--json")
        assert done.code == 0
        assert content(packs[0]) == expected
        fields = [json.loads(line) for line in done.out.splitlines()]
        assert [entry["name"] for entry in fields] == ["1", "2", "Grüße", "4"]
        assert fields[0]["model_id"] == MODELS[1].hex()
        assert fields[0]["out_bytes"] == len(expected[3][2])
        done = cli("pack", "--merge", packs[1], "-o", packs[0], "--append")
        assert done.code == 1
        assert "the pack has a picture named" in done.err
        assert done.err.endswith("4 of 4 files failed\n")
        assert content(packs[0]) == expected

    def test_names_that_clash(self, cli: Cli, packs: tuple[Path, Path], tmp_path: Path) -> None:
        third = pack_of(tmp_path / "c.gmvqp", ["new", "sub/y"], [Kind(MODELS[0], 8, 8, 0)])
        done = cli("pack", "--merge", *packs, third, "-o", tmp_path / "all.gmvqp")
        assert done.code == 2
        assert "both have a picture named sub/y: nothing was done" in done.err
        assert not (tmp_path / "all.gmvqp").exists()

    def test_a_damaged_record_is_left_out(self, cli: Cli, packs: tuple[Path, Path], tmp_path: Path) -> None:
        with PackFile(packs[0]) as pack:
            place = pack.entry("sub/y").offset + 2
        data = bytearray(packs[0].read_bytes())
        data[place] ^= 1
        expected = [entry for entry in content(*packs) if entry[0] != "sub/y"]
        packs[0].write_bytes(data)
        done = cli("pack", "--merge", *packs, "-o", tmp_path / "all.gmvqp")
        assert done.code == 1
        assert "a.gmvqp: sub/y: the picture's record is damaged" in done.err
        assert done.err.endswith("1 of 7 files failed\n")
        assert content(tmp_path / "all.gmvqp") == expected

    @pytest.mark.parametrize("damage", ["cut", "foreign", "missing"])
    def test_a_pack_that_cannot_be_read(self, cli: Cli, packs: tuple[Path, Path], tmp_path: Path, damage: str) -> None:
        data = packs[0].read_bytes()
        packs[0].unlink()
        if damage != "missing":
            packs[0].write_bytes(data[:-3] if damage == "cut" else b"no pack at all, but long enough to be one" * 3)
        done = cli("pack", "--merge", *packs, "-o", tmp_path / "all.gmvqp")
        assert done.code == 1
        assert "a.gmvqp: " in done.err.splitlines()[0]
        assert content(tmp_path / "all.gmvqp") == content(packs[1])
        done = cli("pack", "--merge", packs[0], "-o", tmp_path / "none.gmvqp")
        assert done.code == 1
        assert not (tmp_path / "none.gmvqp").exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--gmvq"], "--merge takes packs as they are"),
            (["-q", "50"], "--merge takes packs as they are"),
            (["-m", "photo"], "--merge takes packs as they are"),
            (["--append", "-f"], "contradict each other"),
        ],
    )
    def test_usage(
        self, cli: Cli, packs: tuple[Path, Path], tmp_path: Path, arguments: list[str], message: str
    ) -> None:
        done = cli("pack", "--merge", *packs, "-o", tmp_path / "all.gmvqp", *arguments)
        assert done.code == 2
        assert message in done.err
        assert not (tmp_path / "all.gmvqp").exists()

    def test_an_existing_pack(self, cli: Cli, packs: tuple[Path, Path]) -> None:
        expected = content(*packs)
        done = cli("pack", "--merge", *packs, "-o", packs[0])
        assert done.code == 1
        assert "exists" in done.err
        assert cli("pack", "--merge", *packs, "-o", packs[0], "-f").code == 0
        assert content(packs[0]) == expected


class TestTorchrun:
    """The variables that torchrun sets, one process after the other."""

    @pytest.fixture
    def rank(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
        def choose(number: int, count: int) -> None:
            for name, value in {"RANK": number, "WORLD_SIZE": count, "LOCAL_RANK": number}.items():
                monkeypatch.setenv(name, str(value))

        return choose

    @pytest.fixture
    def tree(self, tmp_path: Path, pixels: np.ndarray) -> Path:
        (tmp_path / "set").mkdir()
        for number in range(5):
            Image.fromarray(np.roll(pixels, number, axis=0)).save(tmp_path / "set" / f"{number}.png")
        return tmp_path / "set"

    def test_merged_parts_are_the_pack_of_one_process(
        self, cli: Cli, rank: Callable[[int, int], None], tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole, output = tree.with_name("whole.gmvqp"), tree.with_name("set.gmvqp")
        assert cli("pack", tree, "-o", whole).code == 0
        for number in range(2):
            rank(number, 2)
            assert cli("pack", tree).code == 0
        parts = [tree.with_name(f"set.{number}-of-2.gmvqp") for number in (1, 2)]
        assert not output.exists()
        assert [len(content(part)) for part in parts] == [2, 3]
        assert cli("pack", "--merge", *parts, "-o", output).code == 2
        monkeypatch.delenv("RANK")
        assert cli("pack", "--merge", *parts, "-o", output).code == 0
        assert output.read_bytes() == whole.read_bytes()

    def test_more_processes_than_pictures(self, cli: Cli, rank: Callable[[int, int], None], tree: Path) -> None:
        made = []
        for number in range(10):
            rank(number, 10)
            done = cli("pack", tree)
            assert done.code == 0
            made.append(
                ("no picture is left for" in done.err) != tree.with_name(f"set.{number + 1:02d}-of-10.gmvqp").exists()
            )
        assert all(made)
        assert len(list(tree.parent.glob("set.*-of-10.gmvqp"))) == 5

    def test_each_process_has_a_gpu_of_its_machine(
        self, rank: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert torch_device("auto") == torch.device("cuda")
        for number, expected in enumerate((0, 1, 0)):
            rank(number, 3)
            assert torch_device("cuda") == torch.device("cuda", expected)
        assert torch_device("cpu") == torch.device("cpu")
