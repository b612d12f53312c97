"""Pictures, codes and `.gmvq` files out of a pack."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gmvqzip import codec as codecs
from gmvqzip.codec import Codec
from gmvqzip.entropy.codes import Codes
from gmvqzip.errors import FormatError, whole_number
from gmvqzip.format.container import Container, Header
from gmvqzip.format.limits import MAX_PIXELS, SHORT_SIDE
from gmvqzip.format.packindex import Kind
from gmvqzip.format.packrecord import Record
from gmvqzip.format.sections import SECTION_ICC
from gmvqzip.images.picture import Picture, to_pil
from gmvqzip.pack.file import Key, PackFile

if TYPE_CHECKING:
    from PIL import Image


class PackReader(PackFile):
    """A pack whose pictures can be decoded, each by its number or its name.

    model: name or file of the model that made it, by default the installed one is sought, when it is first needed;
    device: auto, cpu or cuda; max_pixels: pictures beyond it are refused. Methods raise FormatError for a picture that
    is damaged or over the limit, ModelError where the model is missing or another one, KeyError and IndexError for a
    picture that is not there.
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
        box, codes = self.unpack(key)
        return self.codec(key).restore(box, codes)

    def codes(self, key: Key) -> Codes:
        """The code indices of a picture, compared with their checksum. Needs no torch."""
        return self.unpack(key)[1]

    def gmvq(self, key: Key) -> bytes:
        """A picture as the bytes of a `.gmvq` file: those that `compress` gives for the same codes. Needs no torch."""
        box, codes = self.unpack(key)
        return self.codec(key).pack_codes(codes, box.sections).data

    def codec(self, key: Key) -> Codec:
        """The codec of the model that made a picture; loaded once."""
        model_id = self.entry(key).kind.model_id
        if model_id not in self._codecs:
            self._codecs[model_id] = codecs.load_for(model_id, model=self.model, device=self.device)
        return self._codecs[model_id]

    def unpack(self, key: Key) -> tuple[Container, Codes]:
        """A picture as what its `.gmvq` file would hold, and its codes. The header has what the pack stores."""
        kind = self.entry(key).kind
        if kind.width * kind.height > self.max_pixels:
            raise FormatError(
                f"{kind.width}x{kind.height} pixels are more than the limit of {self.max_pixels}: "
                "raise it (--max-pixels) if you trust the pack"
            )
        record, codec = self.record(key), self.codec(key)
        box = _container(kind, record)
        codes = codec.unpack_payload(box)
        if not record.accepts(codes.crc32()):
            raise FormatError("the decoded codes differ from their checksum: the pack is damaged; get it again")
        check = codes.crc32() & (0xFFFF if box.header.short else 0xFFFFFFFF)
        return replace(box, header=replace(box.header, codes_check=check)), codes

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
