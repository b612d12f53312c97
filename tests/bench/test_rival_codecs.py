"""Each codec there and back, its ladder, and what is said where it is missing."""

from __future__ import annotations

import io
import itertools
import sys

import numpy as np
import pytest
from fakes import Model, Quantiser, scene
from PIL import Image, features

from gmvqzip.bench.codecs import DEFAULT_RIVALS, BenchCodec, Gmvq, JpegXl, rivals, settings, why_missing
from gmvqzip.bench.measure import measure
from gmvqzip.bench.metrics import psnr

KNOWN = rivals(threads=1)
PACKAGES = {"jxl": "imagecodecs", "jpegli": "pyjpegli"}


def working(name: str) -> BenchCodec:
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    elif name != "jpeg" and not features.check(name.split("-")[0]):
        pytest.skip(f"Pillow is built without {name} here")
    codec = KNOWN[name]
    if (reason := why_missing(codec)) is not None and name.startswith("avif"):
        pytest.skip(reason)  # an AV1 encoder other than libaom, or an old one
    return codec


@pytest.mark.parametrize("name", list(KNOWN))
class TestRivals:
    def test_there_and_back(self, name: str) -> None:
        codec, picture = working(name), scene(61, 43)
        points = measure(codec, picture, [5, 40, 90])
        assert [point.quality for point in points] == [5, 40, 90]
        for worse, better in itertools.pairwise(points):
            assert worse.bpp < better.bpp
            assert worse.psnr < better.psnr
            assert worse.ms_ssim < better.ms_ssim
        assert points[-1].psnr > 28
        data = codec.encode(picture, 40)
        assert points[1].bpp == 8 * len(data) / (61 * 43)
        assert points[1].psnr == psnr(picture, codec.decode(data))

    def test_the_ladder(self, name: str) -> None:
        codec, picture = working(name), scene(40, 32)
        assert list(codec.ladder) == sorted(set(codec.ladder))
        smallest, largest = (codec.encode(picture, codec.ladder[end]) for end in (0, -1))
        assert len(smallest) < len(largest)
        assert settings(codec, [1, 50]) == [1, 50]

    def test_missing_is_none_where_it_works(self, name: str) -> None:
        assert why_missing(working(name)) is None


def test_what_the_files_are() -> None:
    picture = scene(64, 48)
    with Image.open(io.BytesIO(KNOWN["jpeg"].encode(picture, 50))) as jpeg:
        assert (jpeg.format, jpeg.info["progressive"]) == ("JPEG", 1)
        assert [layer[1:3] for layer in jpeg.layer] == [(2, 2), (1, 1), (1, 1)]  # 4:2:0
    with Image.open(io.BytesIO(working("jpegli").encode(picture, 50))) as jpeg:
        assert [layer[1:3] for layer in jpeg.layer] == [(2, 2), (1, 1), (1, 1)]
    for name, chroma in (("avif", (1, 1)), ("avif-iq", (1, 1)), ("avif-420", (0, 0))):
        data = working(name).encode(picture, 50)
        place = data.index(b"av1C") + 4
        assert data[4:12] == b"ftypavif"
        assert (data[place + 2] >> 3 & 1, data[place + 2] >> 2 & 1) == (1 - chroma[0], 1 - chroma[1])
    assert working("webp").encode(picture, 50)[12:16] == b"VP8 "
    assert working("jxl").encode(picture, 50)[:2] == b"\xff\x0a"


def test_avif_420_is_what_pillow_does_without_options() -> None:
    """Except for tiles, which a picture of this size has none of."""
    picture, file = scene(64, 48), io.BytesIO()
    codec = working("avif-420")
    Image.fromarray(picture).save(file, "AVIF", quality=60, max_threads=1)
    assert codec.encode(picture, 60) == file.getvalue()


def test_tuning_for_psnr_gives_more_psnr() -> None:
    """The reason for two AVIFs: at equal PSNR the one tuned for the eye is larger."""
    picture = scene(128, 128)
    plain, eye = (measure(working(name), picture, [20, 30, 40, 50, 60, 70]) for name in ("avif", "avif-iq"))
    middle = eye[3]
    sizes = np.interp(middle.psnr, [point.psnr for point in plain], [point.bpp for point in plain])
    assert sizes < middle.bpp


@pytest.mark.parametrize(("quality", "distance"), [(0, 25), (20, 9.0666667), (30, 6.4), (90, 1.0), (99.8, 0.118)])
def test_distances_of_jpeg_xl(quality: float, distance: float) -> None:
    assert JpegXl.distance(quality) == pytest.approx(distance)
    assert JpegXl(1).label(quality) == f"distance {distance:.2f}"


class TestMissing:
    def test_a_package_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
        assert why_missing(KNOWN["jxl"]) == "imagecodecs is not installed: pip install imagecodecs"

    def test_jpegli_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyjpegli", None)
        assert why_missing(KNOWN["jpegli"]) == "pyjpegli is not installed: pip install pyjpegli"

    def test_an_encoder_does_not_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise OSError("encoder\nwebp not available")

        monkeypatch.setattr(Image.Image, "save", broken)
        assert why_missing(KNOWN["webp"]) == "its encoder does not work here: encoder webp not available"

    def test_a_decoder_gives_something_else(self, monkeypatch: pytest.MonkeyPatch) -> None:
        codec = Quantiser(lambda quality: 9)
        assert why_missing(codec) is None
        monkeypatch.setattr(codec, "decode", lambda data: scene(3, 3))
        assert why_missing(codec) == "it returns a picture of shape (3, 3, 3)"


class TestGmvq:
    def test_a_single_rate(self) -> None:
        for qualities in ((), range(0), (40,)):
            model = Model(qualities)
            codec = Gmvq(model)
            assert settings(codec, [1, 50, 100]) == [0]
            codec.encode(scene(12, 12), 0)
            assert model.asked == [None]
            assert codec.label(0) == "single rate"

    def test_several_rates(self) -> None:
        model = Model(range(1, 101))
        codec = Gmvq(model)
        assert settings(codec, [1, 50, 50, 95]) == [1, 50, 95]
        codec.encode(scene(12, 12), 50)
        assert model.asked == [50]
        assert codec.label(50) == "q 50"

    def test_the_effort(self) -> None:
        model = Model(range(1, 101))
        for effort in (None, 2):
            Gmvq(model, effort).encode(scene(12, 12), 50)
        assert model.efforts == [None, 2]

    def test_the_nearest_of_a_few_rates(self) -> None:
        assert settings(Gmvq(Model([30, 10, 20])), [1, 12, 19, 90]) == [10, 20, 30]

    def test_a_gray_answer_becomes_rgb(self) -> None:
        codec = Gmvq(Model())
        assert codec.decode(codec.encode(scene(12, 14), 0)).shape == (12, 14, 3)


def test_the_default_rivals_are_known() -> None:
    assert set(DEFAULT_RIVALS) < set(KNOWN)
    assert all(name == codec.name for name, codec in KNOWN.items())
