"""What tells systems of `.gmvq` files: the snippet for file(1) and the one for shared-mime-info."""

from __future__ import annotations

import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from importlib import resources
from pathlib import Path

import pytest

from gmvqzip import pillow
from gmvqzip.format import container
from gmvqzip.format.packheader import empty_header

DATA = resources.files("gmvqzip") / "desktop"
GOLDEN = Path(__file__).parent / "golden"
PACK_MIME = "application/x-gmvqp"
FILES = sorted(GOLDEN.glob("*/*.gmvq"))
SPACE = "{http://www.freedesktop.org/standards/shared-mime-info}"

needs_file = pytest.mark.skipif(shutil.which("file") is None, reason="file(1) is not installed")


def made(width: int, height: int, *, quality: int = 60, gray: bool = False, sections: bool = False) -> bytes:
    extra = {70: b"note"} if sections else None
    return container.pack(
        width=width,
        height=height,
        model_id=bytes.fromhex("c0ffee11"),
        quality=quality,
        gray=gray,
        codes_crc32=5,
        payload=b"payload",
        sections=extra,
    )


def told(path: Path, *options: str) -> str:
    command = ["file", "-b", *options, "-m", str(DATA / "gmvqzip.magic"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.strip()


@needs_file
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_knows_every_golden_file(path: Path) -> None:
    assert told(path).startswith("gmvqzip picture, version 1, ")
    assert told(path, "--mime-type") == pillow.MIME
    assert told(path, "--extension") == pillow.EXTENSION.removeprefix(".")


@needs_file
@pytest.mark.parametrize(
    ("data", "line"),
    [
        (made(37, 23, quality=0), "37 x 23, model c0ff, single rate"),
        (made(256, 256, gray=True), "256 x 256, gray, model c0ff, quality 60"),
        (made(1, 255, sections=True), "1 x 255, with sections, model c0ff, quality 60"),
        (made(257, 1), "model c0ffee11, quality 60"),
        (made(1, 20_000, quality=1), "model c0ffee11, quality 1"),
        (made(2**21, 2**21, quality=100), "model c0ffee11, quality 100"),
        (made(300, 300, quality=0, gray=True), "gray, model c0ffee11, single rate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_file_reads_the_header(tmp_path: Path, data: bytes, line: str) -> None:
    (tmp_path / "it").write_bytes(data)
    assert told(tmp_path / "it") == f"gmvqzip picture, version 1, {line}"


PACK = empty_header() + b"the rest"


@needs_file
def test_file_knows_a_pack(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(PACK)
    assert told(tmp_path / "it") == "gmvqzip pack, version 1"
    assert told(tmp_path / "it", "--mime-type") == PACK_MIME
    assert told(tmp_path / "it", "--extension") == "gmvqp"


def strangers() -> dict[str, bytes]:
    data = made(37, 23)
    return {
        "another magic": b"\x9dH" + data[2:],
        "another version": data[:2] + bytes([data[2] + 0x20]) + data[3:],
        "reserved bits": data[:2] + bytes([data[2] | 1]) + data[3:],
        "text": b"Ghost\n",
        "another version of a pack": PACK[:2] + bytes([PACK[2] + 0x20]) + PACK[3:],
        "reserved bits of a pack": PACK[:2] + bytes([PACK[2] | 1]) + PACK[3:],
    }


@needs_file
@pytest.mark.parametrize("name", strangers())
def test_file_leaves_others_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "it").write_bytes(strangers()[name])
    assert "gmvqzip" not in told(tmp_path / "it")


def mime_types() -> dict[str, ET.Element]:
    found = ET.fromstring((DATA / "gmvqzip.xml").read_bytes()).findall(f"{SPACE}mime-type")
    return {one.attrib["type"]: one for one in found}


def matches(rule: ET.Element, data: bytes) -> bool:
    """One match of shared-mime-info, and one of those below it where there are any."""
    start, value = int(rule.attrib["offset"]), rule.attrib["value"]
    if rule.attrib["type"] == "byte":
        hit = data[start] & int(rule.get("mask", "0xff"), 0) == int(value, 0)
    else:
        assert rule.attrib["type"] == "string"
        hit = data[start:].startswith(value.encode().decode("unicode_escape").encode("latin-1"))
    return hit and (not len(rule) or any(matches(below, data) for below in rule))


def test_the_mime_types_have_names_and_globs() -> None:
    kinds = mime_types()
    assert set(kinds) == {pillow.MIME, PACK_MIME}
    for name, ending in ((pillow.MIME, pillow.EXTENSION), (PACK_MIME, ".gmvqp")):
        assert [glob.get("pattern") for glob in kinds[name].iter(f"{SPACE}glob")] == [f"*{ending}"]
        assert kinds[name].findtext(f"{SPACE}comment")


def test_the_mime_types_magic() -> None:
    def kinds_of(data: bytes) -> list[str]:
        magics = {name: kind.findall(f"{SPACE}magic/{SPACE}match") for name, kind in mime_types().items()}
        return [name for name, rules in magics.items() if any(matches(rule, data) for rule in rules)]

    assert FILES
    for path in FILES:
        assert kinds_of(path.read_bytes()) == [pillow.MIME], path
    assert kinds_of(PACK) == [PACK_MIME]
    for name, data in strangers().items():
        assert kinds_of(data) == [], name


@pytest.mark.skipif(shutil.which("update-mime-database") is None, reason="shared-mime-info is not installed")
def test_the_mime_database_takes_it(tmp_path: Path) -> None:
    folder = tmp_path / "mime"
    (folder / "packages").mkdir(parents=True)
    shutil.copy(str(DATA / "gmvqzip.xml"), folder / "packages")
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    command = ["update-mime-database", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout + done.stderr == ""
    assert f"{pillow.MIME}:*.gmvq" in (folder / "globs2").read_text()
    assert f"{PACK_MIME}:*.gmvqp" in (folder / "globs2").read_text()
    magic = (folder / "magic").read_bytes()
    assert f"[60:{pillow.MIME}]".encode() in magic
    assert b">0=\x00\x02\x9dG\n1>2=\x00\x01\x20&\xe1\n" in magic
