"""Adding to a pack: pictures are read ahead and encoded together, finished files go in as they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gmvqzip.cli.batch import read_source
from gmvqzip.cli.plan import Member
from gmvqzip.cli.records import Fields
from gmvqzip.cli.report import Report, json_name, safe_name
from gmvqzip.errors import FormatError, OutputError

if TYPE_CHECKING:
    from gmvqzip.codec import Codec
    from gmvqzip.engines.coded import Coded
    from gmvqzip.images.pixels import Picture
    from gmvqzip.pack.writer import PackWriter

_BATCH = 64  # pictures that are encoded together, at most
_BATCH_PIXELS = 1 << 20  # of all of them, about
_READ_AHEAD = 4  # pictures read at once for each job


def add_finished(
    writer: PackWriter, found: Iterable[Member], model: str | None, report: Report
) -> Iterator[Fields | None]:
    """Add `.gmvq` files; yield the fields of each, None where it failed."""
    from gmvqzip.format.container import read_header

    for member in found:
        start = time.perf_counter()
        try:
            data = member.source.read_bytes()
            size = writer.add_gmvq(member.name, data, model=model)
        except OutputError:
            raise  # the pack itself cannot be written
        except Exception as error:
            report.fail(member.shown, error)
            yield None
            continue
        header, _ = read_header(data)
        yield {
            **member_fields(member, len(data), size, header.width, header.height),
            "quality": header.quality,
            "seconds": time.perf_counter() - start,
        }


@dataclass(frozen=True)
class Packing:
    """Reads pictures, encodes them together, and adds them in their order."""

    writer: PackWriter
    codec: Codec
    report: Report
    strip: bool
    quality: int | None
    effort: int
    max_pixels: int
    jobs: int

    def run(self, found: Sequence[Member]) -> Iterator[Fields | None]:
        """Yield the fields of each picture, None where it failed."""
        with ThreadPoolExecutor(self.jobs) as pool:
            ready: list[tuple[Member, Picture, int]] = []
            pixels = 0
            ahead = self.jobs * _READ_AHEAD
            for start in range(0, len(found), ahead):
                window = found[start : start + ahead]
                files = all(member.source.is_file() for member in window)
                mapped = pool.map if files else map  # in this thread, a signal ends the wait for a pipe
                for member, read in zip(window, mapped(self._read, window), strict=True):
                    if isinstance(read, Exception):
                        self.report.fail(member.shown, read)
                        yield None
                        continue
                    picture, size = read
                    for warning in picture.warnings:
                        self.report.warn(member.shown, warning)
                    ready.append((member, picture, size))
                    pixels += picture.width * picture.height
                if len(ready) >= _BATCH or pixels >= _BATCH_PIXELS:
                    yield from self._add(ready, pool.map)
                    ready, pixels = [], 0
            yield from self._add(ready, pool.map)

    def _read(self, member: Member) -> tuple[Picture, int] | Exception:
        """The picture and the bytes of its file."""
        from gmvqzip.images.preparing import read_prepared

        try:
            if member.name in self.writer:
                raise FormatError(f"the pack has a picture named {safe_name(member.name)}: skipped")
            source = read_source(member.source)
            size = len(source) if isinstance(source, bytes) else source.stat().st_size
            return read_prepared(source, strip=self.strip, max_pixels=self.max_pixels), size
        except Exception as error:
            return error

    def _add(
        self, ready: Sequence[tuple[Member, Picture, int]], mapped: Callable[..., Iterator[Sequence[Coded | Exception]]]
    ) -> Iterator[Fields | None]:
        from gmvqzip.codec import sections_of

        start = time.perf_counter()
        encoded = self._encode([picture for _, picture, _ in ready], mapped)
        for (member, picture, in_bytes), coded in zip(ready, encoded, strict=True):
            try:
                if isinstance(coded, Exception):
                    raise coded
                size, codes = self.writer.add_coded(member.name, coded, sections_of(picture)), coded.codes
            except OutputError:
                raise  # the pack itself cannot be written
            except Exception as error:
                self.report.fail(member.shown, error)
                yield None
                continue
            yield {
                **member_fields(member, in_bytes, size, codes.width, codes.height),
                "model": self.codec.name,
                "model_id": self.codec.model_id,
                "quality": codes.quality,
                "gray": codes.gray,
                "alpha": picture.alpha is not None,
                "icc": picture.icc is not None,
                "codes_crc32": f"{codes.crc32():08x}",
                "seconds": (time.perf_counter() - start) / len(ready),
            }

    def _encode(
        self, pictures: Sequence[Picture], mapped: Callable[..., Iterator[Sequence[Coded | Exception]]]
    ) -> Sequence[Coded | Exception]:
        """The codes of all pictures, or why there are none: each job takes a share of them."""
        share = -(-len(pictures) // self.jobs)
        shares = [pictures[start : start + share] for start in range(0, len(pictures), share)] if pictures else []
        return [coded for found in mapped(self._encode_share, shares) for coded in found]

    def _encode_share(self, pictures: Sequence[Picture]) -> Sequence[Coded | Exception]:
        """Together, or each alone where that does not work."""
        try:
            coded = self.codec.analyse(pictures, quality=self.quality, effort=self.effort)
            found = {number: one.packed() for number, one in coded}
            return [found[number] for number in range(len(pictures))]
        except Exception as error:
            if len(pictures) == 1:
                return [error]
        return [self._encode_share([picture])[0] for picture in pictures]  # one of them may be to blame


def member_fields(member: Member, in_bytes: int, size: int, width: int, height: int) -> Fields:
    """What is said of a picture that is added."""
    return {
        "input": json_name(member.source),
        "name": json_name(member.name),
        "width": width,
        "height": height,
        "in_bytes": in_bytes,
        "out_bytes": size,
        "bpp": 8 * size / (width * height),
    }
