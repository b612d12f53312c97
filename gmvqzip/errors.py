"""The exception tree. Every error that a user can cause derives from `GmvqError` and reads as one clear line."""

from __future__ import annotations

import errno
import math
import operator
import os
import reprlib
from collections.abc import Collection
from dataclasses import fields
from typing import Any, SupportsIndex, cast

_SYSTEM_ERRORS = {
    errno.ENOENT: "no such file",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted by the system",
    errno.EISDIR: "is a directory: add -r, or name the files in it",
    errno.ENOTDIR: "a part of this path is not a directory",
    errno.ENOSPC: "no space left on the device: free some and try again",
    errno.EDQUOT: "the disk quota is used up: free some space and try again",
    errno.EROFS: "the file system is read-only",
    errno.ENAMETOOLONG: "the file name is too long",
    errno.ELOOP: "a symbolic link leads back to itself",
}


class GmvqError(Exception):
    """Base of all errors raised on purpose by gmvqzip; `str(error)` is one line: what is wrong, and what to do."""


class FormatError(GmvqError):
    """A `.gmvq` file is foreign, damaged, cut, from a newer version, or beyond a limit."""


class ImageError(GmvqError):
    """A picture cannot be read, or cannot be written in the wanted format."""


class ModelError(GmvqError):
    """A model is missing, damaged, or not of this version; or a file names a model that is not installed."""


class TrainingError(GmvqError):
    """Training cannot start or go on: missing data, foreign checkpoint, a loss that is not finite."""


class DivergedError(TrainingError):
    """The loss of a training is not finite."""


class OutputError(GmvqError):
    """An output cannot be written: it exists, is a directory, is the input itself, or the file system refuses."""


def one_line(value: object) -> str:
    """A value in a message: short, on one line, and only characters that print."""
    try:
        text = reprlib.repr(value)
    except Exception:  # of whatever object this is
        text = type(value).__name__
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def message_of(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def json_name(name: str | os.PathLike[str]) -> str:
    """A file name for JSON: only the bytes that are not UTF-8 are escaped (JSON escapes the rest itself)."""
    # Not os.fsencode: where the locale is plain ASCII, that refuses the names that UTF-8 would hold.
    return os.fspath(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def safe_name(name: str | os.PathLike[str]) -> str:
    """A file name on one line: bytes that are not UTF-8, and characters that do not print, as backslash escapes."""
    text = json_name(name)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def system_error(error: OSError | ValueError) -> str:
    """What an error of the system means, without the file's name."""
    known = _SYSTEM_ERRORS.get(getattr(error, "errno", None) or 0)
    return known or (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def whole_number(value: object, what: str, error: type[GmvqError]) -> int:
    """A whole number of any integer type, NumPy's and torch's included. Raises `error` for anything else."""
    try:
        return operator.index(cast(SupportsIndex, value))
    except Exception:  # TypeError, and what objects of others raise
        raise error(f"{what} {one_line(value)} is no whole number: give an int") from None


def real_number(value: object, what: str, error: type[GmvqError]) -> float:
    """A number of any type that has a float. Raises `error` for anything else, texts included."""
    try:
        if isinstance(value, str | bytes | bytearray):
            raise TypeError
        return float(cast(float, value))
    except OverflowError:
        raise error(f"{what} {one_line(value)} is out of range") from None
    except Exception:
        raise error(f"{what} {one_line(value)} is no number: give an int or a float") from None


def range_fault(settings: Any, positive: Collection[str], fractions: Collection[str]) -> str:
    """What is wrong with a number of a dataclass: not finite, negative, zero where in `positive`, above 1 where in
    `fractions`; empty where all are right."""
    for item in fields(settings):
        value = getattr(settings, item.name)
        if not isinstance(value, int | float):
            continue
        if not 0 <= value < math.inf or (value == 0 and item.name in positive):
            return f"{item.name} must be {'above' if item.name in positive else 'at least'} 0"
        if value > 1 and item.name in fractions:
            return f"{item.name} must be at most 1"
    return ""


def truth(value: object, what: str, error: type[GmvqError]) -> bool:
    """Whether a value counts as true. Raises `error` for one that is neither, such as an array."""
    try:
        return bool(value)
    except Exception:
        raise error(f"{what} {one_line(value)} is neither true nor false") from None


def path_text(value: object, what: str, error: type[GmvqError]) -> str:
    """A name or path as text. Raises `error` for anything else, and for one with a zero byte."""
    try:
        text = os.fsdecode(cast(str, value))
    except Exception:
        raise error(f"{what} {one_line(value)} is neither a name nor a path") from None
    if "\0" in text:
        raise error(f"{what} {one_line(value)} holds a zero byte")
    return text
