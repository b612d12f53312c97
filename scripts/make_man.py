"""Write the manual page docs/gmvqzip.1 from the command line's own descriptions.

python scripts/make_man.py             writes it
python scripts/make_man.py --check     exits with 1 where it is not current
"""

from __future__ import annotations

import argparse
import re
import sys
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer

import gmvqzip
from gmvqzip.cli.commands import command_line

PAGE = Path(__file__).parents[1] / "docs" / "gmvqzip.1"
SECTIONS = (
    (
        "MANNERS",
        "Sources are kept unless \\fB--rm\\fR is given, an existing output is skipped unless \\fB-f\\fR is given, and "
        "outputs appear whole or not at all. \\fB-\\fR is standard input or output.",
    ),
    (
        "ENVIRONMENT",
        ".TP\n\\fBGMVQZIP_MODELS\\fR\nFolders that are searched for models before "
        "\\fI~/.local/share/gmvqzip/models\\fR and those installed with the program.\n"
        ".TP\n\\fBNO_COLOR\\fR\nWhere it is set, nothing is coloured.",
    ),
    (
        "EXIT STATUS",
        ".TP\n0\nDone; also where outputs existed and were skipped, or files were left alone as the options ask.\n"
        ".TP\n1\nSome file failed.\n.TP\n2\nThe options are wrong; nothing was done.\n"
        ".TP\n130, 143\nInterrupted by a signal.\n.TP\n141\nA pipe was closed.",
    ),
    (
        "EXAMPLES",
        ".nf\ngmvqzip compress img.png\n"
        "gmvqzip compress \\-r pictures/ \\-\\-output\\-dir small/ \\-\\-jobs 2\n"
        "gmvqzip decompress img.gmvq \\-o img.webp\n.fi",
    ),
    ("SEE ALSO", "\\fBcwebp\\fR(1), \\fBcjxl\\fR(1), \\fBfile\\fR(1)"),
)


def page() -> str:
    """The manual page, in man(7) macros."""
    root: Any = typer.main.get_command(command_line())
    lines = [
        f'.TH GMVQZIP 1 "" "gmvqzip {gmvqzip.__version__}" "User commands"',
        ".SH NAME",
        f"gmvqzip \\- {plain(first_lower(root.help)).rstrip('.')}",
        ".SH SYNOPSIS",
        "\\fBgmvqzip\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]...",
        ".SH OPTIONS",
        *options(root),
        ".TP",
        ", ".join(f"\\fB{plain(name)}\\fR" for name in root.context_settings["help_option_names"]),
        "Show a help text, of a command where one is named, and exit.",
        ".SH COMMANDS",
    ]
    for names, command in commands(root):
        lines += [".SS " + synopsis(names, command), *paragraphs(command.help), *options(command)]
    for title, text in SECTIONS:
        lines += [f".SH {title}", text]
    return "\n".join(lines) + "\n"


def commands(group: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(names, command) of every command below a group, groups that are commands themselves before theirs."""
    for name, command in group.commands.items():
        names = (*above, name)
        if not hasattr(command, "commands"):
            yield names, command
            continue
        if command.invoke_without_command:
            yield names, command
        yield from commands(command, names)


def synopsis(names: tuple[str, ...], command: Any) -> str:
    """The line of a command with its arguments."""
    words = ["\\fBgmvqzip", *names]
    line = " ".join(words) + "\\fR"
    if listed(command):
        line += " [\\fIOPTION\\fR]..."
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            line += " " + argument(parameter)
    return line


def argument(parameter: Any) -> str:
    """An argument as a synopsis has it."""
    name = (parameter.metavar or parameter.name.upper()).strip("[].")
    shown = f"\\fI{plain(name)}\\fR"
    shown = shown if parameter.required else f"[{shown}]"
    return f"{shown}..." if parameter.nargs < 0 else shown


def listed(command: Any) -> list[Any]:
    """The options of a command that are not hidden."""
    return [one for one in command.params if one.param_type_name == "option" and not one.hidden]


def options(command: Any) -> list[str]:
    """The tagged paragraphs of arguments that have a help text, and of options."""
    lines, kinds = [], typing.get_type_hints(command.callback)
    for parameter in command.params:
        if parameter.param_type_name == "argument" and parameter.help:
            lines += [".TP", argument(parameter), plain(parameter.help)]
    for parameter in listed(command):
        names = ", ".join(f"\\fB{plain(name)}\\fR" for name in (*parameter.opts, *parameter.secondary_opts))
        if not parameter.is_flag and not parameter.count:
            names += f" \\fI{plain(value_name(parameter, kinds[parameter.name]))}\\fR"
        text = plain(parameter.help or "")
        if None not in (ends := (getattr(parameter, "min", None), getattr(parameter, "max", None))):
            text += f" {ends[0]} to {ends[1]}."
        if parameter.show_default is not False and (default := shown_default(parameter)):
            text += f" Default: {plain(default)}."
        lines += [".TP", names, text]
    return lines


def value_name(parameter: Any, kind: Any) -> str:
    """What stands for a value of this type."""
    if parameter.metavar:
        return str(parameter.metavar)
    kinds = [one for one in (typing.get_args(kind) or (kind,)) if one is not type(None)]
    if issubclass(kinds[0], Enum):
        return "|".join(str(choice.value) for choice in kinds[0])
    return {int: "N", float: "X"}.get(kinds[0], "TEXT")


def shown_default(parameter: Any) -> str:
    """An option's default as text, empty where there is none worth telling."""
    default = parameter.default
    if default is None or parameter.is_flag or parameter.count or callable(default):
        return ""
    return str(getattr(default, "value", default))


def paragraphs(text: str | None) -> list[str]:
    """A help text, its paragraphs set apart."""
    parts = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text or "") if part.strip()]
    return [line for number, part in enumerate(parts) for line in ([".PP"] if number else []) + [plain(part)]]


def first_lower(text: str) -> str:
    """The text, its first letter small."""
    return text[:1].lower() + text[1:]


def plain(text: str) -> str:
    """Text on one line in which nothing is a command of roff."""
    line = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{line}" if line.startswith((".", "'")) else line


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the page is not current")
    if parser.parse_args().check:
        current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page()
        return 0 if current else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
