"""Progress on stderr: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import atexit
import sys
from typing import TYPE_CHECKING, Any

from fusiform.engine.texts import in_bytes

from .notes import note

if TYPE_CHECKING:
    from fusiform.engine.scanning.progress import Listener, Progress

_SHOWING_IMAGES = ("stimuli", "scan", "recording", "pack")


def listener(quiet: bool) -> Listener:
    """Notes and progress, or nothing."""
    from fusiform.engine.scanning.progress import Listener

    if quiet:
        return Listener()
    return Listener(note, _bar() if sys.stderr.isatty() else _lines())


def _describe(event: Progress) -> str:
    rate = (event.done - event.before) / max(event.seconds, 1e-9)
    left = (event.total - event.done) / rate
    pace = f"{rate:.1f} images/s, " if event.stage in _SHOWING_IMAGES else ""
    return f"{pace}{left:.0f} s left, peak {in_bytes(event.peak_bytes)}"


def _bar() -> Any:
    from rich import progress as rich
    from rich.console import Console

    bars: dict[str, rich.Progress] = {}

    def progress(event: Progress) -> None:
        if event.stage not in bars:
            bars[event.stage] = rich.Progress(
                rich.TextColumn("{task.description:<9}"),
                rich.BarColumn(),
                rich.TextColumn("{task.completed:,.0f}/{task.total:,.0f}, {task.fields[pace]}"),
                console=Console(stderr=True),
            )
            bars[event.stage].add_task(event.stage, total=event.total, pace="")
            bars[event.stage].start()
            atexit.register(bars[event.stage].stop)  # restores the cursor after an error, too
        bar = bars[event.stage]
        bar.update(bar.task_ids[0], completed=event.done, pace=_describe(event))
        if event.done == event.total:
            bar.stop()

    return progress


def _lines() -> Any:
    printed: dict[str, float] = {}

    def progress(event: Progress) -> None:
        # The first and the last, and one every ten seconds between them.
        if event.done < event.total and event.seconds < printed.get(event.stage, -10.0) + 10:
            return
        printed[event.stage] = event.seconds
        print(
            f"{event.stage} {event.done:,}/{event.total:,}, {_describe(event)}",
            file=sys.stderr,
            flush=True,
        )

    return progress
