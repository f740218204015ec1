"""Where the stimuli of a manifest may lie: in its folder, or in one that the user names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import UserError
from .columns import Texts


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
