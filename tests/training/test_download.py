"""Fetching an archive from a server on this machine, which misbehaves as servers do."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from gmvqzip.errors import TrainingError
from gmvqzip.training import cifar10, download
from gmvqzip.training.datasets import load_dataset
from gmvqzip.training.download import Archive

CONTENT = np.random.default_rng(0).bytes(700_000)


class Server(ThreadingHTTPServer):
    """Serves `content`; the switches make it misbehave."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.ranges = True  # it understands Range
        self.lies = False  # it answers a range with another one
        self.says_length = True
        self.cuts = list[int]()  # bytes after which the next answers break off
        self.status = 200
        self.asked = list[str]()  # the Range of each request, "" for none

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/archive.tar.gz"

    def archive(self) -> Archive:
        return Archive(self.url, hashlib.md5(self.content).hexdigest(), "archive.tar.gz")


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range", "")
        server.asked.append(wanted)
        if server.status != 200:
            self.send_error(server.status)
            return
        size = len(server.content)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        if start >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.end_headers()
            return
        if server.lies:
            start //= 2
        self.send_response(206 if wanted and server.ranges else 200)
        if wanted and server.ranges:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if server.says_length:
            self.send_header("Content-Length", str(size - start))
        self.end_headers()
        body = server.content[start:]
        with contextlib.suppress(ConnectionError):  # a client that has seen enough leaves
            self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_fetched_whole_and_only_once(server, tmp_path):
    seen = list[tuple[int, int | None]]()
    path = download.download(server.archive(), tmp_path / "new" / "folder", lambda *numbers: seen.append(numbers))
    assert path.read_bytes() == CONTENT and names(path.parent) == ["archive.tar.gz"]
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and [done for done, _ in seen] == sorted(done for done, _ in seen)
    download.download(server.archive(), path.parent)
    assert server.asked == [""]


def test_resumed_where_an_earlier_run_ended(server, tmp_path):
    (tmp_path / "archive.tar.gz.part").write_bytes(CONTENT[:300_000])
    seen = list[tuple[int, int | None]]()
    path = download.download(server.archive(), tmp_path, lambda *numbers: seen.append(numbers))
    assert path.read_bytes() == CONTENT and server.asked == ["bytes=300000-"]
    assert seen[0][0] > 300_000 and seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_connection_that_breaks_is_taken_up_again(server, tmp_path):
    server.cuts = [1000, 200_000, 5]
    path = download.download(server.archive(), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["", "bytes=1000-", "bytes=201000-", "bytes=201005-"]


def test_a_connection_that_brings_nothing_is_given_up_but_what_came_is_kept(server, tmp_path):
    server.cuts = [5000] + [0] * 20
    with pytest.raises(TrainingError, match="5000 bytes are kept, run again"):
        download.download(server.archive(), tmp_path)
    assert names(tmp_path) == ["archive.tar.gz.part"]
    server.cuts = []
    assert download.download(server.archive(), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("trouble", ["no ranges", "lies", "too long", "damaged"])
def test_what_cannot_be_resumed_begins_again(server, tmp_path, trouble):
    part = tmp_path / "archive.tar.gz.part"
    part.write_bytes(CONTENT[:1000])
    if trouble == "no ranges":
        server.ranges = False
    elif trouble == "too long":
        part.write_bytes(CONTENT + b"more")
    elif trouble == "damaged":
        part.write_bytes(bytes(1000))
    server.lies = trouble == "lies"
    path = download.download(server.archive(), tmp_path)
    assert path.read_bytes() == CONTENT and names(tmp_path) == ["archive.tar.gz"]


def test_all_of_it_was_there_already(server, tmp_path):
    (tmp_path / "archive.tar.gz.part").write_bytes(CONTENT)
    assert download.download(server.archive(), tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_server_that_does_not_say_how_long(server, tmp_path):
    server.says_length = False
    seen = list[tuple[int, int | None]]()
    assert download.download(server.archive(), tmp_path, lambda *n: seen.append(n)).read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), None)


def test_another_file_is_not_accepted(server, tmp_path):
    archive = server.archive()
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(TrainingError, match="another MD5"):
        download.download(archive, tmp_path)
    assert names(tmp_path) == [] and len(server.asked) == 2


def test_a_damaged_archive_on_disk_is_fetched_again(server, tmp_path):
    (tmp_path / "archive.tar.gz").write_bytes(CONTENT[:-1])
    assert download.download(server.archive(), tmp_path).read_bytes() == CONTENT


def test_refusals_are_one_line(server, tmp_path, monkeypatch):
    server.status = 404
    with pytest.raises(TrainingError, match="the server answers 404"):
        download.download(server.archive(), tmp_path)
    server.status = 200
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    with pytest.raises(TrainingError, match="more than 1000 bytes"):
        download.download(server.archive(), tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TrainingError, match="not saved"):
        download.download(server.archive(), tmp_path / "file")


def test_nobody_listens(tmp_path):
    closed = Server()
    archive = closed.archive()
    closed.server_close()
    with pytest.raises(TrainingError, match="0 bytes are kept") as caught:
        download.download(archive, tmp_path)
    assert "\n" not in str(caught.value)


def test_cifar10_is_fetched_where_it_is_missing_and_then_found(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GMVQZIP_DATA", raising=False)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name in (*cifar10.TRAIN_PARTS, *cifar10.TEST_PARTS):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = 10 * 3073
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    server.content = file.getvalue()
    name = download.CIFAR10.name
    monkeypatch.setattr(download, "CIFAR10", Archive(server.url, server.archive().md5, name))
    said = list[str]()
    data = load_dataset("cifar10", None, crop=None, seed=0, download=True, say=said.append)
    assert len(data.train) == 49 and data.test is not None and len(data.test) == 10
    assert said and "MB" in said[-1]
    assert (tmp_path / "cache" / "gmvqzip" / "cifar10" / name).is_file()
    load_dataset("cifar10", None, crop=None, seed=0, download=True, say=said.append)
    assert len(server.asked) == 1  # found: not fetched again
    load_dataset("cifar10", tmp_path / "here", crop=None, seed=0, download=True, say=said.append)
    assert (tmp_path / "here" / name).is_file()


def test_the_official_archive_is_the_one_asked_for():
    assert download.CIFAR10.url == "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    assert download.CIFAR10.md5 == "c58f30108f718f92721af3b95e74349a"
    assert download.CIFAR10.name in cifar10.ARCHIVES
