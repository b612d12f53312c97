"""Modes, transparency and colour profiles."""

from __future__ import annotations

import numpy as np
import pytest
from made_files import matrix_profile
from PIL import Image, ImageCms

from gmvqzip.images.picture import read_picture
from gmvqzip.images.pixels import to_pil

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """A profile whose red and blue primaries are exchanged: its conversion to sRGB cannot be overlooked."""
    data = bytearray(SRGB)
    count = int.from_bytes(data[128:132], "big")
    tags = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = tags[b"rXYZ"] + 4, tags[b"bXYZ"] + 4
    data[red : red + 8], data[blue : blue + 8] = data[blue : blue + 8], data[red : red + 8]
    at = tags[b"desc"] + 4
    start, length = int.from_bytes(data[at : at + 4], "big"), int.from_bytes(data[at + 4 : at + 8], "big")
    name = bytes(data[start : start + length])
    data[start : start + length] = name.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    data[84:100] = bytes(16)  # the profile's own identity
    return bytes(data)


def gray_profile() -> bytes:
    data = bytearray(SRGB)
    data[16:20] = b"GRAY"
    return bytes(data)


def test_gray_stays_gray(scene, encoded):
    gray = Image.fromarray(scene(16, 12)[:, :, 0])
    for file_format in ("PNG", "TIFF", "PPM", "BMP", "GIF"):
        picture = read_picture(encoded(gray, file_format))
        assert picture.gray and np.array_equal(picture.pixels[:, :, 1], np.asarray(gray))
    assert read_picture(encoded(gray, "JPEG")).gray
    bits = read_picture(encoded(gray.convert("1"), "PNG"))
    assert bits.gray and set(np.unique(bits.pixels)) <= {0, 255}


def test_alpha_is_kept_and_an_opaque_one_dropped(scene, encoded):
    pixels, alpha = scene(16, 12), np.arange(192, dtype=np.uint8).reshape(12, 16)
    for file_format, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        picture = read_picture(encoded(Image.fromarray(np.dstack([pixels, alpha])), file_format, **options))
        assert np.array_equal(picture.alpha, alpha) and np.array_equal(picture.pixels, pixels)
        opaque = Image.fromarray(np.dstack([pixels, np.full_like(alpha, 255)]))
        assert read_picture(encoded(opaque, file_format, **options)).alpha is None
    both = read_picture(encoded(Image.fromarray(np.dstack([pixels[:, :, 0], alpha]), "LA"), "PNG"))
    assert both.gray and np.array_equal(both.alpha, alpha)


def test_palettes(encoded):
    indices = np.arange(16, dtype=np.uint8).reshape(4, 4) % 4
    image = Image.fromarray(indices).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    plain = read_picture(encoded(image, "PNG"))
    assert plain.pixels[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]] and plain.alpha is None
    one = read_picture(encoded(image, "PNG", transparency=2))
    assert one.alpha[0].tolist() == [255, 255, 0, 255] and np.array_equal(one.pixels[:, :2], plain.pixels[:, :2])
    several = read_picture(encoded(image, "PNG", transparency=bytes([255, 100, 0, 7])))
    assert several.alpha[0].tolist() == [255, 100, 0, 7]
    assert read_picture(encoded(image, "GIF", transparency=1)).alpha[0].tolist() == [255, 0, 255, 255]
    image.putpalette([0, 0, 0, 80, 80, 80, 160, 160, 160, 255, 255, 255])
    assert read_picture(image).gray


def test_transparent_colours(encoded):
    gray = np.array([[0, 5, 9]], dtype=np.uint8)
    assert read_picture(encoded(Image.fromarray(gray), "PNG", transparency=5)).alpha.tolist() == [[255, 0, 255]]
    rgb = Image.fromarray(np.repeat(gray[:, :, None], 3, axis=2))
    assert read_picture(encoded(rgb, "PNG", transparency=(9, 9, 9))).alpha.tolist() == [[255, 255, 0]]
    deep = Image.fromarray(np.array([[0, 300, 65535]], dtype=np.uint16))
    deep.info["transparency"] = 300
    assert read_picture(deep).alpha.tolist() == [[255, 0, 255]]


def test_every_mode_of_pillow(scene):
    rgb = Image.fromarray(scene(8, 8))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "RGBX", "PA"):
        image = rgb.convert("LA").convert("PA") if mode == "PA" else rgb.convert(mode)
        picture = read_picture(image)
        assert picture.pixels.shape == (8, 8, 3) and picture.alpha is None
        assert picture.gray == (mode in ("1", "L", "LA", "PA"))
    half = rgb.copy()
    half.putalpha(128)
    for picture in (read_picture(half.convert("RGBa")), read_picture(half.convert("LA").convert("La"))):
        assert np.all(picture.alpha == 128)
        assert np.abs(picture.pixels.astype(int) - np.asarray(half.convert("RGB"))).mean() < 40
    lab = ImageCms.profileToProfile(
        rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    picture = read_picture(lab)
    assert np.abs(picture.pixels.astype(int) - np.asarray(rgb)).mean() < 3
    assert picture.warnings == ["LAB converted to RGB"]


def test_cmyk(scene, encoded):
    rgb = Image.fromarray(scene(32, 32))
    for file_format in ("JPEG", "TIFF"):
        picture = read_picture(encoded(rgb.convert("CMYK"), file_format))
        assert np.abs(picture.pixels.astype(int) - np.asarray(rgb)).mean() < 8
        assert picture.warnings == ["CMYK converted to RGB"] and picture.icc is None
    bad = bytearray(SRGB)
    bad[16:20] = b"CMYK"
    picture = read_picture(encoded(rgb.convert("CMYK"), "TIFF", icc_profile=bytes(bad)))
    assert picture.icc is None and picture.warnings[0] == "CMYK converted to RGB"


def test_profiles_are_kept(scene, encoded):
    rgb = Image.fromarray(scene(16, 16))
    for file_format in ("PNG", "JPEG", "WEBP", "TIFF"):
        assert read_picture(encoded(rgb, file_format, icc_profile=SRGB)).icc == SRGB
    gray = gray_profile()
    assert read_picture(encoded(rgb.convert("L"), "PNG", icc_profile=gray)).icc == gray


@pytest.mark.parametrize(
    ("mode", "profile", "words"),
    [
        ("RGB", b"too short", "damaged"),
        ("RGB", bytes(500), "damaged"),
        ("L", SRGB, "belong"),
        ("RGB", gray_profile(), "belong"),
        ("RGB", SRGB + bytes(2**24), "longer"),
    ],
    ids=["short", "zeros", "gray with an RGB profile", "RGB with a gray profile", "long"],
)
def test_profiles_that_cannot_be_kept_are_dropped_with_a_word(scene, mode, profile, words):
    image = Image.fromarray(scene(8, 8)).convert(mode)
    image.info["icc_profile"] = profile
    picture = read_picture(image)
    assert picture.icc is None and words in picture.warnings[0]
    assert np.array_equal(np.asarray(to_pil(picture)), np.asarray(image))


def test_strip_converts_to_srgb(scene, encoded):
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    pixels[:, :, 0] = 255
    data = encoded(Image.fromarray(pixels), "PNG", icc_profile=swapped_profile())
    kept = read_picture(data)
    assert kept.icc is not None and np.array_equal(kept.pixels, pixels)
    stripped = read_picture(data, strip=True)
    assert stripped.icc is None
    assert stripped.pixels[0, 0, 2] > 200 and stripped.pixels[0, 0, 0] < 50  # what was called red is blue

    pixels = scene(16, 16)
    plain = read_picture(encoded(Image.fromarray(pixels), "PNG", icc_profile=SRGB), strip=True)
    assert plain.icc is None and np.array_equal(plain.pixels, pixels)  # sRGB: nothing to convert


@pytest.mark.parametrize("name", ["sRGB IEC61966-2.1", "GIMP built-in Linear sRGB", "sRGB-elle-V2-g10.icc", "anything"])
@pytest.mark.parametrize("gray", [False, True])
def test_what_a_profile_does_counts_and_not_its_name(encoded, name, gray):
    pixels = np.full((4, 4, 3), 55, dtype=np.uint8)
    image = Image.fromarray(pixels[:, :, 0] if gray else pixels)
    linear = encoded(image, "PNG", icc_profile=matrix_profile(1.0, gray=gray, name=name))
    assert abs(int(read_picture(linear, strip=True).pixels[0, 0, 0]) - 127) <= 1  # (55 / 255) is light of 0.2157
    picture = read_picture(encoded(image, "PNG", icc_profile=matrix_profile(2.2, gray=gray, name=name)), strip=True)
    assert abs(int(picture.pixels[0, 0, 0]) - 55) <= 4 and picture.icc is None


def test_a_wide_gamut_is_kept_or_converted(encoded):
    red = Image.fromarray(np.full((4, 4, 3), (200, 50, 50), dtype=np.uint8))
    data = encoded(red, "PNG", icc_profile=matrix_profile(2.2, "p3", name="like sRGB"))
    assert read_picture(data).icc is not None and read_picture(data).pixels[0, 0].tolist() == [200, 50, 50]
    assert np.abs(read_picture(data, strip=True).pixels[0, 0] - np.array([219, 14, 35])).max() <= 2


def test_a_gray_picture_with_a_profile_of_rgb_goes_out_as_rgb(encoded):
    gray = np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 4, 1), 3, axis=2)
    picture = read_picture(encoded(Image.fromarray(gray), "PNG", icc_profile=SRGB))
    assert picture.gray and picture.icc == SRGB
    assert to_pil(picture).mode == "RGB" and to_pil(picture).info["icc_profile"] == SRGB


def test_strip_with_a_profile_that_cannot_be_used(scene):
    image = Image.fromarray(scene(8, 8))
    image.info["icc_profile"] = SRGB[:200]
    picture = read_picture(image, strip=True)
    assert picture.icc is None and "cannot be used" in picture.warnings[0]
    assert np.array_equal(picture.pixels, np.asarray(image))
