"""Makes what a page is made of, and reads a page: its elements, closed in order, its text, its pictures."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from gmvqzip import inspection
from gmvqzip.codec import Codec
from gmvqzip.format.container import unpack
from gmvqzip.images.pixels import Picture
from gmvqzip.view.page import Seen

VOID = {"meta", "img", "input", "br", "path"}


class Reader(HTMLParser):
    """The elements of a page with their attributes, and the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data

    def of_class(self, name: str) -> list[dict[str, str]]:
        """The attributes of all elements of a class."""
        return [attributes for _, attributes in self.elements if name in attributes.get("class", "").split()]

    def images(self) -> list[dict[str, str]]:
        """The attributes of all pictures."""
        return [attributes for tag, attributes in self.elements if tag == "img"]


def image_of(uri: str) -> Image.Image:
    """The picture in a data URI."""
    head, data = uri.split(",", 1)
    assert head in ("data:image/webp;base64", "data:image/png;base64")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    image.load()
    return image


def pixels_of(uri: str) -> np.ndarray:
    """Its pixels [H, W, 3]."""
    return np.asarray(image_of(uri).convert("RGB"))


def seen(codec: Codec, picture: Picture, name: str = "it.gmvq", **rate: int) -> Seen:
    """A picture, compressed and decoded."""
    data = codec.compress_picture(picture, **rate).data
    coded = codec.open(unpack(data))
    info = inspection.info(data, model=codec.info.path)
    return Seen(name, info, codec.config, coded.pixels(), coded.codes.stages, coded.site_bits())
