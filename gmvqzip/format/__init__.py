"""The `.gmvq` file as bytes: header, sections, payload, checks. Standard library only; see docs/format.md."""
