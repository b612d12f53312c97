"""Finding models by name, path and identity, among damaged files and doubles."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gmvqzip.errors import ModelError
from gmvqzip.models import registry
from gmvqzip.models.registry import find, find_by_id, installed, read_info, search_path


def identity(start: str) -> str:
    """A model's identity that begins with `start`."""
    return start.ljust(64, "0")


def header(data: Any) -> bytes:
    """A safetensors file without tensors, with this JSON header."""
    raw = json.dumps(data).encode()
    return struct.pack("<Q", len(raw)) + raw


def metadata(**changes: str) -> dict[str, str]:
    fields = {"gmvqzip": "1", "name": "m", "model_id": identity("ab"), "config": '{"a": 1}', "card": '{"b": 2}'}
    return fields | changes


def install(folder: Path, name: str, model_id: str, file_name: str | None = None) -> Path:
    """Write a model file without tensors into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file_name or name}.safetensors"
    path.write_bytes(header({"__metadata__": metadata(name=name, model_id=model_id)}))
    return path


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole search path, given by $GMVQZIP_MODELS."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv("GMVQZIP_MODELS", str(folder))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    real = search_path()
    monkeypatch.setattr(registry, "search_path", lambda: real[:-1])  # without the models that ship
    return folder


class TestSearchPath:
    def test_order(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GMVQZIP_MODELS", os.pathsep.join(["/a", "", "/b/c"]))
        found = search_path()
        assert found[:3] == [Path("/a"), Path("/b/c"), tmp_path / "data" / "gmvqzip" / "models"]
        assert found[3].name in ("models", "_models")
        assert len(found) == 4

    def test_without_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("GMVQZIP_MODELS")
        monkeypatch.delenv("XDG_DATA_HOME")
        monkeypatch.setenv("HOME", "/home/somebody")
        assert search_path()[0] == Path("/home/somebody/.local/share/gmvqzip/models")

    def test_the_first_folder_wins(self, own: Path, tmp_path: Path) -> None:
        install(own, "photo", identity("aa"))
        install(tmp_path / "data" / "gmvqzip" / "models", "photo", identity("bb"))
        install(tmp_path / "data" / "gmvqzip" / "models", "faces", identity("cc"))
        assert [(info.name, info.model_id[:2]) for info in installed()] == [("photo", "aa"), ("faces", "cc")]
        assert find("photo").model_id == identity("aa")
        assert find("faces").model_id == identity("cc")


class TestReadInfo:
    def test_metadata(self, own: Path) -> None:
        path = install(own, "photo", identity("12"))
        info = read_info(path)
        assert (info.name, info.path, info.model_id) == ("photo", path, identity("12"))
        assert (info.config, info.card) == ({"a": 1}, {"b": 2})

    def test_a_real_model(self, tiny_path: Path) -> None:
        info = read_info(tiny_path)
        assert info.name == "photo"
        assert info.config["strides"] == [2, 4, 8]

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x00",
            b"12345678",
            struct.pack("<Q", 0),
            struct.pack("<Q", 1 << 63) + b"{}",
            struct.pack("<Q", 100) + b"{}",
            struct.pack("<Q", 2) + b"[]",
            struct.pack("<Q", 2) + b"{}",
            struct.pack("<Q", 2) + b"\xff\xfe",
            struct.pack("<Q", 100_000) + b"[" * 100_000,
            b"\x80\x04\x95" + bytes(100),
            header({"__metadata__": None}),
            header({"__metadata__": []}),
            header({"__metadata__": metadata(model_id="xyz")}),
            header({"__metadata__": metadata(model_id=identity("AB"))}),
            header({"__metadata__": metadata(config="[]")}),
            header({"__metadata__": metadata(card="3")}),
            header({"__metadata__": metadata(card="{")}),
            header({"__metadata__": metadata(gmvqzip="one")}),
            header({"__metadata__": {k: v for k, v in metadata().items() if k != "name"}}),
        ],
    )
    def test_what_is_no_model(self, own: Path, content: bytes) -> None:
        path = own / "x.safetensors"
        path.write_bytes(content)
        with pytest.raises(ModelError, match="not a gmvqzip model, or is cut") as caught:
            read_info(path)
        assert "\n" not in str(caught.value)
        assert installed() == []

    def test_a_newer_version(self, own: Path) -> None:
        path = own / "x.safetensors"
        path.write_bytes(header({"__metadata__": metadata(gmvqzip="2")}))
        with pytest.raises(ModelError, match=r"is of version 2, this gmvqzip reads up to 1: upgrade"):
            read_info(path)

    def test_missing(self, own: Path) -> None:
        with pytest.raises(ModelError, match=r"no model file '.*nowhere.safetensors'; `gmvqzip models list`"):
            read_info(own / "nowhere.safetensors")

    def test_a_directory(self, own: Path) -> None:
        with pytest.raises(ModelError, match="cannot read model file"):
            read_info(own)


class TestFind:
    def test_by_path(self, own: Path, tmp_path: Path) -> None:
        elsewhere = install(tmp_path / "elsewhere", "mine", identity("77"))
        assert find(elsewhere).name == "mine"
        assert find(str(elsewhere)).path == elsewhere

    def test_by_the_name_inside(self, own: Path) -> None:
        install(own, "inside", identity("77"), file_name="outside")
        assert find("inside").model_id == find("outside").model_id == identity("77")

    def test_unknown_names_what_there_is(self, own: Path) -> None:
        with pytest.raises(ModelError, match=r"no model named 'photo' \(installed: none\)"):
            find("photo")
        install(own, "b", identity("1"))
        install(own, "a", identity("2"))
        with pytest.raises(ModelError, match=r"no model named 'photo' \(installed: a, b\); give a name, or a path"):
            find("photo")

    def test_a_damaged_file_gives_its_own_error_and_hides_no_other(self, own: Path) -> None:
        install(own, "good", identity("1"))
        (own / "bad.safetensors").write_bytes(b"nothing")
        (own / "notes.txt").write_text("no model")
        assert [info.name for info in installed()] == ["good"]
        assert find("good").name == "good"
        with pytest.raises(ModelError, match=r"bad\.safetensors' is not a gmvqzip model"):
            find("bad")

    def test_a_broken_link_hides_no_other(self, own: Path) -> None:
        install(own, "good", identity("1"))
        (own / "link.safetensors").symlink_to(own / "gone")
        assert [info.name for info in installed()] == ["good"]

    def test_folders_that_do_not_exist(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(registry, "search_path", lambda: [Path("/nonexistent/models")])
        assert installed() == []


class TestFindById:
    def test_by_prefix(self, own: Path) -> None:
        install(own, "a", identity("12345678"))
        install(own, "b", identity("12345679"))
        assert find_by_id(bytes.fromhex("12345678")).name == "a"
        assert find_by_id(bytes.fromhex("12345679")).name == "b"
        assert find_by_id(bytes.fromhex(identity("12345679"))).name == "b"

    def test_ambiguous(self, own: Path) -> None:
        install(own, "a", identity("12345678"))
        install(own, "b", identity("12349999"))
        with pytest.raises(ModelError, match=r"models (a, b|b, a) share the identity 1234: name the right one"):
            find_by_id(bytes.fromhex("1234"))

    def test_the_same_model_twice_is_not_ambiguous(self, own: Path) -> None:
        install(own, "a", identity("1234"))
        install(own, "copy", identity("1234"))
        assert find_by_id(bytes.fromhex("1234")).name == "a"

    def test_not_installed_says_how_to_get_it(self, own: Path) -> None:
        install(own, "a", identity("12345678"))
        with pytest.raises(ModelError, match=r"model abcd, which is not installed.*--model.*\$GMVQZIP_MODELS"):
            find_by_id(bytes.fromhex("abcd"))

    def test_a_model_is_found_behind_another_of_its_name(self, own: Path, tmp_path: Path) -> None:
        install(own, "photo", identity("aaaa"))
        older = install(tmp_path / "data" / "gmvqzip" / "models", "photo", identity("bbbb"))
        assert find_by_id(bytes.fromhex("bbbb")).path == older
        assert find_by_id(bytes.fromhex("aaaa")).path.parent == own

    def test_damaged_files_are_passed_over(self, own: Path) -> None:
        install(own, "a", identity("12345678"))
        (own / "0.safetensors").write_bytes(b"nothing")
        assert find_by_id(bytes.fromhex("1234")).name == "a"


class TestNoHome:
    """A user id that nobody has, and no HOME: what containers with a random one are like."""

    @pytest.fixture(autouse=True)
    def homeless(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import pwd

        def unknown(number: int) -> object:
            raise KeyError(f"getpwuid(): uid not found: {number}")

        for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "GMVQZIP_DATA"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(pwd, "getpwuid", unknown)

    def test_folders_that_cannot_be_named_are_left_out(self, own: Path) -> None:
        from gmvqzip.training.datasets import search_places

        assert search_path()[:-1] == [own]
        assert search_places("x") == [Path("data/x")]

    def test_the_shipped_models_are_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("GMVQZIP_MODELS", raising=False)
        monkeypatch.setattr(registry, "search_path", search_path)
        assert "photo" in {info.name for info in installed()}

    def test_a_folder_of_its_own(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        assert tmp_path / "gmvqzip" / "models" in search_path()

    def test_commands(self, picture: Path, tiny_path: Path) -> None:
        script = (
            "import json, pwd, sys\ndef unknown(number): raise KeyError(number)\npwd.getpwuid = unknown\n"
            "from gmvqzip.__main__ import main\nfor command in json.loads(sys.argv[1]):\n"
            "    sys.argv = ['gmvqzip', *command]\n    try: main()\n    except SystemExit as end: assert not end.code\n"
        )
        environment = {"PATH": os.environ["PATH"], "GMVQZIP_MODELS": str(tiny_path.parent)}
        if "PYTHONPATH" in os.environ:
            environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        packed = picture.with_suffix(".gmvq")
        commands = [["models", "list"], ["compress", str(picture)], ["decompress", str(packed), "-c"]]
        command = [sys.executable, "-c", script, json.dumps(commands)]
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")


def test_a_folder_that_is_closed_to_us_hides_nothing(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(own, "a", identity("aa"))
    assert find("a").name == "a"
    glob = Path.glob

    def closed(folder: Path, pattern: str) -> object:
        if folder == own:
            raise PermissionError(13, "Permission denied")
        return glob(folder, pattern)

    monkeypatch.setattr(Path, "glob", closed)
    assert installed() == []
    with pytest.raises(ModelError, match="no model named 'a'"):
        find("a")
