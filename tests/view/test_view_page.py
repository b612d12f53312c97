"""The page: whole in itself, with the right pictures, and bits and bytes that add up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from page_reader import Reader, image_of, pixels_of, seen
from PIL import Image, ImageCms, features
from tiny_hyperprior import smooth

from gmvqzip.bench.metrics import psnr
from gmvqzip.codec import Codec
from gmvqzip.errors import ImageError
from gmvqzip.images.page import data_uri
from gmvqzip.images.pixels import Picture
from gmvqzip.view.page import BARS, Seen, page
from gmvqzip.view.parts import heat, parts, steps, together

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def staged(tiny: Codec) -> Seen:
    original = Picture(smooth(23, 37))
    return replace(seen(tiny, original), original=original)


@pytest.fixture(scope="module")
def grouped(hyper: Codec) -> Seen:
    return seen(hyper, Picture(smooth(70, 300)), quality=60)


@pytest.fixture(scope="module", params=["staged", "grouped"])
def either(request: pytest.FixtureRequest) -> Seen:
    found: Seen = request.getfixturevalue(request.param)
    return found


def test_it_is_whole_in_itself(either: Seen) -> None:
    made = page(either)
    for tag, attributes in Reader(made).elements:
        assert tag not in ("link", "iframe", "object", "base", "a", "form", "use", "image")
        for name in ("src", "srcset", "href", "poster", "data", "action"):
            assert attributes.get(name, "data:").startswith("data:")
    for text in ("http:", "https:", "@import", "fetch(", "XMLHttpRequest"):
        assert text not in made
    assert made.count("url(") == 1  # of the decoded picture, under the maps
    assert "default-src 'none'" in made
    assert "$" not in made


def test_the_pictures_are_the_right_ones(staged: Seen) -> None:
    original, decoded, *maps = Reader(page(staged)).images()
    assert staged.original is not None
    assert (pixels_of(original["src"]) == staged.original.pixels).all()
    assert (pixels_of(decoded["src"]) == staged.picture.pixels).all()
    books = parts(staged.config, staged.site_bits)
    expected = [together(books), *(part.bits for part in books)]
    for image, bits in zip(maps, expected, strict=True):
        assert (pixels_of(image["src"]) == heat(bits, float(bits.max()))).all()


def test_without_an_original_there_is_no_slider(grouped: Seen) -> None:
    reader = Reader(page(grouped))
    assert (pixels_of(reader.images()[0]["src"]) == grouped.picture.pixels).all()
    assert not reader.of_class("original")
    assert [a["id"] for tag, a in reader.elements if tag == "input"] == ["mix"]
    assert "PSNR" not in reader.text


def test_a_single_stage_has_one_map(tiny: Codec) -> None:
    made = seen(tiny, Picture(smooth(23, 37)))
    config = replace(tiny.config, grids=tiny.config.grids[1:])
    single = replace(made, config=config, stages=made.stages[2:], site_bits=made.site_bits[2:])
    reader = Reader(page(single))
    assert [one["data-part"] for one in reader.of_class("map")] == ["stage 0"]


def test_the_maps_of_a_hyperprior_model(grouped: Seen) -> None:
    reader = Reader(page(grouped))
    maps = reader.of_class("map")
    coded = ["all parts", "hyper", *(f"latent, step {number}" for number in (1, 2, 3, 4))]
    assert [one["data-part"] for one in maps] == [*coded, "part 0", "part 1"]
    books, coding = parts(grouped.config, grouped.site_bits), steps(grouped.config, grouped.site_bits)
    bits = [together(books), books[0].bits, *(part.bits for part in coding), books[1].bits, books[2].bits]
    for image, array in zip(reader.images()[1:], bits, strict=True):
        assert (pixels_of(image["src"]) == heat(array, float(array.max()))).all()


def test_bits_and_bytes_add_up(either: Seen) -> None:
    reader = Reader(page(either))
    total = sum(float(bits.sum(dtype=np.float64)) for bits in either.site_bits)
    found = {one["data-part"]: float(one["data-bits"]) for one in reader.of_class("map")}
    assert found["all parts"] == pytest.approx(total, rel=1e-9)
    coded = sum(bits for name, bits in found.items() if "stage" in name or "step" in name or name == "hyper")
    assert coded == pytest.approx(total, rel=1e-9)
    sizes = [float(a["data-bytes"]) for tag, a in reader.elements if tag == "tr" and "data-bytes" in a]
    end = sizes.index(either.info.file_bytes)
    assert sum(sizes[:end]) == pytest.approx(either.info.file_bytes)
    assert sizes[0] == either.info.header_bytes
    assert sizes[end - 1] == pytest.approx(either.info.payload_bytes - total / 8)  # rounding and end of the stream
    assert sizes[end - 1] <= 0.005 * total / 8 + 2
    latent = sizes[end + 1 :]
    assert sum(latent) == pytest.approx(sum(found[name] for name in found if name.startswith("part")) / 8)


def test_transparency_profile_and_sections(tiny: Codec) -> None:
    alpha = np.tile(np.arange(37, dtype=np.uint8), (23, 1))
    original = Picture(smooth(23, 37), alpha=alpha, icc=SRGB)
    made = replace(seen(tiny, original), original=original)
    reader = Reader(page(made))
    for image, picture in zip(reader.images(), (original, made.picture), strict=False):
        shown = image_of(image["src"])
        assert shown.mode == "RGBA"
        assert shown.info["icc_profile"] == SRGB
        assert (np.asarray(shown)[:, :, 3] == alpha).all()
        assert (np.asarray(shown)[:, :, :3] == picture.pixels).all()
    for text in ("section alpha", "section icc", "types and lengths of the sections", "colour, transparency"):
        assert text in reader.text
    sizes = [float(a["data-bytes"]) for tag, a in reader.elements if tag == "tr" and "data-bytes" in a]
    assert sum(sizes[:-1]) == pytest.approx(sizes[-1])


@pytest.mark.parametrize("icc", [None, b"a gray profile"])
def test_gray(icc: bytes | None) -> None:
    levels = smooth(9, 12)[:, :, :1].repeat(3, 2)
    uri = data_uri(Picture(levels, gray=True, icc=icc))
    assert (pixels_of(uri) == levels).all()
    assert uri.startswith("data:image/png") == (icc is not None)


def test_without_webp_there_is_png(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    assert data_uri(Picture(smooth(9, 12))).startswith("data:image/png")


def test_names_are_harmless_and_figures_told(staged: Seen) -> None:
    reader = Reader(page(replace(staged, name="<img src=x>&.gmvq")))
    assert reader.text.count("<img src=x>&.gmvq") == 2
    assert all(image["src"] != "x" for image in reader.images())
    assert staged.original is not None
    difference = psnr(staged.original.pixels, staged.picture.pixels)
    assert f"{staged.info.file_bytes} bytes, {staged.info.bpp:.3f} bits per pixel" in reader.text
    assert f"PSNR {difference:.2f} dB over RGB" in reader.text
    assert "37 x 23 pixels, colour; model photo." in reader.text


def test_the_quality_is_told(grouped: Seen) -> None:
    assert "300 x 70 pixels, colour; model hyper, quality 60." in Reader(page(grouped)).text


def test_every_codebook_has_its_histogram(either: Seen) -> None:
    reader = Reader(page(either))
    figures = reader.of_class("usage")
    assert [int(figure["data-stage"]) for figure in figures] == list(range(len(either.stages)))
    for figure, stage in zip(figures, either.stages, strict=True):
        assert int(figure["data-used"]) == len(np.unique(stage))
    grids = either.config.stages()
    paths = [attributes["d"] for tag, attributes in reader.elements if tag == "path"]
    assert [path.count("h1") for path in paths] == [grid.codes for grid in grids]
    tallest = {path.split("V")[1] for path in paths}
    assert "0.0h1" in tallest


def test_codes_beyond_the_bars_share_them(staged: Seen) -> None:
    config = replace(staged.config, grids=tuple(replace(grid, codes=600) for grid in staged.config.grids))
    paths = [a["d"] for tag, a in Reader(page(replace(staged, config=config))).elements if tag == "path"]
    assert [path.count("h1") for path in paths] == [BARS] * 3


def test_another_picture_is_no_original(staged: Seen) -> None:
    with pytest.raises(ImageError, match=r"the original has 8x9 pixels, the file 37x23: name the picture"):
        page(replace(staged, original=Picture(smooth(9, 8))))


def test_it_does_not_depend_on_the_run(tiny: Codec) -> None:
    picture = Picture(np.asarray(Image.new("RGB", (9, 8), "red")))
    assert page(seen(tiny, picture)) == page(seen(tiny, picture))
