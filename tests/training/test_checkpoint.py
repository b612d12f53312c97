"""Checkpoints: atomic, the last two kept, damage and full disks survived, no code run on reading."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_files import files_of_at_most

from gmvqzip.errors import TrainingError
from gmvqzip.training.checkpoint import checkpoints, load_checkpoint, save_checkpoint


def state(step: int, numbers: int = 1000) -> dict[str, Any]:
    return {"step": step, "tensor": torch.full((numbers,), float(step)), "none": None, "tuple": (1, 2), "name": "x"}


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 255]) + data[position + 1 :]


def test_round_trip(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 7, state(7))
    assert path == tmp_path / "checkpoint-00000007.pt"
    loaded = load_checkpoint(tmp_path)
    assert torch.equal(loaded.pop("tensor"), torch.full((1000,), 7.0))
    assert loaded == {"step": 7, "none": None, "tuple": (1, 2), "name": "x"}


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 20, 300, 4000):
        save_checkpoint(tmp_path, step, state(step))
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-00000300.pt", "checkpoint-00004000.pt"]
    assert load_checkpoint(tmp_path)["step"] == 4000


def test_the_same_step_again_replaces(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, state(1))
    save_checkpoint(tmp_path, 1, state(1) | {"name": "y"})
    assert load_checkpoint(tmp_path)["name"] == "y"
    assert len(checkpoints(tmp_path)) == 1


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    names = ["checkpoint-1.pt", "checkpoint-00000001.pt.bak", "log.jsonl", "checkpoint-00000009.tmp"]
    for name in names:
        (tmp_path / name).write_text("mine")
    for step in range(4):
        save_checkpoint(tmp_path, step, state(step))
    assert set(names) < {path.name for path in tmp_path.iterdir()}
    assert len(checkpoints(tmp_path)) == 2


def test_no_folder_and_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoints(tmp_path / "nowhere") == []
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(TrainingError, match="nothing to resume: no checkpoint in"):
            load_checkpoint(folder)


class TestFullDisk:
    def refused(self, folder: Path) -> str:
        """The message of a refused second checkpoint; the first one is checked to be as it was."""
        with pytest.raises(TrainingError, match="the last good one is kept") as caught:
            save_checkpoint(folder, 2, state(2, 100_000))
        assert [path.name for path in folder.iterdir()] == ["checkpoint-00000001.pt"]
        assert load_checkpoint(folder)["step"] == 1
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize("size", [0, 1000, 300_000])
    def test_the_system_refuses(self, tmp_path: Path, size: int) -> None:
        save_checkpoint(tmp_path, 1, state(1))
        with files_of_at_most(size):
            message = self.refused(tmp_path)
        assert message.startswith(f"cannot write checkpoint {tmp_path / 'checkpoint-00000002.pt'}: ")
        save_checkpoint(tmp_path, 2, state(2))
        assert load_checkpoint(tmp_path)["step"] == 2

    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("a\nb")])
    def test_writing_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        save_checkpoint(tmp_path, 1, state(1))

        def fail(*arguments: Any) -> None:
            raise error

        monkeypatch.setattr(torch, "save", fail)
        self.refused(tmp_path)

    def test_syncing_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        save_checkpoint(tmp_path, 1, state(1))

        def fail(descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail)
        assert "Input/output error" in self.refused(tmp_path)

    def test_the_folder_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match="No such file or directory"):
            save_checkpoint(tmp_path / "gone", 1, state(1))

    def test_an_interruption_leaves_no_temporary(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        save_checkpoint(tmp_path, 1, state(1))

        def interrupt(*arguments: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(torch, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, 2, state(2))
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001.pt"]


def _pickled(what: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(what))


class _Evil:
    """Unpickling this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


class TestDamage:
    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: b"",
            lambda data: b"nothing of the kind",
            lambda data: data[: len(data) // 2],
            lambda data: data[:-1],
            lambda data: bytes(len(data)),
            lambda data: flipped(data, 40),
            lambda data: flipped(data, data.index(b"\x00\x00\x00\x40") + 400),  # inside the tensor of twos
            lambda data: flipped(data, len(data) - 30),
            lambda data: pickle.dumps({"step": 2}),
        ],
    )
    def test_the_older_one_steps_in(self, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
        save_checkpoint(tmp_path, 1, state(1))
        newest = save_checkpoint(tmp_path, 2, state(2))
        newest.write_bytes(damage(newest.read_bytes()))
        loaded = load_checkpoint(tmp_path)
        assert loaded["step"] == 1
        assert torch.equal(loaded["tensor"], torch.ones(1000))

    def test_any_flipped_byte_is_seen_or_harmless(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path, 1, state(1))
        newest = save_checkpoint(tmp_path, 2, state(2))
        data = newest.read_bytes()
        for position in range(0, len(data), 37):
            newest.write_bytes(flipped(data, position))
            loaded = load_checkpoint(tmp_path)
            assert torch.equal(loaded["tensor"], torch.full((1000,), float(loaded["step"])))

    def test_none_can_be_read(self, tmp_path: Path) -> None:
        for step in (1, 2):
            save_checkpoint(tmp_path, step, state(step)).write_bytes(b"x")
        with pytest.raises(TrainingError, match=r"no checkpoint in .* can be read"):
            load_checkpoint(tmp_path)

    def test_a_foreign_file_is_passed_over(self, tmp_path: Path) -> None:
        torch.save([1, 2, 3], tmp_path / "checkpoint-00000009.pt")
        with pytest.raises(TrainingError, match="can be read"):
            load_checkpoint(tmp_path)

    def test_reading_runs_no_code(self, tmp_path: Path) -> None:
        trap = tmp_path / "trap"
        ways: list[Callable[[Any, Path], None]] = [torch.save, _pickled]
        for number, save in enumerate(ways):
            save({"step": 1, "evil": _Evil(trap)}, tmp_path / f"checkpoint-0000000{number}.pt")
        with pytest.raises(TrainingError, match="can be read"):
            load_checkpoint(tmp_path)
        assert not trap.exists()
