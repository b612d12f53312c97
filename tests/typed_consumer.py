"""What a type-checked program does with the library. mypy reads it (pyproject.toml); nobody runs it.

`assert_type` says what comes out; each `type: ignore` is a mistake that must be found.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import IO, BinaryIO, assert_type

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import gmvqzip
import gmvqzip.pack
from gmvqzip import Codec, Codes, Compressed, Info
from gmvqzip.format.metadata import Metadata
from gmvqzip.pack import PackDataset, PackReader, PackWriter
from gmvqzip.quantizers import GMVQ, METHODS, GMVQSettings, QuantizerResult


def pictures(codec: Codec, array: NDArray[np.uint8], image: Image.Image) -> None:
    assert_type(codec.compress(array, quality=60), bytes)
    codec.compress(image, target_bpp=0.5, effort=1, tile=256, max_pixels=10**6)
    codec.compress(b"") + codec.compress(bytearray()) + codec.compress(memoryview(b"")) + codec.compress(Path("a.png"))
    codec.compress(5)  # type: ignore[arg-type]
    codec.compress(array, qualty=5)  # type: ignore[call-arg]
    assert_type(codec.compress_batch(name for name in ["a.png", "b.png"]), list[bytes])
    codec.compress_batch([5])  # type: ignore[list-item]
    assert_type(gmvqzip.compress(array, model="photo", tile=256, strip=True, max_pixels=5, target_psnr=34), bytes)
    codes = gmvqzip.encode(array, quality=60, tile=0, strip=True, max_pixels=5)
    assert_type(codes, Codes)
    assert_type(codes.stages, tuple[NDArray[np.int32], ...])
    assert_type(gmvqzip.decode(codes), Image.Image)
    assert_type(codec.pack_codes(codes), Compressed)
    gmvqzip.commpress(array)  # type: ignore[attr-defined]


def files(codec: Codec, stream: IO[bytes], binary: BinaryIO, text: IO[str]) -> None:
    with zipfile.ZipFile("a.zip") as archive, archive.open("a.gmvq") as member, tempfile.TemporaryFile() as temporary:
        for file in (stream, binary, member, temporary):
            codec.compress(file)
            assert_type(codec.decompress(file, region=(0, 0, 8, 8), scale=1 / 2), Image.Image)
            assert_type(gmvqzip.info(file), Info)
            assert_type(codec.decode_codes(file), Codes)
    gmvqzip.decompress(text)  # type: ignore[arg-type]
    assert_type(gmvqzip.info("a.gmvq").metadata, Metadata | None)


def packs(array: NDArray[np.uint8]) -> None:
    with PackWriter("a.gmvqp", model="photo") as writer:
        assert_type(writer.add("a", array) + writer.add_gmvq("b", Path("b.gmvq")), int)
        writer.add_all({"c": array}.items())
        writer.add("d", 5)  # type: ignore[arg-type]
    with PackReader("a.gmvqp") as reader:
        assert_type(reader, PackReader)
        assert_type(reader.image("a"), Image.Image)
        reader.image(1.5)  # type: ignore[arg-type]
    assert_type(len(PackDataset("a.gmvqp", "codes")), int)
    gmvqzip.pack.PackRaeder  # type: ignore[attr-defined] # noqa: B018


def quantisers(z: Tensor) -> None:
    result = GMVQ(1024, 64, GMVQSettings())(z, temperature=0.5)
    assert_type(result, QuantizerResult)
    assert_type(result.quantised, Tensor)
    assert_type([settings().build(1024, 64)(z) for settings in METHODS.values()], list[QuantizerResult])
