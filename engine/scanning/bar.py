"""Progress as a bar: on a terminal, or in a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from ..texts import in_bytes, printable
from .progress import Listener, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

Draw = Callable[[Progress], None]
_SHOWING_IMAGES = ("stimuli", "scan", "recording", "pack")
# Seconds between updates of a notebook's cell.
_EVERY = 0.2


@contextmanager
def listening(progress: bool | Listener) -> Iterator[Listener]:
    """The listener that was given; or one with a bar where there is a terminal or notebook.

    False, or True where there is neither, gives one that says nothing.
    """
    if isinstance(progress, Listener):
        yield progress
        return
    with drawn() if progress else nothing() as draw:
        yield Listener(_note, draw, begin_of(draw)) if draw else Listener()


def begin_of(draw: Draw) -> Callable[[str], None]:
    """Draw a stage whose steps nobody can count: a bar that moves to and fro."""
    return lambda stage: draw(Progress(stage, 0, 0, 0.0, 0))


@contextmanager
def nothing() -> Iterator[None]:
    """No bar."""
    yield None


@contextmanager
def drawn() -> Iterator[Draw | None]:
    """A function that draws progress; None where there is neither a terminal nor a notebook.

    The bar of a stage that was not finished vanishes at the end.
    """
    if is_notebook():
        with _in_cell() as draw:
            yield draw
    elif sys.stderr.isatty():
        with _on_terminal() as draw:
            yield draw
    else:
        yield None


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def pace(event: Progress) -> str:
    """Images per second, the time left, and the peak of memory."""
    rate = (event.done - event.before) / max(event.seconds, 1e-9)
    said = [f"{rate:.1f} images/s"] if event.stage in _SHOWING_IMAGES else []
    if event.total and rate:
        said.append(f"{(event.total - event.done) / rate:.0f} s left")
    return ", ".join([*said, f"peak {in_bytes(event.peak_bytes)}"])


def described(event: Progress) -> str:
    """The steps that are done, of all, and :func:`pace`; empty for a stage that has only begun."""
    if not event.done and not event.total:
        return ""
    of = f"/{event.total:,}" if event.total else ""
    return f"{event.done:,}{of}, {pace(event)}"


@contextmanager
def _on_terminal() -> Iterator[Draw]:
    from rich import progress as rich
    from rich.console import Console

    columns = "{task.description}", "{task.fields[said]}"
    name, said = (rich.TextColumn(text, markup=False) for text in columns)
    tasks: dict[str, TaskID] = {}
    with rich.Progress(name, rich.BarColumn(), said, console=Console(stderr=True)) as bars:

        def draw(event: Progress) -> None:
            if event.stage not in tasks:
                _clear(bars)
                tasks[event.stage] = bars.add_task(event.stage, said="")
            # A bar without a total moves to and fro.
            of, words = event.total or None, described(event)
            bars.update(tasks[event.stage], completed=event.done, total=of, said=words)

        try:
            yield draw
        finally:
            _clear(bars)


def _clear(bars: Bars) -> None:
    """Remove the bars of stages that are not finished."""
    for task in bars.tasks:
        if not task.finished:
            bars.remove_task(task.id)


@contextmanager
def _in_cell() -> Iterator[Draw]:
    from IPython.display import HTML, display

    shown: dict[str, str] = {}
    finished: set[str] = set()
    handle: Any = display(HTML(""), display_id=True)
    updated = 0.0

    def show() -> None:
        handle.update(HTML("<br>".join(shown.values())))

    def draw(event: Progress) -> None:
        nonlocal updated
        is_new, is_over = event.stage not in shown, bool(event.total) and event.done == event.total
        if is_new:
            clear()
        of = f'value="{event.done}" max="{event.total}"' if event.total else ""
        said = escape(f"{event.stage} {described(event)}")
        shown[event.stage] = f"<progress {of}></progress> {said}"
        if is_over:
            finished.add(event.stage)
        if is_new or is_over or time.monotonic() - updated > _EVERY:
            updated = time.monotonic()
            show()

    def clear() -> None:
        for stage in shown.keys() - finished:
            del shown[stage]

    try:
        yield draw
    finally:
        clear()
        show()


def _note(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)
