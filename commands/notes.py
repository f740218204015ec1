"""Notes and errors on stderr, and text that no terminal obeys."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from fusiform.engine.urls import without_credentials

from .flags import flagged


def printable(text: str) -> str:
    """``text`` on one line, with escapes for characters that a terminal would obey or hide.

    Names come from folders and stores of other people. URLs lose their credentials.
    """
    shown = without_credentials(text)
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return "".join(escaped)


def tell(line: str) -> None:
    """Print a sentence of the engine on stdout."""
    print(printable(flagged(line)))


def note(line: str) -> None:
    """Print a note on stderr."""
    print(printable(flagged(line)), file=sys.stderr, flush=True)


def note_unless(quiet: bool) -> Callable[[str], None]:
    """``note``, or a function that says nothing."""
    return (lambda _: None) if quiet else note


def say(mistake: str, *below: str) -> int:
    """Print a user's mistake on stderr; return the exit code."""
    lines = [printable(flagged(line)) for line in (mistake, *below)]
    print(f"error: {lines[0]}", *lines[1:], sep="\n", file=sys.stderr)
    return 2


def say_misuse(error: typer.TyperException) -> int:
    """Print why the words of a command were not understood; return the exit code."""
    ctx, said = getattr(error, "ctx", None), error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        print(said, file=sys.stderr)
        return 2
    for offer in (" (Possible options: ", ". Did you mean "):
        said = said.replace(offer, ", did you mean ")
    said = said.rstrip(".?)")
    path = ctx.command_path if ctx else "fusiform"
    return say(f"{said[:1].lower()}{said[1:]}: see '{path} --help'")


@contextmanager
def stopped_in_a_line(otherwise: str) -> Iterator[None]:
    """When interrupted, say what is kept (``otherwise`` if nothing is) and exit as at a signal."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        kept = getattr(stopped, "__notes__", [otherwise])
        note(f"stopped; {'; '.join(kept)}")
        raise typer.Exit(128 + getattr(stopped, "signal", signal.SIGINT)) from None
