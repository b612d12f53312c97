"""Pictures written and read again."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from gmvqzip.errors import ImageError
from gmvqzip.images.outputs import FORMATS, REFUSED, Format, by_ending
from gmvqzip.images.picture import read_picture
from gmvqzip.images.pixels import Picture
from gmvqzip.images.writing import picture_bytes, write_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def pictures(scene) -> dict[str, Picture]:
    rgb = scene(23, 17)
    gray = np.repeat(rgb[:, :, :1], 3, axis=2)
    alpha = np.arange(23 * 17, dtype=np.uint16).reshape(17, 23).astype(np.uint8)
    return {
        "rgb": Picture(rgb),
        "gray": Picture(gray, gray=True),
        "rgba": Picture(rgb, alpha=alpha),
        "la": Picture(gray, gray=True, alpha=alpha),
    }


@pytest.mark.parametrize("kind", ["rgb", "gray", "rgba", "la"])
@pytest.mark.parametrize("file_format", ["png", "webp"])
def test_png_and_webp_keep_everything(pictures, kind, file_format):
    picture = pictures[kind]
    data, notes = picture_bytes(picture, file_format)
    again = read_picture(data)
    assert notes == [] and np.array_equal(again.pixels, picture.pixels)
    assert (again.alpha is None) if picture.alpha is None else np.array_equal(again.alpha, picture.alpha)
    assert again.one_channel == (picture.gray and file_format == "png")


def test_profiles_are_written_where_they_fit(pictures):
    for kind, file_format in (("rgb", "png"), ("rgba", "webp"), ("rgb", "jpg")):
        picture = pictures[kind]
        picture.icc = SRGB
        data, notes = picture_bytes(picture, file_format)
        assert notes == [] and read_picture(data).icc == SRGB
        picture.icc = None
        assert read_picture(picture_bytes(picture, file_format)[0]).icc is None
    for kind, file_format in (("rgb", "ppm"), ("rgb", "npy"), ("gray", "webp")):
        picture = pictures[kind]
        picture.icc = SRGB if kind == "rgb" else SRGB[:16] + b"GRAY" + SRGB[20:]
        assert "profile" in picture_bytes(picture, file_format)[1][0]


@pytest.mark.parametrize("kind", ["gray", "la"])
@pytest.mark.parametrize("file_format", ["png", "webp", "jpg", "tif", "bmp", "ppm"])
def test_gray_with_a_profile_of_rgb_has_three_channels(pictures, kind, file_format):
    picture = pictures[kind]
    picture.icc = SRGB
    with Image.open(io.BytesIO(picture_bytes(picture, file_format)[0])) as image:
        assert image.mode in ("RGB", "RGBA")
        assert image.info.get("icc_profile") == (None if file_format in ("bmp", "ppm") else SRGB)


def test_jpg_is_close(pictures):
    data, notes = picture_bytes(pictures["rgb"], "jpg")
    again = read_picture(data)
    assert notes == [] and np.abs(again.pixels.astype(int) - pictures["rgb"].pixels).mean() < 3
    assert read_picture(picture_bytes(pictures["gray"], "jpeg")[0]).gray


def test_alpha_is_laid_over_white_where_it_has_no_place(pictures):
    picture = pictures["rgba"]
    data, notes = picture_bytes(picture, "ppm")
    weight = picture.alpha[:, :, None] / 255
    assert np.array_equal(read_picture(data).pixels, np.floor(picture.pixels * weight + 255 * (1 - weight) + 0.4999))
    assert "white" in notes[0]
    assert "white" in picture_bytes(pictures["la"], "jpg")[1][0]


def test_ppm_is_binary_and_plain(pictures):
    data, _ = picture_bytes(pictures["rgb"], "ppm")
    assert data == b"P6\n23 17\n255\n" + pictures["rgb"].pixels.tobytes()
    data, _ = picture_bytes(pictures["gray"], "pgm")
    assert data == b"P5\n23 17\n255\n" + pictures["gray"].pixels[:, :, 0].tobytes()


@pytest.mark.parametrize(("kind", "shape"), [("rgb", (3,)), ("gray", ()), ("rgba", (4,)), ("la", (2,))])
def test_npy_has_the_shape_of_the_picture(pictures, kind, shape):
    data, _ = picture_bytes(pictures[kind], "npy")
    array = np.load(io.BytesIO(data), allow_pickle=False)
    assert array.shape == (17, 23, *shape) and array.dtype == np.uint8
    again = read_picture(array)
    assert np.array_equal(again.pixels, pictures[kind].pixels) and again.gray == pictures[kind].gray


def test_what_a_format_cannot_hold_is_refused():
    wide = Picture(np.zeros((1, 70_000, 3), dtype=np.uint8))
    for file_format in ("jpg", "webp"):
        with pytest.raises(ImageError, match="too large"):
            picture_bytes(wide, file_format)
    assert read_picture(picture_bytes(wide, "png")[0]).width == 70_000
    with pytest.raises(ImageError, match="gif holds at most 256 colours: use png or webp"):
        picture_bytes(wide, "gif")


def test_a_pipe_can_be_written(pictures):
    for file_format in set(FORMATS) - {Format.JXL, Format.HEIC}:
        reader, writer = os.pipe()
        with os.fdopen(writer, "wb") as file:
            write_picture(pictures["rgb"], file, file_format)
        with os.fdopen(reader, "rb") as file:
            assert file.read() == picture_bytes(pictures["rgb"], file_format)[0]


def test_trouble_in_writing_is_one_line(pictures, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError("the encoder\nis ill")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(ImageError) as caught:
        picture_bytes(pictures["rgb"], "png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.png", "png"), ("A.JPEG", "jpg"), ("a.b.pgm", "ppm"), ("a.npy", "npy"), ("a", None), ("a.gif", None)],
)
def test_the_ending_decides(name, expected):
    assert by_ending(Path(name).suffix) == expected


HELD = ("yes", "as text", "of PNG", "of JPEG")


def test_the_document_says_what_each_format_holds():
    """The table of docs/cli.md."""
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    parts = ("exif", "xmp", "resources", "dpi", "texts", "time", "comment", "parts")
    seen = set()
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        for name in map(str.strip, cells[1].split(",") if len(cells) == 13 else ()):
            if name in set(FORMATS):
                kind = FORMATS[Format(name)]
                held = {part for part, cell in zip(parts, cells[3:11], strict=True) if cell in HELD}
                assert held == kind.metadata, name
                assert (cells[11] == "yes") == kind.alpha, name
                seen.add(name)
    assert seen == set(FORMATS)


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {Format.NPY}))
@pytest.mark.parametrize("kind", ["rgb", "gray", "rgba", "la"])
def test_every_format_comes_back(pictures, name, kind):
    picture = pictures[kind]
    try:
        data, notes = picture_bytes(picture, name)
    except ImageError as error:
        assert name in (Format.JXL, Format.HEIC, Format.AVIF, Format.JP2, Format.QOI)
        assert "pip install" in str(error)
        pytest.skip(str(error))
    again = read_picture(data)
    assert any("transparency" in line for line in notes) == (picture.alpha is not None and not FORMATS[name].alpha)
    if picture.alpha is not None:
        if not FORMATS[name].alpha:
            return
        slack = 2 if "quality" in FORMATS[name].options else 0
        assert np.abs(again.alpha.astype(int) - picture.alpha).max() <= slack
    most = 40 if "quality" in FORMATS[name].options else 0
    seen = np.ones((17, 23), bool) if picture.alpha is None else picture.alpha > 0
    assert np.abs(again.pixels.astype(int) - picture.pixels)[seen].max() <= most


@pytest.mark.parametrize("ending", sorted(REFUSED))
def test_formats_that_are_refused_say_why(pictures, ending):
    with pytest.raises(ImageError, match=f"{ending} (holds|cannot be written).*: use png or webp"):
        picture_bytes(pictures["rgb"], ending)
