"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from .notes import note

if TYPE_CHECKING:
    from fusiform.engine.scanning.progress import Listener, Progress

# Seconds between lines.
_EVERY = 10.0


@contextmanager
def listening(quiet: bool) -> Iterator[Listener]:
    """Notes and progress, on a terminal from the first moment; or nothing."""
    from fusiform.engine.scanning.bar import begin_of, drawn
    from fusiform.engine.scanning.progress import Listener

    if quiet:
        yield Listener()
        return
    with drawn() if sys.stderr.isatty() else nullcontext() as draw:
        if draw is None:
            yield Listener(note, _lines())
            return
        told = Listener(note, draw, begin_of(draw))
        told.begin("loading libraries")
        yield told


def _lines() -> Callable[[Progress], None]:
    from fusiform.engine.scanning.bar import described

    printed: dict[str, float] = {}

    def progress(event: Progress) -> None:
        # The first and the last, and one every ten seconds between them.
        is_last = event.total and event.done >= event.total
        if not is_last and event.seconds < printed.get(event.stage, -_EVERY) + _EVERY:
            return
        printed[event.stage] = event.seconds
        print(event.stage, described(event), file=sys.stderr, flush=True)

    return progress
