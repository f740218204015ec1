"""Manifests: tables of stimuli with the columns ``path``, ``category`` and optionally ``sha256``.

CSV, Parquet or Arrow (Feather). Rows are read a few thousand at a time, and take some tens of bytes
each in memory.
"""

from __future__ import annotations

import os
import posixpath
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..texts import column_indices, composed, csv_rows
from .arrow_tables import rows_of
from .columns import LONGEST_TEXT, SHA256_BYTES, Texts
from .listing import Listing, Source, are_alike, rows_by_category

_ARROW = (".parquet", ".arrow", ".feather")
MANIFESTS = (".csv", *_ARROW)
_NEEDED, _OPTIONAL = ("path", "category"), ("sha256",)
# Number of rows at the first check for repeated rows; it then doubles.
_FIRST_CHECK = 2**16
_RULE = "a manifest has the columns path and category"


# Location of a row for messages, path, category, hash.
_Row = tuple[str, str, str, str | None]


def list_manifest(given: Source) -> Listing | None:
    """Images and categories of a manifest, both in its order.

    Raises
    ------
    UserError : a missing column, path or category, a path listed twice, an invalid hash, or a
        file that does not match its suffix
    """
    source = given.path
    if source.suffix.lower() not in MANIFESTS or not source.is_file():
        return None
    numbers, marks, digests = array("i"), array("q"), bytearray()
    known: dict[str, int] = {}
    files = FilesByName(source.parent)

    def paths() -> Iterator[str]:
        next_check = _FIRST_CHECK
        for where, listed, category, sha256 in _rows(source):
            path = files.find(listed)
            numbers.append(known.setdefault(category, len(known)))
            # A hash takes eight bytes, the path itself would take a hundred.
            marks.append(hash(posixpath.normpath(path)))
            if sha256 is not None:
                digests.extend(_digest(sha256, where, source))
            if len(marks) == next_check:
                # A small compressed file can repeat a row endlessly.
                if are_alike(np.frombuffer(marks, np.int64)):
                    _refuse_repeated(source, files)
                next_check *= 2
            yield path

    names = Texts.of(paths())
    if are_alike(np.frombuffer(marks, np.int64)):
        _refuse_repeated(source, files)
    notes: tuple[str, ...] = ()
    if files.renamed:
        notes = (f"{files.renamed:,} files have the listed names in another Unicode form",)
    hashes = np.frombuffer(digests, np.uint8).reshape(-1, SHA256_BYTES) if digests else None
    rows = rows_by_category(known, np.frombuffer(numbers, np.int32))
    return Listing(source.parent, names, rows, notes, hashes, confined=True)


def _rows(source: Path) -> Iterator[_Row]:
    kind, rows = ("line", _csv_rows) if source.suffix.lower() == ".csv" else ("row", _arrow_rows)
    for number, path, category, *rest in rows(source):
        path, category = (path or "").strip(), (category or "").strip()
        if not path or not category:
            raise UserError(
                f"every row of a manifest needs a path and a category; {source} {kind} {number} "
                f"has {path or 'no path'}, {category or 'no category'}"
            )
        if max(len(path), len(category)) > LONGEST_TEXT:
            raise UserError(
                f"a path and a category have at most {LONGEST_TEXT:,} characters; {source} {kind} "
                f"{number} has more: shorten it"
            )
        yield f"{kind} {number}", path, category, rest[0] or "" if rest else None


def _csv_rows(source: Path) -> Iterator[Sequence[Any]]:
    rows = csv_rows(source, "a manifest")
    _, columns = next(rows, (0, []))
    used = column_indices(columns, _NEEDED, _OPTIONAL, _RULE, source).values()
    for line, row in rows:
        yield line, *[row[column] if column < len(row) else "" for column in used]


def _arrow_rows(source: Path) -> Iterator[Sequence[Any]]:
    for number, row in enumerate(rows_of(source, _NEEDED, _OPTIONAL, _RULE), 1):
        yield number, *row


def _digest(sha256: str, where: str, source: Path) -> bytes:
    try:
        digest = bytes.fromhex(sha256.strip())
    except ValueError:
        digest = b""
    if len(digest) != SHA256_BYTES or not any(digest):
        raise UserError(
            f"a column sha256 has 64 hexadecimal digits in every row; {source} {where} has "
            f"{sha256[:80]!r}: correct it, or leave the column out"
        )
    return digest


def _refuse_repeated(source: Path, files: FilesByName) -> None:
    """Raise for the first path that is listed twice; equal hashes alone may be a coincidence."""
    seen: set[str] = set()
    for where, listed, *_ in _rows(source):
        path = posixpath.normpath(files.find(listed))
        if path in seen:
            raise UserError(
                f"a manifest lists a stimulus once; {source} {where} repeats {listed}: remove it"
            )
        seen.add(path)


class FilesByName:
    """Finds files whose names on disk may have another Unicode form.

    macOS decomposes accented letters (NFD), other systems compose them (NFC). ``renamed`` counts
    the names that differ.
    """

    def __init__(self, base: Path) -> None:
        self.renamed = 0
        self._base = os.fspath(base)
        self._listed: dict[str, dict[str, str]] = {}

    def find(self, name: str) -> str:
        """``name`` as spelled on disk; unchanged if there is no such file."""
        if name.isascii() or os.path.lexists(os.path.join(self._base, name)):  # noqa: PTH118
            return name
        found = "/" if name.startswith("/") else ""
        for part in filter(None, name.split("/")):
            folder = os.path.join(self._base, found)  # noqa: PTH118
            exact = part.isascii() or os.path.lexists(os.path.join(folder, part))  # noqa: PTH118
            own = part if exact else self._in(folder).get(composed(part), part)
            found = os.path.join(found, own)  # noqa: PTH118
        if not os.path.lexists(os.path.join(self._base, found)):  # noqa: PTH118
            return name
        self.renamed += 1
        return found

    def _in(self, folder: str) -> dict[str, str]:
        """Non-ASCII names in a folder, by their composed form."""
        if folder not in self._listed:
            try:
                names = os.listdir(folder)  # noqa: PTH208
            except (OSError, ValueError):  # a name that is too long or contains a NUL
                names = []
            self._listed[folder] = {composed(one): one for one in names if not one.isascii()}
        return self._listed[folder]


def refuse_outside(base: Path, names: Texts, root: Path | str | None) -> None:
    """Raise if paths or links lead out of ``base`` and ``root``.

    Raises
    ------
    UserError : some do; names the first
    """
    allowed = [os.path.realpath(folder) for folder in (base, root) if folder is not None]
    outside = _outside(base, names, allowed)
    first = next(outside, None)
    if first is not None:
        more = sum(1 for _ in outside)
        raise UserError(
            f"stimuli of a manifest are inside its folder; {first} leads out of "
            f"{base if root is None else f'{base} and {root}'}, "
            f"and so do {more:,} more: copy them in, or name their folder with `root`"
        )


def _outside(base: Path, names: Texts, allowed: Sequence[str]) -> Iterator[str]:
    """Names that lead out of ``allowed``; resolves every folder once, and every link."""

    def within(path: str) -> bool:
        real = os.path.realpath(path)
        return any(os.path.commonpath([real, folder]) == folder for folder in allowed)

    known: dict[str, tuple[str, bool]] = {}
    for name in names:  # os.path is ten times as fast as pathlib here
        folder, last = os.path.split(name)
        if folder not in known:
            whole = os.path.join(base, folder)  # noqa: PTH118
            known[folder] = whole, within(whole)
        whole, inside = known[folder]
        path = os.path.join(whole, last)  # noqa: PTH118
        odd = last in ("", ".", "..") or os.path.islink(path)  # noqa: PTH114
        if not (within(path) if odd else inside):
            yield name
