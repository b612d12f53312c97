"""Fuzz targets: any input may end in a picture or codes, or in a GmvqError; anything else is a finding.

Checksums keep random changes from the code behind them, so an input is mostly not the file itself but a plain form of
it, and `seal` makes the file: it fills in checks, lengths, offsets and compressed streams, and leaves all else as
hostile as it is. `run` takes files, as they are kept where they once were findings.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import fuzz_archives as archives
import numpy as np
from fuzz_base import CODE_PIXELS, GOLDEN, PICTURE_PIXELS, Reader, shipped_models, tiny_models

from gmvqzip.codec import Codec
from gmvqzip.entropy import alpha, coder
from gmvqzip.entropy.backend import NAMES, VARIABLE
from gmvqzip.entropy.codes import Codes, codes_crc32
from gmvqzip.entropy.extras import read_extras
from gmvqzip.entropy.tables import frequencies
from gmvqzip.errors import FormatError, GmvqError, ModelError
from gmvqzip.format import container
from gmvqzip.format.checksum import crc8
from gmvqzip.format.limits import MAX_HEADER_BYTES
from gmvqzip.format.sections import compress_profile, decompress_profile

_TABLES = 4  # of one input of the coder, at most


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
            if field is container.HALVINGS and not changed[2] & container.HALVED_FLAG:
                continue
            _, end = field.read(bytes(changed), end, bool(changed[2] & container.SHORT_FLAG))
        changed[end] = crc8(bytes(changed[:3]) + bytes(changed[4:end]))
    changed[3] = crc8(bytes(changed[:3]) + bytes(changed[4:]))
    return bytes(changed)


def run_container(data: bytes) -> None:
    container.read_header(data[:MAX_HEADER_BYTES])
    read_extras(container.unpack(data, max_pixels=CODE_PIXELS))


def container_seeds() -> list[bytes]:
    seeds = [path.read_bytes() for path in sorted(GOLDEN.glob("*/*.gmvq"))]
    plane = alpha.compress_alpha(np.arange(12, dtype=np.uint8).reshape(3, 4))
    sections = {1: plane, 2: compress_profile(b"profile"), 70: b"note"}
    common = {"model_id": bytes(8), "codes_crc32": 0, "gray": True, "quality": 0, "payload": b"\1"}
    return [*seeds, container.pack(width=4, height=3, sections=sections, **common)]  # type: ignore[arg-type]


def seal_sections(data: bytes) -> bytes:
    """A file whose sections inflate to what the input says: [kind, width, height, content]."""
    reader = Reader(data)
    kind, width, height = reader.number(1), 1 + reader.number(2), 1 + reader.number(2)
    sections = {1 + kind % 2: zlib.compress(reader.rest(), 9)}
    return container.pack(
        width=width, height=height, model_id=bytes(8), quality=0, gray=False, codes_crc32=0, payload=b"",
        sections=sections,
    )  # fmt: skip


def run_sections(data: bytes) -> None:
    box = container.unpack(data, max_pixels=CODE_PIXELS)
    plane = read_extras(box).alpha
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
            codec.decompress_picture(data, region=(0, 0, 1, 1), scale=1 / 2, max_pixels=PICTURE_PIXELS)


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
            file = codec.compress(pixels)
            seeds.append(file[:4] + bytes([number]) + file[5:])
    for path in sorted((GOLDEN / "hyperprior").glob("*.gmvq")):  # of the second tiny model; one is of a reduced size
        file = path.read_bytes()
        seeds.append(file[:4] + b"\1" + file[5:])
    return seeds


def seal_codes(data: bytes) -> bytes:
    """A right file of any codes: [model, width, height, quality, flags, codes]. The input where the model has none."""
    reader = Reader(data)
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
    reader = Reader(data)
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


TARGETS = {
    "container": Target(container_seeds, seal_container, run_container),
    "sections": Target(lambda: [b"\0\0\3\0\1\1\2\3\4\5\3\7\7\7\7", b"\1\0\0\0\0profile"], seal_sections, run_sections),
    "codec": Target(lambda: codec_seeds(tiny_models), sealed_for(tiny_models), run_codec),
    "shipped": Target(lambda: codec_seeds(shipped_models), sealed_for(shipped_models), run_codec),
    "codes": Target(lambda: [b"\0\0\x28\x1e\0\0abc", b"\1\0\x28\x1e\x32\1\0\0\0"], seal_codes, run_codec),
    "coder": Target(coder_seeds, bytes, run_coder),
    "pack": Target(archives.pack_seeds, archives.seal_pack, archives.run_pack),
    "model": Target(archives.model_seeds, archives.seal_model, archives.run_model),
    "npz": Target(archives.npz_seeds, archives.seal_npz, archives.run_npz),
}
