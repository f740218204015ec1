"""Listing of a stimulus source, before categories are chosen, and joining of categories."""

from __future__ import annotations

import posixpath
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, nearest
from ..texts import composed
from .columns import Texts
from .packed.pictures import Pictures
from .shards import Members

Groups = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Listing:
    """Names in the order of a source, and the rows of each category.

    ``digests [row, byte]`` are the SHA-256 of a manifest, ``members`` the locations in tar shards,
    ``pictures`` those in a packed set; None for other sources. ``notes`` say what was left out.
    """

    names: Texts
    rows: Mapping[str, NDArray[np.int64]]
    notes: tuple[str, ...] = ()
    digests: NDArray[np.uint8] | None = None
    members: Members | None = None
    pictures: Pictures | None = None

    def of_one_form(self) -> Self:
        """Join categories whose names differ only in Unicode form.

        A note counts stimuli with such names, which may be copies of the same file.
        """
        alike = _written_alike(self.names)
        note = f"{alike:,} stimuli have the names of others, in another Unicode form"
        found = replace(self, notes=(*self.notes, note)) if alike else self
        forms: dict[str, list[str]] = {}
        for name in self.rows:
            forms.setdefault(composed(name), []).append(name)
        if len(forms) == len(self.rows):
            return found
        rows = {own[0]: np.sort(np.concatenate([self.rows[name] for name in own]))
                for own in forms.values()}  # fmt: skip
        notes = (
            f"{own[0]}: joined {len(own)} categories that are written alike, in different Unicode "
            "forms"
            for own in forms.values()
            if len(own) > 1
        )
        return replace(found, rows=rows, notes=(*found.notes, *notes))


def _written_alike(names: Texts) -> int:
    """Number of names that differ from another only in Unicode form."""
    if names.content.max(initial=0) < 0x80:
        return 0
    marks = array("q", (hash(composed(name)) for name in names if not name.isascii()))
    return len(marks) - len(np.unique(np.frombuffer(marks, np.int64)))


def tidied(groups: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Normalise folder names: ``a/`` and ``./a`` become ``a``."""
    return {category: [posixpath.normpath(f) for f in given] for category, given in groups.items()}


def joined(
    rows: Mapping[str, NDArray[np.int64]], groups: Mapping[str, Sequence[str]], source: object
) -> dict[str, NDArray[np.int64]]:
    """Rows of every group, in the order of its folders; errors name ``source``.

    Raises
    ------
    UserError : unknown folder, or a folder in two groups
    """
    forms = {composed(name): name for name in rows}
    owner: dict[str, str] = {}
    found = {}
    for category, folders in groups.items():
        own = [np.empty(0, np.int64)]
        for given in folders:
            if composed(given) not in forms:
                raise UserError(
                    f"a group joins categories of {source}; {category} names {given!r}: "
                    f"{nearest(given, rows)}"
                )
            folder = forms[composed(given)]
            if folder in owner:
                raise UserError(
                    f"a stimulus has one category; {folder} is in the groups {owner[folder]} and "
                    f"{category}: remove it from one"
                )
            owner[folder] = category
            own.append(rows[folder])
        found[category] = np.concatenate(own)
    return found


def rows_by_category(
    categories: Iterable[str], numbers: NDArray[Any]
) -> dict[str, NDArray[np.int64]]:
    """Rows of every category; ``numbers [row]`` is the category of each row."""
    names = list(categories)
    order = np.argsort(numbers, kind="stable").astype(np.int64)
    cuts = np.cumsum(np.bincount(numbers, minlength=len(names)))[:-1]
    return dict(zip(names, np.split(order, cuts), strict=True)) if names else {}


def are_alike(marks: NDArray[np.int64]) -> bool:
    """Whether any two numbers are equal."""
    ordered = np.sort(marks)
    return bool((ordered[1:] == ordered[:-1]).any())
