"""Tables of brain regions: response profiles or dissimilarity matrices.

A table is CSV with one row per value. Profiles have the columns ``region``, ``category`` (or
``stimulus``) and ``response``; dissimilarity matrices ``region``, ``first``, ``second`` and
``distance`` between two categories or two stimuli. Any may have a column ``subject``, and a noise
ceiling: ``ceiling_low`` and ``ceiling_high``, or ``ceiling`` for both, the same in all rows of a
region.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError, shortened
from ...texts import column_indices, composed, csv_rows

PROFILE = ("region", "category", "response")
STIMULI = ("region", "stimulus", "response")
RDM = ("region", "first", "second", "distance")
_CEILINGS = ("ceiling", "ceiling_low", "ceiling_high")
_RULE = (
    f"a table of regions has the columns {', '.join(PROFILE)}, or {', '.join(STIMULI)}, or "
    f"{', '.join(RDM)}, and optionally subject, and ceiling or ceiling_low and ceiling_high"
)
# With fewer items there are too few permutations for a small p.
FEWEST_ITEMS = 3
Ceiling = tuple[float, float]


@dataclass(frozen=True)
class Region:
    """A region's ``values [subject, item]``, or ``[subject, pair]`` for an RDM.

    Pairs are in the order of ``numpy.triu_indices(items, 1)``. ``ceiling`` is that of the table.
    """

    name: str
    subjects: tuple[str, ...]
    values: NDArray[np.float64]
    ceiling: Ceiling | None = None


@dataclass(frozen=True)
class Regions:
    """The regions of a table; all have the same ``items``: categories or stimuli.

    ``of_stimuli`` tells that responses are to single stimuli; the items of an RDM may be either.
    """

    source: str
    are_rdms: bool
    items: tuple[str, ...]
    regions: tuple[Region, ...]
    of_stimuli: bool = False


def read_regions(path: Path | str) -> Regions:
    """Read a table of regions.

    Raises
    ------
    UserError : a column is missing; a value is not a number, given twice or missing for a subject;
        fewer than 3 categories or stimuli; a ceiling is no correlation, or a region has several
    """
    source = Path(path)
    rows = csv_rows(source, "a table of regions")
    columns = next(rows, (0, []))[1]
    needed = RDM if "distance" in columns else STIMULI if "stimulus" in columns else PROFILE
    places = column_indices(columns, needed, ("subject", *_CEILINGS), _RULE, source)
    given = _ceiling_columns(places, source)
    *named, value = needed
    found: dict[str, dict[str, dict[tuple[str, ...], float]]] = {}
    ceilings: dict[str, Ceiling] = {}
    items: dict[str, None] = {}
    # Unicode forms of one name are the same name; the first spelling is kept.
    forms: dict[str, str] = {}
    cells = [places[name] for name in named]
    names = [name for name in ("subject", *named) if name in places]
    for line, row in rows:
        if len(row) < len(columns):
            raise UserError(
                f"every row of a table has all columns; line {line} of {source} has "
                f"{len(row)} of {len(columns)}"
            )
        if unnamed := [name for name in names if not row[places[name]]]:
            raise UserError(
                f"every row of a table has all names; line {line} of {source} has no "
                f"{unnamed[0]}: fill it in"
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
        if given:
            _add_ceiling(ceilings, region, [row[place] for place in given], line, source)
    if len(items) < FEWEST_ITEMS:
        raise UserError(
            f"a comparison needs at least {FEWEST_ITEMS} categories or stimuli; {source} has "
            f"{len(items)}: {shortened(items)}"
        )
    ordered = tuple(items)
    are_rdms = needed == RDM
    regions = tuple(
        Region(
            name,
            tuple(subjects),
            np.array([_vector(v, ordered, are_rdms, name, source) for v in subjects.values()]),
            ceilings.get(name),
        )
        for name, subjects in found.items()
    )
    return Regions(str(path), are_rdms, ordered, regions, needed == STIMULI)


def _ceiling_columns(places: Mapping[str, int], source: Path) -> list[int]:
    """Indices of the columns with the lower and the upper ceiling; none without ceilings."""
    given = [name for name in _CEILINGS if name in places]
    if given in ([], ["ceiling"]):
        return [places[name] for name in given * 2]
    if given != ["ceiling_low", "ceiling_high"]:
        raise UserError(
            f"ceilings are one column ceiling, or two, ceiling_low and ceiling_high; {source} has "
            f"{' and '.join(given)}: give one or the other"
        )
    return [places[name] for name in given]


def _add_ceiling(
    ceilings: dict[str, Ceiling], region: str, cells: Sequence[str], line: int, source: Path
) -> None:
    """Keep the ceiling of a row, the same in all rows of a region."""
    low, high = (_number(cell, line, source, "ceilings are finite numbers") for cell in cells)
    if not -1 <= low <= high <= 1:
        raise UserError(
            f"ceilings are correlations, from -1 to 1, the lower one first; line {line} of "
            f"{source} has {' and '.join(dict.fromkeys(cells))}: correct it"
        )
    if ceilings.setdefault(region, (low, high)) != (low, high):
        raise UserError(
            f"a region has one ceiling; line {line} of {source} gives {region} another than the "
            "rows before: give it the same in all rows"
        )


def _number(
    text: str, line: int, source: Path, rule: str = "responses and distances are finite numbers"
) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{rule}; line {line} of {source} has {text!r}")
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
