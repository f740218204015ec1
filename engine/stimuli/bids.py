"""BIDS tables (``events.tsv``, ``stimuli.tsv``) that name image files and their trial types.

A stimulus that was shown in several trials counts once.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..errors import UserError
from ..texts import column_indices, csv_rows
from .columns import LONGEST_TEXT
from .listing import Listing, Source
from .manifest import Row, listed_rows

TABLE = ".tsv"
_FOLDER = "stimuli"
_NEEDED = ("stim_file", "trial_type")
_MISSING = ("n/a", "")
# Kinds of rows that add no stimulus, for notes.
_BLANK, _REPEATED = "trials without a stimulus", "further trials of a stimulus"


def list_events(given: Source) -> Listing | None:
    """Images and categories of a table, in the order of their first trials.

    Paths are relative to the folder ``stimuli`` of the dataset.

    Raises
    ------
    UserError : no such columns or folder; a stimulus without a trial type, or with two
    """
    source = given.path
    if source.suffix.lower() != TABLE or not source.is_file():
        return None
    passed: dict[str, int] = {}

    def rows() -> Iterator[Row]:
        passed.clear()
        return _rows(source, passed)

    listing = listed_rows(given, _folder(source), rows)
    notes = (f"{source.name} has {number:,} {what}" for what, number in passed.items())
    return replace(listing, notes=(*listing.notes, *notes))


def _rows(source: Path, passed: dict[str, int]) -> Iterator[Row]:
    """Stimuli at their first trials; counts the other rows into ``passed``."""
    table = csv_rows(source, "a table of trials", "\t")
    _, columns = next(table, (0, []))
    rule = f"a table of trials has the columns {' and '.join(_NEEDED)}"
    used = column_indices(columns, _NEEDED, (), rule, source).values()
    known: dict[str, str] = {}
    for line, row in table:
        file, kind = (row[column] if column < len(row) else "" for column in used)
        if file in _MISSING:
            passed[_BLANK] = passed.get(_BLANK, 0) + 1
            continue
        if kind in _MISSING or max(len(file), len(kind)) > LONGEST_TEXT:
            raise UserError(
                f"every trial with a stimulus has a trial type; {source} line {line} has "
                f"{kind[:80] or 'none'} for {file[:80]}: correct it, or write n/a for its stim_file"
            )
        name = posixpath.normpath(file)
        before = known.setdefault(name, "")
        if not before:
            known[name] = kind
            yield f"line {line}", file, kind, None
        elif before == kind:
            passed[_REPEATED] = passed.get(_REPEATED, 0) + 1
        else:
            raise UserError(
                f"a stimulus has one category; {source} line {line} has {kind} for {file}, which "
                f"was {before} before: correct one"
            )


def _folder(source: Path) -> Path:
    """Folder of the stimuli: the one that the table is in, or one beside a folder above it."""
    above = Path(os.path.abspath(source)).parents  # noqa: PTH100 - links stay
    for folder in above:
        if folder.name == _FOLDER:
            return folder
        if (folder / _FOLDER).is_dir():
            return folder / _FOLDER
    raise UserError(
        f"stimuli of a BIDS dataset are in its folder {_FOLDER}; there is none above {source}: "
        "restore it, or list the files in a manifest"
    )
