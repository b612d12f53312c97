"""The hyperprior engine: codes into files and back, qualities, damage, refusals, and what an encoder's search does."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from at_work import analysed, followed, read
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_hyperprior import CONFIG, smooth

from gmvqzip.codec import Codec
from gmvqzip.engines.base import set_threads
from gmvqzip.engines.engine import Engine
from gmvqzip.engines.files import read_coded
from gmvqzip.engines.hyperprior import HyperpriorNetwork
from gmvqzip.engines.staged import StagedNetwork
from gmvqzip.entropy.blocks import Block
from gmvqzip.entropy.codes import Codes
from gmvqzip.errors import FormatError, GmvqError, ModelError
from gmvqzip.format import container
from gmvqzip.images.pixels import Picture
from gmvqzip.models.registry import read_info
from gmvqzip.npz import dump_npz, load_npz
from gmvqzip.setting import DEFAULT_QUALITY

QUALITIES = (1, 2, 50, 99, 100)


@pytest.fixture(scope="session")
def engine(hyper: Codec) -> Engine:
    return hyper.engine


@pytest.fixture(scope="session")
def wide(hyper: Codec) -> bytes:
    """A file in the long form, whose codes check has 32 bits."""
    return hyper.compress(smooth(60, 257), quality=100)


def same(first: tuple[np.ndarray, ...], second: tuple[np.ndarray, ...]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def implied(engine: Engine, codes: Codes) -> int:
    """How many codes of a picture the context leaves no choice for."""
    return sum(int((pairs == 0).sum()) for _, pairs in pairs_of(engine, codes))


def pairs_of(engine: Engine, codes: Codes) -> list[tuple[Block, np.ndarray]]:
    """Each block of codes, and its class pairs."""
    found: list[tuple[Block, np.ndarray]] = []
    rest = iter(codes.stages)
    parts = [np.stack([next(rest) for _ in range(grid.stages)]) for grid in engine.config.grids]

    def visit(block: Block) -> np.ndarray:
        found.append((block, block.pairs))
        return block.cut(parts[block.part])

    engine.prior.walk(*codes.stages[0].shape, codes.quality, visit)
    return found


class TestPayloads:
    @pytest.mark.parametrize("quality", QUALITIES)
    def test_round_trip(self, engine: Engine, quality: int) -> None:
        pixels = smooth(64, 96, quality)
        stages = analysed(engine, pixels, quality)
        assert [stage.shape for stage in stages] == CONFIG.stage_shapes(96, 64)
        assert all(stage.dtype == np.int32 for stage in stages)
        payload = followed(engine, stages, quality).payload()
        found = read(engine, payload, (96, 64), quality).stages
        assert same(found, stages)
        assert all(stage.dtype == np.int32 for stage in found)

    @given(
        seed=st.integers(0, 2**32 - 1), quality=st.integers(1, 99), rows=st.integers(1, 3), columns=st.integers(1, 3)
    )
    @settings(max_examples=25, deadline=None)
    def test_any_codes_that_are_not_implied(
        self, engine: Engine, seed: int, quality: int, rows: int, columns: int
    ) -> None:
        """An encoder may make any codes, but 0 where 0 is implied."""
        generator = np.random.default_rng(seed)
        size = (32 * columns, 32 * rows)
        shapes = iter(engine.config.stage_shapes(*size))
        parts = [
            np.stack([np.zeros(next(shapes), np.int32) for _ in range(grid.stages)]) for grid in engine.config.grids
        ]

        def visit(block: Block) -> np.ndarray:
            codes = generator.integers(0, block.mixtures.codes, block.pairs.shape)
            codes += block.mixtures.codes * (
                generator.integers(0, 1 << 16, codes.shape) >> (16 - block.mixtures.point_bits[codes])
            )
            codes[block.pairs == 0] = 0
            block.put(parts[block.part], codes)
            return codes

        engine.prior.walk(rows, columns, quality, visit)
        stages = tuple(group for part in parts for group in part)
        assert same(read(engine, followed(engine, stages, quality).payload(), size, quality).stages, stages)

    def test_implied_codes_take_no_bits(self, engine: Engine, hyper: Codec) -> None:
        codes = hyper.encode(smooth(60, 257), quality=1)
        assert implied(engine, codes) > 5
        block, pairs = next((block, pairs) for block, pairs in pairs_of(engine, codes)[::-1] if (pairs == 0).any())
        first = sum(grid.stages for grid in engine.config.grids[: block.part])
        part = np.stack(codes.stages[first : first + len(pairs)])
        assert not block.cut(part)[pairs == 0].any()
        block.put(part, np.where(pairs == 0, 1, block.cut(part)))
        other = (*codes.stages[:first], *part, *codes.stages[first + len(pairs) :])
        with pytest.raises(ModelError, match="leaves no choice"):
            followed(engine, other, 1).payload()

    @pytest.mark.parametrize("quality", QUALITIES)
    def test_stage_bits_are_the_payload_s(self, engine: Engine, quality: int) -> None:
        stages = analysed(engine, smooth(256, 256), quality)
        bits = followed(engine, stages, quality).bits()
        assert len(bits) == len(stages)
        assert min(bits) >= 0
        by_site = followed(engine, stages, quality).site_bits()
        assert [array.shape for array in by_site] == [stage.shape for stage in stages]
        assert [float(array.sum(dtype=np.float64)) for array in by_site] == pytest.approx(bits, rel=1e-12)
        ideal, found = sum(bits), 8 * len(followed(engine, stages, quality).payload())
        assert ideal - 1 <= found <= 1.005 * ideal + 16

    def test_the_plain_coder_makes_the_same_bytes(
        self, engine: Engine, hyper: Codec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        codes = hyper.encode(smooth(70, 100), quality=80)
        files = {}
        for coder in ("constriction", "python"):
            if coder == "constriction":
                pytest.importorskip("constriction", exc_type=ImportError)
            monkeypatch.setenv("GMVQZIP_CODER", coder)
            files[coder] = hyper.pack_codes(codes).data
            assert hyper.decode_codes(files[coder]) == codes
        assert len(set(files.values())) == 1


class TestFiles:
    @pytest.mark.parametrize(("width", "height"), [(1, 1), (33, 17), (32, 32), (31, 65), (257, 3), (1, 300)])
    @pytest.mark.parametrize("gray", [False, True])
    def test_odd_sizes(self, hyper: Codec, width: int, height: int, gray: bool) -> None:
        pixels = smooth(height, width)[:, :, 0] if gray else smooth(height, width)
        data = hyper.compress(pixels, quality=40)
        image = hyper.decompress(data)
        assert image.size == (width, height)
        assert image.mode == ("L" if gray else "RGB")
        assert container.read_header(data)[0].quality == 40
        assert hyper.decode_codes(data) == hyper.encode(pixels, quality=40)
        assert np.array_equal(np.asarray(image), np.asarray(hyper.decode(hyper.encode(pixels, quality=40))))

    def test_qualities_differ(self, hyper: Codec) -> None:
        pixels = smooth(64, 64)
        files = {
            quality: hyper.compress(pixels, quality=quality) for quality in (None, 1, 54, DEFAULT_QUALITY, 56, 100)
        }
        assert files[None] == files[DEFAULT_QUALITY]
        assert len(set(files.values())) == 5
        for quality in (0, 101, -1):
            with pytest.raises(ModelError, match="out of range"):
                hyper.compress(pixels, quality=quality)

    def test_the_quality_of_a_file_matters(self, hyper: Codec) -> None:
        codes = hyper.encode(smooth(64, 64), quality=50)
        assert not np.array_equal(hyper.decode(codes), hyper.decode(replace(codes, quality=60)))

    def test_threads_change_no_code(self, hyper_path: Path) -> None:
        import torch

        before = torch.get_num_threads()
        codec = Codec(read_info(hyper_path), "cpu")
        try:
            set_threads(1)
            data = codec.compress(smooth(100, 150), quality=90)
            one = codec.decode_codes(data)
            set_threads(2)
            assert codec.decode_codes(data) == one
            assert codec.decode(one).size == (150, 100)
        finally:
            torch.set_num_threads(before)

    def test_threads_of_the_matrix_library_change_no_code(
        self, hyper: Codec, hyper_path: Path, wide: bytes, tmp_path: Path
    ) -> None:
        path = tmp_path / "a.gmvq"
        path.write_bytes(wide)
        script = (
            "import sys; from pathlib import Path; from gmvqzip.codec import load; "
            "print(load(sys.argv[1]).decode_codes(Path(sys.argv[2]).read_bytes()).crc32())"
        )
        for threads in ("1", "2"):
            names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
            done = subprocess.run(
                [sys.executable, "-c", script, hyper_path, path],
                env=os.environ | dict.fromkeys(names, threads),
                capture_output=True,
                check=True,
            )
            assert int(done.stdout) == hyper.decode_codes(wide).crc32()

    def test_a_codec_is_shared_by_threads(self, hyper_path: Path) -> None:
        codec = Codec(read_info(hyper_path), "cpu")
        results: list[bytes] = []
        workers = [Thread(target=lambda: results.append(codec.compress(smooth(64, 64)))) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(results) == 4
        assert len(set(results)) == 1

    def test_npz(self, hyper: Codec) -> None:
        codes = hyper.encode(smooth(33, 17), quality=7)
        assert load_npz(dump_npz(codes))[0] == codes

    def test_npz_of_more_than_a_hundred_groups(self, hyper: Codec) -> None:
        stages = tuple(np.full((1, 2), number) for number in range(120))
        codes = Codes(stages, 1, 1, hyper.model_id, 50)
        assert load_npz(dump_npz(codes))[0] == codes


def resealed(hyper: Codec, data: bytes, payload: bytes, quality: int | None = None) -> bytes:
    """The same file with another payload or quality, and checks of header and file that fit."""
    box = container.unpack(data)
    return container.pack(
        width=box.header.width,
        height=box.header.height,
        model_id=bytes.fromhex(hyper.model_id),
        quality=box.header.quality if quality is None else quality,
        gray=box.header.gray,
        codes_crc32=box.header.codes_check,
        payload=payload,
        sections={},
    )


class TestDamage:
    @given(data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_flipped_bytes(self, hyper: Codec, wide: bytes, data: st.DataObject) -> None:
        payload = bytearray(container.unpack(wide).payload)
        for _ in range(data.draw(st.integers(1, 3))):
            payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
        if bytes(payload) != container.unpack(wide).payload:
            with pytest.raises(FormatError):
                hyper.decode_codes(resealed(hyper, wide, bytes(payload)))

    @given(cut=st.integers(0, 10_000))
    @settings(max_examples=25, deadline=None)
    def test_cut_payloads(self, hyper: Codec, wide: bytes, cut: int) -> None:
        payload = container.unpack(wide).payload
        with pytest.raises(FormatError):
            hyper.decode_codes(resealed(hyper, wide, payload[: cut % len(payload)]))

    @given(payload=st.binary(max_size=200), quality=st.integers(1, 100))
    @settings(max_examples=40, deadline=None)
    def test_any_payload_gives_codes_or_a_format_error(self, engine: Engine, payload: bytes, quality: int) -> None:
        try:
            stages = read(engine, payload, (40, 70), quality).stages
        except FormatError:
            return
        assert followed(engine, stages, quality).payload() == payload

    def test_trailing_bytes(self, hyper: Codec, wide: bytes) -> None:
        payload = container.unpack(wide).payload
        with pytest.raises(FormatError, match="3 trailing bytes"):
            hyper.decode_codes(resealed(hyper, wide, payload + b"abc"))

    @pytest.mark.parametrize("quality", [0, 1, 50, 99])
    def test_another_quality(self, hyper: Codec, wide: bytes, quality: int) -> None:
        with pytest.raises(FormatError, match="quality 0" if quality == 0 else "damaged"):
            hyper.decode_codes(resealed(hyper, wide, container.unpack(wide).payload, quality))

    @given(place=st.integers(0, 10_000), flip=st.integers(1, 255))
    @settings(max_examples=30, deadline=None)
    def test_a_damaged_byte_anywhere_in_the_file(self, hyper: Codec, wide: bytes, place: int, flip: int) -> None:
        data = bytearray(wide)
        data[place % len(data)] ^= flip
        with pytest.raises(GmvqError):
            hyper.decode_codes(bytes(data))

    def test_a_picture_too_large_to_code_is_refused(self, engine: Engine) -> None:
        data = container.pack(
            width=2**21 - 1, height=2**21 - 1, model_id=bytes(32), quality=50, gray=False, codes_crc32=0, payload=b""
        )
        box = container.unpack(data, max_pixels=2**42)
        box = replace(box, header=replace(box.header, model_id=bytes.fromhex(engine.info.model_id[:8])))
        with pytest.raises(FormatError, match=r"codes are more than the limit of 1073741824"):
            read_coded(engine, box)


class TestRefusals:
    def test_quality_fields(self, engine: Engine) -> None:
        for quality in (1, 50, 100):
            engine.check_quality(quality)
        for quality in (0, 101):
            with pytest.raises(ModelError, match="has qualities 1 to 100"):
                engine.check_quality(quality)

    def test_codes_that_do_not_fit(self, hyper: Codec) -> None:
        codes = hyper.encode(smooth(40, 40), quality=9)
        high = [stage.copy() for stage in codes.stages]
        high[2][0, 0] = 32
        for wrong, message in (
            (replace(codes, stages=codes.stages[:-1]), "grids"),
            (replace(codes, width=65), "grids"),
            (replace(codes, stages=tuple(high)), "stage 2 has indices outside 0 to 31"),
            (replace(codes, quality=0), "quality 0"),
            (replace(codes, model_id="0" * 64), "codes of model"),
        ):
            for use in (hyper.pack_codes, hyper.decode):
                with pytest.raises(ModelError, match=message):
                    use(wrong)

    def test_devices(self, hyper_path: Path) -> None:
        import torch

        with pytest.raises(ModelError, match="unknown device"):
            Codec(read_info(hyper_path), "tpu")
        if not torch.cuda.is_available():
            with pytest.raises(ModelError, match="no CUDA device"):
                Codec(read_info(hyper_path), "cuda").compress(smooth(4, 4))


def test_the_kind_of_a_model_chooses_the_engine(hyper_path: Path, tiny_path: Path) -> None:
    engines = [Engine(read_info(path), "cpu") for path in (hyper_path, tiny_path)]
    assert [type(engine.network) for engine in engines] == [HyperpriorNetwork, StagedNetwork]


class TestSearch:
    def cost(self, engine: Engine, pixels: np.ndarray, quality: int, rounds: int) -> float:
        """lambda * 255^2 * MSE + bits per pixel, as a decoder and the tables give them."""
        stages = analysed(engine, pixels, quality, rounds=rounds)
        latent = followed(engine, stages, quality).latent
        picture = np.moveaxis(engine.network.synthesise(latent, quality), 0, 2)
        error = float(np.square(picture - pixels.astype(np.float32) / 255).mean())
        trade = (CONFIG.lambda_last / CONFIG.lambda_first) ** ((quality - 1) / 99) * CONFIG.lambda_first
        return trade * 255**2 * error + sum(followed(engine, stages, quality).bits()) / pixels[:, :, 0].size

    def test_rounds_lower_the_cost(self, engine: Engine) -> None:
        pixels = smooth(96, 96)
        costs = [self.cost(engine, pixels, 60, rounds) for rounds in (0, 4)]
        assert costs[1] < costs[0]

    def test_a_dearer_bit_is_spent_less(self, engine: Engine) -> None:
        sizes = []
        for trade in (0.25, 1.0, 4.0):
            stages = analysed(engine, smooth(96, 96), 60, trade=trade)
            sizes.append(sum(followed(engine, stages, 60).bits()))
        assert sizes[0] > sizes[1] > sizes[2]

    def test_a_codec_that_decoded_first_can_search(self, hyper_path: Path, wide: bytes) -> None:
        """The decoder loads the network where no gradients are kept."""
        codec = Codec(read_info(hyper_path), "cpu")
        codec.decompress(wide)
        assert analysed(codec.engine, smooth(32, 32), 50, rounds=1)
        done = codec.compress_picture(Picture(smooth(32, 32)), quality=50)
        assert codec.decode_codes(done.data) == done.codes
