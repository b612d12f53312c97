"""CIFAR-10 as it lies on people's disks, the search for data, and what is said where there is none."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from gmvqzip.errors import TrainingError
from gmvqzip.training import cifar10, splits
from gmvqzip.training.datasets import load_dataset, search_places

PART_SIZE = 25
PARTS = (*cifar10.TRAIN_PARTS, *cifar10.TEST_PARTS)


def quiet(line: str) -> None:
    """Takes what is said where no line is expected."""
    raise AssertionError(f"said without need: {line}")


def cifar_parts() -> dict[str, np.ndarray]:
    """Part name -> uint8 [25, 32, 32, 3]."""
    rng = np.random.default_rng(3)
    return {name: rng.integers(0, 256, (PART_SIZE, 32, 32, 3), dtype=np.uint8) for name in PARTS}


def planes(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1))


def python_3_pickle(pixels: np.ndarray) -> bytes:
    return pickle.dumps({b"data": planes(pixels), b"labels": [0] * len(pixels)}, protocol=2)


def python_2_pickle(pixels: np.ndarray) -> bytes:
    """As the official files were written: by Python 2, where a string of bytes is BINSTRING."""
    raw = planes(pixels).tobytes()

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    rows = struct.pack("<i", len(pixels))
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    dtype = (
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    state = b"(K\x01J" + rows + b"M\x00\x0c\x86" + dtype + b"\x89" + text(raw) + b"tb"
    return b"\x80\x02}(" + text(b"data") + array + state + text(b"labels") + b"]u."


def binary_part(pixels: np.ndarray) -> bytes:
    return np.concatenate([np.full((len(pixels), 1), 7, np.uint8), planes(pixels)], axis=1).tobytes()


def write_cifar(root: Path, layout: str, parts: dict[str, np.ndarray]) -> None:
    """One of the official layouts under `root`."""
    binary = "binary" in layout
    write = binary_part if binary else python_2_pickle if layout == "python 2" else python_3_pickle
    folder_name, ending = (cifar10.BINARY_FOLDER, ".bin") if binary else (cifar10.PYTHON_FOLDER, "")
    files = {f"{folder_name}/{name}{ending}": write(pixels) for name, pixels in parts.items()}
    files[f"{folder_name}/readme.html"] = b"<html>"
    root.mkdir(parents=True, exist_ok=True)
    if "tar" in layout:
        with tarfile.open(root / f"cifar-10-{layout.split()[0]}.tar.gz", "w:gz") as tar:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        return
    for name, data in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)


@pytest.mark.parametrize("layout", ["python 3", "python 2", "binary", "python tar", "binary tar"])
def test_cifar10_layouts(tmp_path, layout):
    parts = cifar_parts()
    write_cifar(tmp_path, layout, parts)
    data = load_dataset("cifar10", tmp_path, crop=None, seed=0, say=quiet)
    train = np.concatenate([parts[name] for name in cifar10.TRAIN_PARTS])
    held = np.arange(len(train)) % 50 == 49
    assert np.array_equal(data.train.array, train[~held]) and np.array_equal(data.validation.array, train[held])
    assert data.test is not None and np.array_equal(data.test.array, parts["test_batch"])
    assert data.train.batch(0, 8, None, 0).shape == (8, 32, 32, 3)
    assert "123 pictures" in data.description
    inner = next(tmp_path.iterdir())  # the folder of the parts, or the archive, may be named itself
    again = load_dataset("cifar10", inner, crop=None, seed=0, say=quiet)
    assert np.array_equal(again.train.array, data.train.array)


class Evil:
    def __reduce__(self):
        return os.system, ("touch harmed",)


class EvilArray:
    def __reduce__(self):
        return np.load, ("harmed.npy",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text, no pickle",
        python_3_pickle(np.zeros((2, 32, 32, 3), np.uint8))[:-50],
        pickle.dumps({b"data": Evil()}, protocol=2),
        pickle.dumps({b"data": EvilArray()}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint16)}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3071), np.uint8)}, protocol=2),
        pickle.dumps({b"data": np.array([Evil()])}, protocol=2),
        pickle.dumps({b"data": b"x" * 3072}, protocol=2),
        pickle.dumps([1, 2], protocol=2),
        python_3_pickle(np.zeros((2, 32, 32, 3), np.uint8)).replace(b"K\x02M\x00\x0c", b"K\x03M\x00\x0c"),
    ],
    ids=["empty", "text", "cut", "system", "load", "uint16", "width", "objects", "bytes", "list", "shape"],
)
def test_pickles_that_are_not_of_cifar10(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    write_cifar(tmp_path, "python 3", cifar_parts())
    (tmp_path / cifar10.PYTHON_FOLDER / "data_batch_3").write_bytes(content)
    with pytest.raises(TrainingError, match=r"data_batch_3 is damaged.*fetch") as caught:
        load_dataset("cifar10", tmp_path, crop=None, seed=0, say=quiet)
    assert "\n" not in str(caught.value) and not (tmp_path / "harmed").exists()


def test_cifar10_with_parts_missing_or_damaged(tmp_path, monkeypatch):
    def line(path: Path) -> str:
        with pytest.raises(TrainingError) as caught:
            load_dataset("cifar10", path, crop=None, seed=0, say=quiet)
        return str(caught.value)

    write_cifar(tmp_path / "a", "binary", cifar_parts())
    inner = tmp_path / "a" / cifar10.BINARY_FOLDER
    (inner / "data_batch_2.bin").write_bytes(bytes(1000))
    assert "whole number" in line(tmp_path / "a")
    (inner / "data_batch_2.bin").unlink()
    assert "data_batch_2.bin: No such file" in line(tmp_path / "a")

    parts = cifar_parts()
    write_cifar(tmp_path / "b", "python tar", {name: parts[name] for name in PARTS if name != "data_batch_4"})
    assert "data_batch_4 not in it" in line(tmp_path / "b")
    write_cifar(tmp_path / "b", "python tar", parts)
    archive = tmp_path / "b" / "cifar-10-python.tar.gz"
    whole = archive.read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) * 9 // 10):
        archive.write_bytes(whole[:length])
        assert "fetch it again" in line(tmp_path / "b") or "not in it" in line(tmp_path / "b")
    archive.write_bytes(whole)
    monkeypatch.setattr(cifar10, "MAX_PART_BYTES", 1000)
    assert "longer than 1000 bytes" in line(tmp_path / "b")


def test_held_out_pictures():
    kept, held = splits.hold_out(range(120))
    assert held == [49, 99] and sorted(kept + held) == list(range(120))
    assert [splits.folder_every(count) for count in (5, 400, 1000, 2000, 10**6)] == [10, 10, 25, 50, 50]
    assert splits.hold_out("abc") == (["a", "b"], ["c"])
    assert splits.hold_out("a") == (["a"], ["a"]) and splits.hold_out("") == ([], [])


def test_the_search_for_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GMVQZIP_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    places = [tmp_path / "mine" / "cifar10", Path("data/cifar10"), tmp_path / "cache" / "gmvqzip" / "cifar10"]
    assert search_places("cifar10") == places
    parts = cifar_parts()
    for number, place in reversed(list(enumerate(places))):
        write_cifar(place, "binary", {name: np.full_like(pixels, number) for name, pixels in parts.items()})
        data = load_dataset("cifar10", None, crop=None, seed=0, say=quiet)
        assert data.train.array is not None and (data.train.array == number).all()
    monkeypatch.delenv("GMVQZIP_DATA")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert search_places("x") == [Path("data/x"), tmp_path / "home" / ".cache" / "gmvqzip" / "x"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cifar10", ["cifar-10-batches-py", "cifar-10-binary.tar.gz", "--download", "www.cs.toronto.edu", "--data"]),
        ("celeba", ["img_align_celeba.zip", "list_eval_partition.txt", "CelebA.html", "--data"]),
        ("folder", ["tree of pictures", "--data"]),
    ],
)
def test_data_that_is_not_there(tmp_path, monkeypatch, kind, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GMVQZIP_DATA", raising=False)
    for path, where in ((None, "cache/gmvqzip"), (tmp_path / "absent", "absent")):
        with pytest.raises(TrainingError) as caught:
            load_dataset(kind, path, crop=32, seed=0, say=quiet)
        line = str(caught.value)
        assert "\n" not in line and where in line and all(word in line for word in words)


def test_kinds_that_do_not_exist_or_cannot_be_fetched(tmp_path):
    with pytest.raises(TrainingError, match="choose cifar10, celeba, folder"):
        load_dataset("imagenet", tmp_path, crop=32, seed=0, say=quiet)
    for kind in ("celeba", "folder"):
        with pytest.raises(TrainingError, match="cannot be downloaded"):
            load_dataset(kind, tmp_path, crop=32, seed=0, download=True, say=quiet)
