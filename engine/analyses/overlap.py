"""Units selective for two contrasts, and units whose preferred category changes between folds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from .census import Census


@dataclass(frozen=True)
class Overlap:
    """Units of a layer selective for two contrasts.

    Attributes
    ----------
    layer : str
        Name of the layer.
    contrast, other : str
        The contrasts.
    both : int
        Number of units selective for both.
    either : int
        Number of units selective for either.
    jaccard : float or None
        Their ratio; None if no unit is selective for either.
    expected : float or None
        Expectation of ``both`` under independence among living units; None if there are none.
    exclusive : bool
        Whether no unit can be selective for both.
    """

    layer: str
    contrast: str
    other: str
    both: int
    either: int
    jaccard: float | None
    expected: float | None
    exclusive: bool = False


@dataclass(frozen=True)
class Confusion:
    """Living units that prefer one category on one fold and another on a later fold.

    The preferred category has the largest mean response; units with ties on either fold are left
    out.

    Attributes
    ----------
    layer : str
        Name of the layer.
    category : str
        Preferred on the first fold.
    other : str
        Preferred on the later fold.
    units : int
        Number of units, over all pairs of folds.
    share : float or None
        Share of all units that prefer ``category`` on the first fold; None if there are none.
    """

    layer: str
    category: str
    other: str
    units: int
    share: float | None


def overlap(censuses: Iterable[Census]) -> list[Overlap]:
    """Overlap between contrasts, a row per layer and pair of contrasts."""
    rows = []
    for census in censuses:
        selective = census.selective.tolist()
        for i, j in combinations(range(len(census.contrasts)), 2):
            both = int(census.both[i, j])
            either = selective[i] + selective[j] - both
            rows.append(
                Overlap(
                    layer=census.layer.name,
                    contrast=census.contrasts[i],
                    other=census.contrasts[j],
                    both=both,
                    either=either,
                    jaccard=both / either if either else None,
                    expected=selective[i] * selective[j] / census.living if census.living else None,
                    exclusive=bool(census.exclusive[i, j]),
                )
            )
    return rows


def confusion(censuses: Iterable[Census]) -> list[Confusion]:
    """Preferred categories between folds, a row per layer and two categories; none for one fold."""
    rows = []
    for census in censuses:
        if census.confusion is None:
            continue
        for category, counts in zip(census.categories, census.confusion.tolist(), strict=True):
            prefer = sum(counts)
            rows += [
                Confusion(
                    layer=census.layer.name,
                    category=category,
                    other=other,
                    units=units,
                    share=units / prefer if prefer else None,
                )
                for other, units in zip(census.categories, counts, strict=True)
            ]
    return rows
