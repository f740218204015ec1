"""How a scan says what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a scan is: what it is doing, ``done`` of ``total`` steps, seconds since it began to.

    ``peak_bytes`` is the largest resident memory of this program so far, ``before`` how many of the
    steps an earlier run had done.
    """

    stage: str
    done: int
    total: int
    seconds: float
    peak_bytes: int
    before: int = 0


@dataclass(frozen=True)
class Listener:
    """Where a scan reports to: ``note(line)`` for what a user should know, ``progress(event)``."""

    note: Callable[[str], None] = lambda _: None
    progress: Callable[[Progress], None] = lambda _: None
