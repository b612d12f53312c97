"""What reading a picture changed, and what of it was left behind."""

from __future__ import annotations

from dataclasses import dataclass, field

_REDUCED = "bits per channel reduced to 8"


@dataclass
class Notes:
    """One line for each thing that reading lost or changed, in order."""

    lines: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Something was changed, and nothing lost that a user would miss."""
        if line not in self.lines:
            self.lines.append(line)

    def reduce(self, bits: int) -> None:
        """The samples have so many bits, and the picture's 8. What is said first counts: it knows the file best."""
        if bits > 8 and not any(_REDUCED in line for line in self.lines):
            self.drop(f"{bits} {_REDUCED}")

    def drop(self, line: str) -> None:
        """Something of the source is not in the picture: who has this source must not lose it."""
        self.say(line)
        if line not in self.dropped:
            self.dropped.append(line)
