"""What fusiform says when a user's request cannot be carried out."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from .urls import without_credentials


class UserError(ValueError):
    """A request that cannot be carried out as it was made.

    The message is one line that says the rule, what came instead, and the remedy. The command
    line prints it without a traceback and leaves with exit code 2. Where the mistake is at a place
    in a text, ``below`` are further lines that show it. No URL in it has credentials.
    """

    def __init__(self, message: str, *below: str) -> None:
        self.lines = tuple(map(without_credentials, (message, *below)))
        super().__init__("\n".join(self.lines))


def nearest(name: str, known: Iterable[str]) -> str:
    """``known`` names most like ``name``, ready to stand at the end of an error message."""
    known = list(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else f"known: {shortened(known)}"


def shortened(names: Iterable[object], limit: int = 8) -> str:
    """``names`` joined by commas, cut after ``limit`` with a count of the rest."""
    listed = [str(name) for name in names]
    rest = f", and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + rest


def refuse_output(output: Path, what: str) -> None:
    """Refuse a file that could not be written, before there is anything to write.

    Raises
    ------
    UserError : its folder is none, or it is a folder itself
    """
    if not output.parent.is_dir():
        raise UserError(f"{what} is written into a folder; {output.parent} is none: make it")
    if output.is_dir():
        raise UserError(f"{what} is written to a file; {output} is a folder: name a file in it")
