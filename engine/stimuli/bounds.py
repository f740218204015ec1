"""Where the stimuli of a manifest lie: how their files are called, and where they may be."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import UserError
from ..texts import composed
from .columns import Texts


class FilesByName:
    """Files by names that may be written in another Unicode form than on the disk.

    Macs decompose letters with marks (NFD) where others compose them (NFC). ``renamed`` counts the
    names that are written otherwise.
    """

    def __init__(self, base: Path) -> None:
        self.renamed = 0
        self._base = os.fspath(base)
        self._listed: dict[str, dict[str, str]] = {}

    def find(self, name: str) -> str:
        """``name`` as it is called on the disk; as it is if there is no such file."""
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
        """Names in a folder that have other letters than ASCII, by their composed form."""
        if folder not in self._listed:
            try:
                names = os.listdir(folder)  # noqa: PTH208
            except (OSError, ValueError):  # a name that is too long, or has a NUL in it
                names = []
            self._listed[folder] = {composed(one): one for one in names if not one.isascii()}
        return self._listed[folder]


def refuse_outside(base: Path, names: Texts, root: Path | str | None) -> None:
    """Refuse paths and links that lead out of ``base`` and ``root``.

    Raises
    ------
    UserError : some do; the first is named
    """
    allowed = [os.path.realpath(place) for place in (base, root) if place is not None]
    outside = _outside(base, names, allowed)
    first = next(outside, None)
    if first is not None:
        more = sum(1 for _ in outside)
        raise UserError(
            f"stimuli of a manifest lie in its folder; {first} leads out of "
            f"{base if root is None else f'{base} and {root}'}, "
            f"and so do {more:,} more: copy them in, or name a folder that holds them with --root"
        )


def _outside(base: Path, names: Texts, allowed: Sequence[str]) -> Iterator[str]:
    """Those of ``names`` that lead out of ``allowed``: one look per folder, one per stimulus."""

    def within(path: str) -> bool:
        real = os.path.realpath(path)
        return any(os.path.commonpath([real, place]) == place for place in allowed)

    known: dict[str, tuple[str, bool]] = {}
    for name in names:  # by os.path: pathlib takes ten times as long
        folder, last = os.path.split(name)
        if folder not in known:
            whole = os.path.join(base, folder)  # noqa: PTH118
            known[folder] = whole, within(whole)
        whole, inside = known[folder]
        path = os.path.join(whole, last)  # noqa: PTH118
        odd = last in ("", ".", "..") or os.path.islink(path)  # noqa: PTH114
        if not (within(path) if odd else inside):
            yield name
