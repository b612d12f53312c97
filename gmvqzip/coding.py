"""Codes <-> bytes: tables, range coder and container of one model. No torch here.

A file is tested, and its codes are read and written, with numpy alone; `gmvqzip.codec` adds the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from gmvqzip import rates
from gmvqzip.compressed import Compressed
from gmvqzip.engines.base import make_engine
from gmvqzip.engines.tiling import Tiling
from gmvqzip.entropy.codes import Codes
from gmvqzip.errors import FormatError, ModelError, one_line
from gmvqzip.format import container
from gmvqzip.format.container import SECTION_TILES
from gmvqzip.format.limits import MAX_PIXELS
from gmvqzip.format.tiles import TileIndex, read_index
from gmvqzip.inspection import check_model
from gmvqzip.models import registry
from gmvqzip.models.hyperconfig import HyperpriorConfig


class CodesCodec:
    """One model, ready to turn codes into files and back. Tables are loaded when first needed.

    info: the model; device: auto, cpu or cuda (a file decodes to the same codes on each). An instance may be shared
    by threads. Raises ModelError for an unknown device or an unreadable configuration.
    """

    def __init__(self, info: registry.ModelInfo, device: str = "auto") -> None:
        self.info = info
        self.device = device
        self.engine = make_engine(info, device)
        self.config = self.engine.config

    @property
    def name(self) -> str:
        """The model's short name."""
        return self.info.name

    @property
    def model_id(self) -> str:
        """The model's identity, 64 hexadecimal digits."""
        return self.info.model_id

    @property
    def qualities(self) -> range:
        """The qualities that give different files; empty for a model with a single rate."""
        return rates.QUALITIES if isinstance(self.config, HyperpriorConfig) else range(0)

    def pack_codes(self, codes: Codes, sections: Mapping[int, bytes] | None = None) -> Compressed:
        """Seal codes of this model, and extra sections, into a file. Raises ModelError if they do not fit."""
        self.check_codes(codes)
        data, payload_bytes = self._seal(codes, sections or {})
        _, header_bytes = container.read_header(data)
        sections_bytes = len(data) - header_bytes - payload_bytes
        return Compressed(data, codes, header_bytes, sections_bytes, payload_bytes, self.stage_bits(codes))

    def _seal(self, codes: Codes, sections: Mapping[int, bytes]) -> tuple[bytes, int]:
        """The file of these codes, and the bytes of its payload."""
        payload, sections = self.pack_payload(codes, sections)
        data = container.pack(
            width=codes.width,
            height=codes.height,
            model_id=bytes.fromhex(self.model_id),
            quality=codes.quality,
            gray=codes.gray,
            codes_crc32=codes.crc32(),
            payload=payload,
            sections=sections,
            halvings=codes.halvings,
        )
        return data, len(payload)

    def pack_payload(self, codes: Codes, sections: Mapping[int, bytes]) -> tuple[bytes, dict[int, bytes]]:
        """The payload of these codes, and the sections with the index of its tiles, if they have any."""
        others = {kind: content for kind, content in sections.items() if kind != SECTION_TILES}
        if not codes.tile:
            return self.engine.pack(codes.stages, codes.quality), others
        payload, index = self._tiling(codes).pack(codes.stages, codes.quality)
        return payload, others | {SECTION_TILES: index.write()}

    def unpack_codes(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[container.Container, Codes]:
        """Open a file of this model and decode its indices, compared with the file's checksum.

        Raises FormatError for a file that is foreign, damaged or over the limit, ModelError for another model.
        """
        box = container.unpack(data, max_pixels=max_pixels)
        codes = self.unpack_payload(box)
        if not box.header.accepts(codes.crc32()):
            raise FormatError("the decoded codes differ from the file's checksum: the file is damaged; get it again")
        return box, codes

    def unpack_payload(self, box: container.Container) -> Codes:
        """The codes in an opened file or record, not compared with its checksum. Raises FormatError, ModelError."""
        header = box.header
        self._check_header(header)
        index = self._tile_index(box)
        if index is None:
            side = 0
            stages = self.engine.unpack(box.payload, header.coded_size, header.quality)
        else:
            side = index.side
            stages = Tiling(self.engine, *header.coded_size, side).unpack(box.payload, index, header.quality)
        size = header.width, header.height
        return Codes(stages, *size, self.model_id, header.quality, header.gray, header.halvings, side)

    def _check_header(self, header: container.Header) -> None:
        check_model(self.info, header.model_id)
        try:
            self.engine.check_quality(header.quality)
        except ModelError as error:
            raise FormatError(f"{error}: the file is damaged") from None

    def _tile_index(self, box: container.Container) -> TileIndex | None:
        content = box.sections.get(SECTION_TILES)
        if content is None:
            return None
        index = read_index(content, *box.header.coded_size)
        try:
            Tiling(self.engine, *box.header.coded_size, index.side)
        except ModelError as error:
            raise FormatError(f"{error}: the file is damaged") from None
        return index

    def _tiling(self, codes: Codes) -> Tiling:
        return Tiling(self.engine, *codes.coded_size, codes.tile)

    def decode_codes(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> Codes:
        """The code indices in a file, without torch. Raises as `unpack_codes`."""
        return self.unpack_codes(data, max_pixels=max_pixels)[1]

    def site_bits(self, codes: Codes) -> tuple[NDArray[Any], ...]:
        """Ideal code length of each code under its table, in bits: one float array [rows, columns] per stage."""
        return (self._tiling(codes) if codes.tile else self.engine).site_bits(codes.stages, codes.quality)

    def stage_bits(self, codes: Codes) -> tuple[float, ...]:
        """Ideal code length of each stage under its tables, in bits: the sums of `site_bits`."""
        return (self._tiling(codes) if codes.tile else self.engine).stage_bits(codes.stages, codes.quality)

    # Checks.

    def check_codes(self, codes: Codes) -> None:
        """Raise ModelError unless these codes are of this model, with its grids and codebook sizes."""
        if not isinstance(codes, Codes):
            raise ModelError(f"{one_line(codes)} are no codes: give what `encode` returns")
        if codes.model_id != self.model_id:
            raise ModelError(f"codes of model {codes.model_id[:8]}, but model {self.name} is {self.model_id[:8]}")
        self.engine.check_quality(codes.quality)
        width, height = codes.coded_size
        shapes = self.config.stage_shapes(width, height)
        if [stage.shape for stage in codes.stages] != shapes:
            raise ModelError(f"codes do not fit: {width}x{height} pixels take grids {shapes}")
        for number, (stage, end) in enumerate(zip(codes.stages, self.config.index_ends(), strict=True)):
            if stage.min() < 0 or stage.max() >= end:
                raise ModelError(f"codes do not fit: stage {number} has indices outside 0 to {end - 1}")
