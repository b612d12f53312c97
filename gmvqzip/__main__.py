"""Entry point of `gmvqzip` and of `python -m gmvqzip`."""

from __future__ import annotations

import sys

from gmvqzip.cli.app import app
from gmvqzip.cli.run import BROKEN_PIPE, discard_stdout


def main() -> None:
    """Run the command line and exit with its code."""
    # Names that the terminal's encoding lacks must not turn a result into an error.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="gmvqzip")
    finally:
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:
            discard_stdout()
            sys.exit(BROKEN_PIPE)


if __name__ == "__main__":
    main()
