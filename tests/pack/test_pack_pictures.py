"""Pictures, codes and files into a pack and out of it, with a model."""

from __future__ import annotations

import os
import pickle
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from gmvqzip.codec import Codec
from gmvqzip.errors import FormatError, ImageError, ModelError, OutputError
from gmvqzip.pack import PackDataset, PackFile, PackReader, PackWriter


@pytest.fixture(scope="module")
def shots() -> list[np.ndarray]:
    """Pictures of several sizes and kinds."""
    generator = np.random.default_rng(7)
    shapes = [(23, 37, 3), (23, 37, 3), (8, 8, 3), (23, 37), (9, 10, 4), (300, 7, 3), (23, 37, 3), (5, 6, 2)]
    return [generator.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


@pytest.fixture
def path(tmp_path: Path, tiny_path: Path, shots: list[np.ndarray]) -> Path:
    path = tmp_path / "set.gmvqp"
    with PackWriter(path, model=tiny_path, device="cpu") as writer:
        writer.add_all([(f"n/{n}", shot) for n, shot in enumerate(shots)])
        assert len(writer) == len(shots)
        assert "n/3" in writer
    return path


@pytest.fixture
def reader(path: Path, tiny_path: Path) -> PackReader:
    return PackReader(path, model=tiny_path, device="cpu")


def test_the_same_as_loose_files(reader: PackReader, tiny: Codec, shots: list[np.ndarray]) -> None:
    for number, shot in enumerate(shots):
        loose = tiny.compress(shot)
        assert reader.gmvq(number) == reader.gmvq(f"n/{number}") == loose
        assert reader.codes(number) == tiny.decode_codes(loose)
        assert np.array_equal(np.asarray(reader.image(number)), np.asarray(tiny.decompress(loose)))


def test_a_writer_adds_nothing_once_its_block_has_ended(path: Path, tiny_path: Path, shots: list[np.ndarray]) -> None:
    """The descriptor may be another file's by then."""
    for raises in (False, True):
        options = {"append": True, "model": tiny_path, "device": "cpu"}
        with pytest.raises(KeyboardInterrupt) if raises else nullcontext(), PackWriter(path, **options) as writer:
            if raises:
                raise KeyboardInterrupt
        whole = path.read_bytes()
        with path.open("rb+") as other:  # takes the descriptor
            for attempt in (lambda: writer.add("late", shots[0]), lambda: writer.__exit__(None)):
                with pytest.raises(OutputError, match=r"set\.gmvqp is finished: append to it with a new writer"):
                    attempt()
            assert other.read() == whole and "late" not in writer


def test_pairs_of_any_iterable(tmp_path: Path, tiny_path: Path, shots: list[np.ndarray]) -> None:
    pictures = {"a": shots[0], "b": shots[1]}
    for number, pairs in enumerate([pictures.items(), zip(pictures, shots, strict=False)]):
        with PackWriter(tmp_path / f"{number}.gmvqp", model=tiny_path, device="cpu") as writer:
            writer.add_all(pairs)
        with PackFile(tmp_path / f"{number}.gmvqp") as pack:
            assert list(pack.names) == ["a", "b"]


def test_names_are_never_half_known(path: Path) -> None:
    """Other threads go by the names, and then look for their numbers."""

    class Watched(PackFile):
        def __setattr__(self, name: str, value: object) -> None:
            assert name != "_names" or not value or self._numbers
            super().__setattr__(name, value)

    with Watched(path) as pack:
        assert "n/3" in pack


def test_gray_and_transparency(reader: PackReader) -> None:
    assert [reader.image(number).mode for number in range(8)] == ["RGB", "RGB", "RGB", "L", "RGBA", "RGB", "RGB", "LA"]


def test_a_pack_is_smaller_by_its_headers(tiny: Codec, tiny_path: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    pictures = [(f"{n:04d}", generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for n in range(300)]
    with PackWriter(tmp_path / "set.gmvqp", model=tiny_path, device="cpu") as writer:
        writer.add_all(pictures, effort=1)
    loose = sum(map(len, tiny.compress_batch([picture for _, picture in pictures], effort=1)))
    assert loose - (tmp_path / "set.gmvqp").stat().st_size > 9 * 300  # of the 12 bytes of each header


def test_finished_files(reader: PackReader, tiny: Codec, tiny_path: Path, tmp_path: Path, shots: list) -> None:
    with PackWriter(tmp_path / "again.gmvqp", device="cpu") as writer:
        for number, name in enumerate(reader.names):
            assert writer.add_gmvq(name, tiny.compress(shots[number]), model=tiny_path) == reader.entry(name).size
        damaged = bytearray(tiny.compress(shots[0]))
        damaged[-1] ^= 1
        with pytest.raises(FormatError):
            writer.add_gmvq("damaged", bytes(damaged), model=tiny_path)
    assert (tmp_path / "again.gmvqp").read_bytes() == Path(reader.path).read_bytes()


def test_profiles_are_shared(tiny_path: Path, tiny: Codec, tmp_path: Path, pixels: np.ndarray) -> None:
    profile = bytes(np.random.default_rng(2).integers(0, 256, 500, dtype=np.uint8))
    codes = tiny.encode(pixels)
    with PackWriter(tmp_path / "icc.gmvqp", model=tiny_path, device="cpu") as writer:
        for name in "abcd":
            writer.add_codes(name, tiny, codes, {2: profile, 70: b"note"})
    assert (tmp_path / "icc.gmvqp").stat().st_size < 500 + 4 * (len(tiny.pack_codes(codes).data) + 60)
    with PackReader(tmp_path / "icc.gmvqp", model=tiny_path, device="cpu") as reader:
        assert reader.coded("b").box.sections == {2: profile, 70: b"note"}
        assert reader.gmvq("c") == tiny.pack_codes(codes, {2: profile, 70: b"note"}).data


def test_two_models_in_one_pack(tmp_path: Path, tiny_path: Path, hyper_path: Path, hyper: Codec, tiny: Codec) -> None:
    path = tmp_path / "both.gmvqp"
    shot = np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    with PackWriter(path, model=tiny_path, device="cpu") as writer:
        writer.add("tiny", shot)
    with PackWriter(path, append=True, model=hyper_path, device="cpu") as writer:
        writer.add_all([("q20", shot)], quality=20)
        writer.add("q70", shot, quality=70, effort=2)
    with PackReader(path, model=hyper_path, device="cpu") as reader:
        assert reader.gmvq("q20") == hyper.compress(shot, quality=20)
        assert reader.gmvq("q70") == hyper.compress(shot, quality=70, effort=2)
        assert [reader.entry(n).kind.quality for n in range(3)] == [0, 20, 70]
        with pytest.raises(ModelError):
            reader.image("tiny")
    with PackReader(path, model=tiny_path, device="cpu") as reader:
        assert reader.gmvq("tiny") == tiny.compress(shot)


def test_a_damaged_picture_leaves_the_others(reader: PackReader, path: Path, tiny_path: Path) -> None:
    good = [reader.codes(number) for number in range(len(reader))]
    data = bytearray(path.read_bytes())
    data[reader.entry(2).offset + 2] ^= 0x40
    path.write_bytes(data)
    with PackReader(path, model=tiny_path, device="cpu") as again:
        for number, codes in enumerate(good):
            if number == 2:
                with pytest.raises(FormatError, match="damaged"):
                    again.image(number)
            else:
                assert again.codes(number) == codes


def test_damage_that_the_first_check_misses(path: Path, reader: PackReader, tiny_path: Path) -> None:
    """Other codes under a record check that agrees: the check of the codes sees them."""
    from gmvqzip.format.checksum import crc8

    entry, other = reader.entry(0), reader.entry(1)
    data = bytearray(path.read_bytes())
    start, end = entry.offset, entry.offset + entry.size
    data[start + 1] = data[start + 1] ^ 0x01  # the check of the codes itself
    data[start] = crc8(bytes(data[start + 1 : end]))
    path.write_bytes(data)
    with PackReader(path, model=tiny_path, device="cpu") as again:
        again.check(0)
        with pytest.raises(FormatError, match="codes differ"):
            again.codes(0)
        assert again.codes(other.number) == reader.codes(other.number)


def test_a_quality_that_the_model_does_not_have(path: Path, hyper_path: Path, tmp_path: Path, tiny_path: Path) -> None:
    from gmvqzip.format.packindex import Kind
    from gmvqzip.format.packrecord import seal_record
    from gmvqzip.pack.appending import Appender

    with PackFile(path) as pack:
        model_id = pack.entry(0).kind.model_id
    appender = Appender(path, append=True)
    appender.add("odd", Kind(model_id, 8, 8, 50), seal_record(8, 8, 0, b""))
    appender.finish()
    with PackReader(path, model=tiny_path, device="cpu") as reader, pytest.raises(FormatError, match="single rate"):
        reader.codes("odd")


def test_limits_and_errors(path: Path, tiny_path: Path, other_path: Path, tmp_path: Path, pixels: np.ndarray) -> None:
    with PackReader(path, model=tiny_path, device="cpu", max_pixels=100) as reader:
        assert reader.codes("n/2").width == 8
        with pytest.raises(FormatError, match="more than the limit"):
            reader.codes(0)
    with PackReader(path, model=other_path) as reader, pytest.raises(ModelError):
        reader.codes(0)
    new = tmp_path / "new.gmvqp"
    with pytest.raises(ImageError), PackWriter(new, model=tiny_path, device="cpu") as writer:
        writer.add("a", pixels)
        writer.add("b", b"no picture")
    with pytest.raises(FormatError), PackWriter(new, model=tiny_path, device="cpu") as writer:
        writer.add("../a", pixels)
    assert not new.exists()


class TestDataset:
    @pytest.fixture
    def even(self, tmp_path: Path, tiny_path: Path) -> Path:
        """Twelve pictures of one size."""
        generator = np.random.default_rng(11)
        path = tmp_path / "even.gmvqp"
        with PackWriter(path, model=tiny_path, device="cpu") as writer:
            writer.add_all([(str(n), generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for n in range(12)])
        return path

    def test_images(self, path: Path, tiny_path: Path, reader: PackReader) -> None:
        dataset = PackDataset(path, model=tiny_path)
        assert len(dataset) == len(reader)
        assert list(dataset.names) == list(reader.names)
        for number in range(len(dataset)):
            image = dataset[number]
            assert image.dtype == torch.uint8
            assert np.array_equal(image.permute(1, 2, 0).numpy(), reader.picture(number).pixels)
        with pytest.raises(IndexError):
            dataset[len(dataset)]

    def test_codes(self, path: Path, tiny_path: Path, reader: PackReader) -> None:
        codes = PackDataset(path, "codes", model=tiny_path)[0]
        assert [stage.dtype for stage in codes] == [torch.int64] * 3
        for stage, expected in zip(codes, reader.codes(0).stages, strict=True):
            assert np.array_equal(stage.numpy(), expected)

    def test_transform(self, path: Path, tiny_path: Path) -> None:
        dataset = PackDataset(path, model=tiny_path, transform=lambda image: image.shape)
        assert dataset[2] == (3, 8, 8)
        with pytest.raises(ValueError, match="images, codes"):
            PackDataset(path, "pixels")
        with pytest.raises(FormatError, match="neither a name nor a path"):
            PackDataset(5)  # type: ignore[arg-type]

    @pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core
    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_workers(self, even: Path, tiny_path: Path, method: str) -> None:
        for what in ("images", "codes"):
            dataset = PackDataset(even, what, model=tiny_path)
            alone = [dataset[number] for number in range(len(dataset))]
            loader = DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context=method)
            batches = list(loader)
            if what == "images":
                assert torch.equal(torch.cat(batches), torch.stack(alone))
            else:
                together = [torch.cat(stages) for stages in zip(*batches, strict=True)]
                apart = [torch.stack(stages) for stages in zip(*alone, strict=True)]
                assert all(torch.equal(a, b) for a, b in zip(together, apart, strict=True))

    def test_pickled(self, even: Path, tiny_path: Path) -> None:
        dataset = PackDataset(even, model=tiny_path)
        first = dataset[0]
        copy = pickle.loads(pickle.dumps(dataset))
        assert torch.equal(copy[0], first)

    def test_nothing_is_opened_before_it_is_needed(self, tmp_path: Path) -> None:
        dataset = PackDataset(tmp_path / "later.gmvqp")
        with pytest.raises(FileNotFoundError):
            len(dataset)

    def test_each_process_opens_the_pack_itself(
        self, even: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dataset = PackDataset(even, model=tiny_path)
        before = dataset.reader
        assert dataset.reader is before
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert dataset.reader is not before
