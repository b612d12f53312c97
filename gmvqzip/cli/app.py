"""The command line with all of its commands."""

from __future__ import annotations

from gmvqzip.cli.commands import command_line

app = command_line()
