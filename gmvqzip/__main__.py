"""Entry point of `gmvqzip` and of `python -m gmvqzip`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        # Imported here, so that Ctrl-C is quiet from the first moment on.
        from gmvqzip.cli.commands import HOMES, command_line
        from gmvqzip.cli.run import flush_stdout
        from gmvqzip.torchrun import end_at_once

        # Names that the terminal's encoding lacks must not turn a result into an error.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        wanted = sys.argv[1:2]
        try:
            command_line(wanted if wanted and wanted[0] in HOMES else HOMES)(prog_name="gmvqzip")
        except SystemExit as end:
            flush_stdout()
            end_at_once(end.code if isinstance(end.code, int) else 0)
            raise
        finally:
            flush_stdout()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
