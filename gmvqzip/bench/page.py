"""One self-contained HTML page: a slider between each picture and what the codecs make of it at one size."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import resources
from string import Template

from gmvqzip.bench.codecs import BenchCodec
from gmvqzip.bench.measure import Found, ssimulacra2_text
from gmvqzip.bench.metrics import Pixels
from gmvqzip.images.page import data_uri, framed
from gmvqzip.images.pixels import Picture

_SECTION = Template(
    """<section class="picture">
<h2>$name</h2>
<p>$width x $height pixels; no file above $limit bytes ($bpp bpp).</p>
<div class="choices" role="group" aria-label="codec">$buttons</div>
<div class="view"><div class="stage" style="--cut:50%;--width:${width}px">
<img class="original" alt="the original" src="$original">
$images
<div class="divider"></div>
<span class="tag left">original</span><span class="tag right"></span>
<input type="range" min="0" max="100" step="0.1" value="50" aria-label="part of the original that is shown">
</div></div>
<p class="figures" aria-live="polite"></p>
<table><thead><tr><th>codec</th><th>setting</th><th>bytes</th><th>bpp</th><th>PSNR, dB</th><th>MS-SSIM</th>
<th>SSIMULACRA2</th></tr></thead>
<tbody>
$rows
</tbody></table>
</section>"""
)


_HELP = """Drag over a picture: the original is left of the line, the codec right of it. Of the files that a codec can
make, each is the largest that is not above the size named."""


class Page:
    """The page, filled picture by picture so that no more than one lies decoded in memory."""

    def __init__(self) -> None:
        self._sections: list[str] = []

    def __len__(self) -> int:
        return len(self._sections)

    def add(self, name: str, original: Pixels, limit: int, found: Sequence[tuple[BenchCodec, Found]]) -> None:
        """Add a picture [H, W, 3] with each codec's result at `limit` bytes."""
        height, width = original.shape[:2]
        self._sections.append(
            _SECTION.substitute(
                name=html.escape(name),
                width=width,
                height=height,
                limit=f"{limit:,}",
                bpp=f"{8 * limit / (width * height):.3f}",
                original=data_uri(Picture(original)),
                buttons="".join(_button(codec, number == 0) for number, (codec, _) in enumerate(found)),
                images="\n".join(_image(codec, one, limit, number == 0) for number, (codec, one) in enumerate(found)),
                rows="\n".join(_row(codec, one, limit) for codec, one in found),
            )
        )

    def html(self, notes: Sequence[str]) -> str:
        """The whole page. notes: lines above the pictures."""
        own = resources.files("gmvqzip.bench").joinpath("page.html").read_text(encoding="utf-8")
        body = Template(own).substitute(sections="\n".join(self._sections))
        return framed("gmvqzip bench: equal sizes", "gmvqzip bench: what one size holds", [_HELP, *notes], body)


def figures_text(codec: BenchCodec, found: Found, limit: int) -> str:
    """One line: codec, size, quality; and where the codec cannot be that small, that."""
    point = found.point
    text = (
        f"{codec.title}, {codec.label(point.quality)}: {point.file_bytes:,.0f} bytes, {point.bpp:.3f} bpp, "
        f"PSNR {point.psnr:.2f} dB, MS-SSIM {point.ms_ssim:.4f}"
    )
    if point.ssimulacra2 is not None:
        text += f", SSIMULACRA2 {ssimulacra2_text(point)}"
    return text if found.fits else f"{text}. It cannot reach {limit:,} bytes: this is its smallest file."


def _button(codec: BenchCodec, chosen: bool) -> str:
    state = "true" if chosen else "false"
    return f'<button type="button" data-codec="{codec.name}" aria-pressed="{state}">{html.escape(codec.title)}</button>'


def _image(codec: BenchCodec, found: Found, limit: int, chosen: bool) -> str:
    figures = html.escape(figures_text(codec, found, limit))
    hidden = "" if chosen else " hidden"
    return (
        f'<img class="coded" data-codec="{codec.name}" data-title="{html.escape(codec.title)}" '
        f'data-figures="{figures}" alt="{figures}" src="{data_uri(Picture(found.pixels))}"{hidden}>'
    )


def _row(codec: BenchCodec, found: Found, limit: int) -> str:
    point = found.point
    size = f"{point.file_bytes:,.0f}" + ("" if found.fits else f" (cannot reach {limit:,})")
    cells = (
        codec.title,
        codec.label(point.quality),
        size,
        f"{point.bpp:.3f}",
        f"{point.psnr:.2f}",
        f"{point.ms_ssim:.4f}",
        ssimulacra2_text(point),
    )
    return f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
