"""Entry point of `gmvqzip` and of `python -m gmvqzip`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        # Imported here, so that Ctrl-C is quiet from the first moment on.
        from gmvqzip.cli.app import app
        from gmvqzip.cli.run import flush_stdout

        # Names that the terminal's encoding lacks must not turn a result into an error.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            app(prog_name="gmvqzip")
        finally:
            flush_stdout()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
