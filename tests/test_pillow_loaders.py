"""`.gmvq` files in data loaders that open pictures with Pillow."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gmvqzip
from gmvqzip.codec import Codec


@pytest.fixture(autouse=True)
def installed(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model is the default."""
    monkeypatch.setenv("GMVQZIP_MODELS", str(tiny_path.parent))


def test_torchvision(tiny: Codec, tmp_path: Path, pixels: np.ndarray) -> None:
    """As docs/library.md has it: a folder of classes, and one file as `decode_image` would give it."""
    try:
        from torchvision import datasets
        from torchvision.transforms.v2 import functional
    except (ImportError, RuntimeError) as error:  # of a build that does not go with this torch
        pytest.skip(f"torchvision: {error}")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.gmvq").write_bytes(tiny.compress(pixels))
    found = datasets.DatasetFolder(tmp_path, datasets.folder.pil_loader, extensions=(".gmvq",))
    image, label = found[0]
    assert (image.size, label, found.classes) == ((37, 23), 0, ["cat"])
    tensor = functional.pil_to_tensor(gmvqzip.decompress((tmp_path / "cat" / "a.gmvq").read_bytes()))
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), np.asarray(image))


def test_datasets(packed: Path, tiny: Codec) -> None:
    """The Image feature of Hugging Face's datasets decodes bytes and paths."""
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    rows = {"image": [str(packed), {"bytes": packed.read_bytes(), "path": None}]}
    table = datasets.Dataset.from_dict(rows, features=datasets.Features({"image": datasets.Image()}))
    expected = np.asarray(tiny.decompress(packed))
    assert all(np.array_equal(np.asarray(row["image"]), expected) for row in table)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves its shard to the collector
def test_webdataset(packed: Path, tiny: Codec, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", exc_type=ImportError)
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(packed, "000.gmvq")

    def decode(key: str, data: bytes) -> Image.Image | None:
        return gmvqzip.decompress(data) if key.endswith(".gmvq") else None

    shards = webdataset.WebDataset(str(tmp_path / "shard.tar"), shardshuffle=False)
    (row,) = shards.decode(decode).to_tuple("gmvq")
    assert np.array_equal(np.asarray(row[0]), np.asarray(tiny.decompress(packed)))


def test_fsspec(packed: Path, tiny: Codec) -> None:
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    with files.open("/in.gmvq", "wb") as file:
        file.write(packed.read_bytes())
    with files.open("/in.gmvq", "rb") as file, Image.open(file) as image:
        assert image.tobytes() == tiny.decompress(packed).tobytes()
        with files.open("/out.gmvq", "wb") as other:
            image.save(other, "GMVQ")
    with files.open("/out.gmvq", "rb") as file:
        assert gmvqzip.info(file).width == 37


def test_imageio(packed: Path, tmp_path: Path, tiny: Codec) -> None:
    imageio = pytest.importorskip("imageio.v3")
    expected = np.asarray(tiny.decompress(packed))
    assert np.array_equal(imageio.imread(packed, plugin="pillow"), expected)
    assert np.array_equal(imageio.imread(packed.read_bytes(), plugin="pillow", extension=".gmvq"), expected)
    assert imageio.improps(packed, plugin="pillow").shape == (23, 37, 3)
    imageio.imwrite(tmp_path / "out.gmvq", expected, plugin="pillow", quality=40)
    assert (tmp_path / "out.gmvq").read_bytes() == tiny.compress(expected)
