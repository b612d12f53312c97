"""Fetching a data set's official archive: resumed where it was cut, checked by its MD5, in place only when whole."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gmvqzip.errors import TrainingError

CHUNK_BYTES = 1 << 18
TIMEOUT_SECONDS = 30.0
TRIES = 4  # connections without a single new byte before giving up
MAX_BYTES = 1 << 32

Progress = Callable[[int, int | None], None]
"""Called with (bytes so far, bytes in all or None where the server does not say)."""


@dataclass(frozen=True)
class Archive:
    """One file to fetch."""

    url: str
    md5: str
    name: str  # file name on disk


CIFAR10 = Archive(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    name="cifar-10-python.tar.gz",
)


class _Restart(Exception):
    """What is on disk is no beginning of the file: begin again."""


def download(archive: Archive, folder: Path, progress: Progress | None = None) -> Path:
    """Fetch the archive into `folder` (created) and return its path; nothing is fetched where it is whole already.

    The bytes go to `NAME.part` first; a run that was interrupted goes on there. TrainingError: no connection, the
    server refuses, the disk is full, or the MD5 differs twice.
    """
    target, part = folder / archive.name, folder / (archive.name + ".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.exists() and _md5(target) == archive.md5:
            return target
        for attempt in range(2):
            _fetch(archive, part, progress)
            if _md5(part) == archive.md5:
                part.replace(target)
                return target
            part.unlink()
            if attempt:
                break
    except OSError as error:
        raise TrainingError(f"{part}: {error.strerror or error}; {archive.url} was not saved") from error
    raise TrainingError(f"{archive.url}: the file fetched has another MD5 than {archive.md5}; fetch it by hand")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _fetch(archive: Archive, part: Path, progress: Progress | None) -> None:
    """Complete `part`, over as many connections as it takes."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _fetch_once(archive.url, part, before, progress):
                return
            reason = "the connection was cut"
        except _Restart:
            part.unlink()
            reason = "the server cannot resume"
        except urllib.error.HTTPError as error:
            raise TrainingError(f"{archive.url}: the server answers {error.code} {error.reason}") from error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", "") or error or type(error).__name__)
        now = part.stat().st_size if part.exists() else 0
        failures = 0 if now > before else failures + 1
        if failures >= TRIES:
            raise TrainingError(f"{archive.url}: {reason}; {now} bytes are kept, run again to go on from there")


def _fetch_once(url: str, part: Path, start: int, progress: Progress | None) -> bool:
    """Append what the server sends from byte `start` on; True when that reaches the end of the file."""
    request = urllib.request.Request(url, headers={"User-Agent": "gmvqzip"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        with error:
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return True  # all of it is here already
        raise _Restart from error
    with response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if resumed and not (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
            raise _Restart
        done = start if resumed else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        with part.open("ab" if resumed else "wb") as file:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                if done > MAX_BYTES:
                    raise TrainingError(f"{url}: more than {MAX_BYTES} bytes came; this is not the archive")
                if progress is not None:
                    progress(done, total)
            file.flush()
            os.fsync(file.fileno())
    return total is None or done == total
