"""What a run and whoever may stop it say to each other: whether to stop, and what the run is doing meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

READING = "reading the pictures"
STEPS = "training"
CODEBOOKS = "starting the codebooks"
EVALUATING = "evaluating"
EXPORTING = "measuring and writing the model"


class Stopped(BaseException):
    """The run was asked to stop, in work that may be left at any point. Not an Exception: only clean-up may see it."""


class Stopping:
    """Nobody asks to stop. A subclass does, and sets `asked`.

    Work is done in a `phase`. During `STEPS` the request is only noted: the loop looks at it after each step. All
    other phases may be left anywhere, by raising `Stopped` from them.
    """

    asked = False
    doing = READING

    @contextmanager
    def phase(self, doing: str) -> Iterator[None]:
        """Within this context the run is doing this. Raises Stopped on the way in where it may be left and is to be."""
        before, self.doing = self.doing, doing
        try:
            self.look()
            self.entered(doing)
            yield
        finally:
            self.doing = before

    def look(self) -> None:
        """Raise Stopped where the run was asked to stop, and may be left here."""
        if self.doing != STEPS and self.asked:
            raise Stopped

    def entered(self, doing: str) -> None:
        """A phase begins."""

    def at(self, step: int, saved: int | None) -> None:
        """The run has done `step` steps; its last checkpoint is of step `saved`, None where there is none."""
