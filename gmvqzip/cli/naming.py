"""Names of outputs: endings that contradict the command, and templates."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path

from gmvqzip.cli.plan import GMVQ_SUFFIXES, PACK_SUFFIXES
from gmvqzip.cli.run import UsageError
from gmvqzip.errors import safe_name
from gmvqzip.images.formats import ADDED_ENDINGS, ENDINGS
from gmvqzip.images.outputs import OTHER_ENDINGS, Format

_PICTURES = ENDINGS.union(*ADDED_ENDINGS.values(), Format, OTHER_ENDINGS)
_KNOWN = GMVQ_SUFFIXES | PACK_SUFFIXES | {".npz"} | {f".{ending}" for ending in _PICTURES}
_FIELD = re.compile(r"\{([^{}]*)\}")
_KEPT = "{name}.{ending}"


def check_ending(output: str | None, own: Collection[str], what: str) -> None:
    """Raise UsageError where the name of an output ends like another format's, in lower case and with the dot.

    own: the endings that are right, the usual one first; what: what is written, for the message.
    """
    suffix = "" if output is None else Path(output).suffix.lower()
    if suffix in _KNOWN and suffix not in own:
        right = next(iter(own))
        raise UsageError(f"{what} would be written to {safe_name(output or '')}: give a name that ends in {right}")


def namer(
    usual: Callable[[Path], Path], ending: str, template: str | None, *, output: str | None, keep_ending: bool = False
) -> Callable[[Path], Path]:
    """From an input's name to its output's, as the options say.

    template: {name}, {stem} and {suffix} are of the input, {ending} is the output's, both without their dot. Raises
    UsageError for a template with other fields, or that gives no name of a file; what is returned raises it where an
    input's name becomes none, or one that ends like another format's.
    """
    if keep_ending and template is not None:
        raise UsageError(f"--keep-ending is --output-name '{_KEPT}': give one")
    if keep_ending:
        template = _KEPT
    if template is None:
        return usual
    if output is not None:
        raise UsageError("--output and --output-name contradict each other: give one")
    fields = _FIELD.findall(template)
    unknown = [field for field in fields if field not in ("name", "stem", "suffix", "ending")]
    if unknown or "{" in _FIELD.sub("", template) or "}" in _FIELD.sub("", template):
        raise UsageError(
            f"--output-name {safe_name(template)}: the fields are {{name}}, {{stem}}, {{suffix}}, {{ending}}"
        )
    if "/" in template or not template:
        raise UsageError(f"--output-name {safe_name(template)}: give a name without folders; --output-dir has these")
    own, what = (f".{ending}",), f"{ending} data"
    check_ending(_FIELD.sub(lambda match: ending if match[1] == "ending" else "x", template), own, what)

    def rename(path: Path) -> Path:
        parts = {"name": path.name, "stem": path.stem, "suffix": path.suffix[1:], "ending": ending}
        name = _FIELD.sub(lambda match: parts[match[1]], template)
        if name in ("", ".", ".."):
            raise UsageError(f"--output-name {safe_name(template)} gives {safe_name(path.name)} no name: add {{name}}")
        check_ending(name, own, what)
        return path.with_name(name)

    return rename
