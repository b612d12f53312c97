"""Every kind of picture becomes 8-bit RGB or gray; every bad file becomes one ImageError line."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gmvqzip.errors import ImageError
from gmvqzip.images.picture import picture_size, read_picture
from gmvqzip.images.pixels import Picture, to_pil
from gmvqzip.images.preparing import read_all_prepared

TURN_NAMES = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_90",  # what a camera did; reading takes it back
    7: "TRANSVERSE",
    8: "ROTATE_270",
}


def line_of(source: object, **options: object) -> str:
    """The message of the ImageError that reading gives; one line."""
    with pytest.raises(ImageError) as caught:
        read_picture(source, **options)  # type: ignore[arg-type]
    assert str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_png(samples: np.ndarray, colour_type: int) -> bytes:
    """A PNG of 16 bits per sample, [H, W, channels]."""
    height, width = samples.shape[:2]
    rows = samples.astype(">u2").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(raw))
        + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "PPM", "TIFF", "TGA", "SGI"])
def test_lossless_formats_are_exact(scene, encoded, file_format):
    pixels = scene(37, 23)
    picture = read_picture(encoded(Image.fromarray(pixels), file_format))
    assert np.array_equal(picture.pixels, pixels)
    assert (picture.width, picture.height) == (37, 23)
    assert not picture.gray and picture.alpha is None and picture.icc is None and picture.warnings == []


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "AVIF", "JPEG2000", "GIF"])
def test_lossy_formats_are_close(scene, encoded, file_format):
    pixels = scene(64, 48)
    picture = read_picture(encoded(Image.fromarray(pixels), file_format))
    assert picture.pixels.dtype == np.uint8 and picture.pixels.shape == pixels.shape
    assert np.abs(picture.pixels.astype(int) - pixels).mean() < 12


def test_all_kinds_of_source_agree(scene, encoded, tmp_path):
    pixels = scene(20, 10)
    data = encoded(Image.fromarray(pixels), "PNG")
    path = tmp_path / "a picture\nwith a strange name.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        sources = [path, str(path), data, bytearray(data), io.BytesIO(data), file, Image.fromarray(pixels), pixels]
        for source in sources:
            assert np.array_equal(read_picture(source).pixels, pixels)


def test_a_file_object_is_read_from_where_it_stands(scene, encoded):
    data = encoded(Image.fromarray(scene(5, 5)), "PNG")
    file = io.BytesIO(b"before" + data)
    file.seek(6)
    assert read_picture(file).width == 5


def test_a_pipe_can_be_read(scene, encoded):
    data = encoded(Image.fromarray(scene(9, 9)), "BMP")
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as end:
        end.write(data)
    with os.fdopen(reader, "rb") as file:
        assert read_picture(file).width == 9


def test_arrays():
    gray = np.arange(6, dtype=np.uint8).reshape(2, 3)
    picture = read_picture(gray)
    assert picture.gray and np.array_equal(picture.pixels[:, :, 2], gray)
    assert read_picture(gray[:, :, None]).gray
    two = read_picture(np.stack([gray, gray + 1], axis=2))
    assert two.gray and np.array_equal(two.alpha, gray + 1)
    four = read_picture(np.stack([gray, gray, gray, gray + 9], axis=2))
    assert four.gray and four.as_rgb and np.array_equal(four.alpha, gray + 9)
    deep = read_picture(np.array([[0, 128, 129, 65535]], dtype=np.uint16))
    assert deep.pixels[0, :, 0].tolist() == [0, 0, 1, 255] and "16 bits" in deep.warnings[0]
    assert np.array_equal(read_picture(np.array([[0, 128, 129, 65535]], dtype=">u2")).pixels, deep.pixels)
    own = np.zeros((4, 4, 3), dtype=np.uint8)
    read_picture(own).pixels[:] = 7
    assert not own.any()  # the caller's array is not handed on


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 4), dtype=np.float32), "float32"),
        (np.zeros(4, dtype=np.uint8), "shape"),
        (np.zeros((2, 2, 5), dtype=np.uint8), "shape"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "no pixels"),
        (np.zeros((2**21 + 1, 1), dtype=np.uint8), "side"),
    ],
)
def test_arrays_that_are_no_pictures(array, words):
    assert words in line_of(array)


def test_other_types_are_refused():
    assert "int" in line_of(5)
    assert "binary" in line_of(io.StringIO("text"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied(scene, encoded, orientation, file_format):
    upright = Image.fromarray(scene(48, 32))
    stored = upright
    if orientation != 1:
        stored = upright.transpose(getattr(Image.Transpose, TURN_NAMES[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}.get(file_format, {})
    picture = read_picture(encoded(stored, file_format, exif=exif, **options))
    assert (picture.width, picture.height) == (48, 32)
    assert np.abs(picture.pixels.astype(int) - np.asarray(upright)).mean() < 3


def test_orientation_turns_alpha_with_the_pixels(scene, encoded):
    upright = np.dstack([scene(6, 4), np.arange(24, dtype=np.uint8).reshape(4, 6)])
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90)
    picture = read_picture(encoded(stored, "PNG", exif=exif))
    assert np.array_equal(picture.alpha, upright[:, :, 3]) and np.array_equal(picture.pixels, upright[:, :, :3])


def test_a_damaged_exif_block_costs_no_picture(scene, encoded):
    data = encoded(Image.fromarray(scene(16, 16)), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read_picture(data).width == 16


def test_animations_and_pages_give_one_frame_and_say_so(scene, encoded):
    frames = [Image.fromarray(scene(24, 24, seed)) for seed in range(3)]
    for file_format in ("GIF", "PNG", "WEBP", "TIFF"):
        picture = read_picture(encoded(frames[0], file_format, save_all=True, append_images=frames[1:]))
        assert np.abs(picture.pixels.astype(int) - np.asarray(frames[0])).mean() < 14
        assert "of 3" in picture.warnings[0] and "number 1" in picture.warnings[0]


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (20_000, 3), (3, 2)])
def test_extreme_shapes(scene, encoded, size):
    pixels = scene(*size)
    picture = read_picture(encoded(Image.fromarray(pixels), "PNG"))
    assert np.array_equal(picture.pixels, pixels)


def test_sixteen_bits(encoded):
    ramp = np.linspace(0, 65535, 64 * 4).astype(np.uint16).reshape(4, 64)
    expected = np.rint(ramp / 257)
    for data in (deep_png(ramp[:, :, None], 0), encoded(Image.fromarray(ramp), "TIFF"), pgm_16(ramp)):
        picture = read_picture(data)
        assert picture.gray and np.array_equal(picture.pixels[:, :, 0], expected)
        assert picture.warnings == ["16 bits per channel reduced to 8"]
    for colour_type, channels in ((2, 3), (4, 2), (6, 4)):
        picture = read_picture(deep_png(np.repeat(ramp[:, :, None], channels, axis=2), colour_type))
        assert np.array_equal(picture.pixels[:, :, 0], expected)
        assert picture.gray and picture.as_rgb == (channels != 2)
        assert (picture.alpha is not None) == (channels in (2, 4))
        assert picture.warnings == ["16 bits per channel reduced to 8"]


def pgm_16(samples: np.ndarray) -> bytes:
    height, width = samples.shape
    return b"P5 %d %d 65535\n" % (width, height) + samples.astype(">u2").tobytes()


def test_samples_without_a_white_are_refused(encoded):
    for samples, words in ((np.full((4, 4), 1.5, np.float32), "floating"), (np.zeros((4, 4), np.int32), "32-bit")):
        image = Image.fromarray(samples)
        assert words in line_of(encoded(image, "TIFF"))
        assert words in line_of(image)


def test_pillow_images_are_left_as_they_were(scene, encoded):
    data = encoded(Image.fromarray(scene(8, 8)), "GIF", save_all=True, append_images=[Image.fromarray(scene(8, 8, 1))])
    image = Image.open(io.BytesIO(data))
    image.seek(1)
    picture = read_picture(image)
    assert image.tell() == 1 and "number 2" in picture.warnings[0]
    image.close()


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "GIF"])
def test_closed_images_are_not_called_damaged(scene, encoded, tmp_path, file_format):
    path = tmp_path / "picture"
    path.write_bytes(encoded(Image.fromarray(scene(40, 30)), file_format))
    with Image.open(path) as left:
        pass
    unread, loaded, copied = Image.open(path), Image.open(path), Image.new("RGB", (3, 2))
    loaded.load()
    for image in (unread, loaded, copied):
        image.close()
    for image in (left, unread, loaded, copied):
        assert line_of(image) == "the image is closed: give it while it is open"
    cut = Image.open(io.BytesIO(path.read_bytes()[:-200]))
    assert "closed" not in line_of(cut)
    cut.close()


@pytest.mark.parametrize("images", ["a.png", b"a.png", io.BytesIO(b"a.png"), None, 5])
def test_one_name_is_no_sequence_of_pictures(images):
    with pytest.raises(ImageError, match=r"are no pictures: give a sequence of them$"):
        read_all_prepared(images, strip=False, max_pixels=100)


def test_to_pil_is_the_inverse(scene):
    rgb = scene(9, 7)
    alpha = np.arange(63, dtype=np.uint8).reshape(7, 9)
    gray = np.repeat(rgb[:, :, :1], 3, axis=2)
    for picture, mode in (
        (Picture(rgb), "RGB"),
        (Picture(rgb, alpha=alpha), "RGBA"),
        (Picture(gray, gray=True), "L"),
        (Picture(gray, gray=True, alpha=alpha, icc=None), "LA"),
    ):
        image = to_pil(picture)
        again = read_picture(image)
        assert image.mode == mode and again.gray == picture.gray
        assert np.array_equal(again.pixels, picture.pixels)
        assert (again.alpha is None) if picture.alpha is None else np.array_equal(again.alpha, picture.alpha)
    assert to_pil(Picture(rgb, icc=b"profile")).info["icc_profile"] == b"profile"


def test_files_that_are_no_pictures(tmp_path):
    assert line_of(b"") == "the file is empty"
    assert "not a picture" in line_of(b"Just some text, and no picture at all." * 9)
    assert "not a picture" in line_of(bytes(range(256)) * 4)
    assert "decompress" in line_of(b"\x9d\x47" + bytes(40))
    assert "No such file" in line_of(tmp_path / "absent.png")
    assert "directory" in line_of(tmp_path)
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere.png")
    assert "No such file" in line_of(tmp_path / "broken.png")
    assert line_of("a\0b.png")


def test_programs_are_not_run_for_a_picture():
    assert "PostScript, which is not read" in line_of(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA"])
def test_cut_at_every_length(scene, encoded, file_format):
    whole = Image.fromarray(scene(12, 10))
    data = encoded(whole, file_format)
    complete = read_picture(data).pixels
    for length in range(0, len(data), 1 if len(data) < 400 else 3):
        try:
            picture = read_picture(data[:length])
        except ImageError as error:
            assert str(error) and "\n" not in str(error)
        else:  # only what carries no pixels was cut off
            assert length > len(data) // 2 and np.array_equal(picture.pixels, complete)


def test_flipped_bytes_never_raise_anything_else(scene, encoded):
    rng = np.random.default_rng(5)
    for file_format in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "AVIF", "TGA", "ICO"):
        data = encoded(Image.fromarray(scene(16, 16)), file_format)
        for _ in range(60):
            damaged = bytearray(data)
            for position in rng.integers(0, len(data), 2):
                damaged[position] ^= int(rng.integers(1, 256))
            try:
                read_picture(bytes(damaged), max_pixels=1 << 20)
            except ImageError as error:
                assert "\n" not in str(error)


def bomb(width: int, height: int) -> bytes:
    """A few bytes that claim to be a large picture."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def test_bombs_are_refused_from_the_header():
    assert "limit of 134217728 pixels" in line_of(bomb(30_000, 30_000))
    assert "limit" in line_of(bomb(16_384, 8_193))  # just beyond
    assert "limit" in line_of(bomb(200, 200), max_pixels=39_999)
    assert "damaged or cut" in line_of(bomb(200, 200), max_pixels=40_000)
    assert "side" in line_of(bomb(2**21 + 1, 1))


def test_the_limit_is_ours_and_pillows_comes_back(scene, encoded, monkeypatch):
    data = encoded(Image.fromarray(scene(40, 40)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow alone would refuse
    assert read_picture(data).width == 40
    assert Image.MAX_IMAGE_PIXELS == 100
    before = list(warnings.filters)
    threads = [threading.Thread(target=read_picture, args=(data,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Image.MAX_IMAGE_PIXELS == 100 and warnings.filters == before


def test_picture_size_reads_the_header_alone(scene, encoded, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(scene(30, 20)), "PNG")[:60])
    assert picture_size(path) == (30, 20)
    for content in (b"", b"no picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"):
        path.write_bytes(content)
        with pytest.raises(ImageError):
            picture_size(path)
    with pytest.raises(ImageError):
        picture_size(Path("absent.png"))
