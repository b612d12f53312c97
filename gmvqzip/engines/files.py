"""Codes <-> the bytes of a `.gmvq` file: container, tiles and checks around the payload. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gmvqzip.engines.coded import Coded, Make
from gmvqzip.engines.engine import Engine
from gmvqzip.engines.tiling import tile_grid
from gmvqzip.entropy.codes import NO_OFFSETS, Codes, codes_crc32
from gmvqzip.entropy.offsets import read_offsets
from gmvqzip.entropy.prior import Piece
from gmvqzip.errors import FormatError, ModelError
from gmvqzip.format import container
from gmvqzip.format.container import SECTION_TILES, Container
from gmvqzip.format.limits import MAX_CODES
from gmvqzip.format.opened import Opened
from gmvqzip.format.sections import SECTION_OFFSETS
from gmvqzip.format.tiles import TileIndex, read_index
from gmvqzip.models.registry import check_model


@dataclass(frozen=True)
class Compressed:
    """A finished file and its numbers. `data` is header, sections and payload, of the three sizes in bytes."""

    data: bytes
    codes: Codes
    header_bytes: int
    sections_bytes: int
    payload_bytes: int
    stage_bits: tuple[float, ...]  # the ideal code length of each stage under its table
    psnr: float | None = None  # dB, of the decoded picture; where a target was a PSNR

    @property
    def ideal_bits(self) -> float:
        """Ideal code length of all indices, in bits; the payload is at most 0.1 % and 16 bits above it."""
        return sum(self.stage_bits)

    @property
    def bpp(self) -> float:
        """Bits of the whole file per pixel."""
        return 8 * len(self.data) / (self.codes.width * self.codes.height)


def sealed(coded: Coded, sections: Mapping[int, bytes]) -> Compressed:
    """The file of codes and extra sections, with its numbers. Raises ModelError if the codes are not the model's."""
    data = file_of(coded, sections)
    _, header_bytes = container.read_header(data)
    payload_bytes = len(coded.payload())
    sections_bytes = len(data) - header_bytes - payload_bytes
    return Compressed(data, coded.codes, header_bytes, sections_bytes, payload_bytes, coded.bits())


def file_of(coded: Coded, sections: Mapping[int, bytes]) -> bytes:
    """The file of codes and extra sections. Raises ModelError if the codes are not the model's."""
    codes = coded.codes
    return container.pack(
        width=codes.width,
        height=codes.height,
        model_id=bytes.fromhex(codes.model_id),
        quality=codes.quality,
        gray=codes.gray,
        codes_crc32=codes.crc32(),
        payload=coded.payload(),
        sections=coded.sections(sections),
        halvings=codes.halvings,
    )


def checked(coded: Coded) -> Coded:
    """The same, compared with the checksum of the file that it comes from. Raises FormatError."""
    if coded.box is None or not coded.box.header.accepts(coded.codes.crc32()):
        raise FormatError("the decoded codes differ from the file's checksum: the file is damaged; get it again")
    return coded


def read_coded(engine: Engine, box: Container) -> Coded:
    """The codes in an opened file or record, not compared with its checksum. Raises FormatError, ModelError."""
    form, index = _form(engine, box)
    total = sum(rows * columns for rows, columns in engine.config.stage_shapes(*form.coded_size))
    if total > MAX_CODES:
        raise FormatError(f"{total} codes are more than the limit of {MAX_CODES}")
    if index is None:
        grid = engine.grid(*form.coded_size)
        return Coded.made(engine, form, lambda _: engine.prior.read(box.payload, *grid, form.quality), box)
    if sum(index.lengths) != len(box.payload):
        raise FormatError(f"the tiles take {sum(index.lengths)} bytes of {len(box.payload)}: the file is damaged")
    view = memoryview(box.payload)
    return Coded.made(engine, form, _reader(engine, form, index, lambda start, end: bytes(view[start:end])), box)


def read_opened(engine: Engine, file: Opened) -> Coded:
    """The codes in a file, checked; where it is not read whole and has tiles, only of those that will be asked for.

    Raises FormatError, ModelError.
    """
    if not file.whole:
        form, index = _form(engine, file.box)
        if index is not None and not form.halvings:
            return Coded(engine, form, _reader(engine, form, index, file.payload), file.box)
    return checked(read_coded(engine, file.read_whole()))


def _form(engine: Engine, box: Container) -> tuple[Codes, TileIndex | None]:
    """The codes of a file without their stages, and the index of its tiles, if it has any. Raises ModelError for
    another model's file, FormatError."""
    header = box.header
    check_model(engine.info, header.model_id)
    content = box.sections.get(SECTION_TILES)
    index = None if content is None else read_index(content, *header.coded_size)
    side = 0 if index is None else index.side
    try:
        engine.check_quality(header.quality)
        tile_grid(engine.config, *header.coded_size, side)
    except ModelError as error:
        raise FormatError(f"{error}: the file is damaged") from None
    offsets = NO_OFFSETS
    if SECTION_OFFSETS in box.sections:
        shape = engine.latent_shape(*header.coded_size)
        if not shape[0]:
            raise FormatError("the file has offsets, and its model no place for them: the file is damaged")
        offsets = read_offsets(box.sections[SECTION_OFFSETS], *shape)
    size, model_id = (header.width, header.height), engine.info.model_id
    return Codes((), *size, model_id, header.quality, header.gray, header.halvings, side, offsets), index


def _reader(engine: Engine, form: Codes, index: TileIndex, fetch: Callable[[int, int], bytes]) -> Make:
    """Reads the codes of a tile and compares them with their check. fetch: a part of the payload."""
    grid = tile_grid(engine.config, *form.coded_size, form.tile)

    def read(number: int) -> Piece:
        tile = grid.box(number)
        try:
            payload = fetch(*index.spans[number])
            piece = engine.prior.read(payload, *engine.grid(tile.width, tile.height), form.quality)
        except FormatError as error:
            raise FormatError(f"tile {number}: {error}") from None
        if not index.accepts(number, codes_crc32(piece.stages)):
            raise FormatError(f"tile {number}: its codes differ from their check: the file is damaged; get it again")
        return piece

    return read
