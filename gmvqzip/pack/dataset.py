"""A pack as a torch data set: pictures, or the code indices that they are made of."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from gmvqzip.errors import FormatError, path_text
from gmvqzip.pack.reader import PackReader

WHATS = ("images", "codes")


class PackDataset(Dataset[Any]):
    """Pictures by number, for a `DataLoader` with any number of workers.

    path: the pack; what: "images" gives uint8 [3, H, W], gray as three equal channels, transparency left out; "codes"
    gives a tuple of int64 [rows, columns], one a stage in coding order, without offsets (see `Codes`). transform:
    applied to what is given out; model, device: as for `PackReader`. The pack is opened, and the model loaded, when a
    picture is first asked for, by each process for itself. Raises as `PackReader`; ValueError for another `what`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        what: str = "images",
        *,
        transform: Callable[[Any], Any] | None = None,
        model: str | os.PathLike[str] | None = None,
        device: str = "cpu",
    ) -> None:
        if what not in WHATS:
            raise ValueError(f"what must be one of {', '.join(WHATS)}, not {what!r}")
        self.path, self.what, self.transform = path_text(path, "pack", FormatError), what, transform
        self.model, self.device = model, device
        self._reader: PackReader | None = None
        self._process = 0

    @property
    def reader(self) -> PackReader:
        """The open pack of this process."""
        if self._reader is None or self._process != os.getpid():
            self._reader = PackReader(self.path, model=self.model, device=self.device)
            self._process = os.getpid()
        return self._reader

    @property
    def names(self) -> Sequence[str]:
        """The names of all pictures, by number: labels may be read from their folders."""
        return self.reader.names

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, number: int) -> Any:
        if self.what == "codes":
            item: Any = tuple(torch.from_numpy(stage.astype(np.int64)) for stage in self.reader.codes(number).stages)
        else:
            pixels = torch.from_numpy(self.reader.picture(number).pixels)  # [H, W, 3]
            item = pixels.permute(2, 0, 1).contiguous()
        return item if self.transform is None else self.transform(item)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None}
