"""Fuzz targets: any input may end in a picture or codes, or in a GmvqError; anything else is a finding.

Checksums keep random changes from the code behind them, so an input is mostly not the file itself but a plain form of
it, and `seal` makes the file: it fills in checks, lengths, offsets and compressed streams, and leaves all else as
hostile as it is. `run` takes files, as they are kept where they once were findings.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from gmvqzip import npz
from gmvqzip.codec import Codec, read_extras
from gmvqzip.engines import hyperprior, staged  # noqa: F401  (imported here, so that a fuzzer sees what they do)
from gmvqzip.entropy import alpha, coder, runs  # noqa: F401
from gmvqzip.entropy.backend import NAMES, VARIABLE
from gmvqzip.entropy.codes import Codes, codes_crc32
from gmvqzip.entropy.tables import frequencies
from gmvqzip.errors import FormatError, GmvqError, ModelError
from gmvqzip.format import container
from gmvqzip.format.checksum import crc8
from gmvqzip.format.packheader import PACK_HEADER_BYTES, Slot, empty_header, slot_offset
from gmvqzip.format.packindex import read_index
from gmvqzip.format.sections import compress_profile, decompress_profile
from gmvqzip.format.varint import read_varint, write_varint
from gmvqzip.models import hyperstore, registry, store  # noqa: F401
from gmvqzip.models.config import GridConfig, NetworkConfig
from gmvqzip.models.cost import cost
from gmvqzip.models.network import StagedAutoencoder
from gmvqzip.pack import PackFile, PackReader
from gmvqzip.pack.appending import Appender

GOLDEN = Path(__file__).parent.parent / "golden"
SHIPPED = ("photo", "faces", "cifar10", "celeba")
CODE_PIXELS, PICTURE_PIXELS = 1 << 20, 1 << 14  # limits of pixels for codes, and for pictures; the cost grows with them
_RECORDS = 1 << 16  # bytes of a segment's records that are filled up
_LOOKED_AT = 8  # pictures of a pack
_TABLES = 4
_TINY = NetworkConfig(
    strides=(2, 4), channels=(2, 2), encoder_blocks=(0, 1), decoder_blocks=(1, 0),
    grids=(GridConfig(stride=4, stages=2, codes=5, dimensions=2), GridConfig(stride=2, codes=300, dimensions=2)),
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """seeds: inputs to start from; seal: from an input to a file; run: what is done with a file."""

    seeds: Callable[[], list[bytes]]
    seal: Callable[[bytes], bytes]
    run: Callable[[bytes], None]

    def attempt(self, data: bytes) -> None:
        """Run one input. Raises for a finding only."""
        self.run_file(self.seal(data))

    def run_file(self, data: bytes) -> None:
        """Run one file. Raises for a finding only."""
        try:
            self.run(data)
        except GmvqError as error:
            if "\n" in str(error):
                raise AssertionError(f"a message of several lines: {error}") from error


class _Reader:
    """An input from which numbers and pieces are taken; beyond its end all is zero."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def rest(self) -> bytes:
        return self.take(len(self._data))

    @property
    def more(self) -> bool:
        return self._at < len(self._data)


# Models to decode with.


@cache
def tiny_models() -> list[Codec]:
    """A staged model with random weights, and the golden hyperprior model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = StagedAutoencoder(_TINY).eval()
    tables = [frequencies(1 / np.arange(1, stage.codes + 1)) for stage in _TINY.stages()]
    path = Path(tempfile.mkdtemp(prefix="gmvqzip-fuzz-")) / "staged.safetensors"
    path.write_bytes(store.dump_model("staged", network, tables, {}))
    return [Codec(registry.read_info(p), "cpu") for p in (path, GOLDEN / "hyperprior" / "hyperprior-1.safetensors")]


@cache
def shipped_models() -> list[Codec]:
    """The models that the package brings."""
    return [Codec(registry.find(name), "cpu") for name in SHIPPED]


# Container and codec.


def seal_container(data: bytes) -> bytes:
    """A `.gmvq` file with these fields and right checks."""
    changed = bytearray(data)
    changed[:2] = container.MAGIC
    if len(changed) < 5:
        return bytes(changed)
    with suppress(FormatError, IndexError):  # cut inside the header
        end = 4
        for field in container.FIELDS:
            _, end = field.read(bytes(changed), end, bool(changed[2] & container.SHORT_FLAG))
        changed[end] = crc8(bytes(changed[:3]) + bytes(changed[4:end]))
    changed[3] = crc8(bytes(changed[:3]) + bytes(changed[4:]))
    return bytes(changed)


def run_container(data: bytes) -> None:
    container.describe(container.read_header(data[:20])[0])
    read_extras(container.unpack(data, max_pixels=CODE_PIXELS))


def container_seeds() -> list[bytes]:
    seeds = [path.read_bytes() for path in sorted(GOLDEN.glob("*/*.gmvq"))]
    plane = alpha.compress_alpha(np.arange(12, dtype=np.uint8).reshape(3, 4))
    sections = {1: plane, 2: compress_profile(b"profile"), 70: b"note"}
    common = {"model_id": bytes(8), "codes_crc32": 0, "gray": True, "quality": 0, "payload": b"\1"}
    return [*seeds, container.pack(width=4, height=3, sections=sections, **common)]  # type: ignore[arg-type]


def seal_sections(data: bytes) -> bytes:
    """A file whose sections inflate to what the input says: [kind, width, height, content]."""
    reader = _Reader(data)
    kind, width, height = reader.number(1), 1 + reader.number(2), 1 + reader.number(2)
    sections = {1 + kind % 2: zlib.compress(reader.rest(), 9)}
    return container.pack(
        width=width, height=height, model_id=bytes(8), quality=0, gray=False, codes_crc32=0, payload=b"",
        sections=sections,
    )  # fmt: skip


def run_sections(data: bytes) -> None:
    box = container.unpack(data, max_pixels=CODE_PIXELS)
    plane, _ = read_extras(box)
    if plane is not None:
        again = alpha.decompress_alpha(alpha.compress_alpha(plane), *plane.shape[::-1])
        assert np.array_equal(again, plane)
    elif 2 in box.sections:
        assert decompress_profile(box.sections[2]) is not None


def sealed_for(codecs: Callable[[], list[Codec]]) -> Callable[[bytes], bytes]:
    """Seals a file for one of these models: the first byte of its model id decides."""

    def seal(data: bytes) -> bytes:
        if len(data) < 9:
            return seal_container(data)
        codec = codecs()[data[4] % len(codecs())]
        size = 2 if data[2] & container.SHORT_FLAG else 4
        return seal_container(data[:4] + bytes.fromhex(codec.model_id)[:size] + data[4 + size :])

    return seal


def run_codec(data: bytes) -> None:
    """Codes, and the picture where it is small."""
    header, _ = container.read_header(data)
    for codec in (*tiny_models(), *shipped_models()):
        if codec.model_id.startswith(header.model_id.hex()):
            codec.decode_codes(data, max_pixels=CODE_PIXELS)
            codec.decompress_picture(data, max_pixels=PICTURE_PIXELS)


def declared(codec: Codec, width: int, height: int) -> bytes:
    """A file of a few bytes, right in every way, of a picture of this size: all its codes are 0."""
    return container.pack(
        width=width,
        height=height,
        model_id=bytes.fromhex(codec.model_id),
        quality=50 if codec.qualities else 0,
        gray=False,
        codes_crc32=codes_crc32(np.zeros(shape, np.uint8) for shape in codec.config.stage_shapes(width, height)),
        payload=b"",
    )


def codec_seeds(codecs: Callable[[], list[Codec]]) -> list[bytes]:
    seeds = []
    for number, codec in enumerate(codecs()):
        for width, height in ((1, 1), (40, 30), (300, 20)):
            pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
            file = bytearray(codec.compress(pixels))
            file[4] = number
            seeds.append(bytes(file))
    return seeds


def seal_codes(data: bytes) -> bytes:
    """A right file of any codes: [model, width, height, quality, flags, codes]. The input where the model has none."""
    reader = _Reader(data)
    codec = tiny_models()[reader.number(1) % 2]
    width, height = 1 + reader.number(2) % 400, 1 + reader.number(1) % 64
    quality = 1 + reader.number(1) % 100 if codec.qualities else 0
    gray = bool(reader.number(1) & 1)
    drawn = np.frombuffer(reader.rest() or b"\0", dtype=np.uint8)
    stages, first = [], 0
    for shape, grid in zip(codec.config.stage_shapes(width, height), codec.config.stages(), strict=True):
        size = shape[0] * shape[1]
        stages.append(np.resize(np.roll(drawn, -first), size).reshape(shape).astype(np.int32) % grid.codes)
        first += size
    codes = Codes(tuple(stages), width, height, codec.model_id, quality, gray)
    try:
        file = codec.pack_codes(codes).data
    except ModelError:  # a code where the context leaves no choice
        return data
    assert codec.decode_codes(file) == codes
    return file


# Coder: [seed and size of each table, counts], payload.


def run_coder(data: bytes) -> None:
    """Both coders give the same symbols, or both refuse; what is accepted is what they encode."""
    reader = _Reader(data)
    parts = []
    for _ in range(1 + reader.number(1) % _TABLES):
        size, seed, count = 1 + reader.number(2) % 3000, reader.number(1), reader.number(2)
        weights = np.random.default_rng(seed).exponential(1, size) ** (1 + seed % 8)
        parts.append((count % 2048, frequencies(weights)))
    payload, results = reader.rest(), []
    before = os.environ.get(VARIABLE)
    try:
        for name in NAMES[1:]:
            os.environ[VARIABLE] = name
            try:
                found = coder.decode(payload, parts)
            except FormatError as error:
                results.append(str(error))
            else:
                symbols = [(part, table) for part, (_, table) in zip(found, parts, strict=True)]
                assert coder.encode(symbols) == payload
                results.append(" ".join(map(str, np.concatenate(found))))
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before
    assert len(set(results)) == 1, results


def coder_seeds() -> list[bytes]:
    seeds = []
    for size, seed, count in ((1, 0, 5), (2, 7, 60), (300, 1, 40)):
        weights = np.random.default_rng(seed).exponential(1, size) ** (1 + seed % 8)
        table = frequencies(weights)
        symbols = np.random.default_rng(1).choice(size, count, p=table / table.sum())
        front = bytes([0]) + (size - 1).to_bytes(2, "big") + bytes([seed]) + count.to_bytes(2, "big")
        seeds.append(front + coder.encode([(symbols, table)]))
    return seeds


# Packs: segments of [bytes of records 2, records, bytes of index 2, index not compressed].


def seal_pack(data: bytes) -> bytes:
    """A pack of these segments, with right checks, chain and header, and records as long as the index says."""
    reader, out, last = _Reader(data), bytearray(empty_header()), None
    while reader.more:
        records, index = bytearray(reader.take(reader.number(2))), reader.take(reader.number(2))
        with suppress(FormatError):
            index = _chained(index, last)
            lengths = read_index(zlib.compress(index), zlib.crc32(zlib.compress(index)), _RECORDS)[0].lengths
            if sum(lengths) <= _RECORDS:
                records = records[: sum(lengths)].ljust(sum(lengths), b"\0")
                start = 0
                for length in lengths:
                    records[start] = crc8(bytes(records[start + 1 : start + length]))
                    start += length
        stored = zlib.compress(index, 9)
        out += records + stored
        last = Slot(len(out), len(stored), zlib.crc32(stored))
    if last is not None:
        out[slot_offset(0) : slot_offset(1)] = last.write()
    return bytes(out)


def _chained(index: bytes, last: Slot | None) -> bytes:
    """An index that names the one before, and a model that is there."""
    count, at = read_varint(index, 0, longest=5, what="index")
    previous, at = read_varint(index, at, longest=5, what="index")
    rest = index[at + (4 if previous else 0) :]
    if rest[:1] == b"\1":
        rest = b"\1" + bytes.fromhex(tiny_models()[0].model_id)[:8] + rest[9:]
    chain = b"\0" if last is None else write_varint(last.index_bytes) + last.index_crc32.to_bytes(4, "big")
    return write_varint(count) + chain + rest


def run_pack(data: bytes) -> None:
    """Names, records and pictures, then an append, which keeps what was there."""
    with tempfile.TemporaryDirectory(prefix="gmvqzip-fuzz-") as folder:
        path = Path(folder) / "a.gmvqp"
        path.write_bytes(data)
        with PackReader(path, model=tiny_models()[0].info.path, device="cpu", max_pixels=PICTURE_PIXELS) as pack:
            names, kinds = list(pack.names), [pack.entry(number).kind for number in range(min(len(pack), _LOOKED_AT))]
            for number in range(len(kinds)):
                for read in (pack.check, pack.gmvq, pack.picture):
                    with suppress(GmvqError):
                        read(number)
        if not kinds:
            return
        appender = Appender(path, append=True)
        try:
            appender.add("new", kinds[0], b"\0\0")
            appender.finish()
        finally:
            appender.discard()
        with PackFile(path) as longer:
            assert list(longer.names) == [*names, "new"]


def pack_seeds() -> list[bytes]:
    """The golden packs in the form that `seal_pack` takes."""
    seeds = []
    for path in sorted((GOLDEN / "packs").glob("*.gmvqp")):
        data, form = path.read_bytes(), []
        with PackFile(path) as pack:
            end, size = pack.header.slot.end, pack.header.slot.index_bytes
        while end > PACK_HEADER_BYTES:
            stored = data[end - size : end]
            index, _ = read_index(stored, zlib.crc32(stored), end)
            start = end - size - sum(index.lengths)
            plain = zlib.decompress(stored)
            form.append(b"".join(len(part).to_bytes(2, "big") + part for part in (data[start : end - size], plain)))
            end, size = start, index.previous[0] if index.previous else 0
        seeds.append(b"".join(form[::-1]))
    return seeds


# Models: configuration, 0, the header's tensors without the opening brace, 0, the tensors' bytes.


def seal_model(data: bytes) -> bytes:
    config, _, rest = data.partition(b"\0")
    tensors, _, content = rest.partition(b"\0")
    text = config.decode("utf-8", "replace")
    metadata = {"gmvqzip": "1", "name": "x", "model_id": "ab" * 32, "config": text, "card": "{}"}
    header = b'{"__metadata__":' + json.dumps(metadata).encode() + b"," + tensors
    return len(header).to_bytes(8, "little") + header + content


def run_model(data: bytes) -> None:
    """All that a model is read for, down to a picture made with it."""
    with tempfile.TemporaryDirectory(prefix="gmvqzip-fuzz-") as folder:
        path = Path(folder) / "x.safetensors"
        path.write_bytes(data)
        info = registry.read_info(path)
        for use in (cost, store.verify, _use_codes, _use_pixels):
            with suppress(GmvqError):
                use(info)


def _use_codes(info: registry.ModelInfo) -> None:
    codec = Codec(info, "cpu")
    stages = tuple(np.zeros(shape, dtype=np.int32) for shape in codec.config.stage_shapes(9, 7))
    codes = Codes(stages, 9, 7, info.model_id, 50 if codec.qualities else 0)
    assert codec.decode_codes(codec.pack_codes(codes).data) == codes


def _use_pixels(info: registry.ModelInfo) -> None:
    codec = Codec(info, "cpu")
    codec.decompress_picture(codec.compress(np.zeros((7, 9, 3), dtype=np.uint8)))


def model_seeds() -> list[bytes]:
    seeds = []
    for codec in tiny_models():
        data = codec.info.path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        tensors = json.loads(data[8 : 8 + size])
        del tensors["__metadata__"]
        plain = [json.dumps(codec.info.config), json.dumps(tensors)[1:]]
        seeds.append(b"\0".join(text.encode() for text in plain) + b"\0" + data[8 + size :])
    return seeds


# Archives of codes: members of [bytes of the name 1, name, bytes 2, .npy file].


def seal_npz(data: bytes) -> bytes:
    reader, file, members = _Reader(data), io.BytesIO(), dict[str, bytes]()
    while reader.more:
        name = reader.take(reader.number(1)).decode("latin-1")
        members[name] = reader.take(reader.number(2))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            if name.partition("\0")[0]:  # zipfile ends a name there
                archive.writestr(name, content)
    return file.getvalue()


def run_npz(data: bytes) -> None:
    codes, _, _ = npz.load_npz(data, max_pixels=CODE_PIXELS)
    for codec in tiny_models():
        if codec.model_id == codes.model_id:
            codec.pack_codes(codes)


def npz_seeds() -> list[bytes]:
    seeds = []
    for codec in tiny_models():
        codes = codec.encode(np.zeros((7, 9, 3), dtype=np.uint8))
        archive = npz.dump_npz(codes, alpha=np.zeros((7, 9), dtype=np.uint8), icc=b"profile")
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            members = [(name.encode(), file.read(name)) for name in file.namelist()]
        parts = [bytes([len(n)]) + n + len(content).to_bytes(2, "big") + content for n, content in members]
        seeds.append(b"".join(parts))
    return seeds


TARGETS = {
    "container": Target(container_seeds, seal_container, run_container),
    "sections": Target(lambda: [b"\0\0\3\0\1\1\2\3\4\5\3\7\7\7\7", b"\1\0\0\0\0profile"], seal_sections, run_sections),
    "codec": Target(lambda: codec_seeds(tiny_models), sealed_for(tiny_models), run_codec),
    "shipped": Target(lambda: codec_seeds(shipped_models), sealed_for(shipped_models), run_codec),
    "codes": Target(lambda: [b"\0\0\x28\x1e\0\0abc", b"\1\0\x28\x1e\x32\1\0\0\0"], seal_codes, run_codec),
    "coder": Target(coder_seeds, bytes, run_coder),
    "pack": Target(pack_seeds, seal_pack, run_pack),
    "model": Target(model_seeds, seal_model, run_model),
    "npz": Target(npz_seeds, seal_npz, run_npz),
}
