"""Writing a file so that nothing is ever lost: the whole output appears at once under its name, or nothing changes."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from gmvqzip.errors import OutputError, safe_name, system_error
from gmvqzip.forks import fork_lock

_DESCRIPTORS = ("/dev/fd", "/proc/self/fd", "/proc/thread-self/fd")
TEMPORARY_PREFIX, TEMPORARY_SUFFIX = ".gmvqzip-", ".part"
NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EXDEV})
_IN_WRITING = {
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.ENOENT: "the directory does not exist: create it first",
}


def atomic_write(path: Path, data: bytes, *, force: bool = False, copy_from: Path | None = None) -> None:
    """Write `data` under the name `path`, whole and synced to the disk, or raise and leave everything as it was.

    force      replace an existing file; without it an existing file is refused, even one that appears meanwhile
    copy_from  the file that was read: its modification time and permissions are copied, and it is never written over

    A link to a file stays, the file it points to is replaced; a broken link is replaced itself, with force.
    Devices and pipes are written to directly. The bytes go to a temporary file in the same directory (mode 0600),
    which is removed whatever happens, if signals are turned into exceptions. OutputError: one line; BrokenPipeError
    passes unchanged.
    """
    with _writing(path):
        if is_stream(path):
            _write_directly(path, data)
            return
        file = NewFile(path, force=force, copy_from=copy_from)
        try:
            _write_all(file.descriptor, data)
            file.finish()
        finally:
            file.discard()


class NewFile:
    """A file that is written piece by piece, and appears under its name, whole and synced, when it is finished.

    Until then it is a temporary in the same directory. force, copy_from: as for `atomic_write`. Raises OutputError:
    `path` exists and `force` is not given, is no regular file, or cannot be written.
    """

    def __init__(self, path: Path, *, force: bool = False, copy_from: Path | None = None) -> None:
        self._path, self._force, self._source = path, force, copy_from
        self._cleaning = contextlib.ExitStack()
        with _writing(path):
            if is_stream(path):
                raise OutputError(f"{safe_name(path)} is no regular file: name one")
            _check(path, force=force, source=copy_from)
            self._target = Path(os.path.realpath(path)) if path.exists() else path
            self._temporary, self.descriptor = self._cleaning.enter_context(_temporary(self._target.parent))
            self._cleaning.callback(os.close, self.descriptor)

    def finish(self) -> None:
        """Sync the file and give it its name."""
        with self._cleaning, _writing(self._path):
            _copy_metadata(self.descriptor, self._source, self._target)
            os.fsync(self.descriptor)
            if self._force:
                self._temporary.replace(self._target)
            else:
                _place_new(self._temporary, self._target)
            _sync_directory(self._target.parent)

    def discard(self) -> None:
        """Remove the temporary. Harmless where it was finished or discarded before."""
        self._cleaning.close()


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn the system's errors into one line."""
    try:
        yield
    except (BrokenPipeError, OutputError):
        raise
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise OutputError(f"cannot write {safe_name(path)}: {reason(error)}") from error


def reason(error: OSError | ValueError) -> str:
    """What the system's error in writing means, without the file's name."""
    return _IN_WRITING.get(getattr(error, "errno", None) or 0) or system_error(error)


def is_stream(path: Path) -> bool:
    """A pipe, terminal, socket or character device, or one of our own descriptors, whatever is behind it.

    Raises OutputError for a disk.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    if stat.S_ISBLK(mode):
        raise OutputError(f"{safe_name(path)} is a disk: name a file")
    return not stat.S_ISDIR(mode) and (descriptor_of(path) is not None or not stat.S_ISREG(mode))


def descriptor_of(path: Path) -> int | None:
    """The descriptor of this process that a path names, as /dev/fd/3 does."""
    if path.parent.as_posix() in _DESCRIPTORS and path.name.isdecimal():
        return int(path.name)
    return {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}.get(path.as_posix())


def _write_directly(path: Path, data: bytes) -> None:
    number = descriptor_of(path)  # written to where it stands: opening its file again would start at the beginning
    with path.open("wb", buffering=0) if number is None else os.fdopen(os.dup(number), "wb", buffering=0) as file:
        _write_all(file.fileno(), data)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _check(path: Path, *, force: bool, source: Path | None) -> None:
    if not os.path.lexists(path):
        return
    if not path.exists():
        if not force:
            raise OutputError(f"{safe_name(path)} is a link to nothing: -f puts the file in its place")
        return
    if path.is_dir():
        raise OutputError(f"{safe_name(path)} is a directory: name a file in it")
    if source is not None and source.exists() and path.samefile(source):
        raise OutputError(f"{safe_name(path)} is the input itself: give another name")
    if not force:
        raise OutputError(f"{safe_name(path)} exists: -f replaces it")


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[tuple[Path, int]]:
    """(name, open descriptor) of a new file, mode 0600, that does not outlive the block under that name."""
    # The name is known before the file exists: a signal between the two leaves nothing behind.
    temporary = folder / f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}{TEMPORARY_SUFFIX}"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        yield temporary, os.open(temporary, flags, 0o600)
    finally:
        temporary.unlink(missing_ok=True)


def _copy_metadata(descriptor: int, source: Path | None, target: Path) -> None:
    """Time and permissions of the source; without one, the permissions of the file replaced, or the usual ones."""
    with contextlib.suppress(OSError):  # some file systems keep neither: no reason to refuse the output
        if source is not None:
            status = source.stat()
            with contextlib.suppress(OSError):  # FAT refuses permissions that it cannot store, and keeps times
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & 0o777)
            os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
        elif target.exists():
            os.fchmod(descriptor, stat.S_IMODE(target.stat().st_mode) & 0o777)
        else:
            os.fchmod(descriptor, 0o666 & ~_umask())


_umask_lock = fork_lock()


def _umask() -> int:
    with _umask_lock:  # it can only be read by setting it
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


def _place_new(temporary: Path, target: Path) -> None:
    """Give the file its name, but never over another: a link fails where the name is taken, a rename would not."""
    try:
        os.link(temporary, target)
        return
    except FileExistsError as error:
        raise OutputError(f"{safe_name(target)} exists: -f replaces it") from error
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
    try:  # no hard links here: take the name with an empty file first, then rename over that
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError as error:
        raise OutputError(f"{safe_name(target)} exists: -f replaces it") from error
    try:
        temporary.replace(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _sync_directory(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not possible on every system; the file itself is synced
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
