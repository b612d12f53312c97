"""The page: whole in itself, every figure in it, names harmless; and the plot."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from fakes import Quantiser, scene
from PIL import Image, features

from gmvqzip.bench.codecs import Jpeg
from gmvqzip.bench.measure import Point, fit, measure
from gmvqzip.bench.page import Page
from gmvqzip.bench.plot import COLOURS, HEIGHT, WIDTH, plot, quality_ticks
from gmvqzip.bench.results import PictureResult, Results
from gmvqzip.images.page import data_uri
from gmvqzip.images.pixels import Picture

VOID = {"meta", "img", "input", "br", "link"}


class Reader(HTMLParser):
    """Collects elements and their text, and checks that they are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data


def pixels_of(uri: str) -> np.ndarray:
    head, data = uri.split(",", 1)
    assert head in ("data:image/webp;base64", "data:image/png;base64")
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def page() -> str:
    made = Page()
    picture = scene(40, 50)
    tight = Quantiser(lambda quality: 5000, ladder=[1])
    made.add(
        "<img src=x>&.png", picture, 1200, [(Jpeg(), fit(Jpeg(), picture, 1200)), (tight, fit(tight, picture, 1200))]
    )
    assert len(made) == 1
    return made.html(["Not compared: jxl: <gone>."])


def test_it_is_whole_in_itself(page: str) -> None:
    elements = Reader(page).elements
    for tag, attributes in elements:
        assert tag not in ("link", "iframe", "object", "base", "a", "form")
        for name in ("src", "srcset", "href", "poster", "data", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "url(" not in page and "@import" not in page and "http:" not in page and "https:" not in page
    assert "default-src 'none'" in page
    assert "$" not in page


def test_pictures_are_the_decoded_ones(page: str) -> None:
    images = [attributes for tag, attributes in Reader(page).elements if tag == "img"]
    original, jpeg, tight = (pixels_of(image["src"] or "") for image in images)
    picture = scene(40, 50)
    assert (original == picture).all()
    assert (jpeg == fit(Jpeg(), picture, 1200).pixels).all()
    assert (tight == 100).all()
    assert ["hidden" in image for image in images] == [False, False, True]


def test_sizes_and_qualities_are_named(page: str) -> None:
    reader = Reader(page)
    point = fit(Jpeg(), scene(40, 50), 1200).point
    assert "50 x 40 pixels; no file above 1,200 bytes (4.800 bpp)." in reader.text
    for part in (f"{point.file_bytes:,}", f"{point.psnr:.2f}", f"{point.ms_ssim:.4f}", f"q {point.quality:g}"):
        assert part in reader.text
    figures = {a["data-codec"]: a["data-figures"] or "" for tag, a in reader.elements if "data-figures" in a}
    assert f"{point.file_bytes:,} bytes" in figures["jpeg"]
    assert f"PSNR {point.psnr:.2f} dB" in figures["jpeg"]
    assert "cannot" not in figures["jpeg"]
    assert figures["fake"].endswith("It cannot reach 1,200 bytes: this is its smallest file.")
    assert "5,000 (cannot reach 1,200)" in reader.text


def test_names_are_harmless(page: str) -> None:
    reader = Reader(page)
    assert "<img src=x>&.png" in reader.text
    assert "a fake <codec>" in reader.text
    assert "jxl: <gone>." in reader.text
    assert not any(tag == "codec" or attributes.get("src") == "x" for tag, attributes in reader.elements)


def test_without_webp_there_is_png(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = scene(20, 30)
    monkeypatch.setattr(features, "check", lambda name: False)
    uri = data_uri(Picture(picture))
    assert uri.startswith("data:image/png;")
    assert (pixels_of(uri) == picture).all()


class TestPlot:
    def results(self, qualities: list[float]) -> Results:
        picture = scene(40, 50)
        jpeg = measure(Jpeg(), picture, qualities)
        ours = [replace(jpeg[0], codec="fake", psnr=jpeg[0].psnr + 2)]
        fake = Quantiser(lambda quality: 1, ladder=[0])
        return Results([fake, Jpeg()], {}, [PictureResult("a", 50, 40, ours + jpeg)])

    @pytest.mark.parametrize("qualities", [[10], [10, 50, 90]])
    def test_a_png_with_every_curve(self, qualities: list[float]) -> None:
        with Image.open(io.BytesIO(plot(self.results(qualities)))) as image:
            assert (image.format, image.size) == ("PNG", (2 * WIDTH, HEIGHT))
            drawn = np.asarray(image.convert("RGB")).astype(int)
        counts = []
        for colour in COLOURS[:3]:
            levels = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
            counts.append(np.count_nonzero(abs(drawn - levels).max(axis=2) < 50))
        assert counts[0] > 60
        assert counts[1] > (1000 if len(qualities) > 1 else 60)  # lines, or dots alone
        assert counts[2] == 0

    def test_a_panel_for_each_metric_measured_and_nothing_below_0(self) -> None:
        points = [
            Point(codec, quality, 100, rate, 30 + quality, 0.9, 10 + quality, score, 1, 1)
            for codec in ("fake", "jpeg")
            for quality, rate, score in ((1, 0.1, -400.0), (2, 0.2, 10.0), (3, 0.3, 50.0))
        ]
        results = Results([Quantiser(len), Jpeg()], {}, [PictureResult("a", 300, 300, points)])  # type: ignore[arg-type]
        with_score = plot(results)
        with Image.open(io.BytesIO(with_score)) as image:
            assert image.size == (3 * WIDTH, HEIGHT)
        raised = [replace(point, ssimulacra2=max(point.ssimulacra2 or 0, -1)) for point in points]
        assert plot(replace(results, pictures=[PictureResult("a", 300, 300, raised)])) == with_score

    def test_without_freetype(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(features, "check", lambda name: False)
        assert plot(self.results([10])).startswith(b"\x89PNG")

    @pytest.mark.parametrize(("low", "high", "expected"), [(19.2, 46.8, [20, 25, 30, 35, 40, 45]), (0.3, 0.9, None)])
    def test_ticks(self, low: float, high: float, expected: list[float] | None) -> None:
        ticks = quality_ticks(low, high)
        assert all(low <= tick <= high for tick in ticks)
        assert 2 <= len(ticks) <= 9
        assert expected is None or ticks == expected
