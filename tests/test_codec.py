"""The library: pictures to codes to bytes and back, and the refusals on the way."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image, ImageCms

import gmvqzip
from gmvqzip import FormatError, ImageError, ModelError
from gmvqzip.codec import Codec, load_for
from gmvqzip.engines.base import set_threads
from gmvqzip.entropy.codes import Codes
from gmvqzip.entropy.extras import make_sections, read_extras
from gmvqzip.format import container
from gmvqzip.format.metadata import Metadata, Text
from gmvqzip.images.pixels import Picture


@pytest.fixture(autouse=True)
def _installed(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMVQZIP_MODELS", str(tiny_path.parent))


@functools.cache  # it holds the time of its making
def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def png(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


class Scarce(io.RawIOBase):
    """A seekable file object that gives three bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self.inner = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.inner.read(min(3, len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.inner.seek(offset, whence)

    def tell(self) -> int:
        return self.inner.tell()


class TestRoundTrip:
    def test_sizes_and_modes(self, tiny: Codec, pixels: np.ndarray) -> None:
        data = tiny.compress(pixels)
        image = tiny.decompress(data)
        assert (image.mode, image.size) == ("RGB", (37, 23))
        again = tiny.decompress(data)
        assert np.array_equal(np.asarray(image), np.asarray(again))

    def test_every_kind_of_source_gives_the_same_file(self, tiny: Codec, pixels: np.ndarray, tmp_path: Path) -> None:
        image = Image.fromarray(pixels)
        path = tmp_path / "a.png"
        path.write_bytes(png(image))
        data = tiny.compress(pixels)
        with path.open("rb") as file:
            sources = [image, path, str(path), path.read_bytes(), file]
            assert all(tiny.compress(source) == data for source in sources)

    @pytest.mark.parametrize(("width", "height"), [(1, 1), (8, 8), (1, 300), (300, 1), (9, 7), (257, 2), (256, 256)])
    def test_any_size(self, tiny: Codec, width: int, height: int) -> None:
        pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
        data = tiny.compress(pixels)
        header = container.read_header(data)[0]
        assert header.short == (max(width, height) <= 256)
        assert tiny.decompress(data).size == (width, height)

    def test_a_decoded_picture_has_texts_as_pillow_s_own_have(self, tiny: Codec, pixels: np.ndarray) -> None:
        data = tiny.compress(pixels)
        assert tiny.decompress(data).text == tiny.decode(tiny.encode(pixels)).text == {}

    def test_bytes_in_any_buffer(self, tiny: Codec, pixels: np.ndarray) -> None:
        """Also where they do not lie side by side."""
        file, data = png(Image.fromarray(pixels)), tiny.compress(pixels)
        apart = [memoryview(np.repeat(np.frombuffer(known, np.uint8), 2).data)[::2] for known in (file, data)]
        assert tiny.compress(apart[0]) == tiny.compress(bytearray(file)) == data
        assert tiny.decompress(apart[1]).tobytes() == tiny.decompress(data).tobytes()

    def test_file_objects_that_give_less_than_they_are_asked_for(self, tiny: Codec, pixels: np.ndarray) -> None:
        """As a raw one may."""
        large = np.random.default_rng(1).integers(0, 256, (70, 300, 3), dtype=np.uint8)
        data, region = tiny.compress(large), (5, 5, 20, 10)
        assert tiny.compress(Scarce(png(Image.fromarray(pixels)))) == tiny.compress(pixels)
        assert tiny.decompress(Scarce(data)).tobytes() == tiny.decompress(data).tobytes()
        part = tiny.decompress(Scarce(data), region=region)
        assert part.tobytes() == tiny.decompress(data, region=region).tobytes()
        assert gmvqzip.info(Scarce(data)).width == 300

    def test_codes_of_a_file_however_it_is_given(self, tiny: Codec, pixels: np.ndarray, tmp_path: Path) -> None:
        data = tiny.compress(pixels)
        (tmp_path / "a.gmvq").write_bytes(data)
        for source in (data, tmp_path / "a.gmvq", str(tmp_path / "a.gmvq"), io.BytesIO(data)):
            assert tiny.decode_codes(source) == tiny.encode(pixels)
        with pytest.raises(FormatError, match="give bytes, a path or a binary file object"):
            tiny.decode_codes(5)  # type: ignore[arg-type]

    def test_the_file_decodes_to_the_codes_that_were_encoded(self, tiny: Codec, pixels: np.ndarray) -> None:
        codes = tiny.encode(pixels)
        assert [stage.shape for stage in codes.stages] == tiny.config.stage_shapes(37, 23)
        assert tiny.decode_codes(tiny.compress(pixels)) == codes
        assert np.array_equal(np.asarray(tiny.decode(codes)), np.asarray(tiny.decompress(tiny.compress(pixels))))

    def test_decoded_pixels_are_the_network_s_output_rounded(self, tiny: Codec, pixels: np.ndarray) -> None:
        import torch

        codes = tiny.encode(pixels)
        network, _ = tiny.engine.network.loaded()
        with torch.inference_mode():
            output = network.decode([torch.tensor(stage.astype(np.int64))[None] for stage in codes.stages])
        expected = np.rint(255 * output[0, :, :23, :37].permute(1, 2, 0).numpy()).clip(0, 255)
        assert np.array_equal(np.asarray(tiny.decode(codes)), expected.astype(np.uint8))

    def test_the_numbers_of_a_file_add_up(self, tiny: Codec, pixels: np.ndarray) -> None:
        done = tiny.compress_picture(Picture(pixels))
        assert done.header_bytes == 12
        assert done.header_bytes + done.sections_bytes + done.payload_bytes == len(done.data)
        assert 8 * done.payload_bytes <= done.ideal_bits * 1.001 + 16
        assert done.bpp == 8 * len(done.data) / (37 * 23)
        assert done.ideal_bits == pytest.approx(sum(done.stage_bits))
        by_site = tiny.follow(done.codes).site_bits()
        assert [array.shape for array in by_site] == [stage.shape for stage in done.codes.stages]
        assert [float(array.sum(dtype=np.float64)) for array in by_site] == pytest.approx(list(done.stage_bits))

    def test_threads_share_a_codec(self, tiny_path: Path, pixels: np.ndarray) -> None:
        from gmvqzip.models.registry import read_info

        codec = Codec(read_info(tiny_path), "cpu")
        results: list[bytes] = []
        workers = [Thread(target=lambda: results.append(codec.compress(pixels))) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(results) == 4
        assert len(set(results)) == 1

    def test_the_number_of_threads_changes_no_code(self, tiny: Codec) -> None:
        import torch

        before = torch.get_num_threads()
        pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
        try:
            set_threads(1)
            one = tiny.compress(pixels)
            set_threads(2)
            assert tiny.decode_codes(one).crc32() == tiny.decode_codes(tiny.compress(pixels)).crc32()
        finally:
            torch.set_num_threads(before)


class TestExtras:
    def test_alpha_is_lossless(self, tiny: Codec, pixels: np.ndarray) -> None:
        alpha = np.random.default_rng(1).integers(0, 256, (23, 37), dtype=np.uint8)
        image = tiny.decompress(tiny.compress(np.dstack([pixels, alpha])))
        assert image.mode == "RGBA"
        assert np.array_equal(np.asarray(image)[:, :, 3], alpha)

    def test_opaque_alpha_is_dropped(self, tiny: Codec, pixels: np.ndarray) -> None:
        opaque = np.dstack([pixels, np.full((23, 37), 255, np.uint8)])
        assert tiny.compress(opaque) == tiny.compress(pixels)

    def test_gray_stays_gray(self, tiny: Codec, pixels: np.ndarray) -> None:
        data = tiny.compress(pixels[:, :, 0])
        assert container.read_header(data)[0].gray
        image = tiny.decompress(data)
        assert (image.mode, image.size) == ("L", (37, 23))

    def test_gray_is_the_mean_of_the_channels_before_rounding(self, tiny: Codec, pixels: np.ndarray) -> None:
        import torch

        codes = tiny.encode(pixels[:, :, 0])
        network, _ = tiny.engine.network.loaded()
        with torch.inference_mode():
            output = network.decode([torch.tensor(stage.astype(np.int64))[None] for stage in codes.stages])
        expected = np.rint(255 * output[0, :, :23, :37].mean(dim=0).numpy()).clip(0, 255)
        assert np.array_equal(np.asarray(tiny.decode(codes)), expected.astype(np.uint8))

    def test_gray_with_alpha(self, tiny: Codec, pixels: np.ndarray) -> None:
        image = Image.merge("LA", [Image.fromarray(pixels[:, :, 0]), Image.fromarray(pixels[:, :, 1])])
        back = tiny.decompress(tiny.compress(image))
        assert back.mode == "LA"
        assert np.array_equal(np.asarray(back)[:, :, 1], pixels[:, :, 1])

    def test_profile_is_kept_or_stripped(self, tiny: Codec, pixels: np.ndarray) -> None:
        source = png(Image.fromarray(pixels), icc_profile=srgb())
        kept = tiny.decompress(tiny.compress(source))
        assert kept.info["icc_profile"] == srgb()
        assert tiny.compress(source, strip=True) == tiny.compress(pixels)

    @pytest.mark.parametrize("kind", [container.SECTION_ALPHA, container.SECTION_ICC])
    def test_damaged_sections_are_refused(self, tiny: Codec, pixels: np.ndarray, kind: int) -> None:
        data = tiny.pack_codes(tiny.encode(pixels), {kind: b"no zlib stream"}).data
        with pytest.raises(FormatError, match="damaged"):
            tiny.decompress(data)

    def test_sections_round_trip(self, tiny: Codec, pixels: np.ndarray) -> None:
        known = Metadata(comment=b"known", texts=(Text("Title", "a"),))
        sections = make_sections(pixels[:, :, 0], b"profile", known, True)
        box = container.unpack(tiny.pack_codes(tiny.encode(pixels), sections).data)
        plane, profile, metadata, as_rgb = read_extras(box)
        assert not as_rgb  # the profile says it
        alone = tiny.pack_codes(tiny.encode(pixels), make_sections(None, None, as_rgb=True)).data
        assert read_extras(container.unpack(alone)).as_rgb
        assert np.array_equal(plane, pixels[:, :, 0])
        assert profile == b"profile"
        assert metadata == known


class TestRefusals:
    def test_another_model_s_file(self, tiny: Codec, other_path: Path, pixels: np.ndarray) -> None:
        data = gmvqzip.load(other_path, device="cpu").compress(pixels)
        with pytest.raises(ModelError, match=r"made with model [0-9a-f]{4}, but model photo is"):
            tiny.decompress(data)
        with pytest.raises(ModelError, match="not installed"):
            gmvqzip.decompress(data)
        assert gmvqzip.decompress(data, model=other_path, device="cpu").size == (37, 23)

    def test_too_many_pixels(self, tiny: Codec, pixels: np.ndarray) -> None:
        data = tiny.compress(pixels)
        with pytest.raises(FormatError, match="limit of 850"):
            tiny.decompress(data, max_pixels=850)
        assert tiny.decompress(data, max_pixels=851).size == (37, 23)
        with pytest.raises(ImageError, match="limit of 850"):
            tiny.compress(pixels, max_pixels=850)

    def test_quality(self, tiny: Codec, pixels: np.ndarray) -> None:
        assert tiny.compress(pixels, quality=60) == tiny.compress(pixels)
        for quality in (0, 101, -1):
            with pytest.raises(ModelError, match="out of range"):
                tiny.compress(pixels, quality=quality)

    def test_a_quality_that_the_model_does_not_have(self, tiny: Codec, pixels: np.ndarray) -> None:
        codes = tiny.encode(pixels)
        marked = Codes(codes.stages, codes.width, codes.height, codes.model_id, quality=50)
        with pytest.raises(ModelError, match="quality 50"):
            tiny.pack_codes(marked)
        box = container.unpack(tiny.pack_codes(codes).data)
        data = container.pack(
            width=37,
            height=23,
            model_id=bytes.fromhex(tiny.model_id),
            quality=50,
            gray=False,
            codes_crc32=codes.crc32(),
            payload=box.payload,
        )
        with pytest.raises(FormatError, match="quality 50"):
            tiny.decompress(data)

    def test_a_checksum_that_differs(self, tiny: Codec, pixels: np.ndarray) -> None:
        codes = tiny.encode(pixels)
        data = container.pack(
            width=37,
            height=23,
            model_id=bytes.fromhex(tiny.model_id),
            quality=0,
            gray=False,
            codes_crc32=codes.crc32() ^ 1,
            payload=container.unpack(tiny.pack_codes(codes).data).payload,
        )
        with pytest.raises(FormatError, match="checksum"):
            tiny.decompress(data)

    def test_codes_that_do_not_fit(self, tiny: Codec, pixels: np.ndarray) -> None:
        codes = tiny.encode(pixels)
        high = [stage.copy() for stage in codes.stages]
        high[0][0, 0] = 16
        for stages, width, model_id, message in (
            (codes.stages[:2], 37, codes.model_id, "grids"),
            (codes.stages, 41, codes.model_id, "grids"),
            (tuple(high), 37, codes.model_id, "outside"),
            (codes.stages, 37, "0" * 64, "codes of model 00000000"),
        ):
            with pytest.raises(ModelError, match=message):
                tiny.decode(Codes(stages, width, 23, model_id, 0))

    def test_devices(self, tiny: Codec, pixels: np.ndarray) -> None:
        import torch

        with pytest.raises(ModelError, match="unknown device"):
            Codec(tiny.info, "tpu")
        with pytest.raises(ModelError, match="give a name or path to `load`"):
            Codec("photo")  # type: ignore[arg-type]
        if not torch.cuda.is_available():
            with pytest.raises(ModelError, match="no CUDA device"):
                Codec(tiny.info, "cuda").compress(pixels)

    def test_full_precision_on_a_gpu(self) -> None:
        import torch

        from gmvqzip.engines.base import full_precision

        before = torch.backends.cudnn.allow_tf32
        with full_precision(torch.device("cuda")):
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.allow_tf32 == before

    @pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="no CUDA device")
    def test_a_gpu_gives_the_same_codes_and_nearly_the_same_pixels(self, tiny: Codec, pixels: np.ndarray) -> None:
        other = Codec(tiny.info, "cuda")
        data = other.compress(pixels)
        assert tiny.decode_codes(data) == other.decode_codes(data)
        near, far = (np.asarray(codec.decompress(data), dtype=np.int16) for codec in (tiny, other))
        assert np.abs(near - far).max() <= 1

    def test_no_such_model(self) -> None:
        with pytest.raises(ModelError, match="no model named 'nonesuch'"):
            gmvqzip.load("nonesuch")
        with pytest.raises(ModelError, match="no model file"):
            gmvqzip.load("/nonesuch.safetensors")


class TestPublicNames:
    def test_all_names_exist(self) -> None:
        assert all(getattr(gmvqzip, name) is not None for name in gmvqzip.__all__)
        assert set(gmvqzip.__all__) <= set(dir(gmvqzip))
        with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
            _ = gmvqzip.nonesuch

    def test_default_model(self, tiny: Codec, pixels: np.ndarray) -> None:
        data = gmvqzip.compress(pixels, device="cpu")
        assert data == tiny.compress(pixels)
        assert gmvqzip.decompress(data, device="cpu").size == (37, 23)
        codes = gmvqzip.encode(pixels, device="cpu")
        assert codes == tiny.encode(pixels)
        assert gmvqzip.decode(codes, device="cpu").size == (37, 23)

    def test_functions_take_the_options_of_methods(self, tiny: Codec, pixels: np.ndarray) -> None:
        for function in (gmvqzip.compress, gmvqzip.encode):
            method = getattr(tiny, function.__name__)
            assert function(pixels, strip=True, tile=0, effort=1, device="cpu") == method(pixels, effort=1)
            for call in (function, method):
                with pytest.raises(ImageError, match="limit of 5 pixels"):
                    call(pixels, max_pixels=5)
        assert tiny.compress_batch([pixels], tile=0, effort=1) == [tiny.compress(pixels, effort=1)]
        assert tiny.encode_batch(iter([pixels]), tile=0, effort=1) == [tiny.encode(pixels, effort=1)]

    def test_models_are_loaded_once(self, tiny_path: Path) -> None:
        assert gmvqzip.load("photo", device="cpu") is gmvqzip.load(tiny_path, device="cpu")
        assert gmvqzip.load("photo", device="cpu") is not gmvqzip.load("photo")

    def test_load_for_a_stored_identity(self, tiny: Codec) -> None:
        for length in (2, 4, 32):
            assert load_for(bytes.fromhex(tiny.model_id)[:length], device="cpu") is tiny

    def test_info(self, tiny: Codec, pixels: np.ndarray, tmp_path: Path) -> None:
        data = tiny.compress(np.dstack([pixels, pixels[:, :, 0]]))
        found = gmvqzip.info(data)
        assert (found.width, found.height, found.gray, found.alpha, found.icc) == (37, 23, False, True, False)
        assert (found.model_id, found.quality, found.codes_crc32) == (tiny.model_id, 0, None)
        assert found.model is not None
        assert found.model.name == "photo"
        assert found.file_bytes == len(data)
        path = tmp_path / "a.gmvq"
        path.write_bytes(data)
        assert gmvqzip.info(path) == found

    def test_info_of_a_long_header(self, tiny: Codec) -> None:
        data = tiny.compress(np.zeros((2, 257, 3), np.uint8))
        assert gmvqzip.info(data).codes_crc32 == f"{tiny.decode_codes(data).crc32():08x}"

    def test_info_without_the_model(self, other_path: Path, pixels: np.ndarray) -> None:
        data = gmvqzip.load(other_path, device="cpu").compress(pixels)
        found = gmvqzip.info(data)
        assert found.model is None
        assert "not installed" in found.model_error
        assert len(found.model_id) == 4
        assert gmvqzip.info(data, model=other_path).model is not None
        with pytest.raises(ModelError, match="made with model"):
            gmvqzip.info(data, model="photo")
