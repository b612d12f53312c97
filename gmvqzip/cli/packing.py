"""Adding to a pack: pictures are read ahead and encoded together, finished files go in as they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from gmvqzip.cli.batch import read_picture
from gmvqzip.cli.pipeline import Steps
from gmvqzip.cli.plan import Member, Task
from gmvqzip.cli.records import Fields
from gmvqzip.cli.report import Report
from gmvqzip.errors import FormatError, OutputError, json_name

if TYPE_CHECKING:
    from gmvqzip.codec import Codec
    from gmvqzip.engines.coded import Coded
    from gmvqzip.images.pixels import Picture
    from gmvqzip.pack.file import PackFile
    from gmvqzip.pack.writer import PackWriter

Result = TypeVar("Result")


@dataclass(frozen=True)
class Encoded:
    """The codes of a picture, what else a pack stores of it, and what is known of its source."""

    coded: Coded
    sections: Mapping[int, bytes]
    in_bytes: int
    fields: Fields
    seconds: float  # its share of the batch


def encoding_steps(
    codec: Codec, report: Report, *, strip: bool, quality: int | None, effort: int, max_pixels: int
) -> Steps[tuple[Picture, int], Encoded, Encoded]:
    """The steps of pictures up to their codes; what adds them to a pack comes behind."""
    from gmvqzip.codec import sections_of
    from gmvqzip.engines.batching import batch_pixels

    def read(task: Task) -> tuple[Picture, int]:
        picture, size = read_picture(task, strip=strip, max_pixels=max_pixels)
        for warning in picture.warnings:
            report.warn(task.name, warning)
        return picture, size

    def encode(items: Sequence[tuple[Picture, int]]) -> list[Encoded]:
        start = time.perf_counter()
        analysed = codec.analyse([picture for picture, _ in items], quality=quality, effort=effort)
        found = {number: coded.packed() for number, coded in analysed}
        share = (time.perf_counter() - start) / len(items)
        return [
            Encoded(
                found[number],
                sections_of(picture),
                size,
                {"alpha": picture.alpha is not None, "icc": picture.icc is not None},
                share,
            )
            for number, (picture, size) in enumerate(items)
        ]

    def pixels(item: tuple[Picture, int]) -> int:
        return item[0].width * item[0].height

    return Steps(read, pixels, batch_pixels(codec.device), encode, lambda _, encoded: encoded)


def added(
    found: Sequence[Member],
    results: Iterable[Callable[[], Result]],
    add: Callable[[Member, Result], Fields],
    report: Report,
) -> Iterator[Fields | None]:
    """Add the result of each member, in order; yield its fields, None where it failed."""
    for member, result in zip(found, results, strict=True):
        try:
            fields = add(member, result())
        except OutputError:
            raise  # the pack itself cannot be written
        except Exception as error:
            report.fail(member.name, error)
            yield None
        else:
            yield fields


def add_encoded(writer: PackWriter, codec: Codec, member: Member, encoded: Encoded) -> Fields:
    """Add a picture's codes."""
    start = time.perf_counter()
    codes = encoded.coded.codes
    size = writer.add_coded(member.inside, encoded.coded, encoded.sections)
    return {
        **member_fields(member, encoded.in_bytes, size, codes.width, codes.height),
        "model": codec.name,
        "model_id": codec.model_id,
        "quality": codes.quality,
        "gray": codes.gray,
        **encoded.fields,
        "codes_crc32": f"{codes.crc32():08x}",
        "seconds": encoded.seconds + time.perf_counter() - start,
    }


def add_finished(writer: PackWriter, model: str | None, member: Member, data: bytes) -> Fields:
    """Add a `.gmvq` file."""
    from gmvqzip.format.container import read_header

    start = time.perf_counter()
    size = writer.add_gmvq(member.inside, data, model=model)
    header, _ = read_header(data)
    return {
        **member_fields(member, len(data), size, header.width, header.height),
        "quality": header.quality,
        "seconds": time.perf_counter() - start,
    }


def say_state(pack: PackFile, name: str, report: Report, *, all_of_it: bool = True) -> None:
    """Say what is odd about a pack. Pictures that cannot be reached are a failure where all of it is wanted."""
    for warning in pack.warnings:
        report.warn(name, warning)
    if pack.lost is not None and all_of_it:
        report.fail(name, FormatError(pack.lost))
    elif pack.lost is not None:
        report.warn(name, pack.lost)


def member_fields(member: Member, in_bytes: int, size: int, width: int, height: int) -> Fields:
    """What is said of a picture that is added."""
    return {
        "input": json_name(member.source or ""),
        "name": json_name(member.inside),
        "width": width,
        "height": height,
        "in_bytes": in_bytes,
        "out_bytes": size,
        "bpp": 8 * size / (width * height),
    }
