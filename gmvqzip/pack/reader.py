"""Pictures, codes and `.gmvq` files out of a pack."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gmvqzip import codec as codecs
from gmvqzip.codec import Codec
from gmvqzip.engines.coded import Coded
from gmvqzip.engines.files import file_of, read_coded
from gmvqzip.entropy.codes import Codes
from gmvqzip.errors import FormatError, whole_number
from gmvqzip.format.container import Container, Header
from gmvqzip.format.limits import MAX_PIXELS, SHORT_SIDE
from gmvqzip.format.packindex import Kind
from gmvqzip.format.packrecord import Record
from gmvqzip.format.sections import SECTION_ICC
from gmvqzip.images.pixels import Picture, to_pil
from gmvqzip.pack.file import Key, PackFile

if TYPE_CHECKING:
    from PIL import Image


class PackReader(PackFile):
    """A pack whose pictures can be decoded, each by its number or its name.

    model: name or file of the model that made it, by default the installed one is sought, when it is first needed;
    device: auto, cpu or cuda; max_pixels: pictures beyond it are refused. Methods raise FormatError for a picture that
    is damaged or over the limit, ModelError where the model is missing or another one, KeyError and IndexError for a
    picture that is not there, ValueError once the pack is closed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        model: str | os.PathLike[str] | None = None,
        device: str = "auto",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.model, self.device = model, device
        self.max_pixels = whole_number(max_pixels, "max_pixels", FormatError)
        self._codecs: dict[bytes, Codec] = {}
        super().__init__(path)

    def image(self, key: Key) -> Image.Image:
        """A picture, as `Codec.decompress` gives it."""
        return to_pil(self.picture(key))

    def picture(self, key: Key) -> Picture:
        """A picture's pixels [H, W, 3], with its transparency and colour profile."""
        return self.coded(key).pixels()

    def codes(self, key: Key) -> Codes:
        """The code indices of a picture, compared with their checksum. Needs no torch."""
        return self.coded(key).codes

    def gmvq(self, key: Key) -> bytes:
        """A picture as the bytes of a `.gmvq` file: those that `compress` gives for the same codes. Needs no torch."""
        coded = self.coded(key)
        return file_of(coded, {} if coded.box is None else coded.box.sections)

    def codec(self, key: Key) -> Codec:
        """The codec of the model that made a picture; loaded once."""
        model_id = self.entry(key).kind.model_id
        if model_id not in self._codecs:
            self._codecs[model_id] = codecs.load_for(model_id, model=self.model, device=self.device)
        return self._codecs[model_id]

    def coded(self, key: Key) -> Coded:
        """A picture's codes, with the `box` that its `.gmvq` file would be. The header has what the pack stores."""
        kind = self.entry(key).kind
        if kind.width * kind.height > self.max_pixels:
            raise FormatError(
                f"{kind.width}x{kind.height} pixels are more than the limit of {self.max_pixels}: "
                "raise it (--max-pixels) if you trust the pack"
            )
        record, codec = self.record(key), self.codec(key)
        box = _container(kind, record)
        coded = read_coded(codec.engine, box)
        crc32 = coded.codes.crc32()
        if not record.accepts(crc32):
            raise FormatError("the decoded codes differ from their checksum: the pack is damaged; get it again")
        check = crc32 & (0xFFFF if box.header.short else 0xFFFFFFFF)
        coded.box = replace(box, header=replace(box.header, codes_check=check))
        return coded

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_codecs": {}}  # a codec holds locks and weights: each process has its own


def _container(kind: Kind, record: Record) -> Container:
    """What the `.gmvq` file of a picture would hold, but for the header's check of the codes."""
    sections = record.sections | ({SECTION_ICC: kind.profile} if kind.profile else {})
    short = max(kind.width, kind.height) <= SHORT_SIDE
    header = Header(
        width=kind.width,
        height=kind.height,
        model_id=kind.model_id,
        quality=kind.quality,
        gray=kind.gray,
        codes_check=0,
        short=short,
        has_sections=bool(sections),
        halvings=kind.halvings,
    )
    return Container(header, sections, record.payload, 0, 0)
