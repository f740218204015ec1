"""Listing of a stimulus source, before categories are chosen, and joining of categories.

A kind of stimulus source is a function from a :class:`Source` to its :class:`Listing`, or None if
the source is of another kind.
"""

from __future__ import annotations

import posixpath
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, nearest
from ..texts import composed
from .columns import Texts
from .images import read_stimulus


class Source(NamedTuple):
    """A stimulus source as given; ``named`` are the folders in its groups."""

    path: Path
    named: Sequence[str] = ()
    root: Path | None = None


class Images(Protocol):
    """Where the images of a set are, and how one is read."""

    def take(self, order: NDArray[np.int64]) -> Self:
        """Images of the stimuli in ``order``."""

    def read(self, stimulus: int, path: Path) -> bytes:
        """Image file of a stimulus; pixels that are stored raw come as a PNM file.

        Parameters
        ----------
        path : of the stimulus in the catalogue; named in errors

        Raises
        ------
        UnfitStimulus : it cannot be read
        """

    def absolute(self) -> Self:
        """The same with absolute paths."""


class Files:
    """Images that are files, at their paths in the catalogue."""

    def take(self, order: NDArray[np.int64]) -> Files:  # noqa: ARG002
        """All of them: the paths tell them apart."""
        return self

    def read(self, stimulus: int, path: Path) -> bytes:  # noqa: ARG002
        """Content of the file; see :func:`.images.read_stimulus`."""
        return read_stimulus(path)

    def absolute(self) -> Files:
        """The same: the catalogue has the paths."""
        return self


FILES = Files()


@dataclass(frozen=True)
class Listing:
    """Names in the order of a source, and the rows of each category.

    ``base`` is the folder of the names. ``digests [row, byte]`` are the SHA-256 of a manifest or
    packed set. ``notes`` say what was left out. Names of a ``confined`` listing must not lead out
    of ``base``.
    """

    base: Path
    names: Texts
    rows: Mapping[str, NDArray[np.int64]]
    notes: tuple[str, ...] = ()
    digests: NDArray[np.uint8] | None = None
    images: Images = FILES
    confined: bool = False

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


def joined(
    rows: Mapping[str, NDArray[np.int64]], groups: Mapping[str, Sequence[str]], source: object
) -> dict[str, NDArray[np.int64]]:
    """Rows of every group, in the order of its folders (``a/`` is ``a``); errors name ``source``.

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
            folder = forms.get(composed(given)) or forms.get(composed(posixpath.normpath(given)))
            if folder is None:
                raise UserError(
                    f"a group joins categories of {source}; {category} names {given!r}: "
                    f"{nearest(given, rows)}"
                )
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


def renumbered(own: NDArray[np.int32]) -> tuple[list[int], NDArray[np.int32]]:
    """The distinct numbers in ``own``, and ``own`` as indices of them; negative ones stay."""
    used = np.unique(own[own >= 0])
    return used.tolist(), np.where(own < 0, own, np.searchsorted(used, own)).astype(np.int32)


def refuse_repeated(names: Texts, marks: array[int], rule: str) -> None:
    """Raise for a name that occurs twice; ``marks`` are the hashes of all, ``rule`` opens the text.

    Raises
    ------
    UserError : there is one
    """
    if are_alike(np.frombuffer(marks, np.int64)):
        for name, count in Counter(names).items():
            if count > 1:
                raise UserError(f"{rule}; {name} occurs {count} times: keep one")


def are_alike(marks: NDArray[np.int64]) -> bool:
    """Whether any two numbers are equal."""
    ordered = np.sort(marks)
    return bool((ordered[1:] == ordered[:-1]).any())
