"""Directories: what is taken from them, and what is passed over, which is counted and said."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from gmvqzip.cli.report import Report
from gmvqzip.errors import safe_name
from gmvqzip.images.formats import package_for, unread_endings

_APPLE_DOUBLE, _MACOS_FOLDER = "._", "__MACOSX"  # what macOS leaves on other disks and in archives, beside the files
_OUR_SUFFIXES = (".gmvq", ".gmvqp")
_NAMED = 12  # endings that are named


def walk(top: Path, suffixes: frozenset[str], report: Report) -> Iterator[Path]:
    """The files below a directory that have one of these endings. What is passed over is counted and said."""

    def unreadable(error: OSError) -> None:
        report.fail(str(error.filename), error)

    others: list[str] = []
    side_files = pipes = links = 0
    for folder, folders, names in os.walk(top, onerror=unreadable):  # links to directories are not followed
        if _MACOS_FOLDER in folders:
            folders.remove(_MACOS_FOLDER)
            side_files += sum(len(found) for _, _, found in os.walk(Path(folder, _MACOS_FOLDER)))
        links += sum(Path(folder, name).is_symlink() for name in folders)
        for name in names:
            path = Path(folder, name)
            if name.startswith(_APPLE_DOUBLE):
                side_files += 1
            elif path.suffix.lower() not in suffixes:
                if path.suffix.lower() not in _OUR_SUFFIXES:
                    others.append(name)
            elif _is_special(path):
                pipes += 1
            else:
                yield path
    if side_files:
        report.note(f"{safe_name(top)}: {side_files} side files of macOS (._*, __MACOSX) passed over", level=0)
    if pipes:
        report.note(f"{safe_name(top)}: {pipes} pipes, sockets or devices passed over", level=0)
    if links:
        report.note(f"{safe_name(top)}: {links} links to folders passed over: name them to follow them", level=0)
    if ".png" in suffixes:  # pictures are looked for
        _say_passed_over(top, others, report)


def _is_special(path: Path) -> bool:
    """Whether it is a pipe, socket or device; not where the system does not tell, for who reads it to say why."""
    try:
        return path.exists() and not path.is_file()
    except OSError:
        return False


def _say_passed_over(top: Path, names: Sequence[str], report: Report) -> None:
    """Say which pictures are passed over for their format; with -v, which other files."""
    counts = Counter(Path(name).suffix.lower().removeprefix(".") for name in names)
    unread = unread_endings()
    pictures = [
        f"{count} .{ending}" + (f" (install {package})" if (package := package_for(ending)) else "")
        for ending, count in _sorted(counts)
        if ending in unread
    ]
    others = [
        f"{count} .{safe_name(ending)}" if ending else f"{count} without ending"
        for ending, count in _sorted(counts)
        if ending not in unread
    ]
    if pictures:
        report.note(f"{safe_name(top)}: pictures passed over: {', '.join(pictures)}", level=0)
    if others:
        more = [f"{len(others) - _NAMED} more endings"] if len(others) > _NAMED else []
        report.note(f"{safe_name(top)}: no pictures, passed over: {', '.join(others[:_NAMED] + more)}")


def _sorted(counts: Counter[str]) -> list[tuple[str, int]]:
    """The most first, of equal ones by their ending; those without an ending last."""
    return sorted(counts.items(), key=lambda item: (-item[1], not item[0], item[0]))
