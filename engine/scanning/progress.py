"""Progress and notes of a scan."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Progress of a ``stage`` of a scan: ``done`` of ``total`` steps in ``seconds``.

    ``total`` is 0 if it is not known. ``peak_bytes`` is the peak resident memory of this process;
    ``before`` is the number of steps that an earlier run had done.
    """

    stage: str
    done: int
    total: int
    seconds: float
    peak_bytes: int
    before: int = 0


@dataclass(frozen=True)
class Listener:
    """Callbacks of a scan: ``note(line)`` for messages to the user, and ``progress(event)``.

    ``begin(stage)`` is called when something begins whose steps nobody can count. The thread that
    writes calls them, too.
    """

    note: Callable[[str], None] = lambda _: None
    progress: Callable[[Progress], None] = lambda _: None
    begin: Callable[[str], None] = lambda _: None

    def notes(self, lines: Iterable[str]) -> None:
        """Report several notes."""
        for line in lines:
            self.note(line)
