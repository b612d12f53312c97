"""Whatever the public functions are given, they end in a result or in one of their documented errors, on one line."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import gmvqzip
import gmvqzip.pillow  # Pillow knows .gmvq from here on
from gmvqzip.codec import Codec
from gmvqzip.errors import GmvqError
from gmvqzip.pack import PackReader, PackWriter

FEW = settings(max_examples=120, suppress_health_check=list(HealthCheck))


def closed_file() -> io.BytesIO:
    file = io.BytesIO(b"x")
    file.close()
    return file


def closed_image() -> Image.Image:
    image = Image.new("RGB", (3, 3))
    image.close()
    return image


class Strange:
    """Nothing that it is asked works."""

    def __index__(self) -> int:
        raise RuntimeError("two\nlines")

    __float__ = __fspath__ = __len__ = __index__

    def __repr__(self) -> str:
        raise RuntimeError("two\nlines")


class Text:
    def read(self, size: int = -1) -> str:
        return "text"


MAKERS: list[Callable[[], Any]] = [
    lambda: None,
    lambda: True,
    lambda: np.int64(50),
    lambda: np.uint8(7),
    lambda: np.float32(0.5),
    lambda: np.bool_(True),
    lambda: np.array(5),
    lambda: np.array([1, 2]),
    lambda: np.array(["a", None], dtype=object),
    lambda: np.zeros((2, 0, 3), np.uint8),
    lambda: np.zeros((3, 4, 3), np.float64),
    lambda: np.zeros((3, 4, 4), np.uint8),
    lambda: np.zeros((3, 4), np.uint16),
    lambda: np.zeros((3, 4), np.bool_),
    lambda: np.ma.masked_array(np.zeros((3, 4), np.uint8), True),
    lambda: Decimal("0.5"),
    lambda: Fraction(1, 2),
    lambda: 1 + 2j,
    lambda: object(),
    lambda: Strange(),
    lambda: Strange,
    lambda: ...,
    dict,
    lambda: {"a": 1},
    list,
    lambda: [1, 2, 3, 4],
    lambda: (0, 0, 2, 2),
    lambda: (0, 0, "a", 2),
    lambda: (value for value in (1, 2)),
    lambda: io.StringIO("text"),
    lambda: io.BytesIO(b"some bytes"),
    lambda: Text(),
    closed_file,
    closed_image,
    lambda: Image.new("RGB", (0, 5)),
    lambda: Image.new("F", (2, 2)),
    lambda: Image.new("CMYK", (2, 2)),
    lambda: Path("no/such/file"),
    lambda: "two\nlines",
    lambda: "zero\0byte",
    lambda: "\udcff",
    lambda: "/",
    lambda: os.devnull,
    lambda: b"\x9dG",
    lambda: b"\xff\xfe",
    lambda: 10**400,
    lambda: -(10**400),
    lambda: float("nan"),
    lambda: float("inf"),
]
ANYTHING = st.one_of(
    st.sampled_from(MAKERS),
    st.integers().map(lambda value: lambda: value),
    st.floats().map(lambda value: lambda: value),
    st.text(max_size=8).map(lambda value: lambda: value),
    st.binary(max_size=40).map(lambda value: lambda: value),
)


def tried(function: Callable[..., Any], *given: Any, errors: tuple[type[Exception], ...] = (), **options: Any) -> None:
    try:
        function(*given, **options)
    except (GmvqError, *errors) as error:
        assert str(error) and "\n" not in str(error), error


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory, tiny_path: Path, tiny: Codec, pixels: np.ndarray) -> Any:
    """The tiny model installed, a compressed picture and a pack; the working directory is empty."""
    patch = pytest.MonkeyPatch()
    patch.setenv("GMVQZIP_MODELS", str(tiny_path.parent))
    patch.chdir(tmp_path_factory.mktemp("empty"))
    pack = tmp_path_factory.mktemp("pack") / "a.gmvqp"
    with PackWriter(pack, model=tiny_path, device="cpu") as writer:
        writer.add("a", pixels)
    yield tiny, pixels, tiny.compress(pixels), pack
    patch.undo()


NUMBERS = ("quality", "target_bpp", "target_size", "target_psnr", "effort", "tile", "max_pixels", "strip")


@FEW
@given(name=st.sampled_from(NUMBERS), make=ANYTHING)
def test_options_of_compress(setting, name, make):
    codec, pixels, _, _ = setting
    tried(codec.compress, pixels[:8, :8], **{name: make()})
    if name in ("quality", "effort", "max_pixels", "strip"):
        tried(codec.compress_batch, [pixels[:8, :8]], **{name: make()})
        tried(codec.encode, pixels[:8, :8], **{name: make()})
        tried(codec.encode_batch, [pixels[:8, :8]], **{name: make()})


@FEW
@given(make=ANYTHING)
@example(lambda: "photo")
def test_models_and_devices(setting, make):
    _, pixels, data, _ = setting
    tried(gmvqzip.load, make())
    tried(gmvqzip.load, "photo", device=make())
    tried(gmvqzip.compress, pixels[:8, :8], model=make())
    tried(gmvqzip.decompress, data, model=make())
    tried(gmvqzip.info, data, model=make())


@FEW
@given(make=ANYTHING)
def test_pictures(setting, make):
    codec = setting[0]
    tried(codec.compress, make())
    tried(codec.encode, make())
    tried(codec.compress_batch, make())
    tried(codec.encode_batch, [make()])
    tried(gmvqzip.compress, make())


@FEW
@given(make=ANYTHING)
def test_files(setting, make):
    codec = setting[0]
    unreadable = (OSError,)
    for function in (codec.decompress, gmvqzip.decompress, gmvqzip.info):
        tried(function, make(), errors=unreadable)
    tried(codec.decode, make())
    tried(gmvqzip.decode, make())


@FEW
@given(make=ANYTHING)
def test_parts(setting, make):
    codec, _, data, _ = setting
    for name in ("region", "scale", "max_pixels"):
        tried(codec.decompress, data, **{name: make()})
        tried(gmvqzip.decompress, data, **{name: make()})


@FEW
@given(make=ANYTHING)
def test_packs(setting, tmp_path_factory, make):
    _, pixels, _, pack = setting
    tried(PackReader, make(), errors=(OSError,))
    tried(PackReader, pack, max_pixels=make())
    with PackReader(pack) as reader:
        for function in (reader.image, reader.codes, reader.gmvq, reader.entry):
            tried(function, make(), errors=(KeyError, IndexError))
    path = tmp_path_factory.mktemp("new") / "b.gmvqp"

    def write(**options: Any) -> None:
        with PackWriter(path, device="cpu", force=True) as writer:
            writer.add(options.pop("name", "a"), options.pop("image", pixels[:8, :8]), **options)

    for name in ("name", "image", "quality", "effort", "strip"):
        tried(write, **{name: make()})

    def write_file(source: Any) -> None:
        with PackWriter(path, device="cpu", force=True) as writer:
            writer.add_gmvq("a", source)

    tried(write_file, make(), errors=(OSError,))


@FEW
@given(name=st.sampled_from((*NUMBERS, "model", "device", "icc_profile")), make=ANYTHING)
def test_pillow(setting, name, make):
    image = Image.fromarray(setting[1][:8, :8])
    tried(image.save, io.BytesIO(), "GMVQ", errors=(ValueError, OSError), **{name: make()})
    tried(lambda: Image.open(io.BytesIO(setting[2])).load(), errors=(OSError,))


@FEW
@given(st.binary(max_size=60), st.integers(0, 2**32 - 1))
def test_pillow_opens_what_is_damaged(setting, behind, seed):
    data = bytearray(setting[2] + behind)
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(data), 2):
        data[place] ^= int(rng.integers(0, 256))

    def opened() -> None:
        with Image.open(io.BytesIO(bytes(data))) as image:
            image.load()

    tried(opened, errors=(OSError,))


def test_numbers_of_any_integer_type(hyper: Codec, pixels: np.ndarray) -> None:
    for number in (np.int64(50), np.uint8(50), np.int32(50), np.array(50)):
        assert hyper.compress(pixels, quality=number, effort=np.int16(1)) == hyper.compress(
            pixels, quality=50, effort=1
        )
        assert hyper.encode(pixels, quality=number).quality == 50
        assert hyper.compress_batch([pixels], quality=number) == [hyper.compress(pixels, quality=50)]
    assert hyper.compress(pixels, target_size=np.int64(900)) == hyper.compress(pixels, target_size=900)
    assert hyper.compress(pixels, target_psnr=np.float32(8)) == hyper.compress(pixels, target_psnr=8)
    for wrong in (50.0, "50", np.float64(50), [50]):
        with pytest.raises(GmvqError, match="is no whole number: give an int"):
            hyper.compress(pixels, quality=wrong)  # type: ignore[arg-type]
