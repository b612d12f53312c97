"""A picture in codes: what analysing and unpacking give, and what packing and decoding take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.engines.engine import Engine
from gmvqzip.engines.rendering import checked_part, render, shrunk
from gmvqzip.engines.tiling import tile_grid
from gmvqzip.entropy.codes import Codes, codes_crc32
from gmvqzip.entropy.extras import read_extras
from gmvqzip.entropy.offsets import sorted_offsets, write_offsets
from gmvqzip.entropy.prior import Piece, Stages
from gmvqzip.format.container import SECTION_TILES, Container
from gmvqzip.format.sections import SECTION_OFFSETS
from gmvqzip.format.tiles import Box, TileGrid, make_index
from gmvqzip.images.pixels import Picture
from gmvqzip.images.scaling import resize

_KEPT_CODES = 1 << 23  # of pieces that are kept with their contexts: 22 megapixels at 96 groups
_WINDOW_PIXELS, _WINDOW_SIDE = 1 << 20, 768  # larger pictures are synthesised in windows of this side

Make = Callable[[int], Piece]  # a tile's number to its codes


class Coded:
    """The codes of a picture, with the contexts that they are coded under, as far as these are not too large to keep.

    engine: the model's; codes: without stages where only parts of a file are read; make: a tile's codes, by default
    those in `codes` under their contexts; box: the file that they come from, of which the picture has what is beside
    its codes. Raises ModelError where the model makes no such tiles.
    """

    def __init__(self, engine: Engine, codes: Codes, make: Make | None = None, box: Container | None = None) -> None:
        self.engine, self.codes, self.box = engine, codes, box
        self.grid: TileGrid = tile_grid(engine.config, *codes.coded_size, codes.tile)
        self._make = make or self._followed
        self._kept: dict[int, Piece] = {}
        self._by_tile: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None = None  # offsets, their order, the ends
        self._strides = [stage.stride for stage in engine.config.stages()]

    @classmethod
    def made(cls, engine: Engine, form: Codes, make: Make, box: Container | None = None) -> Coded:
        """All codes at once, tile by tile. form: the codes without their stages, and without offsets that `make`
        gives."""
        offsets = [form.offsets]

        def noting(number: int) -> Piece:
            piece = make(number)
            if len(piece.offsets):
                offsets.append(piece.offsets + coded._corner(number))
            return piece

        coded = cls(engine, form, noting, box)
        stages = coded._whole(np.int32, lambda piece: piece.stages)
        coded.codes = replace(form, stages=stages, offsets=sorted_offsets(np.concatenate(offsets)))
        if len(coded.codes.offsets) < sum(map(len, offsets)):
            coded._kept.clear()  # some have more offsets than the picture may
        coded._make = coded._followed
        return coded

    def piece(self, number: int) -> Piece:
        """The codes of a tile."""
        piece = self._kept.get(number)
        if piece is None:
            piece = self._make(number)
            if not len(piece.offsets):
                piece = piece.with_offsets(self._offsets(number))
            if piece.count + sum(kept.count for kept in self._kept.values()) <= _KEPT_CODES:
                self._kept[number] = piece
        return piece

    def packed(self) -> Coded:
        """The same with its payload, and without contexts."""
        _ = self._payloads
        self._kept.clear()
        return self

    def payload(self) -> bytes:
        """The codes of all tiles under their tables. Raises ModelError where they are no codes of the model."""
        return b"".join(self._payloads[0])

    def sections(self, others: Mapping[int, bytes]) -> dict[int, bytes]:
        """Sections by type, the index of these tiles and the offsets, if there are any."""
        found = {kind: content for kind, content in others.items() if kind not in (SECTION_TILES, SECTION_OFFSETS)}
        if self.codes.tile:
            found[SECTION_TILES] = make_index(self.codes.tile, *self._payloads).write()
        if len(self.codes.offsets):
            _, rows, columns = self.engine.latent_shape(*self.codes.coded_size)
            found[SECTION_OFFSETS] = write_offsets(self.codes.offsets, rows, columns)
        return found

    @cached_property
    def _payloads(self) -> tuple[list[bytes], list[int]]:
        """The payloads of all tiles, and the CRC-32 of their codes."""
        payloads, checks = [], []
        for piece in self._pieces():
            payloads.append(piece.payload())
            checks.append(codes_crc32(piece.stages))
        return payloads, checks

    def site_bits(self) -> tuple[NDArray[np.float32], ...]:
        """Ideal code length of each code under its table, in bits: one array [rows, columns] per stage."""
        return self._whole(np.float32, lambda piece: piece.site_bits())

    def bits(self) -> tuple[float, ...]:
        """Ideal code length of each stage, in bits: the sums of `site_bits`."""
        return tuple(map(sum, zip(*[piece.bits() for piece in self._pieces()], strict=True)))

    def pixels(self, *, region: tuple[int, int, int, int] | None = None, scale: float = 1) -> Picture:
        """The picture of the codes, or a part, as for `Codec.decompress`: the network's output times 255, rounded.

        A gray picture is the mean of the three channels, taken before rounding. One of a reduced size is enlarged as a
        whole, before the part is cut out. Raises ImageError for another part; FormatError for a damaged section.
        """
        codes = self.codes
        part, shrink = checked_part(region, scale, codes.width, codes.height)
        extras = None if self.box is None else read_extras(self.box)  # first: a damaged section is found at once
        if not codes.halvings:
            pixels = render(self._synthesised(part), part, gray=codes.gray, shrink=shrink)
        else:
            coded = Box(0, 0, *codes.coded_size)
            pixels = render(self._synthesised(coded), coded, gray=codes.gray)
            pixels = shrunk(resize(pixels, codes.width, codes.height)[part.cells()], shrink)
        picture = Picture(pixels, gray=codes.gray)
        if extras is None:
            return picture
        alpha = None if extras.alpha is None else shrunk(extras.alpha[part.cells()], shrink)
        return replace(picture, **extras._asdict() | {"alpha": alpha})

    def _synthesised(self, region: Box) -> Iterator[tuple[Box, NDArray[np.float32]]]:
        """The pixels [3, h, w] of a region, window by window, each with its place.

        A latent is cut into windows with a margin as wide as the network looks; one that cannot be is taken whole.
        """
        config, quality = self.engine.config, self.codes.quality
        if config.synthesis_reach is None:
            yield region, self.engine.network.synthesise(self.piece(0).latent, quality)[(..., *region.cells())]
            return
        stride = config.strides[-1]
        latents: dict[int, Any] = {}
        for window in windows(region):
            seen = window.grown(config.synthesis_reach * stride, self.grid.whole).aligned(stride)
            latent = self._latent(seen, latents)
            yield window, self.engine.network.synthesise(latent, quality)[(..., *window.seen_from(seen).cells())]

    def _latent(self, wanted: Box, latents: dict[int, Any]) -> NDArray[np.int32]:
        """The decoded latent [h, w, M] of some pixels. latents: of tiles that windows above had."""
        stride = self.engine.config.strides[-1]
        for number in [number for number in latents if self.grid.box(number).bottom <= wanted.top]:
            del latents[number]
        out: NDArray[np.int32] | None = None
        for number in self.grid.touched(wanted):
            if number not in latents:
                latents[number] = self.piece(number).latent
            tile, latent = self.grid.box(number), latents[number]
            both = tile.common(wanted)
            if out is None:
                out = np.empty((wanted.height // stride, wanted.width // stride, latent.shape[2]), dtype=np.int32)
            out[both.seen_from(wanted).cells(stride)] = latent[both.seen_from(tile).cells(stride)]
        assert out is not None
        return out

    def _corner(self, number: int) -> NDArray[np.int32]:
        """What offsets of the picture have more than a tile's."""
        rows, columns = self.grid.box(number).cells(self.engine.config.strides[-1])
        return np.array([0, rows.start, columns.start, 0], dtype=np.int32)

    def _offsets(self, number: int) -> NDArray[np.int32]:
        """The offsets of a tile."""
        offsets = self.codes.offsets
        if not len(offsets) or len(self.grid) == 1:
            return offsets
        if self._by_tile is None or self._by_tile[0] is not offsets:
            side = self.grid.side // self.engine.config.strides[-1]
            tiles = offsets[:, 1] // side * self.grid.columns + offsets[:, 2] // side
            order = tiles.argsort(kind="stable")
            ends = np.searchsorted(tiles[order], np.arange(len(self.grid) + 1))
            self._by_tile = offsets, order, ends
        _, order, ends = self._by_tile
        own: NDArray[np.int32] = offsets[order[ends[number] : ends[number + 1]]]
        return own - self._corner(number) if len(own) else own

    def _pieces(self) -> Iterator[Piece]:
        return map(self.piece, range(len(self.grid)))

    def _followed(self, number: int) -> Piece:
        windows = self._windows(self.codes.stages, self.grid.box(number))
        return self.engine.prior.follow([window[None] for window in windows], self.codes.quality)[0]

    def _whole(self, dtype: type[Any], part: Callable[[Piece], Stages]) -> tuple[NDArray[Any], ...]:
        """Arrays [rows, columns] of the whole picture from those of its tiles, read-only."""
        if len(self.grid) == 1:
            return tuple(part(self.piece(0)))
        shapes = self.engine.config.stage_shapes(self.grid.width, self.grid.height)
        arrays = [np.empty(shape, dtype=dtype) for shape in shapes]
        for number, piece in enumerate(self._pieces()):
            for window, own in zip(self._windows(arrays, self.grid.box(number)), part(piece), strict=True):
                window[:] = own
        for array in arrays:
            array.flags.writeable = False
        return tuple(arrays)

    def _windows(self, arrays: Stages, tile: Box) -> list[NDArray[Any]]:
        """What is a tile's in arrays of the whole picture, one a stage."""
        return [array[tile.cells(stride)] for array, stride in zip(arrays, self._strides, strict=True)]


def windows(region: Box) -> Iterator[Box]:
    """Boxes that cover a region in raster order: itself, or squares of _WINDOW_SIDE where it is large."""
    if region.width * region.height <= _WINDOW_PIXELS:
        yield region
        return
    for top in range(region.top, region.bottom, _WINDOW_SIDE):
        for left in range(region.left, region.right, _WINDOW_SIDE):
            yield Box(left, top, min(left + _WINDOW_SIDE, region.right), min(top + _WINDOW_SIDE, region.bottom))
