"""HTML pages with pictures that need nothing from outside: their frame, with a slider and a zoom, and data URIs."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from importlib import resources
from string import Template

from PIL import features

from gmvqzip.images.outputs import FORMATS, Format
from gmvqzip.images.pixels import Picture
from gmvqzip.images.writing import picture_bytes


def framed(title: str, heading: str, summary: Iterable[str], body: str) -> str:
    """A whole page. body: HTML, with pictures of class `stage` for slider and zoom; the others are texts."""
    frame = resources.files("gmvqzip.images").joinpath("page.html").read_text(encoding="utf-8")
    lines = "\n".join(f"<p>{html.escape(line)}</p>" for line in summary)
    return Template(frame).substitute(
        title=html.escape(title), heading=html.escape(heading), summary=lines, body=body.rstrip("\n")
    )


def data_uri(picture: Picture) -> str:
    """The picture without loss, transparency and profile included, as a data URI: WebP, or PNG where WebP cannot."""
    small = max(picture.width, picture.height) <= (FORMATS[Format.WEBP].side or 0)
    kind = "webp" if features.check("webp") and small and not (picture.one_channel and picture.icc) else "png"
    data, _ = picture_bytes(picture, kind)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
