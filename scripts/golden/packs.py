"""Make the golden packs in tests/golden/packs: `.gmvqp` files whose pictures must decode to the same codes for ever.

python scripts/golden/packs.py           add the packs that are missing
python scripts/golden/packs.py --check   only compare what they hold; exit 1 if one is missing or differs

The codes are those of scripts/golden/files.py, under its model of tables alone. A pack that exists is never
changed: a new version of the format adds packs of its own. Their bytes are not compared, since another zlib may deflate
an index to other bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from files import CASES, FILES, MODEL, random_codes

from gmvqzip.codec import Codec
from gmvqzip.models.registry import read_info
from gmvqzip.pack import PackReader, PackWriter

PACKS = FILES.parent / "packs"
EXPECTED = "expected.json"
# The pack's name, and its segments: the pictures appended at a time, by their place in CASES.
CONTENTS: dict[str, list[list[int]]] = {
    "one-1": [[0, 3]],
    "appended-1": [[0, 1], [2], [3, 4]],
    "empty-1": [[]],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    check = parser.parse_args().check
    codec = Codec(read_info(FILES / MODEL))
    expected = {name: [_expected(codec, case) for part in parts for case in part] for name, parts in CONTENTS.items()}
    text = json.dumps(expected, indent=1, ensure_ascii=False) + "\n"
    wrong = []
    if not check:
        PACKS.mkdir(parents=True, exist_ok=True)
        (PACKS / EXPECTED).write_text(text, encoding="utf-8")
    elif not (PACKS / EXPECTED).exists() or (PACKS / EXPECTED).read_text(encoding="utf-8") != text:
        wrong.append(f"{EXPECTED} is missing or would change")
    for name, parts in CONTENTS.items():
        path = PACKS / f"{name}.gmvqp"
        if not path.exists() and not check:
            _make(path, codec, parts)
        if not path.exists():
            wrong.append(f"{path.name} is missing")
        elif _found(path) != expected[name]:
            wrong.append(f"{path.name} holds something else")
    print("\n".join(wrong) or "golden packs agree")
    return 1 if wrong else 0


def _make(path: Path, codec: Codec, parts: list[list[int]]) -> None:
    for part in parts:
        with PackWriter(path, append=True) as writer:
            for case in part:
                title, width, height, gray, sections = CASES[case]
                codes = random_codes(codec, width, height, gray, seed=case)
                writer.add_codes(_name(title), codec, codes, sections)


def _expected(codec: Codec, case: int) -> dict[str, Any]:
    title, width, height, gray, sections = CASES[case]
    return {
        "name": _name(title),
        "width": width,
        "height": height,
        "gray": gray,
        "codes_crc32": f"{random_codes(codec, width, height, gray, seed=case).crc32():08x}",
        "sections": {str(kind): content.decode() for kind, content in sections.items()},
    }


def _found(path: Path) -> list[dict[str, Any]]:
    with PackReader(path, model=FILES / MODEL) as reader:
        found = []
        for name in reader.names:
            coded = reader.coded(name)
            codes, sections = coded.codes, {} if coded.box is None else coded.box.sections
            found.append(
                {
                    "name": name,
                    "width": codes.width,
                    "height": codes.height,
                    "gray": codes.gray,
                    "codes_crc32": f"{codes.crc32():08x}",
                    "sections": {str(kind): content.decode() for kind, content in sorted(sections.items())},
                }
            )
    return found


def _name(title: str) -> str:
    return f"größe/{title}"


if __name__ == "__main__":
    sys.exit(main())
