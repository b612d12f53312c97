"""Image <-> codes <-> bytes: the one room that joins network, tables, range coder, container and pictures.

The way down, `Codec.compress`: a picture is padded to the model's alignment, the network turns it into one array of
code indices per stage, the range coder turns these into a payload, and the container seals it. The way up reverses
each step and compares a checksum of the indices before any pixel is made. Only the two ends need torch: a file is
tested, or its codes are read, with numpy alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from numpy.typing import NDArray

from gmvqzip import rates
from gmvqzip.bench.metrics import psnr
from gmvqzip.compressed import Compressed
from gmvqzip.engines.base import Search, make_engine
from gmvqzip.engines.batching import analyse_all
from gmvqzip.entropy.codes import Codes
from gmvqzip.entropy.extras import make_sections, read_extras
from gmvqzip.errors import FormatError, ModelError
from gmvqzip.format import container
from gmvqzip.format.limits import MAX_PIXELS
from gmvqzip.format.size import coded_size, most_halvings
from gmvqzip.format.source import Source, read_source
from gmvqzip.images.picture import Picture, read_picture, to_pil
from gmvqzip.images.scaling import resize
from gmvqzip.inspection import check_model
from gmvqzip.models import registry
from gmvqzip.models.hyperconfig import HyperpriorConfig
from gmvqzip.rates import DEFAULT_EFFORT, RateOptions, Setting, Wish

if TYPE_CHECKING:
    from PIL import Image


class Codec:
    """One model, ready to compress and decompress. Tables and network are loaded when first needed.

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

    # The public four, and the two that a command line needs besides.

    def compress(
        self,
        image: Any,
        *,
        quality: int | None = None,
        target_bpp: float | None = None,
        target_size: int | None = None,
        target_psnr: float | None = None,
        effort: int = DEFAULT_EFFORT,
        strip: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> bytes:
        """Compress a picture into the bytes of a `.gmvq` file.

        image: a path, a binary file object, encoded bytes, a PIL image, or a uint8 array [H, W], [H, W, 3] or
        [H, W, 4]; strip: convert to sRGB and drop the ICC profile.

        Of these at most one: quality, 1 to 100, without effect where the model has a single rate; target_bpp, bits of
        the whole file per pixel, and target_size, bytes of the whole file: never exceeded, and missed by at most 3 %
        where the model has such a file (below its smallest one the picture is coded at a reduced size); target_psnr:
        dB over RGB of the decoded 8-bit picture, never missed, and exceeded by at most 0.1 dB where the model has such
        a file. effort: 1 to 9, slower and better.

        Raises ImageError; ModelError, also where no file of the model reaches the target.
        """
        picture = read_picture(image, strip=strip, max_pixels=max_pixels)
        return self.compress_picture(
            picture,
            quality=quality,
            target_bpp=target_bpp,
            target_size=target_size,
            target_psnr=target_psnr,
            effort=effort,
        ).data

    def compress_batch(
        self,
        images: Sequence[Any],
        *,
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
        pictures = [read_picture(image, strip=strip, max_pixels=max_pixels) for image in images]
        return [done.data for done in self.compress_pictures(pictures, **rate)]

    def decompress(self, source: Source, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Decompress a `.gmvq` file made with this model: its bytes, a path or a binary file object.

        Raises FormatError, ModelError; OSError where a path is unreadable.
        """
        return to_pil(self.decompress_picture(read_source(source), max_pixels=max_pixels))

    def encode(
        self,
        image: Any,
        *,
        quality: int | None = None,
        effort: int = DEFAULT_EFFORT,
        strip: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> Codes:
        """The code indices of a picture, given as for `compress`: one int32 array [rows, columns] per stage."""
        picture = read_picture(image, strip=strip, max_pixels=max_pixels)
        return self.encode_picture(picture, quality=quality, effort=effort)

    def encode_batch(
        self,
        images: Sequence[Any],
        *,
        quality: int | None = None,
        effort: int = DEFAULT_EFFORT,
        strip: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> list[Codes]:
        """The code indices of several pictures, as `encode` gives them, in batches as `compress_batch` makes them."""
        pictures = [read_picture(image, strip=strip, max_pixels=max_pixels) for image in images]
        return self.encode_pictures(pictures, quality=quality, effort=effort)

    def decode(self, codes: Codes) -> Image.Image:
        """The picture of these codes, RGB or gray. Raises ModelError if they are of another model or do not fit."""
        return to_pil(self.decode_picture(codes))

    def compress_picture(self, picture: Picture, **rate: Unpack[RateOptions]) -> Compressed:
        """Compress pixels, transparency and colour profile; returns the file with its numbers.

        rate: quality, target_bpp, target_size, target_psnr and effort, as for `compress`. Raises ModelError.
        """
        wish = Wish(**rate)
        goal = wish.goal(picture.width, picture.height)
        sections = make_sections(picture.alpha, picture.icc)
        if goal is None:
            return self.compress_pictures([picture], **rate)[0]

        by_psnr = wish.target_psnr is not None

        def attempt(setting: Setting, halvings: int = 0) -> tuple[float, Codes]:
            ((_, codes),) = self._analyse([picture], setting, halvings)
            if by_psnr:
                return psnr(picture.pixels, self.decode_picture(codes).pixels), codes
            return len(self._seal(codes, sections)[0]), codes

        if self.qualities:
            most = 0 if by_psnr else most_halvings(picture.width, picture.height, self.config.alignment)
            found = rates.reach_reduced(attempt, goal, wish.rounds, most)
        else:
            found = rates.single(attempt, goal, Setting(self.engine.resolve_quality(None)))
        done = self.pack_codes(found.product, sections)
        return replace(done, psnr=found.measured) if by_psnr else done

    def compress_pictures(self, pictures: Sequence[Picture], **rate: Unpack[RateOptions]) -> list[Compressed]:
        """Compress pictures as `compress_picture` does, those of one padded size together where no target is given."""
        wish = Wish(**rate)
        if any(wish.goal(picture.width, picture.height) is not None for picture in pictures):
            return [self.compress_picture(picture, **rate) for picture in pictures]
        done: dict[int, Compressed] = {}
        for number, codes in self._analyse(pictures, self._setting(wish.quality, wish.effort)):
            picture = pictures[number]
            done[number] = self.pack_codes(codes, make_sections(picture.alpha, picture.icc))
        return [done[number] for number in range(len(pictures))]

    def decompress_picture(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> Picture:
        """The picture in a file, with its transparency and colour profile."""
        box, codes = self.unpack_codes(data, max_pixels=max_pixels)
        return self.restore(box, codes)

    def restore(self, box: container.Container, codes: Codes) -> Picture:
        """The picture of an opened file and its codes."""
        plane, profile = read_extras(box)  # before the pixels: a damaged section is found at once
        return replace(self.decode_picture(codes), alpha=plane, icc=profile)

    # Picture <-> codes: the network.

    def encode_picture(self, picture: Picture, *, quality: int | None = None, effort: int = DEFAULT_EFFORT) -> Codes:
        """The code indices of a picture [H, W, 3]; quality and effort as for `compress`. Raises ModelError."""
        return self.encode_pictures([picture], quality=quality, effort=effort)[0]

    def encode_pictures(
        self, pictures: Sequence[Picture], *, quality: int | None = None, effort: int = DEFAULT_EFFORT
    ) -> list[Codes]:
        """The code indices of pictures, as for `encode_batch`. Raises ModelError."""
        found = dict(self._analyse(pictures, self._setting(quality, effort)))
        return [found[number] for number in range(len(pictures))]

    def _setting(self, quality: int | None, effort: int) -> Setting:
        return Setting(self.engine.resolve_quality(quality), rounds=rates.rounds_of(effort))

    def _analyse(self, pictures: Sequence[Picture], setting: Setting, halvings: int = 0) -> Iterator[tuple[int, Codes]]:
        """Number and code indices of each picture at its coded size, batch by batch."""
        pixels = [p.pixels for p in pictures]
        if halvings:
            pixels = [resize(p.pixels, *coded_size(p.width, p.height, halvings)) for p in pictures]
        search = Search(setting.trade, setting.rounds)
        for number, stages in analyse_all(self.engine, pixels, setting.quality, search):
            p = pictures[number]
            yield number, Codes(stages, p.width, p.height, self.model_id, setting.quality, p.gray, halvings)

    def decode_picture(self, codes: Codes) -> Picture:
        """The pixels of these codes: the network's output times 255, rounded and clipped, then enlarged if need be.

        A gray picture is the mean of the three channels, taken before rounding.
        """
        import torch

        self.check_codes(codes)
        width, height = codes.coded_size
        with torch.inference_mode():
            image = self.engine.synthesise(codes.stages, codes.quality)[:, :height, :width]
            if codes.gray:
                image = image.mean(dim=0, keepdim=True).expand(3, -1, -1)
            levels = image.mul(255).round_().clamp_(0, 255).to(torch.uint8)
            pixels = levels.permute(1, 2, 0).contiguous().cpu().numpy()
        if codes.halvings:
            pixels = resize(pixels, codes.width, codes.height)
        return Picture(pixels, gray=codes.gray)

    # Codes <-> bytes: tables, range coder, container. No torch from here on.

    def pack_codes(self, codes: Codes, sections: Mapping[int, bytes] | None = None) -> Compressed:
        """Seal codes of this model, and extra sections, into a file. Raises ModelError if they do not fit."""
        self.check_codes(codes)
        data, payload_bytes = self._seal(codes, sections or {})
        _, header_bytes = container.read_header(data)
        sections_bytes = len(data) - header_bytes - payload_bytes
        return Compressed(data, codes, header_bytes, sections_bytes, payload_bytes, self.stage_bits(codes))

    def _seal(self, codes: Codes, sections: Mapping[int, bytes]) -> tuple[bytes, int]:
        """The file of these codes, and the bytes of its payload."""
        payload = self.engine.pack(codes.stages, codes.quality)
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

    def unpack_codes(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[container.Container, Codes]:
        """Open a file of this model and decode its indices, compared with the file's checksum.

        Raises FormatError for a file that is foreign, damaged or over the limit, ModelError for another model.
        """
        box = container.unpack(data, max_pixels=max_pixels)
        header = box.header
        check_model(self.info, header.model_id)
        try:
            self.engine.check_quality(header.quality)
        except ModelError as error:
            raise FormatError(f"{error}: the file is damaged") from None
        stages = self.engine.unpack(box.payload, header.coded_size, header.quality)
        codes = Codes(stages, header.width, header.height, self.model_id, header.quality, header.gray, header.halvings)
        if not header.accepts(codes.crc32()):
            raise FormatError("the decoded codes differ from the file's checksum: the file is damaged; get it again")
        return box, codes

    def decode_codes(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> Codes:
        """The code indices in a file, without torch. Raises as `unpack_codes`."""
        return self.unpack_codes(data, max_pixels=max_pixels)[1]

    def site_bits(self, codes: Codes) -> tuple[NDArray[Any], ...]:
        """Ideal code length of each code under its table, in bits: one float array [rows, columns] per stage."""
        return self.engine.site_bits(codes.stages, codes.quality)

    def stage_bits(self, codes: Codes) -> tuple[float, ...]:
        """Ideal code length of each stage under its tables, in bits: the sums of `site_bits`."""
        return self.engine.stage_bits(codes.stages, codes.quality)

    # Checks.

    def check_codes(self, codes: Codes) -> None:
        """Raise ModelError unless these codes are of this model, with its grids and codebook sizes."""
        if codes.model_id != self.model_id:
            raise ModelError(f"codes of model {codes.model_id[:8]}, but model {self.name} is {self.model_id[:8]}")
        self.engine.check_quality(codes.quality)
        width, height = codes.coded_size
        shapes = self.config.stage_shapes(width, height)
        if [stage.shape for stage in codes.stages] != shapes:
            raise ModelError(f"codes do not fit: {width}x{height} pixels take grids {shapes}")
        for number, (stage, grid) in enumerate(zip(codes.stages, self.config.stages(), strict=True)):
            if stage.min() < 0 or stage.max() >= grid.codes:
                raise ModelError(f"codes do not fit: stage {number} has indices outside 0 to {grid.codes - 1}")


_loaded: dict[tuple[Path, str, str], Codec] = {}
_loaded_lock = threading.Lock()


def load(model: str | os.PathLike[str] = registry.DEFAULT_MODEL, *, device: str = "auto") -> Codec:
    """The codec of a model by name or path; loaded once. Raises ModelError."""
    return load_info(registry.find(model), device=device)


def load_info(info: registry.ModelInfo, *, device: str = "auto") -> Codec:
    """The codec of a known model; the same one for the same file, identity and device."""
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
    check_model(codec.info, model_id)
    return codec


def compress(
    image: Any,
    *,
    model: str | os.PathLike[str] = registry.DEFAULT_MODEL,
    strip: bool = False,
    device: str = "auto",
    **rate: Unpack[RateOptions],
) -> bytes:
    """Compress a picture with the default model or another one; image, strip and rate as for `Codec.compress`."""
    return load(model, device=device).compress(image, strip=strip, **rate)


def decompress(
    source: Source,
    *,
    model: str | os.PathLike[str] | None = None,
    device: str = "auto",
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Decompress a `.gmvq` file, given as for `Codec.decompress`; the file names its model."""
    data = read_source(source)
    header, _ = container.read_header(data)
    return load_for(header.model_id, model=model, device=device).decompress(data, max_pixels=max_pixels)


def encode(
    image: Any,
    *,
    model: str | os.PathLike[str] = registry.DEFAULT_MODEL,
    quality: int | None = None,
    effort: int = DEFAULT_EFFORT,
    device: str = "auto",
) -> Codes:
    """The code indices of a picture under the default model or another one."""
    return load(model, device=device).encode(image, quality=quality, effort=effort)


def decode(codes: Codes, *, model: str | os.PathLike[str] | None = None, device: str = "auto") -> Image.Image:
    """The picture of these codes; they name their model."""
    return load_for(bytes.fromhex(codes.model_id), model=model, device=device).decode(codes)
