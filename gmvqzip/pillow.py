"""Pillow opens and saves `.gmvq` files once this module is imported.

>>> import gmvqzip.pillow
>>> from PIL import Image
>>> image = Image.open("picture.gmvq")
>>> image.save("smaller.gmvq", quality=30)

`Image.open` reads the header, from which size and mode follow, and with it the colour profile and the metadata, where
Pillow's own formats have them: `info["icc_profile"]`, `getexif()`, `info["exif"]`, `info["xmp"]`, `info["dpi"]`,
`info["comment"]`, `info["photoshop"]`, `text`. Codes and pixels are decoded when they are first needed, by the
installed model that the file names. `Image.open` raises PIL.UnidentifiedImageError, and everything later OSError, with
the line that `gmvqzip.decompress` raises. Pillow's own limit of pixels, `Image.MAX_IMAGE_PIXELS`, applies.

`save` takes quality, target_bpp, target_size, target_psnr, effort, strip and max_pixels as `gmvqzip.Codec.compress`,
model and device as `gmvqzip.load`, and icc_profile, exif, xmp, dpi, comment and text (a dict of strings), each of which
replaces the picture's own; None drops it. EXIF's orientation is applied to the pixels, and becomes 1. As with Pillow's
own formats, other options are ignored. ValueError: an option is out of range, or not of its kind; OSError: the picture
cannot be compressed, or no file of the model reaches the target.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from PIL import Image, ImageFile, UnidentifiedImageError

from gmvqzip.errors import FormatError, GmvqError, one_line
from gmvqzip.format import container
from gmvqzip.format.limits import MAX_HEADER_BYTES, MAX_SIDE
from gmvqzip.format.metadata import read_metadata
from gmvqzip.format.sections import SECTION_METADATA, SECTION_RGB, decompress_profile, is_for_rgb

__all__ = ["EXTENSION", "FORMAT", "MIME", "GmvqImageFile"]

FORMAT, EXTENSION, MIME = "GMVQ", ".gmvq", "image/x-gmvq"
_MODES = {(False, False): "RGB", (False, True): "RGBA", (True, False): "L", (True, True): "LA"}
_EVERY_PIXEL = MAX_SIDE * MAX_SIDE  # Pillow has compared the size with its own limit
_RATES = ("quality", "target_bpp", "target_size", "target_psnr", "effort")
_OTHERS = ("strip", "max_pixels")
_REPLACED = ("icc_profile", "exif", "xmp", "dpi", "comment")
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "icc_profile": ((bytes,), "bytes"),
    "exif": ((bytes, Image.Exif), "bytes or a PIL.Image.Exif"),
    "xmp": ((bytes, str), "bytes or a text"),
    "comment": ((bytes, str), "bytes or a text"),
}


class GmvqImageFile(ImageFile.ImageFile):
    """A `.gmvq` file as Pillow opens it; of mode RGB, RGBA, L or LA."""

    format = FORMAT
    format_description = "gmvqzip picture"

    def _open(self) -> None:
        """Size, mode, profile, metadata; the whole file is read only where it holds more than header and payload."""
        assert self.fp is not None
        try:
            head = self.fp.read(MAX_HEADER_BYTES)
            header, _ = container.read_header(head)
            alpha, gray, metadata = False, header.gray, None
            if header.has_sections:
                sections = container.unpack(head + self.fp.read(), max_pixels=_EVERY_PIXEL).sections
                alpha = container.SECTION_ALPHA in sections
                if container.SECTION_ICC in sections:
                    profile = decompress_profile(sections[container.SECTION_ICC])
                    self.info["icc_profile"] = profile
                    gray = gray and not is_for_rgb(profile)
                gray = gray and SECTION_RGB not in sections
                metadata = sections.get(SECTION_METADATA)
        except FormatError as error:
            raise UnidentifiedImageError(str(error)) from error
        self._size = header.width, header.height
        self._mode = _MODES[gray, alpha]
        self.text: dict[str, str] = {}
        if metadata is not None:
            self._embed(metadata)
        self.tile = [ImageFile._Tile(FORMAT, (0, 0, *self._size))]

    def _embed(self, section: bytes) -> None:
        from gmvqzip.images.metadata import embed

        try:
            embed(self, read_metadata(section))
        except FormatError as error:
            raise UnidentifiedImageError(str(error)) from error

    def load_seek(self, position: int) -> None:
        """Go to a place in the file. That this is here lets `ImageFile.Parser` wait for the whole file."""
        assert self.fp is not None
        self.fp.seek(position)

    def verify(self) -> None:
        """Compare the file with its checks; no model is needed. Raises OSError."""
        if self.fp is not None:
            self.fp.seek(0)
            with _as_os_error():
                container.unpack(self.fp.read(), max_pixels=_EVERY_PIXEL)
        super().verify()


class _Decoder(ImageFile.PyDecoder):
    _pulls_fd = True

    def decode(self, buffer: Any) -> tuple[int, int]:
        from gmvqzip import facade

        assert self.fd is not None
        with _as_os_error():
            image = facade.decompress(self.fd.read(), max_pixels=_EVERY_PIXEL)
        self.set_as_raw(image.tobytes())
        return -1, 0


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    from gmvqzip import codec
    from gmvqzip.models.registry import DEFAULT_MODEL
    from gmvqzip.rates import Wish
    from gmvqzip.setting import QUALITIES

    options: dict[str, Any] = image.encoderinfo  # the keywords of `Image.save`
    given = {name: value for name, value in options.items() if value is not None}
    rate = {name: given[name] for name in _RATES if name in given}
    try:
        Wish(**rate)
    except GmvqError as error:
        raise ValueError(str(error)) from error
    if rate.get("quality", QUALITIES[0]) not in QUALITIES:
        raise ValueError(f"quality {rate['quality']} is out of range: give {QUALITIES[0]} to {QUALITIES[-1]}")
    image = _with_given(image, options)
    with _as_os_error():
        chosen = codec.load(given.get("model", DEFAULT_MODEL), device=given.get("device", "auto"))
        data = chosen.compress(image, **rate, **{name: given[name] for name in _OTHERS if name in given})
    file.write(data)


def _with_given(image: Image.Image, options: Mapping[str, Any]) -> Image.Image:
    """The image, with what the options say of its profile and metadata in the place of its own."""
    named = [name for name in (*_REPLACED, "text") if name in options]
    if not named:
        return image
    from gmvqzip.images.metadata import dpi_of

    _check_kinds(options)
    copy = image.copy()
    copy.text = dict(options.get("text", getattr(image, "text", None)) or {})  # type: ignore[attr-defined]
    copy.info["dpi"] = dpi_of(image)
    for name in set(named) - {"text"}:
        value = options[name]
        copy.info[name] = value.tobytes() if isinstance(value, Image.Exif) else value
    if "xmp" in options:
        copy.info.pop("XML:com.adobe.xmp", None)
    return copy


def _check_kinds(options: Mapping[str, Any]) -> None:
    """Raise ValueError for an option that would be dropped in silence. An empty text drops, as None does."""
    for name, (kinds, words) in _KINDS.items():
        value = options.get(name)
        if not isinstance(value, kinds) and value not in (None, ""):
            raise ValueError(f"{name} {one_line(value)} cannot be stored: give {words}")
    dpi, text = options.get("dpi"), options.get("text")
    if dpi is not None:
        try:
            _, _ = map(float, () if isinstance(dpi, str) else dpi)
        except (TypeError, ValueError):
            raise ValueError(f"dpi {one_line(dpi)} cannot be stored: give a pair of numbers, across and down") from None
    pairs = text.items() if isinstance(text, Mapping) else [] if text is None else [(text, None)]
    if not all(isinstance(part, str) for pair in pairs for part in pair):
        raise ValueError(f"text {one_line(text)} cannot be stored: give a dict of strings")


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Errors of gmvqzip as those that users of Pillow expect, with the same line."""
    try:
        yield
    except GmvqError as error:
        raise OSError(str(error)) from error


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(container.MAGIC)


Image.register_open(FORMAT, GmvqImageFile, _accept)
Image.register_decoder(FORMAT, _Decoder)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, EXTENSION)
Image.register_mime(FORMAT, MIME)
