"""From the bytes of a .gmvq file to indices and latent. See `decode`."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

Array = NDArray[Any]
TOTAL, WORD, DOUBLE = 1 << 24, 1 << 32, 1 << 64
PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))
EXPONENTIAL = np.array([round(2 ** (30 - f / 1024)) for f in range(1024)], np.int64)


class Damaged(ValueError):
    """The file must fail."""


def require(holds: object, otherwise: str) -> None:
    """Fail unless something holds."""
    if not holds:
        raise Damaged(otherwise)


@dataclass
class Reader:
    """Bytes, taken from the front."""

    data: bytes
    place: int = 0

    def take(self, size: int) -> bytes:
        require(self.place + size <= len(self.data), "cut")
        self.place += size
        return self.data[self.place - size : self.place]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def varint(self, longest: int) -> int:  # 2.1
        value = 0
        for group in range(longest):
            byte = self.number(1)
            value |= (byte & 127) << 7 * group
            if byte < 128:
                require(byte or not group, "a varint is not in the fewest bytes")
                return value
        raise Damaged("a varint is too long")


def crc8(data: bytes) -> int:  # 2.2
    register = 0xFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register << 1 ^ (0x12F if register & 128 else 0)
    return register ^ 0xFF


@dataclass
class File:
    """What header and sections say, and the payload."""

    model: bytes  # the first bytes of its identity
    width: int
    height: int
    gray: bool
    quality: int = 0
    halvings: int = 0
    check: bytes = b""  # of the codes
    sections: dict[int, bytes] = field(default_factory=dict)
    payload: bytes = b""

    @property
    def coded(self) -> tuple[int, int]:  # 1
        return -(-self.width >> self.halvings), -(-self.height >> self.halvings)


def read_file(data: bytes) -> File:  # 3
    reader = Reader(data)
    require(data[:2] == b"\x9d\x47"[: len(data)] and data, "empty, or not a .gmvq file")
    flags = reader.take(3)[2]
    require(flags >> 5 == 1 and not flags & 1, "another version, or reserved bits")
    file_check, short = reader.number(1), bool(flags & 16)
    model = reader.take(2 if short else 4)
    width, height = (1 + (reader.number(1) if short else reader.varint(3)) for _ in range(2))
    file = File(model, width, height, bool(flags & 8), reader.number(1))
    file.halvings = reader.number(1) if flags & 2 else 0
    file.check = reader.take(len(model))
    require(crc8(data[:3] + data[4 : reader.place]) == reader.number(1), "the header is damaged")
    require(file.quality <= 100 and flags >> 1 & 1 <= file.halvings <= 16, "quality or halvings out of range")
    require(width * height <= 1 << 27, "too many pixels")
    require(crc8(data[:3] + data[4:]) == file_check, "the file is damaged")
    file.sections = read_sections(reader) if flags & 4 else {}
    file.payload = data[reader.place :]
    return file


def read_sections(reader: Reader) -> dict[int, bytes]:  # 4
    found: dict[int, bytes] = {}
    while kind := reader.varint(2):
        require(kind > max(found, default=0) and not 4 < kind < 64, f"section {kind}: unknown, or out of order")
        length = reader.varint(5)
        require(length <= 1 << 30, "a section is too long")
        found[kind] = reader.take(length)
    require(found, "no sections")
    return found


class RangeDecoder:
    """6.4; and what it decodes is encoded again, by 6.2 and 6.3."""

    def __init__(self, payload: bytes) -> None:
        self.payload, self.place = payload, 8
        self.offset = int.from_bytes(payload[:8].ljust(8, b"\0"), "big")
        self.low, self.range = 0, DOUBLE - 1
        self.words, self.count = 0, 0  # one long number of so many words

    def index(self, ends: Array) -> int:
        """ends: c(0) to c(K)."""
        if len(ends) == 2:
            return 0
        scale = self.range >> 24
        wanted = self.offset // scale
        require(wanted < TOTAL, "the payload fits no index")
        index = int(ends.searchsorted(wanted, "right")) - 1
        start, end = int(ends[index]), int(ends[index + 1])
        self.offset, self.range = self.offset - scale * start, scale * (end - start)
        self._set_low(self.low + scale * start)
        if self.range < WORD:
            more = self.payload[self.place : self.place + 4].ljust(4, b"\0")
            self.offset, self.place = self.offset * WORD + int.from_bytes(more, "big"), self.place + 4
            self.words, self.count = self.words * WORD + self.low // WORD, self.count + 1
            self.low, self.range = self.low % WORD * WORD, self.range * WORD
        return index

    def _set_low(self, low: int) -> None:
        self.words, self.low = self.words + low // DOUBLE, low % DOUBLE

    def finish(self) -> None:
        rounded, kept = self.low, 0
        for kept in range(9):
            unit = 1 << 64 - 8 * kept
            rounded = -(-self.low // unit) * unit
            if rounded < self.low + self.range:
                break
        self._set_low(rounded)
        canonical = self.words.to_bytes(4 * self.count, "big") + self.low.to_bytes(8, "big")[:kept]
        require(canonical.rstrip(b"\0") == self.payload, "the payload is not canonical")


def codes_crc32(arrays: Sequence[Array]) -> int:  # 3.2
    flat = np.concatenate([array.reshape(-1) for array in arrays])
    low, high = ((flat >> shift & 0xFFFF).astype(">u2").tobytes() for shift in (0, 16))
    return zlib.crc32(low + high if flat.max() >= 1 << 16 else low)


def ends_of(table: Array) -> Array:
    return np.concatenate([[0], np.cumsum(table, dtype=np.int64)])


class Part:
    """A part of a hyperprior model's groups, 10.1."""

    def __init__(self, given: dict[str, Any], tensors: dict[str, Array], prefix: str) -> None:
        self.length, self.codes, self.count = given["dimensions"], given["codes"], given["count"]
        self.shared = given.get("shared", False)
        own = {name.removeprefix(prefix): t.astype(np.int64) for name, t in tensors.items() if name.startswith(prefix)}
        self.codebook, self.bias, self.spread = own["codebook"], own["bias"], (own["precision"], own["slope"])
        self.extra = own.get("extra", np.zeros(self.codes, np.int64))
        self.classes = own["slope"].shape[2]
        self._ends: dict[tuple[int, int], Array] = {}

    def ends(self, book: int, pair: int) -> Array:  # 10.2
        if (book, pair) not in self._ends:
            sides = (np.abs(self.codebook[book]) - 16 * (2 ** self.extra[:, None] - 1)).clip(0)
            halves = sides.reshape(self.codes, 2, -1)
            cost = np.zeros(self.codes, np.int64)
            for i, t in enumerate(divmod(pair, self.classes)):
                precision, slope = (table[book, i, t] for table in self.spread)
                cost += precision * (halves[:, i] ** 2).sum(1) + slope * halves[:, i].sum(1)
            score = self.bias[book] - (cost >> 16)
            below = score.max() - score
            weight = EXPONENTIAL[below % 1024] >> (below >> 10).clip(0, 31)
            table = 1 + weight * (TOTAL - self.codes) // weight.sum()
            table[score.argmax()] += TOTAL - table.sum()
            self._ends[book, pair] = ends_of(table)
        return self._ends[book, pair]

    def points(self, group: int, indices: Array) -> Array:
        """[...] -> [L, ...]."""
        number, code = np.divmod(indices, self.codes)
        x = self.extra[code]
        places = 16 * (2 * np.stack([number >> x, number % 2**x]) - 2**x + 1)
        words = np.moveaxis(self.codebook[0 if self.shared else group][code], -1, 0)
        out: Array = words + places if self.shared else words
        return out

    def turn(self, coder: RangeDecoder, first: Array, second: Array) -> Array:
        """The indices [G, ...] of groups under classes [G, ...], 10.4."""
        pair = (first * self.classes + second).reshape(-1)
        group = np.arange(pair.size) // (pair.size // len(first))
        order = np.lexsort((pair,) if self.shared else (pair, group))  # stable
        out = np.zeros(pair.size, np.int64)
        for i in order[pair[order] > 0]:
            out[i] = coder.index(self.ends(0 if self.shared else int(group[i]), int(pair[i])))
        extra = self.extra[out]
        for x in range(1, 9):
            for i in order[extra[order] == x]:
                out[i] += self.codes * coder.index(np.arange(4**x + 1) << 24 - 2 * x)
        return out.reshape(first.shape)


class Model:
    """A model's file, 14.1."""

    def __init__(self, path: str | Path) -> None:
        with safe_open(path, "numpy") as file:
            self.metadata = file.metadata()
            self.tensors: dict[str, Array] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.config = config = json.loads(self.metadata["config"])
        self.levels: list[int] = config["strides"]
        self.hyperprior = config.get("kind") == "hyperprior"
        self.alignment = self.levels[-1] * (2 if self.hyperprior else 1)
        if self.hyperprior:
            self.hyper, self.quarter = self._parts("hyper", "hyper.groups"), self._parts("quarter", "groups")
            groups = sum(part.count for part in self.hyper), 4 * sum(part.count for part in self.quarter)
            self.strides = [self.alignment] * groups[0] + [self.levels[-1]] * groups[1]
        else:
            self.strides = [grid["stride"] for grid in config["grids"] for _ in range(grid["stages"])]

    def _parts(self, name: str, tensors: str) -> list[Part]:
        return [Part(own, self.tensors, f"context.{tensors}.{n}.") for n, own in enumerate(self.config[name])]

    def identity(self) -> bytes:
        digest = hashlib.sha256(self.metadata["config"].encode())
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"\n{name} {tensor.dtype.name} {list(tensor.shape)}\n".encode())
            digest.update(tensor.astype(tensor.dtype.newbyteorder("<")).tobytes())
        return digest.digest()

    def integers(self, name: str, v: Array, quality: int) -> Array:  # 10.3
        weight, bias, shift = (self.tensors[f"context.{name}.{kind}"] for kind in ("weight", "bias", "shift"))
        bias, shift = bias.astype(np.int64), shift[:, None, None].astype(np.int64)
        p, r = divmod((quality - 1) * (len(bias) - 1), 99)
        b = (bias[p] * (99 - r) + bias[min(p + 1, len(bias) - 1)] * r) // 99
        out: Array = (products(weight, v).astype(np.int64) + b[:, None, None] + (1 << shift - 1)) >> shift
        return out if name.endswith("head") else out.clip(0, 255)


def products(weight: Array, v: Array) -> Array:
    """Sums [O, h, w] of products of a kernel [O, I, k, k] at each site of [I, h, w], zeros beyond the edges."""
    (_, rows, columns), margin = v.shape, weight.shape[2] // 2
    around = np.pad(v.astype(np.float64), ((0, 0), (margin, margin), (margin, margin)))
    out = np.zeros((len(weight), rows, columns))
    for i, j in np.ndindex(weight.shape[2:]):
        out += np.tensordot(weight[:, :, i, j], around[:, i : i + rows, j : j + columns], 1)
    return out


def shuffled(v: Array, side: int) -> Array:
    """Channel (c * side + i) * side + j at (y, x) becomes channel c at (side * y + i, side * x + j)."""
    apart = v.reshape(-1, side, side, *v.shape[1:]).transpose(0, 3, 1, 4, 2)
    return apart.reshape(len(apart), side * v.shape[1], side * v.shape[2])


def read_staged(model: Model, payload: bytes, rows: int, columns: int) -> list[Array]:  # 6
    coder, arrays = RangeDecoder(payload), []
    for number, stride in enumerate(model.strides):
        ends, scale = ends_of(model.tensors[f"table.{number}"]), model.alignment // stride
        indices = [coder.index(ends) for _ in range(rows * columns * scale**2)]
        arrays.append(np.array(indices).reshape(rows * scale, -1))
    coder.finish()
    return arrays


def read_hyperprior(model: Model, payload: bytes, rows: int, columns: int, quality: int) -> list[Array]:  # 10.4
    """The index arrays, and as a last one the latent [M, 2 * rows, 2 * columns]."""
    coder = RangeDecoder(payload)
    arrays: list[Array] = []
    words: list[Array] = []
    classes = model.tensors["context.hyper.classes"][quality - 1, :, :, None, None].astype(np.int64)
    for part in model.hyper:
        own = classes[len(arrays) :][: part.count] + np.zeros((rows, columns), np.int64)
        indices = part.turn(coder, own[:, 0], own[:, 1])
        arrays += list(indices)
        words += [part.points(group, one) for group, one in enumerate(indices)]
    hyper = np.concatenate(words) + model.tensors["context.hyper.mean"].astype(np.int64)[:, None, None]
    features = model.integers("hyper.spread", hyper.clip(-1023, 1023), quality)
    features = shuffled(model.integers("hyper.up", features, quality), 2)
    features = model.integers("hyper.smooth", features, quality)
    share = sum(part.count * part.length for part in model.quarter)  # channels of a quarter
    latent = np.zeros((4 * share, 2 * rows, 2 * columns), np.int64)
    found = [np.zeros((4 * part.count, 2 * rows, 2 * columns), np.int64) for part in model.quarter]
    for step in range(4):
        out = np.concatenate([features, latent.clip(-1023, 1023)]) if step else features
        for layer in ("spatial", "mix", "head"):
            out = model.integers(f"step.{step}.{layer}", out, quality)
        means, after, channel = out[: 4 * share], out[4 * share :], 0
        for part, own in zip(model.quarter, found, strict=True):
            sites = [PHASES[group // part.count ^ step] for group in range(4 * part.count)]
            limited = after[: 8 * part.count].clip(0, part.classes - 1)
            pairs = np.stack([limited[2 * g : 2 * g + 2, r::2, c::2] for g, (r, c) in enumerate(sites)])
            for group, indices in enumerate(part.turn(coder, pairs[:, 0], pairs[:, 1])):
                r, c = sites[group]
                first = group // part.count * share + channel + group % part.count * part.length
                place = slice(first, first + part.length), slice(r, None, 2), slice(c, None, 2)
                latent[place] = means[place] + part.points(group, indices)
                own[group, r::2, c::2] = indices
            after, channel = after[8 * part.count :], channel + part.count * part.length
    coder.finish()
    return [*arrays, *(array for own in found for array in own), latent]


def tiles(file: File, model: Model) -> Iterator[tuple[int, int, int, int, bytes, int | None]]:  # 12
    """Of each tile, or of the picture that is one: x, y, width, height, payload, check."""
    width, height = file.coded
    if 3 not in file.sections:
        yield 0, 0, width, height, file.payload, None
        return
    section, payloads = file.sections[3], Reader(file.payload)
    require(zlib.crc32(section[:-4]).to_bytes(4, "big") == section[-4:], "the index of tiles is damaged")
    reader = Reader(section[:-4])
    side = 1 << reader.number(1)
    require(model.hyperprior and max(32, model.alignment) <= side <= 4096, "no such tiles")
    require(side < max(width, height), "a single tile")
    corners = [(x, y) for y in range(0, height, side) for x in range(0, width, side)]
    index = [(reader.varint(4), reader.number(2)) for _ in corners]
    require(reader.place == len(reader.data), "something follows the index of tiles")
    require(sum(length for length, _ in index) == len(file.payload), "the tiles do not fill the payload")
    for (x, y), (length, check) in zip(corners, index, strict=True):
        yield x, y, min(side, width - x), min(side, height - y), payloads.take(length), check


def decode(file: File, model: Model) -> list[Array]:
    """The index arrays of all stages, and as a last one what the transform takes of a hyperprior model's latent;
    everything verified."""
    require(bytes.fromhex(model.metadata["model_id"]).startswith(file.model), f"made with model {file.model.hex()}")
    require(bool(file.quality) == model.hyperprior, "a quality that the model does not have")
    rows, columns = (-(-side // model.alignment) for side in file.coded[::-1])
    strides = [*model.strides, model.levels[-1]] if model.hyperprior else model.strides
    whole: list[Array] = []
    for x, y, width, height, payload, check in tiles(file, model):
        own = -(-height // model.alignment), -(-width // model.alignment)
        if model.hyperprior:
            found = read_hyperprior(model, payload, *own, file.quality)
        else:
            found = read_staged(model, payload, *own)
        require(check in (None, codes_crc32(found[: len(model.strides)]) & 0xFFFF), "a tile's codes differ")
        for number, (array, stride) in enumerate(zip(found, strides, strict=True)):
            if len(whole) == number:
                scale = model.alignment // stride
                whole.append(np.zeros((*array.shape[:-2], rows * scale, columns * scale), np.int64))
            top, left = y // stride, x // stride
            whole[number][..., top : top + array.shape[-2], left : left + array.shape[-1]] = array
    found_check = codes_crc32(whole[: len(model.strides)]).to_bytes(4, "big")
    require(found_check.endswith(file.check), "the codes differ from their check")
    if 4 in file.sections:
        require(model.hyperprior, "offsets of a staged model")
        add_offsets(file.sections[4], whole[-1])
    return whole


def add_offsets(section: bytes, latent: Array) -> None:  # 10.5
    inflater = zlib.decompressobj()
    try:
        reader = Reader(inflater.decompress(section))
    except zlib.error:
        raise Damaged("the offsets are no stream of zlib") from None
    require(inflater.eof and not inflater.unused_data, "the offsets are cut, or something follows them")
    count = reader.varint(5)
    require(0 < count <= 1 << 21, "no offsets, or too many")
    gaps, values = ([reader.varint(5) for _ in range(count)] for _ in range(2))
    require(reader.place == len(reader.data), "something follows the offsets")
    place = -1
    for gap, value in zip(gaps, values, strict=True):
        place += 1 + gap
        require(place < latent.size and value < 2 * 32767, "no such offset")
        latent.flat[place] += 32 * (-(value + 1) // 2 if value & 1 else value // 2 + 1)
