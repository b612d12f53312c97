"""Image <-> codes <-> bytes: the one room that joins network, tables, range coder, container and pictures.

The way down, `Codec.compress`: a picture is padded to the model's alignment, the network turns it into one array of
code indices per stage, the range coder turns these into a payload, and the container seals it. The way up reverses
each step and compares a checksum of the indices before any pixel is made. On a processor only an encoder needs torch,
where it searches for codes or its model is staged: all else is done with numpy alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gmvqzip import rates
from gmvqzip.bench.metrics import psnr
from gmvqzip.engines.base import check_device_name
from gmvqzip.engines.batching import analyse_all
from gmvqzip.engines.coded import Coded
from gmvqzip.engines.engine import Engine
from gmvqzip.engines.files import Compressed, checked, file_of, read_coded, read_opened, sealed
from gmvqzip.engines.tiling import analyse_tile, tile_grid, tile_side
from gmvqzip.entropy.codes import Codes
from gmvqzip.entropy.extras import make_sections
from gmvqzip.errors import ModelError, one_line
from gmvqzip.forks import fork_lock
from gmvqzip.format import container
from gmvqzip.format.limits import MAX_PIXELS
from gmvqzip.format.opened import Opened, opened
from gmvqzip.format.sections import SECTION_METADATA
from gmvqzip.format.size import coded_size, most_halvings
from gmvqzip.format.source import Source, read_source
from gmvqzip.images.pixels import Picture, PictureSource, to_pil
from gmvqzip.images.scaling import resize
from gmvqzip.models import registry
from gmvqzip.rates import RateOptions, Wish
from gmvqzip.setting import DEFAULT_EFFORT, Setting, rounds_of
from gmvqzip.threads import sleep_while_waiting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


sleep_while_waiting()

Region = tuple[int, int, int, int]  # x, y, width and height in pixels


class Codec:
    """One model, ready to compress and decompress. Prior and network are loaded when first needed.

    info: the model; device: auto, cpu or cuda (a file decodes to the same codes on each). An instance may be shared
    by threads, pickled and copied: a copy in another process loads the model's file again. Raises ModelError for an
    unknown device or an unreadable configuration.
    """

    def __init__(self, info: registry.ModelInfo, device: str = "auto") -> None:
        if not isinstance(info, registry.ModelInfo):
            raise ModelError(f"{one_line(info)} is not what `registry.find` returns: give a name or path to `load`")
        self.info, self.device = info, device
        self.engine = Engine(info, device)
        self.config = self.engine.config

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(load_for, bytes.fromhex(self.model_id), model=self.info.path.absolute(), device=self.device), ()

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
        return self.config.qualities

    # The public four, and the two that a command line needs besides.

    def compress(
        self,
        image: PictureSource,
        *,
        quality: int | None = None,
        target_bpp: float | None = None,
        target_size: int | None = None,
        target_psnr: float | None = None,
        effort: int = DEFAULT_EFFORT,
        tile: int | None = None,
        strip: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> bytes:
        """Compress a picture into the bytes of a `.gmvq` file.

        image: a path, a binary file object, encoded bytes, a PIL image, or a uint8 array [H, W], [H, W, 3] or
        [H, W, 4]; strip: convert to sRGB, drop the ICC profile and all metadata, which are kept otherwise.

        Of these at most one: quality, 1 to 100, without effect where the model has a single rate; target_bpp, bits of
        the whole file per pixel, and target_size, bytes of the whole file: never exceeded, and missed by at most 3 %
        where the model has such a file (below its smallest one the picture is coded at a reduced size); target_psnr:
        dB over RGB of the decoded 8-bit picture, never missed, and exceeded by at most 0.1 dB where the model has such
        a file. effort: 1 to 9, slower and better.

        tile: side in pixels of the tiles of a file of which parts can be read, a power of two, and 0 for a picture in
        one piece; by default large pictures have tiles where the model can.

        Raises ImageError; ModelError, also where no file of the model reaches the target.
        """
        from gmvqzip.images.preparing import read_prepared

        picture = read_prepared(image, strip=strip, max_pixels=max_pixels)
        return self.compress_picture(
            picture,
            quality=quality,
            target_bpp=target_bpp,
            target_size=target_size,
            target_psnr=target_psnr,
            effort=effort,
            tile=tile,
        ).data

    def compress_batch(
        self,
        images: Iterable[PictureSource],
        *,
        tile: int | None = None,
        strip: bool = False,
        max_pixels: int = MAX_PIXELS,
        **rate: Unpack[RateOptions],
    ) -> list[bytes]:
        """Compress several pictures, given as for `compress`, together: those of one padded size go through the network
        in batches, which keeps a GPU busy and spares a processor the overhead of small pictures.

        The last bits of a sum may depend on a batch's size, mostly of refinement in bfloat16: now and then a picture
        gets other codes than from `compress`, as good as those. Every file decodes exactly. Raises as `compress`, for
        the first bad picture.
        """
        from gmvqzip.images.preparing import read_all_prepared

        pictures = read_all_prepared(images, strip=strip, max_pixels=max_pixels)
        return [done.data for done in self.compress_pictures(pictures, tile=tile, **rate)]

    def decompress(
        self, source: Source, *, region: Region | None = None, scale: float = 1, max_pixels: int = MAX_PIXELS
    ) -> Image.Image:
        """Decompress a `.gmvq` file made with this model: its bytes, a path or a binary file object.

        region: (x, y, width, height) in pixels, all that is wanted; of a tiled file only the tiles around it are read,
        and checked. scale: 1, 1/2, 1/4 or 1/8; pixels of the result are means of squares of the region's.

        Raises FormatError, ModelError; ImageError for a region that is not inside the picture, or another scale;
        OSError where a path is unreadable.
        """
        return to_pil(self.decompress_picture(source, region=region, scale=scale, max_pixels=max_pixels))

    def encode(
        self,
        image: PictureSource,
        *,
        quality: int | None = None,
        effort: int = DEFAULT_EFFORT,
        tile: int | None = None,
        strip: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> Codes:
        """The code indices of a picture, given as for `compress`: one int32 array [rows, columns] per stage."""
        from gmvqzip.images.preparing import read_prepared

        picture = read_prepared(image, strip=strip, max_pixels=max_pixels)
        return self.encode_pictures([picture], quality=quality, effort=effort, tile=tile)[0]

    def encode_batch(
        self,
        images: Iterable[PictureSource],
        *,
        quality: int | None = None,
        effort: int = DEFAULT_EFFORT,
        tile: int | None = None,
        strip: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> list[Codes]:
        """The code indices of several pictures, as `encode` gives them, in batches as `compress_batch` makes them."""
        from gmvqzip.images.preparing import read_all_prepared

        pictures = read_all_prepared(images, strip=strip, max_pixels=max_pixels)
        return self.encode_pictures(pictures, quality=quality, effort=effort, tile=tile)

    def decode(self, codes: Codes) -> Image.Image:
        """The picture of these codes, RGB or gray. Raises ModelError if they are of another model or do not fit."""
        return to_pil(self.follow(codes).pixels())

    # Pictures and files.

    def compress_picture(self, picture: Picture, *, tile: int | None = None, **rate: Unpack[RateOptions]) -> Compressed:
        """Compress pixels, transparency and colour profile; returns the file with its numbers.

        tile; rate: quality, target_bpp, target_size, target_psnr and effort, as for `compress`. Raises ModelError.
        """
        return self.compress_pictures([picture], tile=tile, **rate)[0]

    def compress_pictures(
        self, pictures: Sequence[Picture], *, tile: int | None = None, **rate: Unpack[RateOptions]
    ) -> list[Compressed]:
        """Compress pictures as `compress_picture` does, those of one padded size together where no target is given."""
        wish = Wish(**rate)
        if wish.has_target:
            return [self._reach(picture, wish, tile) for picture in pictures]
        done: dict[int, Compressed] = {}
        for number, coded in self.analyse(pictures, quality=wish.quality, effort=wish.effort, tile=tile):
            done[number] = sealed(coded, sections_of(pictures[number]))
        return [done[number] for number in range(len(pictures))]

    def _reach(self, picture: Picture, wish: Wish, tile: int | None) -> Compressed:
        """The file of a picture that comes near to a target."""
        try:
            return self._reach_as_it_is(picture, wish, tile)
        except rates.OutOfReach:
            if picture.original is None or wish.target_psnr is None:
                raise
        coloured = replace(picture, pixels=picture.original, gray=False, as_rgb=False, original=None)
        return self._reach_as_it_is(coloured, wish, tile)

    def _reach_as_it_is(self, picture: Picture, wish: Wish, tile: int | None) -> Compressed:
        target = wish.target(picture.width, picture.height)
        sections = sections_of(picture)
        by_psnr = wish.target_psnr is not None

        def attempt(halvings: int, setting: Setting) -> tuple[float, Coded]:
            ((_, coded),) = self._analyse([picture], setting, tile, halvings)
            if by_psnr:
                return psnr(picture.given, coded.pixels().pixels), coded
            return len(file_of(coded, sections)), coded

        try:
            if self.qualities:
                most = 0 if by_psnr else most_halvings(picture.width, picture.height, self.config.alignment)
                found = rates.reach_reduced(attempt, target, wish.rounds, most)
            else:
                quality = self.engine.quality_field(None)
                found = rates.single(partial(attempt, 0), target, quality, wish.rounds)
        except rates.OutOfReach as error:
            if by_psnr or SECTION_METADATA not in sections:
                raise
            hint = f"its metadata take {len(sections[SECTION_METADATA])} bytes, and --strip drops them"
            raise rates.OutOfReach(f"{error}; {hint}") from None
        done = sealed(found.product, sections)
        return replace(done, psnr=found.measured) if by_psnr else done

    def decompress_picture(
        self, source: Source, *, region: Region | None = None, scale: float = 1, max_pixels: int = MAX_PIXELS
    ) -> Picture:
        """The picture in a file, or a part of it, as for `decompress`, with its transparency and colour profile."""
        with opened(source, part=region is not None, max_pixels=max_pixels) as file:
            return self.restore(file, region=region, scale=scale)

    def restore(self, file: Opened, *, region: Region | None = None, scale: float = 1) -> Picture:
        """The picture in an opened file, or a part of it, as for `decompress`."""
        return read_opened(self.engine, file).pixels(region=region, scale=scale)

    # Pictures to codes.

    def analyse(
        self,
        pictures: Sequence[Picture],
        *,
        quality: int | None = None,
        effort: int = DEFAULT_EFFORT,
        tile: int | None = None,
    ) -> Iterator[tuple[int, Coded]]:
        """Number and codes of each picture, batch by batch. Whoever keeps more than a few keeps them `packed`, or their
        `codes` alone. Raises ModelError."""
        setting = Setting(self.engine.quality_field(quality), rounds=rounds_of(effort))
        return self._analyse(pictures, setting, tile)

    def encode_pictures(self, pictures: Sequence[Picture], **options: Any) -> list[Codes]:
        """The code indices of pictures; options as for `analyse`. Raises ModelError."""
        found = {number: coded.codes for number, coded in self.analyse(pictures, **options)}
        return [found[number] for number in range(len(pictures))]

    def _analyse(
        self, pictures: Sequence[Picture], setting: Setting, tile: int | None, halvings: int = 0
    ) -> Iterator[tuple[int, Coded]]:
        """The same at a coded size; pictures in tiles come last."""
        pixels = [p.pixels for p in pictures]
        if halvings:
            pixels = [resize(p.pixels, *coded_size(p.width, p.height, halvings)) for p in pictures]
        sides = [tile_side(self.config, array.shape[1], len(array), tile) for array in pixels]
        whole = [number for number, side in enumerate(sides) if not side]

        def form(number: int) -> Codes:
            p = pictures[number]
            return Codes((), p.width, p.height, self.model_id, setting.quality, p.gray, halvings, sides[number])

        for place, piece in analyse_all(self.engine, [pixels[n] for n in whole], setting):
            yield whole[place], Coded.made(self.engine, form(whole[place]), {0: piece}.__getitem__)
        for number, side in enumerate(sides):
            if side:
                grid = tile_grid(self.config, pixels[number].shape[1], len(pixels[number]), side)
                make = partial(analyse_tile, self.engine, pixels[number], setting, grid)
                yield number, Coded.made(self.engine, form(number), make)

    # Codes and files: no torch.

    def follow(self, codes: Codes) -> Coded:
        """Known codes under their contexts. Raises ModelError if they are of another model or do not fit."""
        self.engine.check_codes(codes)
        return Coded(self.engine, codes)

    def site_bits(self, codes: Codes) -> tuple[NDArray[np.float32], ...]:
        """Ideal code length of each code under its table, in bits: one array [rows, columns] per stage."""
        return self.follow(codes).site_bits()

    def pack_codes(self, codes: Codes, sections: Mapping[int, bytes] | None = None) -> Compressed:
        """Seal codes of this model, and extra sections, into a file. Raises ModelError if they do not fit."""
        return sealed(self.follow(codes), sections or {})

    def decode_codes(self, source: Source, *, max_pixels: int = MAX_PIXELS) -> Codes:
        """The code indices in a file, given as for `decompress`, without torch. Raises FormatError for a file that is
        foreign, damaged or over the limit, ModelError for another model; OSError where a path is unreadable."""
        return self.open(container.unpack(read_source(source), max_pixels=max_pixels)).codes

    def open(self, box: container.Container) -> Coded:
        """The codes in an opened file of this model, compared with its checksum. Raises FormatError, ModelError."""
        return checked(read_coded(self.engine, box))


def sections_of(picture: Picture) -> dict[int, bytes]:
    """The sections that a picture's file has beside those of its codes."""
    return make_sections(picture.alpha, picture.icc, picture.metadata, picture.as_rgb)


_loaded: dict[tuple[Path, str, str], Codec] = {}
_loaded_lock = fork_lock()


def load(model: str | os.PathLike[str] = registry.DEFAULT_MODEL, *, device: str = "auto") -> Codec:
    """The codec of a model by name or path; loaded once. Raises ModelError."""
    return load_info(registry.find(model), device=device)


def load_info(info: registry.ModelInfo, *, device: str = "auto") -> Codec:
    """The codec of a known model; the same one for the same file, identity and device."""
    check_device_name(device)
    key = (Path(info.path).absolute(), info.model_id, device)
    with _loaded_lock:
        if key not in _loaded:
            _loaded[key] = Codec(info, device)
        return _loaded[key]


def load_for(model_id: bytes, *, model: str | os.PathLike[str] | None = None, device: str = "auto") -> Codec:
    """The codec for a file that stores this identity (2, 4 or 32 bytes): the named model, or the installed one."""
    if model is None:
        return load_info(registry.find_by_id(model_id), device=device)
    codec = load(model, device=device)
    registry.check_model(codec.info, model_id)
    return codec
