"""Paths of stimuli: as spelled on disk, and inside their folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import UserError
from ..texts import composed
from .columns import Texts


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
    """Raise if paths or links are outside ``base`` and ``root``.

    Raises
    ------
    UserError : some do; names the first
    """
    allowed = [os.path.realpath(folder) for folder in (base, root) if folder is not None]
    outside = _outside(base, names, allowed)
    first = next(outside, None)
    if first is not None:
        more = sum(1 for _ in outside)
        others = f", and so are {more:,} more" if more else ""
        raise UserError(
            "files that a table or dataset names are inside its folder; "
            f"{first} is outside {base if root is None else f'{base} and {root}'}{others}: "
            "copy them in, or name their folder with `root`"
        )


def _outside(base: Path, names: Texts, allowed: Sequence[str]) -> Iterator[str]:
    """Names outside ``allowed``; resolves every folder once, and every link."""

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
