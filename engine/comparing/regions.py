"""Tables of brain regions: response profiles or dissimilarity matrices.

A table is CSV with one row per value. Profiles have the columns ``region``, ``category`` and
``response``; dissimilarity matrices ``region``, ``first``, ``second`` and ``distance`` between two
categories or two paths of stimuli. Either may have a column ``subject``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, nearest, shortened
from ..texts import column_indices, composed, csv_rows

PROFILE = ("region", "category", "response")
RDM = ("region", "first", "second", "distance")
_RULE = (
    f"a table of regions has the columns {', '.join(PROFILE)}, or {', '.join(RDM)}, and optionally "
    "subject"
)
# With fewer items there are too few permutations for a small p.
_FEWEST_ITEMS = 3


@dataclass(frozen=True)
class Region:
    """A region's ``values [subject, item]``, or ``[subject, pair]`` for an RDM.

    Pairs are in the order of ``numpy.triu_indices(items, 1)``.
    """

    name: str
    subjects: tuple[str, ...]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Regions:
    """The regions of a table; all have the same ``items``: categories or paths of stimuli."""

    source: str
    are_rdms: bool
    items: tuple[str, ...]
    regions: tuple[Region, ...]


def read_regions(path: Path | str) -> Regions:
    """Read a table of regions.

    Raises
    ------
    UserError : a column is missing; a value is not a number, given twice or missing for a subject;
        fewer than 3 categories or stimuli
    """
    source = Path(path)
    rows = csv_rows(source, "a table of regions")
    columns = next(rows, (0, []))[1]
    are_rdms = "distance" in columns
    needed = RDM if are_rdms else PROFILE
    places = column_indices(columns, needed, ("subject",), _RULE, source)
    *named, value = needed
    found: dict[str, dict[str, dict[tuple[str, ...], float]]] = {}
    items: dict[str, None] = {}
    # Unicode forms of one name are the same name; the first spelling is kept.
    forms: dict[str, str] = {}
    cells = [places[name] for name in named]
    for line, row in rows:
        if len(row) < len(columns):
            raise UserError(
                f"every row of a table has all columns; line {line} of {source} has "
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
            f"a comparison needs at least {_FEWEST_ITEMS} categories or stimuli; {source} has "
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
    """Indices of a table's items among the ``known`` ones; ``kind`` is their plural, for errors.

    Raises
    ------
    UserError : an item is unknown
    """
    # Exact names first; otherwise names are compared in NFC.
    index = {composed(name): i for i, name in enumerate(known)}
    index |= {name: i for i, name in enumerate(known)}
    items = [item if item in index else composed(item) for item in regions.items]
    for item in items:
        if item not in index:
            raise UserError(
                f"regions and network are compared on the same {kind}; {regions.source} has "
                f"{item!r}, the store does not: {nearest(item, known)}"
            )
    return np.array([index[item] for item in items])


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
        keys = [tuple(sorted(pair)) for pair in combinations(items, 2)]
    else:
        keys = [(item,) for item in items]
    for key in keys:
        if key not in values:
            raise UserError(
                f"a table of regions has every value for every subject; {source} has none of "
                f"{region} for {' and '.join(key)}"
            )
    return [values[key] for key in keys]
