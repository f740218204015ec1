"""Tables of brain regions: their responses to categories, or how far apart two stimuli are there.

A table is CSV with one row per value. Of profiles the columns are ``region``, ``category``,
``response``; of dissimilarity matrices ``region``, ``first``, ``second``, ``distance``, where the
two are categories or paths of stimuli. A column ``subject`` may stand beside either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, nearest, shortened
from ..texts import composed, csv_rows, places_of

PROFILE = ("region", "category", "response")
RDM = ("region", "first", "second", "distance")
_RULE = (
    f"a table of regions has the columns {', '.join(PROFILE)}, or {', '.join(RDM)}, and perhaps "
    "subject"
)
# Fewer can be arranged in too few ways for any of them to be rare.
_FEWEST_ITEMS = 3


@dataclass(frozen=True)
class Region:
    """What is known of a region: ``values [subject, item]``, or ``[subject, pair]`` of an RDM.

    Pairs are those of ``numpy.triu_indices(items, 1)``.
    """

    name: str
    subjects: tuple[str, ...]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Regions:
    """The regions of a table, all of the same ``items``: categories, or paths of stimuli."""

    source: str
    are_rdms: bool
    items: tuple[str, ...]
    regions: tuple[Region, ...]


def read_regions(path: Path | str) -> Regions:
    """Read a table of regions.

    Raises
    ------
    UserError : columns are missing, a value is none, is given twice, or is missing for a subject;
        fewer than 3 categories or stimuli
    """
    source = Path(path)
    rows = csv_rows(source, "a table of regions")
    columns = next(rows, (0, []))[1]
    are_rdms = "distance" in columns
    needed = RDM if are_rdms else PROFILE
    places = places_of(columns, needed, ("subject",), _RULE, source)
    *named, value = needed
    found: dict[str, dict[str, dict[tuple[str, ...], float]]] = {}
    items: dict[str, None] = {}
    # A name is one name in whatever Unicode form it is written, by which it was first.
    forms: dict[str, str] = {}
    cells = [places[name] for name in named]
    for line, row in rows:
        if len(row) < len(columns):
            raise UserError(
                f"every row of a table has all its columns; line {line} of {source} has "
                f"{len(row)} of {len(columns)}"
            )
        region, *keys = (forms.setdefault(composed(row[i]), row[i]) for i in cells)
        subject = composed(row[places["subject"]]) if "subject" in places else ""
        of_subject = found.setdefault(region, {}).setdefault(subject, {})
        key = tuple(sorted(keys))
        if key in of_subject:
            raise UserError(
                f"a table of regions has one row per value; line {line} of {source} gives "
                f"{' and '.join(keys)} of {region} again"
            )
        of_subject[key] = _number(row[places[value]], line, source)
        items |= dict.fromkeys(keys)
    if len(items) < _FEWEST_ITEMS:
        raise UserError(
            f"a comparison takes at least {_FEWEST_ITEMS} categories or stimuli; {source} has "
            f"{len(items)}: {shortened(items)}"
        )
    ordered = tuple(items)
    regions = tuple(
        Region(
            name,
            tuple(subjects),
            np.array([_vector(v, ordered, are_rdms, name, source) for v in subjects.values()]),
        )
        for name, subjects in found.items()
    )
    return Regions(str(path), are_rdms, ordered, regions)


def in_order(regions: Regions, known: Sequence[str], kind: str) -> NDArray[np.int64]:
    """Where a table's items stand among ``known`` ones, which are of a ``kind``: its plural.

    Raises
    ------
    UserError : one of them is none
    """
    # As they are, and where no other is written so, in the form in which names are compared.
    places = {composed(name): place for place, name in enumerate(known)}
    places |= {name: place for place, name in enumerate(known)}
    items = [item if item in places else composed(item) for item in regions.items]
    for item in items:
        if item not in places:
            raise UserError(
                f"regions and network are compared on the same {kind}; {regions.source} has "
                f"{item!r}, the store has not: {nearest(item, known)}"
            )
    return np.array([places[item] for item in items])


def _number(text: str, line: int, source: Path) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(
            f"responses and distances are finite numbers; line {line} of {source} has {text!r}"
        )
    return value


def _vector(
    values: dict[tuple[str, ...], float],
    items: Sequence[str],
    are_rdms: bool,
    region: str,
    source: Path,
) -> list[float]:
    """Values of one subject in the order of items, or of their pairs."""
    if are_rdms:
        count = range(len(items))
        wanted = [tuple(sorted((items[i], items[j]))) for i in count for j in count[i + 1 :]]
    else:
        wanted = [(item,) for item in items]
    absent = [key for key in wanted if key not in values]
    if absent:
        raise UserError(
            f"every subject has a value for everything that a table names; {source} has none of "
            f"{region} for {' and '.join(absent[0])}"
        )
    return [values[key] for key in wanted]
