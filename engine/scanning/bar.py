"""Progress as a bar: on a terminal, or in a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from html import escape
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..texts import in_bytes, printable
from .progress import Listener, Progress

if TYPE_CHECKING:
    from rich.progress import TaskID

Draw = Callable[[Progress], None]
_SHOWING_IMAGES = ("stimuli", "scan", "recording", "lesion", "pack")
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
    with drawn() if progress else nullcontext() as draw:
        yield Listener(_note, draw, begin_of(draw)) if draw else Listener()


def begin_of(draw: Draw) -> Callable[[str], None]:
    """Draw a stage whose steps nobody can count: a bar that moves to and fro."""
    return lambda stage: draw(Progress(stage, 0, 0, 0.0, 0))


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
def _stages(show: Callable[[dict[str, Progress]], None]) -> Iterator[Draw]:
    """A function that takes events, and shows the last of every stage.

    Stages may overlap, and threads call it. One whose steps nobody can count gives way to the next;
    of the others, those that were not finished vanish at the end.
    """
    last: dict[str, Progress] = {}
    lock = Lock()

    def draw(event: Progress) -> None:
        with lock:
            if event.stage not in last:
                _leave_out(last, lambda one: not one.total)
            last[event.stage] = event
            show(last)

    try:
        yield draw
    finally:
        with lock:
            _leave_out(last, lambda one: not _is_over(one))
            show(last)


def _leave_out(last: dict[str, Progress], unfit: Callable[[Progress], bool]) -> None:
    for stage in [stage for stage, event in last.items() if unfit(event)]:
        del last[stage]


def _is_over(event: Progress) -> bool:
    return bool(event.total) and event.done >= event.total


@contextmanager
def _on_terminal() -> Iterator[Draw]:
    from rich import progress as rich
    from rich.console import Console

    columns = "{task.description}", "{task.fields[said]}"
    name, said = (rich.TextColumn(text, markup=False) for text in columns)
    tasks: dict[str, TaskID] = {}
    with rich.Progress(name, rich.BarColumn(), said, console=Console(stderr=True)) as bars:

        def show(last: dict[str, Progress]) -> None:
            for stage in tasks.keys() - last.keys():
                bars.remove_task(tasks.pop(stage))
            for stage, event in last.items():
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, said="")
                # A bar without a total moves to and fro.
                of, words = event.total or None, described(event)
                bars.update(tasks[stage], completed=event.done, total=of, said=words)

        with _stages(show) as draw:
            yield draw


@contextmanager
def _in_cell() -> Iterator[Draw]:
    from IPython.display import HTML, display

    handle: Any = display(HTML(""), display_id=True)
    shown: dict[str, bool] = {}
    updated = 0.0

    def show(last: dict[str, Progress]) -> None:
        nonlocal shown, updated
        over = {stage: _is_over(event) for stage, event in last.items()}
        if over != shown or time.monotonic() - updated > _EVERY:
            shown, updated = over, time.monotonic()
            handle.update(HTML("<br>".join(map(_html, last.values()))))

    with _stages(show) as draw:
        yield draw


def _html(event: Progress) -> str:
    of = f'value="{event.done}" max="{event.total}"' if event.total else ""
    said = escape(f"{event.stage} {described(event)}")
    return f"<progress {of}></progress> {said}"


def _note(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)
