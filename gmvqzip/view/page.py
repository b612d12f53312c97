"""One self-contained HTML page on a `.gmvq` file: the picture, beside its original; where its bits lie; its codes."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmvqzip.bench.metrics import psnr
from gmvqzip.errors import ImageError
from gmvqzip.images.page import data_uri, framed
from gmvqzip.images.pixels import Picture
from gmvqzip.inspection import Info
from gmvqzip.models.config import GridConfig
from gmvqzip.models.kinds import Config
from gmvqzip.view.parts import Part, Usage, gradient, heat, parts, steps, together, usage

MAP_SIDE = 280  # pixels of the page, the longer side of a map
BARS = 256  # the most bars in a histogram; several codes share one where there are more
_HEIGHT = 40  # of a histogram, in its own units

_MAP = Template(
    """<figure class="map" data-part="$title" data-bits="$bits" data-top="$top" style="--width:${width}px">
<div class="frame" style="--cover:$cover"><img alt="bits of $title at each site" src="$source"></div>
<figcaption><b>$title</b>: $total bits<br>$columns x $rows sites
<span class="scale">0 <span class="bar"></span> $shown bits a site</span></figcaption>
</figure>"""
)
_STAGE = Template(
    """<div class="stage" style="--cut:50%;--width:${width}px">
<img class="original" alt="the original" src="$original">
<img class="coded" alt="the decoded picture" src="$decoded">
<div class="divider"></div>
<span class="tag left">original</span><span class="tag right">decoded</span>
<input type="range" min="0" max="100" step="0.1" value="50" aria-label="part of the original that is shown">
</div>"""
)
_ALONE = Template(
    """<div class="stage" style="--width:${width}px">
<img class="coded" alt="the decoded picture" src="$decoded">
</div>"""
)


@dataclass(frozen=True, eq=False)
class Seen:
    """A decoded file."""

    name: str
    info: Info
    config: Config
    picture: Picture  # as decoded
    stages: Sequence[NDArray[Any]]  # its index arrays
    site_bits: Sequence[NDArray[Any]]  # as `Coded.site_bits`
    original: Picture | None = None


def page(seen: Seen) -> str:
    """The whole page. Raises ImageError where the original is not of the picture's size."""
    if seen.original is not None and seen.original.pixels.shape != seen.picture.pixels.shape:
        sizes = [f"{picture.width}x{picture.height}" for picture in (seen.original, seen.picture)]
        raise ImageError(f"the original has {sizes[0]} pixels, the file {sizes[1]}: name the picture it was made from")
    books, coding = parts(seen.config, seen.site_bits), steps(seen.config, seen.site_bits)
    first = len(seen.config.hyper) or len(books)
    coded, latent = [*books[:first], *coding], books[first:]  # what was coded, once; and the latent's share another way
    own = resources.files("gmvqzip.view").joinpath("page.html").read_text(encoding="utf-8")
    everything = [Part("all parts", together(books), range(0), sum(part.codes for part in books))]
    body = Template(own).substitute(
        picture=_picture(seen),
        gradient=gradient(),
        maps=_maps([*everything, *coded] if len(coded) > 1 else coded, seen),
        usage="\n".join(_usages(seen, books)),
        latent_maps=f"<h3>The latent by codebooks</h3>\n{_maps(latent, seen)}" if latent else "",
        bytes=_bytes(seen, coded),
        latent_bytes=_latent_bytes(latent) if latent else "",
    )
    return framed(f"{seen.name} - gmvqzip view", seen.name, _summary(seen), body)


def _summary(seen: Seen) -> Iterator[str]:
    info = seen.info
    model = info.model.name if info.model is not None else info.model_id
    kind = ("gray" if info.gray else "colour") + (", transparency" if info.alpha else "")
    quality = f", quality {info.quality}" if info.quality else ""
    coded = f", coded at 1/{1 << info.header.halvings} of its size" if info.header.halvings else ""
    yield f"{info.width} x {info.height} pixels, {kind}; model {model}{quality}{coded}."
    line = f"{info.file_bytes:,} bytes, {info.bpp:.3f} bits per pixel"
    if seen.original is not None:
        line += f"; PSNR {psnr(seen.original.pixels, seen.picture.pixels):.2f} dB over RGB"
    yield f"{line}."


def _picture(seen: Seen) -> str:
    decoded = data_uri(seen.picture)
    if seen.original is None:
        return _ALONE.substitute(width=seen.picture.width, decoded=decoded)
    return _STAGE.substitute(width=seen.picture.width, decoded=decoded, original=data_uri(seen.original))


def _maps(of: Sequence[Part], seen: Seen) -> str:
    return '<div class="maps">\n{}\n</div>'.format("\n".join(_map(part, seen) for part in of))


def _map(part: Part, seen: Seen) -> str:
    rows, columns = part.bits.shape
    top = float(part.bits.max())
    width, height = seen.info.header.coded_size
    site = seen.config.alignment * -(-width // seen.config.alignment) // columns  # its side in pixels
    return _MAP.substitute(
        title=html.escape(part.title),
        bits=repr(part.total),
        top=repr(top),
        width=round(MAP_SIDE * min(1, columns / rows)),
        # The grid may reach over the picture to the right and below: how much of it the picture covers.
        cover=f"{100 * width / (site * columns):.3f}% {100 * height / (site * rows):.3f}%",
        source=data_uri(Picture(heat(part.bits, top))),
        total=f"{part.total:,.1f}",
        columns=columns,
        rows=rows,
        shown=f"{top:.2f}",
    )


def _usages(seen: Seen, books: Sequence[Part]) -> Iterator[str]:
    grids = seen.config.stages()
    for part in books:
        every = [(number, usage(seen.stages[number], grids[number].codes)) for number in part.stages]
        most = max(int(one.counts[0]) for _, one in every)
        figures = "\n".join(_histogram(number, one, most) for number, one in every)
        if len(every) == 1:
            yield f'<div class="usages">{figures}</div>'
            continue
        used = sum(one.used for _, one in every)
        yield (
            f"<details><summary>{html.escape(part.title)}: {_described(grids[part.stages[0]], len(every))}; on average "
            f'{used / len(every):.1f} occur in a group</summary>\n<div class="usages">{figures}</div></details>'
        )


def _described(grid: GridConfig, groups: int) -> str:
    return f"{groups} groups of {grid.codes} codes of {grid.dimensions} dimensions, at 1/{grid.stride}"


def _histogram(number: int, one: Usage, most: int) -> str:
    """Bars of the logarithm of 1 + count, the tallest that of `most`."""
    counts = one.counts
    if len(counts) > BARS:
        counts = np.array([share.mean() for share in np.array_split(counts, BARS)])
    heights = _HEIGHT * np.log1p(counts) / math.log1p(most)
    bars = "".join(f"V{_HEIGHT - height:.1f}h1" for height in heights)
    text = f"stage {number}: {one.used} of {len(one.counts)} codes occur, {one.entropy:.2f} bits of entropy"
    return (
        f'<figure class="usage" data-stage="{number}" data-used="{one.used}">'
        f'<svg viewBox="0 0 {len(counts)} {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{text}">'
        f'<path d="M0 {_HEIGHT}{bars}V{_HEIGHT}Z"/></svg><figcaption>{text}</figcaption></figure>'
    )


def _bytes(seen: Seen, coded: Sequence[Part]) -> str:
    """The rows of the table of bytes; they add up to the file."""
    info = seen.info
    rows = [_row("header", info.header_bytes, info.file_bytes)]
    rows += [_row(f"section {name}", size, info.file_bytes) for name, size in info.sections.items()]
    frame = info.sections_bytes - sum(info.sections.values())
    if frame:
        rows.append(_row("types and lengths of the sections", frame, info.file_bytes))
    rows += [_row(part.title, part.total / 8, info.file_bytes, part) for part in coded]
    rest = info.payload_bytes - sum(part.total for part in coded) / 8
    rows.append(_row("rounding and end of the stream", rest, info.file_bytes))
    rows.append(_row("the file", info.file_bytes, info.file_bytes))
    return "\n".join(rows)


def _latent_bytes(latent: Sequence[Part]) -> str:
    whole = sum(part.total for part in latent) / 8
    rows = "\n".join(_row(part.title, part.total / 8, whole, part) for part in latent)
    return (
        '<h3>The latent by codebooks</h3>\n<table class="bytes"><thead><tr><th>part</th><th>bytes</th>'
        f"<th>share</th><th>codes</th><th>bits a code</th></tr></thead>\n<tbody>{rows}</tbody></table>"
    )


def _row(title: str, size: float, whole: float, part: Part | None = None) -> str:
    share = f"{100 * size / whole:.1f} %" if whole else ""
    exact = f"{size:,}" if isinstance(size, int) else f"{size:,.1f}"
    codes = ("", "") if part is None else (f"{part.codes:,}", f"{part.total / part.codes:.3f}")
    cells = "".join(f"<td>{cell}</td>" for cell in (html.escape(title), exact, share, *codes))
    return f'<tr data-bytes="{size!r}">{cells}</tr>'
