"""Pictures, codes and `.gmvq` files into a pack."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from gmvqzip import codec as codecs
from gmvqzip.codec import Codec
from gmvqzip.engines.coded import Coded
from gmvqzip.entropy.codes import Codes
from gmvqzip.errors import OutputError, path_text
from gmvqzip.format.container import unpack
from gmvqzip.format.limits import MAX_PIXELS
from gmvqzip.format.packindex import PACK_MODEL_BYTES, Kind
from gmvqzip.format.packrecord import seal_record
from gmvqzip.format.sections import SECTION_ICC
from gmvqzip.format.source import Source, read_source
from gmvqzip.images.pixels import PictureSource
from gmvqzip.images.preparing import read_prepared
from gmvqzip.models.registry import DEFAULT_MODEL
from gmvqzip.pack.appending import Appender
from gmvqzip.setting import DEFAULT_EFFORT


class PackWriter:
    """Writes a pack, as a context manager: what was added is there when the block ends, and not where it raises.

    path: the pack; append: add to an existing one, whatever models it was made with; force: replace an existing one;
    model: name or file of the model for pictures; device: auto, cpu or cuda; max_pixels: larger pictures are refused.
    Names are relative paths with / between their parts, without the ending of a file, each once in a pack. Raises
    OutputError where the pack cannot be written, FormatError where an old one is damaged or for a bad name,
    ImageError and ModelError as `Codec.compress`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        append: bool = False,
        force: bool = False,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        device: str = "auto",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.model, self.device, self.max_pixels = model, device, max_pixels
        self._appender = Appender(Path(path_text(path, "pack", OutputError)), append=append, force=force)

    def add(
        self,
        name: str,
        image: PictureSource,
        *,
        quality: int | None = None,
        effort: int = DEFAULT_EFFORT,
        strip: bool = False,
    ) -> int:
        """Compress a picture into the pack, given as for `Codec.compress`; returns the bytes of its record."""
        return self.add_all([(name, image)], quality=quality, effort=effort, strip=strip)

    def add_all(
        self,
        pictures: Iterable[tuple[str, PictureSource]],
        *,
        quality: int | None = None,
        effort: int = DEFAULT_EFFORT,
        strip: bool = False,
    ) -> int:
        """Compress (name, picture) pairs, those of equal size together; returns bytes."""
        codec = codecs.load(self.model, device=self.device)
        pictures = list(pictures)
        read = [read_prepared(image, strip=strip, max_pixels=self.max_pixels) for _, image in pictures]
        total = 0
        found = {n: coded.packed() for n, coded in codec.analyse(read, quality=quality, effort=effort)}
        for number, ((name, _), picture) in enumerate(zip(pictures, read, strict=True)):
            total += self.add_coded(name, found[number], codecs.sections_of(picture))
        return total

    def add_codes(self, name: str, codec: Codec, codes: Codes, sections: Mapping[int, bytes] | None = None) -> int:
        """Add codes of a model, and the sections of a `.gmvq` file; returns the bytes of the record."""
        return self.add_coded(name, codec.follow(codes), sections or {})

    def add_coded(self, name: str, coded: Coded, sections: Mapping[int, bytes]) -> int:
        """The same of codes that are known under their contexts."""
        codes, payload, own = coded.codes, coded.payload(), coded.sections(sections)
        profile = own.pop(SECTION_ICC, b"")
        kind = Kind(
            model_id=bytes.fromhex(codes.model_id)[:PACK_MODEL_BYTES],
            width=codes.width,
            height=codes.height,
            quality=codes.quality,
            gray=codes.gray,
            has_sections=bool(own),
            profile=profile,
            halvings=codes.halvings,
        )
        record = seal_record(codes.width, codes.height, codes.crc32(), payload, own)
        self._appender.add(name, kind, record)
        return len(record)

    def add_gmvq(self, name: str, data: Source, *, model: str | os.PathLike[str] | None = None) -> int:
        """Add a finished `.gmvq` file, whose codes are decoded and compared first; returns the bytes of the record.

        data: the file's bytes, its path, or a binary file object; model: name or file of the model that made it; by
        default the installed one is sought. OSError where a path is unreadable.
        """
        data = read_source(data)
        box = unpack(data, max_pixels=self.max_pixels)
        codec = codecs.load_for(box.header.model_id, model=model, device=self.device)
        return self.add_coded(name, codec.open(box), box.sections)

    def __len__(self) -> int:
        """Pictures in the pack, with those of before."""
        return len(self._appender)

    def __contains__(self, name: object) -> bool:
        return name in self._appender.names

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._appender.finish()
        finally:
            self._appender.discard()
