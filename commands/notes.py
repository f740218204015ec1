"""Notes and errors on stderr, and text that no terminal obeys.

Messages of the engine write a parameter in backticks, alone or with a value: `batch_size`,
`on_error="skip"`, `overwrite=True`. Here they become ``--batch-size``, ``--on-error skip``,
``--overwrite``.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from fusiform.engine.texts import printable

from .fitting import continued, shorten, width_of, wrap

_PARAMETER = re.compile(r"`([a-z]\w*)(?:=([^`]+))?`")

_QUOTES = "\"'"
# Parameter -> flag, of every option that a command declares.
FLAGS: dict[str, str] = {}


def flagged(text: str) -> str:
    """``text`` with its parameters written as flags; a name that is no option stays as it is."""
    return _PARAMETER.sub(_flag, text)


def _flag(found: re.Match[str]) -> str:
    name, value = found.groups()
    if name not in FLAGS:
        return found[0]
    return FLAGS[name] if value in (None, "True") else f"{FLAGS[name]} {value.strip(_QUOTES)}"


def put(line: str, indent: int = 2) -> None:
    """Print a line on stdout, or several that fit the terminal, all but the first indented."""
    print(wrap(printable(line), width_of(sys.stdout), indent))


def put_heading(path: str, said: str, number: str = "") -> None:
    """Print what a store is; its path is shortened to fit the terminal."""
    width = width_of(sys.stdout)
    shown = printable(path)
    if width is not None:
        shown = shorten(shown, width - len(number) - 1)
    put(f"{number}{shown}: {said}", indent=len(number) or 2)


def put_command(line: str) -> None:
    """Print a command that can be copied as it stands."""
    print(continued(printable(line), width_of(sys.stdout), indent=8))


def tell(line: str, indent: int = 2) -> None:
    """Print a sentence of the engine on stdout."""
    put(flagged(line), indent)


def note(line: str) -> None:
    """Print a note on stderr."""
    # One write: another thread's note, or a progress bar, would come between two.
    sys.stderr.write(f"{wrap(printable(flagged(line)), width_of(sys.stderr))}\n")
    sys.stderr.flush()


def note_unless(quiet: bool) -> Callable[[str], None]:
    """``note``, or a function that says nothing."""
    return (lambda _: None) if quiet else note


def say(mistake: str, *below: str) -> int:
    """Print a user's mistake on stderr; return the exit code."""
    first, *rest = (printable(flagged(line)) for line in (f"error: {mistake}", *below))
    print(wrap(first, width_of(sys.stderr)), *rest, sep="\n", file=sys.stderr)
    return 2


@contextmanager
def stopped_in_a_line(otherwise: str) -> Iterator[None]:
    """When interrupted, say what is kept (``otherwise`` if nothing is) and exit as at a signal."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        kept = getattr(stopped, "__notes__", [otherwise])
        note(f"stopped; {'; '.join(kept)}")
        raise typer.Exit(128 + getattr(stopped, "signal", signal.SIGINT)) from None
