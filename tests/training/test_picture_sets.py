"""CelebA and folders of pictures as they lie on people's disks, in small."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_runs import TINY

from gmvqzip.errors import TrainingError
from gmvqzip.training import celeba, folder, splits
from gmvqzip.training.datasets import load_dataset
from gmvqzip.training.imagesets import MixedSet, UniformSet
from gmvqzip.training.run import _sample
from gmvqzip.training.streamed import StreamedSet


def quiet(line: str) -> None:
    """Takes what is said where no line is expected."""
    raise AssertionError(f"said without need: {line}")


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def aligned_faces(root: Path, count: int = 60) -> list[str]:
    """CelebA in its official layout, in small; picture i belongs to partition i % 3."""
    rng = np.random.default_rng(4)
    names = [f"{number:06d}.jpg" for number in range(1, count + 1)]
    for name in names:
        blocks = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(blocks).resize((178, 218), Image.Resampling.BICUBIC)
        (root / "img_align_celeba").mkdir(parents=True, exist_ok=True)
        image.save(root / "img_align_celeba" / name, quality=90)
    lines = [f"{name} {position % 3}" for position, name in enumerate(names)]
    (root / "list_eval_partition.txt").write_text("\n".join([*lines, "999999.jpg 0"]) + "\n")
    return names


def test_celeba_as_it_comes(tmp_path):
    names = aligned_faces(tmp_path, 12)
    data = load_dataset("celeba", tmp_path, crop=None, seed=0, say=quiet)
    assert [len(data.train), len(data.validation), len(data.test or [])] == [4, 4, 4]
    assert data.train.array is not None and data.train.array.shape == (4, 128, 128, 3)
    with Image.open(tmp_path / "img_align_celeba" / names[3]) as image:
        expected = image.crop((19, 39, 159, 179)).resize((128, 128), Image.Resampling.LANCZOS)
    assert np.array_equal(data.train.array[1], np.asarray(expected))
    assert "official" in data.description
    again = load_dataset("celeba", tmp_path / "img_align_celeba", crop=None, seed=0, say=quiet)
    assert np.array_equal(again.train.array, data.train.array)


def test_celeba_zip_and_the_other_places_of_its_list(tmp_path):
    names = aligned_faces(tmp_path / "plain", 6)
    pictures, listed = tmp_path / "plain" / "img_align_celeba", tmp_path / "plain" / "list_eval_partition.txt"
    expected = load_dataset("celeba", tmp_path / "plain", crop=None, seed=0, say=quiet)

    img, evaluation = tmp_path / "CelebA" / "Img", tmp_path / "CelebA" / "Eval"
    img.mkdir(parents=True)
    evaluation.mkdir()
    with zipfile.ZipFile(img / "img_align_celeba.zip", "w") as archive:
        archive.mkdir("img_align_celeba")
        for name in names:
            archive.write(pictures / name, f"img_align_celeba/{name}")
    (evaluation / "list_eval_partition.txt").write_bytes(listed.read_bytes())
    for path in (img, img / "img_align_celeba.zip"):
        data = load_dataset("celeba", path, crop=None, seed=0, say=quiet)
        assert np.array_equal(data.train.array, expected.train.array)

    nested = tmp_path / "kaggle"  # as another site packs it: a folder in a folder, and a CSV
    (nested / "img_align_celeba").mkdir(parents=True)
    pictures.rename(nested / "img_align_celeba" / "img_align_celeba")
    table = ["image_id,partition", *(line.replace(" ", ",") for line in listed.read_text().split("\n"))]
    (nested / "list_eval_partition.csv").write_text("\n".join(table))
    data = load_dataset("celeba", nested, crop=None, seed=0, say=quiet)
    assert np.array_equal(data.train.array, expected.train.array)


def test_celeba_cropped_before(tmp_path):
    rng = np.random.default_rng(5)
    faces = rng.integers(0, 256, (60, 128, 128, 3), dtype=np.uint8)
    for number, face in enumerate(faces):
        save(face, tmp_path / f"{number:06d}.png")
    data = load_dataset("celeba", tmp_path, crop=None, seed=0, say=quiet)
    held = np.arange(60) % 50 == 49
    assert np.array_equal(data.train.array, faces[~held]) and np.array_equal(data.validation.array, faces[held])
    assert data.test is None
    (tmp_path / "list_eval_partition.txt").write_text("".join(f"{n:06d}.jpg {n % 3}\n" for n in range(60)))
    data = load_dataset("celeba", tmp_path, crop=None, seed=0, say=quiet)  # a list is heeded where it lies there
    assert data.test is not None and np.array_equal(data.test.array, faces[2::3])


@pytest.mark.parametrize(
    ("width", "height", "side"), [(178, 218, 128), (256, 256, 128), (64, 64, 64), (100, 90, 90), (128, 128, 128)]
)
def test_faces_are_made_square_and_never_enlarged(width, height, side):
    pixels = np.random.default_rng(6).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert celeba.prepare_face(pixels).shape == (side, side, 3)


def test_celeba_with_pictures_damaged(tmp_path):
    names = aligned_faces(tmp_path, 12)
    (tmp_path / "img_align_celeba" / names[0]).write_bytes(b"no picture")
    cut = (tmp_path / "img_align_celeba" / names[3]).read_bytes()[:300]
    (tmp_path / "img_align_celeba" / names[3]).write_bytes(cut)
    said = list[str]()
    data = load_dataset("celeba", tmp_path, crop=None, seed=0, say=said.append)
    assert len(data.train) == 2 and len(said) == 2 and names[0] in said[0] and names[3] in said[1]
    for name in names:
        (tmp_path / "img_align_celeba" / name).write_bytes(b"no picture")
    with pytest.raises(TrainingError, match="none of the 12"):
        load_dataset("celeba", tmp_path, crop=None, seed=0, say=said.append)


def test_celeba_with_its_list_missing_or_foreign(tmp_path):
    aligned_faces(tmp_path, 3)
    listed = tmp_path / "list_eval_partition.txt"
    for content, words in (
        ("000001.jpg 3\n", "line 1"),
        ("\n000001.jpg\n", "line 2"),
        ("é", "cannot be read"),
        ("000009.jpg 0\n", "none of its pictures is in the training part"),
    ):
        listed.write_text(content, encoding="utf-8")
        with pytest.raises(TrainingError, match=words):
            load_dataset("celeba", tmp_path, crop=None, seed=0, say=quiet)
    listed.unlink()
    with pytest.raises(TrainingError, match=r"list_eval_partition.txt is missing"):
        load_dataset("celeba", tmp_path, crop=None, seed=0, say=quiet)
    (tmp_path / "zip").mkdir()
    (tmp_path / "zip" / "img_align_celeba.zip").write_bytes(b"PK no zip")
    listed.write_text("")
    (tmp_path / "zip" / "list_eval_partition.txt").write_text("000001.jpg 0\n")
    with pytest.raises(TrainingError, match="not a whole zip"):
        load_dataset("celeba", tmp_path / "zip", crop=None, seed=0, say=quiet)


def test_celeba_from_disk_is_as_from_memory(tmp_path):
    aligned_faces(tmp_path, 9)
    memory = load_dataset("celeba", tmp_path, crop=None, seed=0, say=quiet)
    disk = load_dataset("celeba", tmp_path, crop=None, seed=0, say=quiet, budget=1000)
    assert isinstance(memory.train, UniformSet) and isinstance(disk.train, StreamedSet)
    for crop in (None, 64):
        assert np.array_equal(memory.train.batch(1, 4, crop, 2), disk.train.batch(1, 4, crop, 2))


def picture_tree(root: Path, count: int = 12) -> list[Path]:
    """Pictures of many kinds and sizes, some in folders, among other files."""
    rng = np.random.default_rng(7)
    endings = ("png", "jpg", "webp", "BMP")
    paths = []
    for number in range(count):
        size = rng.integers(20, 90, 2)
        path = root / f"{'ab'[number % 2]} {number % 3}" / f"{number:03d}.{endings[number % 4]}"
        save(rng.integers(0, 256, (*size, 3), dtype=np.uint8), path)
        paths.append(path)
    (root / "notes.txt").write_text("no picture")
    save(np.zeros((9, 9, 3), np.uint8), root / ".hidden" / "x.png")
    save(np.zeros((9, 9, 3), np.uint8), root / ".thumb.png")
    return sorted(paths, key=lambda path: path.relative_to(root).as_posix())


def test_folder(tmp_path):
    paths = picture_tree(tmp_path)
    assert folder.list_pictures(tmp_path) == paths
    data = load_dataset("folder", tmp_path, crop=32, seed=0, say=quiet)
    assert isinstance(data.train, MixedSet) and data.test is None
    assert len(data.train) == 11 and len(data.validation) == 1
    assert data.train.batch(0, 5, 32, 0).shape == (5, 32, 32, 3)
    with Image.open(paths[9]) as held:
        assert np.array_equal(data.validation.image(0), np.asarray(held.convert("RGB")))
    assert "11 pictures" in data.description and "memory" in data.description


def test_folder_from_disk_is_as_from_memory(tmp_path):
    picture_tree(tmp_path)
    memory = load_dataset("folder", tmp_path, crop=32, seed=0, say=quiet)
    disk = load_dataset("folder", tmp_path, crop=32, seed=0, say=quiet, budget=1000)
    assert isinstance(disk.train, StreamedSet) and "too large for memory" in disk.description
    for step in range(3):
        assert np.array_equal(memory.train.batch(step, 8, 32, 2), disk.train.batch(step, 8, 32, 2))
    for one, two in zip(memory.validation.all_images(), disk.validation.all_images(), strict=True):
        assert np.array_equal(one, two)


def test_folder_names_what_cannot_be_read(tmp_path, monkeypatch):
    paths = picture_tree(tmp_path)
    paths[2].write_bytes(b"no picture at all")
    paths[5].write_bytes(paths[5].read_bytes()[:-200])
    paths[7].write_bytes(b"")
    said = list[str]()
    data = load_dataset("folder", tmp_path, crop=32, seed=0, say=said.append)
    assert len(data.train) == 8 and len(said) == 3
    for index in (2, 5, 7):
        assert any(paths[index].name in line for line in said)
    monkeypatch.setattr(splits, "NAMED_AT_MOST", 1)
    said.clear()
    load_dataset("folder", tmp_path, crop=32, seed=0, say=said.append)
    assert "skipped 1 more" in said[1]


@pytest.mark.parametrize("budget", [None, 0])
@pytest.mark.parametrize("damaged", [(9,), range(9), range(10)])
def test_a_part_of_which_nothing_can_be_read(tmp_path, damaged, budget):
    """The tenth of ten pictures is held back; headers are whole in all."""
    rng = np.random.default_rng(3)
    for number in range(10):
        path = tmp_path / f"{number}.png"
        save(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), path)
        if number in damaged:
            path.write_bytes(path.read_bytes()[:1000])
    said = list[str]()
    if budget == 0:  # what is read at each use is found damaged then
        data = load_dataset("folder", tmp_path, crop=32, say=said.append, budget=budget)
        if 9 in damaged:
            with pytest.raises(TrainingError, match=r"validation.*: not one picture can be read"):
                _sample(data, replace(TINY, crop=32))
        return
    if len(damaged) == 10:
        with pytest.raises(TrainingError, match="no picture that can be read"):
            load_dataset("folder", tmp_path, crop=32, say=said.append)
        return
    data = load_dataset("folder", tmp_path, crop=32, say=said.append)
    assert len(said) == len(damaged)
    if len(damaged) == 1:
        assert (len(data.train), len(data.validation)) == (8, 1)
        assert "8 pictures to train on, 1 held out" in data.description
    else:
        assert np.array_equal(data.train.image(0), data.validation.image(0))
        assert "one picture, trained on and measured alike" in data.description


def test_a_folder_takes_what_compress_takes(tmp_path, monkeypatch):
    pixels = np.random.default_rng(8).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for name in ("a.PNG", "b.pcx", "c.qoi", "d.sgi"):
        save(pixels, tmp_path / name)
    for name in ("e.heic", "f.heic", "g.cr2", "h.txt", ".i.heic"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr("gmvqzip.images.formats.ADD_ONS", {"HEIF": ("no_such_module", "pillow-heif")})
    said = list[str]()
    data = load_dataset("folder", tmp_path, crop=32, say=said.append)
    assert len(data.train) + len(data.validation) == 4
    assert said == ["pictures passed over: 2 .heic (install pillow-heif), 1 .cr2"]


def test_pictures_of_an_add_on_are_trained_on(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    pixels = np.random.default_rng(9).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for name in ("a.heic", "b.HEIF", "c.png"):
        save(pixels, tmp_path / name)
    data = load_dataset("folder", tmp_path, crop=32, say=quiet)
    assert len(data.train) + len(data.validation) == 3


def test_large_pictures_are_reduced_when_read(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "STORED_PIXELS", 10_000)
    save(np.zeros((200, 400, 3), np.uint8), tmp_path / "a.png")
    data = load_dataset("folder", tmp_path, crop=16, seed=0, say=quiet)
    assert data.train.image(0).shape == (71, 141, 3)
    assert len(data.validation) == 1  # a single picture is in both parts


def test_folders_without_pictures(tmp_path):
    with pytest.raises(TrainingError, match="no picture"):
        load_dataset("folder", tmp_path, crop=32, seed=0, say=quiet)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(TrainingError, match="no picture"):
        load_dataset("folder", tmp_path, crop=32, seed=0, say=list[str]().append)
    with pytest.raises(TrainingError, match="need a crop"):
        load_dataset("folder", tmp_path, crop=None, seed=0, say=quiet)
