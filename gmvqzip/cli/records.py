"""The fields of a result: as a JSON object for scripts, as a line for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gmvqzip.cli.plan import STREAM, Task
from gmvqzip.cli.report import MANY, Report, is_watched
from gmvqzip.errors import json_name, safe_name

if TYPE_CHECKING:
    from gmvqzip.codec import Codec
    from gmvqzip.engines.coded import Coded
    from gmvqzip.format.container import Container

Fields = dict[str, Any]


def input_name(task: Task) -> str:
    """The input for JSON; - is standard input."""
    return STREAM if task.source is None else json_name(task.source)


def output_name(task: Task) -> str:
    """The output for JSON; - is standard output."""
    return STREAM if task.target is None else json_name(task.target)


def file_fields(box: Container, coded: Coded, codec: Codec, *, as_json: bool) -> Fields:
    """What a `.gmvq` file and its decoded codes say; the numbers that `compress` prints for the same file.

    as_json: with those that take some time, and that people are not told.
    """
    fields = front_fields(box, len(box.payload), codec) | {"codes_crc32": f"{coded.codes.crc32():08x}"}
    return fields | ({"ideal_bits": sum(coded.bits())} if as_json else {})


def front_fields(box: Container, payload_bytes: int, codec: Codec) -> Fields:
    """What a `.gmvq` file says before its payload."""
    header = box.header
    size = box.header_bytes + box.sections_bytes + payload_bytes
    return {
        "width": header.width,
        "height": header.height,
        "bpp": 8 * size / (header.width * header.height),
        "model": codec.name,
        "model_id": codec.model_id,
        "quality": header.quality,
        "halvings": header.halvings,
        "gray": header.gray,
        "header_bytes": box.header_bytes,
        "sections_bytes": box.sections_bytes,
        "payload_bytes": payload_bytes,
    }


def conversion_shower(report: Report, files: int) -> Callable[[Fields], None]:
    """What compress, decompress and codes do with a finished file: JSON, or a line for people.

    Somebody at a terminal is told each result, if the files are few; into a log it goes with -v only.
    """
    watched = files <= MANY and is_watched()

    def show(fields: Fields) -> None:
        if report.as_json:
            report.record(fields)
        else:
            report.note(_conversion_line(fields), level=0 if watched else 1)

    return show


def _conversion_line(fields: Fields) -> str:
    names = f"{_shown(fields['input'], 'input')} -> {_shown(fields['output'], 'output')}"
    sizes = f"{fields['in_bytes']:,} -> {fields['out_bytes']:,} bytes"
    part = f", region {','.join(map(str, fields['region']))}" if fields.get("region") else ""
    line = f"{names}: {fields['width']}x{fields['height']}{part}, {sizes}, {fields['bpp']:.3f} bits per pixel"
    if fields["quality"]:
        line += f", quality {fields['quality']}"
    if fields["halvings"]:
        line += f", coded at 1/{1 << fields['halvings']} of its size"
    line += f", PSNR {fields['psnr']:.2f} dB" if "psnr" in fields else ""
    return line + (f", SSIMULACRA2 {fields['ssimulacra2']:.1f}" if "ssimulacra2" in fields else "")


def shown_input(fields: Fields) -> str:
    """The input's name, for people."""
    return _shown(fields["input"], "input")


def _shown(name: str, which: str) -> str:
    return f"(standard {which})" if name == STREAM else safe_name(name)
