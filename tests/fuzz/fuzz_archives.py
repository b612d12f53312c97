"""Fuzz targets of what holds many things: packs, model files, archives of codes."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
from fuzz_base import CODE_PIXELS, GOLDEN, PICTURE_PIXELS, Reader, tiny_models

from gmvqzip import npz
from gmvqzip.codec import Codec
from gmvqzip.entropy.codes import Codes
from gmvqzip.errors import FormatError, GmvqError
from gmvqzip.format.checksum import crc8
from gmvqzip.format.packheader import PACK_HEADER_BYTES, Slot, empty_header, slot_offset
from gmvqzip.format.packindex import read_index
from gmvqzip.format.varint import read_varint, write_varint
from gmvqzip.models import registry, store
from gmvqzip.models.cost import cost
from gmvqzip.pack import PackFile, PackReader
from gmvqzip.pack.appending import Appender

_RECORDS = 1 << 16  # bytes of a segment's records that are filled up
_LOOKED_AT = 8  # pictures of a pack

# Packs: segments of [bytes of records 2, records, bytes of index 2, index not compressed].


def seal_pack(data: bytes) -> bytes:
    """A pack of these segments, with right checks, chain and header, and records as long as the index says."""
    reader, out, last = Reader(data), bytearray(empty_header()), None
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
    reader, file, members = Reader(data), io.BytesIO(), dict[str, bytes]()
    while reader.more:
        name = reader.take(reader.number(1)).decode("latin-1")
        members[name] = reader.take(reader.number(2))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            if name.partition("\0")[0]:  # zipfile ends a name there
                archive.writestr(name, content)
    return file.getvalue()


def run_npz(data: bytes) -> None:
    codes, _ = npz.load_npz(data, max_pixels=CODE_PIXELS)
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
