"""Tiles: no seam, files of which parts are read, damage, and bounded windows."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from at_work import analysed, followed
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_hyperprior import CONFIG, smooth

from gmvqzip.codec import Codec
from gmvqzip.engines import coded, tiling
from gmvqzip.engines.engine import Engine
from gmvqzip.engines.tiling import analyse_tile, tile_grid
from gmvqzip.entropy.codes import Codes
from gmvqzip.entropy.extras import make_sections
from gmvqzip.errors import FormatError, GmvqError, ImageError, ModelError
from gmvqzip.format import container
from gmvqzip.format.container import SECTION_TILES
from gmvqzip.format.sections import SECTION_OFFSETS
from gmvqzip.format.tiles import Box, TileGrid, TileIndex, read_index
from gmvqzip.images.pixels import Picture
from gmvqzip.npz import dump_npz, load_npz
from gmvqzip.setting import Setting

WIDTH, HEIGHT, SIDE = 410, 300, 64
STRIDE = CONFIG.strides[-1]


class Counting(io.BytesIO):
    """A file object that notes which bytes are read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.total = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.total += len(data)
        return data


@pytest.fixture(scope="module")
def engine(hyper: Codec) -> Engine:
    return hyper.engine


@pytest.fixture(scope="module")
def tiled(hyper: Codec) -> bytes:
    return hyper.compress(smooth(HEIGHT, WIDTH), quality=60, effort=1, tile=SIDE)


@pytest.fixture(scope="module")
def whole(hyper: Codec, tiled: bytes) -> np.ndarray:
    """The tiled picture's pixels."""
    return np.asarray(hyper.decompress(tiled)).astype(int)


def untiled_pixels(engine: Engine, codes: Codes) -> np.ndarray:
    """What the network makes of the latents of all tiles in one piece, rounded."""
    rows, columns = codes.stages[-1].shape
    grid = TileGrid(columns * STRIDE, rows * STRIDE, codes.tile)
    latent = np.zeros((rows, columns, CONFIG.latents), np.int32)
    for box in map(grid.box, range(len(grid))):
        own = [stage[box.cells(part.stride)] for stage, part in zip(codes.stages, CONFIG.stages(), strict=True)]
        latent[box.cells(STRIDE)] = followed(engine, own, codes.quality).latent
    channel, row, column, value = codes.offsets.T
    latent[row, column, channel] += 32 * value
    picture = engine.network.synthesise(latent, codes.quality)[:, : codes.height, : codes.width]
    return np.moveaxis(np.rint(picture * 255), 0, 2).astype(int)


class TestNoSeam:
    def test_pixels_are_those_of_the_untiled_network(self, hyper: Codec, engine: Engine, tiled: bytes) -> None:
        codes = hyper.decode_codes(tiled)
        assert codes.tile == SIDE
        expected = untiled_pixels(engine, codes)
        assert expected.std() > 20
        assert np.abs(np.asarray(hyper.decode(codes)) - expected).max() <= 1

    def test_windows_of_a_large_picture(
        self, hyper: Codec, tiled: bytes, whole: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain = hyper.encode(smooth(HEIGHT, WIDTH), quality=60, effort=1, tile=0)
        expected = np.asarray(hyper.decode(plain)).astype(int)
        monkeypatch.setattr(coded, "_WINDOW_PIXELS", 1)
        monkeypatch.setattr(coded, "_WINDOW_SIDE", 88)
        assert len(list(coded.windows(Box(3, 5, WIDTH, HEIGHT)))) == 20
        assert np.abs(np.asarray(hyper.decode(plain)) - expected).max() <= 1
        assert np.abs(np.asarray(hyper.decompress(tiled)) - whole).max() <= 1
        for scale in (1 / 2, 1 / 8):
            for region in ((0, 0, WIDTH, HEIGHT), (33, 41, 301, 203)):
                small = np.asarray(hyper.decompress(tiled, region=region, scale=scale)).astype(int)
                assert np.abs(small - boxes(whole, region, round(1 / scale))).max() <= 1

    def test_the_encoder_sees_beyond_the_tiles(self, engine: Engine) -> None:
        """The targets of a tile's codes are those of the untiled picture: so are codes that no context influences."""
        pixels = smooth(128, 192)
        untiled = analysed(engine, pixels, 60)
        grid = tile_grid(CONFIG, 192, 128, 64)
        stages = [np.empty_like(stage) for stage in untiled]
        for number in range(len(grid)):
            piece = analyse_tile(engine, pixels, Setting(60), grid, number)
            for stage, own, part in zip(stages, piece.stages, CONFIG.stages(), strict=True):
                stage[grid.box(number).cells(part.stride)] = own
        hyper_stages = sum(part.count for part in CONFIG.hyper)
        for number in range(hyper_stages):
            assert np.array_equal(stages[number], untiled[number])
        same = [float((a == b).mean()) for a, b in zip(stages[hyper_stages:], untiled[hyper_stages:], strict=True)]
        assert np.mean(same) > 0.9

    def test_refinement_lowers_the_error(self, hyper: Codec) -> None:
        pixels = smooth(HEIGHT, WIDTH)
        files = [hyper.compress(pixels, quality=60, effort=effort, tile=SIDE) for effort in (1, 5)]
        errors = [np.square(np.asarray(hyper.decompress(data)).astype(float) - pixels).mean() for data in files]
        trade = CONFIG.lambda_of(59 / 99)
        first, second = (
            trade * error + 8 * len(data) / pixels[..., 0].size for error, data in zip(errors, files, strict=True)
        )
        assert second < first


def boxes(pixels: np.ndarray, region: tuple[int, int, int, int], factor: int) -> np.ndarray:
    """Means of squares of a region of pixels [H, W, 3]."""
    x, y, width, height = region
    part = pixels[y : y + height, x : x + width].astype(float)
    rows, columns = -(-height // factor), -(-width // factor)
    out = np.empty((rows, columns, 3))
    for row in range(rows):
        for column in range(columns):
            square = part[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            out[row, column] = square.mean((0, 1))
    return out.round().astype(int)


class TestParts:
    @pytest.mark.parametrize(
        "region", [(0, 0, 1, 1), (0, 0, 410, 300), (409, 299, 1, 1), (60, 60, 10, 10), (100, 37, 170, 201)]
    )
    @pytest.mark.parametrize("tile", [0, SIDE])
    def test_regions(self, hyper: Codec, region: tuple[int, int, int, int], tile: int) -> None:
        data = hyper.compress(smooth(HEIGHT, WIDTH), quality=60, effort=1, tile=tile)
        x, y, width, height = region
        expected = np.asarray(hyper.decompress(data)).astype(int)[y : y + height, x : x + width]
        found = hyper.decompress(data, region=region)
        assert found.size == (width, height)
        assert np.abs(np.asarray(found) - expected).max() <= 1

    @pytest.mark.parametrize("factor", [2, 4, 8])
    def test_scales(self, hyper: Codec, tiled: bytes, whole: np.ndarray, factor: int) -> None:
        small = hyper.decompress(tiled, scale=1 / factor)
        assert small.size == (-(-WIDTH // factor), -(-HEIGHT // factor))
        assert np.abs(np.asarray(small) - boxes(whole, (0, 0, WIDTH, HEIGHT), factor)).max() <= 1

    def test_a_region_reads_what_it_needs(self, hyper: Codec, tiled: bytes) -> None:
        front, place = container.read_front(io.BytesIO(tiled))
        index = read_index(front.sections[SECTION_TILES], WIDTH, HEIGHT)
        grid = TileGrid(WIDTH, HEIGHT, SIDE)
        box = Box(200, 130, 230, 170)
        needed = grid.touched(box.grown(CONFIG.synthesis_reach * STRIDE, Box(0, 0, WIDTH, HEIGHT)))
        assert 1 < len(needed) < len(grid) / 3
        file = Counting(tiled)
        hyper.decompress(file, region=(200, 130, 30, 40))
        spare = 64  # what is read ahead of header and section
        assert file.total <= place + spare + sum(index.lengths[number] for number in needed)
        assert file.total < len(tiled) / 2

    def test_damage_elsewhere_is_not_seen_and_damage_inside_is(self, hyper: Codec, tiled: bytes) -> None:
        front, place = container.read_front(io.BytesIO(tiled))
        index = read_index(front.sections[SECTION_TILES], WIDTH, HEIGHT)
        region = (0, 0, 40, 20)
        expected = hyper.decompress(tiled, region=region)
        far = bytearray(tiled)
        far[-1] ^= 1
        assert hyper.decompress(bytes(far), region=region) == expected
        near = bytearray(tiled)
        near[place + index.spans[1][0] + 3] ^= 1
        with pytest.raises(FormatError, match=r"tile 1: .*damaged"):
            hyper.decompress(bytes(near), region=region)
        for data in (far, near):
            with pytest.raises(FormatError, match="damaged or cut"):
                hyper.decompress(bytes(data))
        with pytest.raises(FormatError):
            hyper.decompress(tiled[: place + index.spans[1][0] + 3], region=region)

    @given(place=st.integers(0, 10_000), flip=st.integers(1, 255))
    @settings(max_examples=40, deadline=None)
    def test_a_damaged_byte_gives_the_same_pixels_or_an_error(
        self, hyper: Codec, tiled: bytes, whole: np.ndarray, place: int, flip: int
    ) -> None:
        _, start = container.read_front(io.BytesIO(tiled))
        data = bytearray(tiled)
        data[place % (start + 40)] ^= flip
        try:
            found = np.asarray(hyper.decompress(bytes(data), region=(0, 0, 9, 9)))
        except GmvqError:
            return
        assert np.abs(found - whole[:9, :9]).max() <= 1  # the file check, or codes that this part does not need

    @pytest.mark.parametrize(
        "region", [(0, 0, 0, 1), (0, 0, 1, 0), (-1, 0, 2, 2), (0, -1, 2, 2), (400, 0, 11, 1), (0, 300, 1, 1)]
    )
    @pytest.mark.parametrize("tile", [0, SIDE])
    def test_regions_outside(self, hyper: Codec, region: tuple[int, int, int, int], tile: int) -> None:
        data = hyper.compress(smooth(HEIGHT, WIDTH), effort=1, tile=tile)
        with pytest.raises(ImageError, match=r"is not inside the picture of 410x300 pixels"):
            hyper.decompress(data, region=region)

    @pytest.mark.parametrize("scale", [0, 2, 0.3, 1 / 16, -1])
    def test_other_scales(self, hyper: Codec, tiled: bytes, scale: float) -> None:
        with pytest.raises(ImageError, match=r"scale .* is out of range: give 1, 1/2, 1/4 or 1/8"):
            hyper.decompress(tiled, scale=scale)

    def test_transparency_and_gray(self, hyper: Codec) -> None:
        planes = smooth(HEIGHT, WIDTH)[:, :, :2]
        planes[:, :, 1] = np.arange(WIDTH) % 256
        data = hyper.compress(planes, effort=1, tile=SIDE)
        full = hyper.decompress(data)
        assert full.mode == "LA"
        part = hyper.decompress(data, region=(90, 70, 100, 50))
        assert part.mode == "LA"
        assert np.array_equal(np.asarray(part)[:, :, 1], planes[70:120, 90:190, 1])
        assert np.abs(np.asarray(part).astype(int) - np.asarray(full)[70:120, 90:190]).max() <= 1
        small = np.asarray(hyper.decompress(data, region=(90, 70, 101, 51), scale=0.25))
        assert small.shape == (13, 26, 2)
        assert np.array_equal(small[0, :2, 1], [92, 96])  # means of 90 to 93, 91.5, and of 94 to 97
        assert small[0, -1, 1] == 190

    @pytest.mark.parametrize("tile", [0, SIDE])
    def test_pictures_coded_at_a_reduced_size(self, hyper: Codec, tile: int) -> None:
        wanted = hyper.encode(smooth(HEIGHT, WIDTH), effort=1, tile=tile)
        codes = replace(wanted, width=2 * WIDTH - 1, height=2 * HEIGHT, halvings=1)
        data = hyper.pack_codes(codes).data
        full = np.asarray(hyper.decompress(data)).astype(int)
        assert full.shape == (2 * HEIGHT, 2 * WIDTH - 1, 3)
        part = np.asarray(hyper.decompress(data, region=(700, 500, 119, 99)))
        assert np.array_equal(part, full[500:599, 700:819])
        small = np.asarray(hyper.decompress(data, region=(700, 500, 119, 99), scale=0.25)).astype(int)
        assert np.abs(small - boxes(full, (700, 500, 119, 99), 4)).max() <= 1

    def test_a_region_of_another_model_s_file(self, hyper: Codec, tiny: Codec, tiled: bytes) -> None:
        for codec, data in ((tiny, tiled), (hyper, tiny.compress(smooth(50, 70)))):
            with pytest.raises(ModelError, match="made with model"):
                codec.decompress(data, region=(0, 0, 9, 9))

    def test_staged_models(self, tiny: Codec) -> None:
        pixels = smooth(50, 70)
        data = tiny.compress(pixels)
        full = np.asarray(tiny.decompress(data)).astype(int)
        part = np.asarray(tiny.decompress(data, region=(3, 5, 33, 21)))
        assert np.array_equal(part, full[5:26, 3:36])
        small = np.asarray(tiny.decompress(data, region=(3, 5, 33, 21), scale=0.5)).astype(int)
        assert np.abs(small - boxes(full, (3, 5, 33, 21), 2)).max() <= 1


class TestFiles:
    @pytest.mark.parametrize(("width", "height"), [(65, 1), (1, 65), (64, 65), (129, 97), (128, 128), (97, 257)])
    @pytest.mark.parametrize("quality", [1, 100])
    def test_odd_sizes(self, hyper: Codec, width: int, height: int, quality: int) -> None:
        pixels = smooth(height, width)
        done = hyper.compress_picture(Picture(pixels), quality=quality, effort=1, tile=64)
        codes = hyper.decode_codes(done.data)
        assert codes == done.codes
        assert codes.tile == 64
        assert hyper.decompress(done.data).size == (width, height)
        assert hyper.pack_codes(codes).data == done.data
        ideal = done.ideal_bits
        tiles = len(TileGrid(width, height, 64))
        assert ideal - tiles <= 8 * done.payload_bytes <= 1.005 * ideal + 16 * tiles

    def test_site_bits(self, hyper: Codec, tiled: bytes) -> None:
        codes = hyper.decode_codes(tiled)
        bits = hyper.follow(codes).site_bits()
        assert [array.shape for array in bits] == [stage.shape for stage in codes.stages]
        assert hyper.follow(codes).bits() == pytest.approx([float(array.sum(dtype=np.float64)) for array in bits])

    def test_a_picture_that_is_one_tile_has_no_index(self, hyper: Codec) -> None:
        pixels = smooth(64, 50)
        assert hyper.compress(pixels, tile=64) == hyper.compress(pixels, tile=0) == hyper.compress(pixels)

    def test_large_pictures_are_tiled(self, hyper: Codec, tiny: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
        pixels = smooth(100, 150)
        assert hyper.encode(pixels, effort=1).tile == 0
        monkeypatch.setattr(tiling, "TILED_PIXELS", 14_999)
        monkeypatch.setattr(tiling, "TILE_SIDE", 128)
        assert hyper.encode(pixels, effort=1).tile == 128
        assert hyper.encode(pixels, effort=1, tile=0).tile == 0
        assert hyper.encode(pixels[:, :149], effort=1).tile == 0
        assert tiny.encode(pixels).tile == 0

    def test_a_size_can_be_asked_for(self, hyper: Codec) -> None:
        data = hyper.compress(smooth(100, 150), target_size=1500, effort=1, tile=64)
        assert 0.9 * 1500 < len(data) <= 1500
        assert hyper.decode_codes(data).tile == 64

    @pytest.mark.parametrize("tile", [16, 33, 8192])
    def test_other_sides(self, hyper: Codec, tile: int) -> None:
        for width in (9000, 8):  # also where the picture would be a single tile
            with pytest.raises(ModelError, match="a power of two from 32 to 4096 is wanted"):
                hyper.compress(np.zeros((1, width, 3), np.uint8), tile=tile)
        with pytest.raises(FormatError, match="tiles of"):
            Codes((), 1, 1, "0" * 64, 50, tile=tile)

    def test_staged_models_have_no_tiles(self, tiny: Codec) -> None:
        with pytest.raises(ModelError, match="not tiled"):
            tiny.compress(smooth(50, 70), tile=32)
        codes = tiny.encode(smooth(50, 70))
        index = TileIndex(32, (0,) * 6, (0,) * 6).write()
        data = tiny.pack_codes(codes).data
        header = container.read_header(data)[0]
        bad = container.pack(
            width=70,
            height=50,
            model_id=bytes.fromhex(tiny.model_id),
            quality=0,
            gray=False,
            codes_crc32=header.codes_check,
            payload=container.unpack(data).payload,
            sections={SECTION_TILES: index},
        )
        for region in (None, (0, 0, 1, 1)):
            with pytest.raises(FormatError, match="not tiled: the file is damaged"):
                tiny.decompress(bad, region=region)

    def test_npz(self, hyper: Codec, tiled: bytes) -> None:
        codes = hyper.decode_codes(tiled)
        assert load_npz(dump_npz(codes))[0] == codes
        assert codes != replace(codes, tile=128)


def resealed(hyper: Codec, data: bytes, payload: bytes, index: bytes) -> bytes:
    """The same file with another payload or index, and checks of header and file that fit."""
    box = container.unpack(data)
    return container.pack(
        width=box.header.width,
        height=box.header.height,
        model_id=bytes.fromhex(hyper.model_id),
        quality=box.header.quality,
        gray=box.header.gray,
        codes_crc32=box.header.codes_check,
        payload=payload,
        sections=box.sections | {SECTION_TILES: index},
    )


class TestDamage:
    def test_wrong_indexes(self, hyper: Codec, tiled: bytes) -> None:
        box = container.unpack(tiled)
        payload, index = box.payload, read_index(box.sections[SECTION_TILES], WIDTH, HEIGHT)
        first, second, *lengths = index.lengths
        for wrong, bytes_, message in (
            (index, payload + b"a", r"take \d+ bytes of \d+"),
            (index, payload[:-1], r"take \d+ bytes of \d+"),
            (replace(index, lengths=(first + 1, second - 1, *lengths)), payload, "tile 0: "),
            (replace(index, checks=(index.checks[0] ^ 1, *index.checks[1:])), payload, "tile 0: its codes differ"),
            (replace(index, side=128), payload, "does not end where it should"),
        ):
            with pytest.raises(FormatError, match=message):
                hyper.decode_codes(resealed(hyper, tiled, bytes_, wrong.write()))

    def test_swapped_tiles(self, hyper: Codec, tiled: bytes) -> None:
        """Each tile is whole, and the codes of each agree: the codes check of the header sees it."""
        box = container.unpack(tiled)
        index = read_index(box.sections[SECTION_TILES], WIDTH, HEIGHT)
        parts = [box.payload[start:end] for start, end in index.spans]
        order = [1, 0, *range(2, len(parts))]
        swapped = TileIndex(SIDE, *(tuple(row[n] for n in order) for row in (index.lengths, index.checks)))
        payload = b"".join(parts[number] for number in order)
        with pytest.raises(FormatError, match="differ from the file's checksum"):
            hyper.decode_codes(resealed(hyper, tiled, payload, swapped.write()))

    def test_sections_of_a_file_with_tiles(self, hyper: Codec) -> None:
        alpha = np.zeros((100, 150), np.uint8)
        done = hyper.compress_picture(Picture(smooth(100, 150), alpha=alpha), effort=1, tile=64)
        box = container.unpack(done.data)
        assert set(box.sections) == {1, SECTION_TILES, SECTION_OFFSETS}
        codes = hyper.decode_codes(done.data)
        assert hyper.pack_codes(codes, make_sections(alpha, None)).data == done.data
