"""Packs: many small pictures in one `.gmvqp` file, each readable alone.

>>> from gmvqzip.pack import PackReader, PackWriter
>>> with PackWriter("set.gmvqp", model="cifar10") as writer:
...     writer.add("cat/0001", "cat/0001.png")
>>> reader = PackReader("set.gmvqp")
>>> image = reader.image("cat/0001")  # or by number

`PackFile` reads a pack without its model; `PackDataset` is a torch data set. docs/format.md specifies the file. The
names are imported when first used: `PackFile` needs neither numpy nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmvqzip.pack.dataset import PackDataset
    from gmvqzip.pack.file import Entry, PackFile
    from gmvqzip.pack.reader import PackReader
    from gmvqzip.pack.writer import PackWriter

__all__ = ["Entry", "PackDataset", "PackFile", "PackReader", "PackWriter"]

_HOMES = {
    "PackDataset": "gmvqzip.pack.dataset",
    "Entry": "gmvqzip.pack.file",
    "PackFile": "gmvqzip.pack.file",
    "PackReader": "gmvqzip.pack.reader",
    "PackWriter": "gmvqzip.pack.writer",
}


if not TYPE_CHECKING:  # a type checker finds the names above, and that others are misspelt

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
