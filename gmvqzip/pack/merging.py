"""Packs into one, without a model: records are copied as they are. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator

from gmvqzip.errors import FormatError
from gmvqzip.pack.appending import Appender
from gmvqzip.pack.file import Entry, PackFile


def add_pack(appender: Appender, pack: PackFile) -> Iterator[tuple[str, Entry, FormatError | None]]:
    """Add a pack's pictures in their order; yield the name of each, what it was there, and why it was not added.

    A record whose own check fails is left out, and so is a picture whose name is there. Raises OutputError where the
    new pack cannot be written, OSError where the old one cannot be read, FormatError where its names are damaged.
    """
    for number, name in enumerate(pack.names):
        entry = pack.entry(number)
        try:
            appender.add(name, entry.kind, pack.stored(number))
        except FormatError as error:
            yield name, entry, error
        else:
            yield name, entry, None
