"""Codes in and out of .npz archives."""

from __future__ import annotations

import io
import re
import zipfile

import numpy as np
import pytest

from gmvqzip import FormatError
from gmvqzip.codec import Codec
from gmvqzip.format.metadata import Metadata
from gmvqzip.npz import dump_npz, load_npz


def test_round_trip(tiny: Codec, pixels: np.ndarray) -> None:
    codes = tiny.encode(pixels[:, :, 0])
    back, (alpha, icc, metadata, as_rgb) = load_npz(
        dump_npz(codes, alpha=pixels[:, :, 1], icc=b"profile", metadata=Metadata(comment=b"known"), as_rgb=True)
    )
    assert as_rgb
    assert metadata == Metadata(comment=b"known")
    assert back == codes
    assert back.gray
    assert np.array_equal(alpha, pixels[:, :, 1])
    assert icc == b"profile"
    assert load_npz(dump_npz(codes))[1] == (None, None, None, False)


def test_the_same_codes_give_the_same_archive(tiny: Codec, pixels: np.ndarray) -> None:
    assert dump_npz(tiny.encode(pixels)) == dump_npz(tiny.encode(pixels))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": None}, "lacks an array"),
        ({"stage_01": None}, "without a gap"),
        ({"stage_00": np.array([[object()]])}, "not a .npz archive of codes"),
        ({"stage_00": np.full((3, 5), -1)}, "outside"),
        ({"stage_00": np.zeros((3, 5))}, "integers"),
        ({"width": np.arange(3)}, "not a .npz archive of codes"),
        ({"width": 10**9}, "pixels"),
        ({"model_id": "../../etc/passwd"}, "identity"),
        ({"alpha": np.zeros((2, 2), np.uint8)}, "alpha"),
    ],
)
def test_archives_that_are_none(tiny: Codec, pixels: np.ndarray, change: dict[str, object], message: str) -> None:
    with np.load(io.BytesIO(dump_npz(tiny.encode(pixels)))) as arrays:
        content = {name: arrays[name] for name in arrays} | change
    file = io.BytesIO()
    np.savez(file, **{name: value for name, value in content.items() if value is not None})
    with pytest.raises(FormatError, match=message):
        load_npz(file.getvalue())


def test_headers_of_python_2_are_read_without_advice(tiny: Codec, pixels: np.ndarray) -> None:
    codes = tiny.encode(pixels)
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(dump_npz(codes))) as archive, zipfile.ZipFile(changed, "w") as older:
        for name in archive.namelist():
            older.writestr(name, re.sub(rb"(\d)\), } ", rb"\1L), }", archive.read(name)))
    assert load_npz(changed.getvalue())[0] == codes


def test_foreign_cut_and_large_archives(tiny: Codec, pixels: np.ndarray) -> None:
    data = dump_npz(tiny.encode(pixels))
    for broken in (b"", b"PK", data[: len(data) // 2], data[:-1], b"\x93NUMPY" + data):
        with pytest.raises(FormatError):
            load_npz(broken)
    with pytest.raises(FormatError, match="limit of 850"):
        load_npz(data, max_pixels=850)
    big = io.BytesIO()
    np.savez_compressed(big, stage_00=np.zeros((1 << 13, 1 << 13), np.uint8))
    with pytest.raises(FormatError, match="unpacks to"):
        load_npz(big.getvalue(), max_pixels=1000)
