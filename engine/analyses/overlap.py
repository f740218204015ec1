"""Units that are selective more than once, and units whose preference changes between folds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from .census import Census


@dataclass(frozen=True)
class Overlap:
    """Units of a layer that are selective for ``contrast`` and for ``other``.

    ``both`` and ``either`` are numbers of units, ``jaccard`` their ratio, None where none is
    selective for either. ``expected`` is what ``both`` would be if the two were independent among
    the living units; None where none lives.
    """

    layer: str
    contrast: str
    other: str
    both: int
    either: int
    jaccard: float | None
    expected: float | None


@dataclass(frozen=True)
class Confusion:
    """Of living units that prefer ``category`` on one fold, those that prefer ``other`` on another.

    The preferred category is the one with the largest mean response; units without a single largest
    one on both folds are left out. ``units`` is their number over all pairs of folds, the first of
    a pair before the second, ``share`` that of the units that prefer ``category`` on the first.
    None where no unit does.
    """

    layer: str
    category: str
    other: str
    units: int
    share: float | None


def overlap(censuses: Iterable[Census]) -> list[Overlap]:
    """Units selective for two contrasts, a row per layer and pair."""
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
                )
            )
    return rows


def confusion(censuses: Iterable[Census]) -> list[Confusion]:
    """Preferred categories between folds, a row per layer and two categories.

    None of a store with one fold.
    """
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
