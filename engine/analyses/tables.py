"""Analyses as tables for people: the columns that fit on a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from .analyse import ANALYSES, Analysis
from .consistency import Consistency, Matrix
from .overlap import Confusion
from .resampling import Chance


class Printed(NamedTuple):
    """A table: its title, column names, and rows of plain values."""

    title: str
    head: list[str]
    rows: list[list[Any]]


def tables(analysis: Analysis) -> Iterator[Printed]:
    """A table for every analysis, and several for consistency."""
    for name, title in ANALYSES.items():
        if name == "consistency":
            if analysis.consistency is not None:
                yield from _consistency(analysis.consistency)
        elif rows := getattr(analysis, name):
            full = f"{name}: {title}"
            yield _confusion(full, rows) if name == "confusion" else _table(full, name, rows)
    if analysis.agreement:
        yield _table("agreement: units selective by two criteria", "agreement", analysis.agreement)


# Columns of every analysis: their names, and functions of a row.
_Columns = dict[str, Callable[[Any], Any]]
_COLUMNS: dict[str, _Columns] = {
    "shares": {
        "units": lambda row: row.units,
        "selective": lambda row: row.selective,
        "%": lambda row: percent(row.share),
        "95 %": lambda row: span(row.low, row.high, 100),
        "% of living": lambda row: percent(row.share_of_living),
        "95 % of living": lambda row: span(row.living_low, row.living_high, 100),
    },
    "specificity": {
        "measure": lambda row: row.measure,
        "units": lambda row: row.units,
        "mean": lambda row: row.mean,
        "95 %": lambda row: span(row.low, row.high),
        "5 to 95 % of units": lambda row: span(*_ends(row.quantiles)),
        "median": lambda row: None if row.quantiles is None else row.quantiles[2],
    },
    "spread": {
        "channels": lambda row: row.channels,
        "selective": lambda row: row.selective,
        "with any %": lambda row: percent(row.share_with_any),
        "any by chance": lambda row: _by_chance(row.random, "share_with_any", 100),
        "entropy": lambda row: row.entropy,
        "entropy by chance": lambda row: _by_chance(row.random, "entropy"),
        "Gini": lambda row: row.gini,
        "Gini by chance": lambda row: _by_chance(row.random, "gini"),
    },
    "localisation": {
        "places": lambda row: row.places,
        "selective": lambda row: row.selective,
        "entropy": lambda row: row.entropy,
        "entropy by chance": lambda row: _chance(row.random),
        "Moran's I": lambda row: row.moran_i,
        "p": lambda row: row.p,
    },
    "strength": {
        "units": lambda row: row.units,
        "preferred": lambda row: row.preferred,
        "preferred 95 %": lambda row: span(row.preferred_low, row.preferred_high),
        "others": lambda row: row.others,
        "others 95 %": lambda row: span(row.others_low, row.others_high),
        "difference": lambda row: row.difference,
        "difference 95 %": lambda row: span(row.difference_low, row.difference_high),
    },
    "overlap": {
        "other": lambda row: row.other,
        "both": lambda row: row.both,
        "if independent": lambda row: row.expected,
        "either": lambda row: row.either,
        "Jaccard": lambda row: row.jaccard,
    },
    "agreement": {
        "other criterion": lambda row: row.other,
        "selective": lambda row: row.selective,
        "by the other": lambda row: row.other_selective,
        "both": lambda row: row.both,
        "Jaccard": lambda row: row.jaccard,
    },
}


def _table(title: str, name: str, rows: Sequence[Any]) -> Printed:
    columns = _COLUMNS[name]
    cells = [[row.layer, row.contrast, *(show(row) for show in columns.values())] for row in rows]
    return Printed(title, ["layer", "contrast", *columns], cells)


def _confusion(title: str, rows: Sequence[Confusion]) -> Printed:
    """A row per layer and category: its preferred categories on another fold, in percent."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        lines.setdefault((row.layer, row.category), {})[row.other] = percent(row.share)
    others = list(dict.fromkeys(row.other for row in rows))
    head = ["layer", "prefers", *(f"% {other}" for other in others)]
    return Printed(
        title, head, [[*key, *(line[other] for other in others)] for key, line in lines.items()]
    )


def _consistency(found: Consistency) -> Iterator[Printed]:
    """Spearman and CKA matrices on all stimuli, and Spearman across folds."""
    by = f"consistency ({found.distance} distance between categories)"
    matrices: dict[str, Matrix | None] = {
        f"{by}: Spearman between layers": found.spearman,
        f"{by}: Spearman between layers, one fold against another": found.spearman_folds,
        "consistency: linear CKA of category means between layers": found.cka,
    }
    for title, matrix in matrices.items():
        if matrix is not None:
            head = ["", "layer", *map(str, range(1, len(found.layers) + 1))]
            rows = [
                [number, layer, *(None if value is None else round(value, 2) for value in row)]
                for number, (layer, row) in enumerate(zip(found.layers, matrix, strict=True), 1)
            ]
            yield Printed(title, head, rows)


def percent(share: float | None) -> float | None:
    """A share in percent."""
    return None if share is None else 100 * share


def span(low: float | None, high: float | None, scale: float = 1) -> str | None:
    """An interval as text."""
    return None if low is None or high is None else f"{scale * low:.3g} to {scale * high:.3g}"


def _ends(quantiles: tuple[float, ...] | None) -> tuple[float | None, float | None]:
    return (None, None) if quantiles is None else (quantiles[0], quantiles[-1])


def _by_chance(random: dict[str, Chance] | None, name: str, scale: float = 1) -> str | None:
    return None if random is None else _chance(random[name], scale)


def _chance(chance: Chance | None, scale: float = 1) -> str | None:
    return None if chance is None else span(chance.low, chance.high, scale)
