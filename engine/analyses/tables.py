"""Analyses as tables for people, their columns in the order of importance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..excerpt import (
    MOST_COLUMNS,
    MOST_CONTRASTS,
    MOST_ROWS,
    RANKED,
    Excerpt,
    at_steps,
    excerpt,
    step_over,
)
from ..texts import number
from .analyse import ANALYSES, Analysis
from .consistency import Consistency, Matrix
from .overlap import Confusion
from .resampling import Chance


class Printed(NamedTuple):
    """A table: its title, column names, and rows of plain values; ``said`` if it is an excerpt."""

    title: str
    head: list[str]
    rows: list[list[Any]]
    said: str = ""


def tables(analysis: Analysis, every: bool = True) -> Iterator[Printed]:
    """A table for every analysis, and several for consistency: all rows, or an excerpt."""
    shares = {(row.layer, row.contrast): row.share for row in analysis.shares}
    keys = [(layer, name) for layer in analysis.layers for name in analysis.contrasts]
    values = {key: shares.get(key, 0.0) for key in keys}
    part = excerpt(values, len(values) if every else MOST_ROWS)
    if not shares:  # nothing to rank contrasts by
        part = replace(part, said=part.said.replace(RANKED, "the first"))
    for name, title in ANALYSES.items():
        if name == "consistency":
            if analysis.consistency is not None:
                yield from _consistency(analysis.consistency, every)
        elif rows := getattr(analysis, name):
            full = f"{name}: {title}"
            if name == "confusion":
                yield _confusion(full, rows, part, every)
            else:
                yield _table(full, name, rows, part, every)
    if analysis.agreement:
        full = "agreement: units selective by two criteria"
        yield _table(full, "agreement", analysis.agreement, part, every)


# Columns of every analysis: their names, and functions of a row.
_Columns = dict[str, Callable[[Any], Any]]
_COLUMNS: dict[str, _Columns] = {
    "shares": {
        "%": lambda row: percent(row.share),
        "95 %": lambda row: span(row.low, row.high, 100),
        "selective": lambda row: row.selective,
        "units": lambda row: row.units,
        "% of living": lambda row: percent(row.share_of_living),
        "95 % of living": lambda row: span(row.living_low, row.living_high, 100),
    },
    "specificity": {
        "measure": lambda row: row.measure,
        "mean": lambda row: row.mean,
        "95 %": lambda row: span(row.low, row.high),
        "median": lambda row: None if row.quantiles is None else row.quantiles[2],
        "5 to 95 % of units": lambda row: span(*_ends(row.quantiles)),
        "units": lambda row: row.units,
    },
    "spread": {
        "with any %": lambda row: percent(row.share_with_any),
        "by chance %": lambda row: _by_chance(row.random, "share_with_any", 100),
        "Gini": lambda row: row.gini,
        "Gini by chance": lambda row: _by_chance(row.random, "gini"),
        "entropy": lambda row: row.entropy,
        "entropy by chance": lambda row: _by_chance(row.random, "entropy"),
        "selective": lambda row: row.selective,
        "channels": lambda row: row.channels,
    },
    "localisation": {
        "Moran's I": lambda row: row.moran_i,
        "p": lambda row: row.p,
        "entropy": lambda row: row.entropy,
        "entropy by chance": lambda row: _chance(row.random),
        "selective": lambda row: row.selective,
        "places": lambda row: row.places,
    },
    "strength": {
        "difference": lambda row: row.difference,
        "difference 95 %": lambda row: span(row.difference_low, row.difference_high),
        "preferred": lambda row: row.preferred,
        "others": lambda row: row.others,
        "preferred 95 %": lambda row: span(row.preferred_low, row.preferred_high),
        "others 95 %": lambda row: span(row.others_low, row.others_high),
        "units": lambda row: row.units,
    },
    "overlap": {
        "other": lambda row: row.other,
        "Jaccard": lambda row: None if row.exclusive else row.jaccard,
        "both": lambda row: None if row.exclusive else row.both,
        "if independent": lambda row: None if row.exclusive else row.expected,
        "either": lambda row: row.either,
    },
    "agreement": {
        "other criterion": lambda row: row.other,
        "Jaccard": lambda row: row.jaccard,
        "both": lambda row: row.both,
        "selective": lambda row: row.selective,
        "by the other": lambda row: row.other_selective,
    },
}


def _table(
    title: str, name: str, rows: Sequence[Any], part: Excerpt, every: bool = True
) -> Printed:
    """The rows of the layers and contrasts that are shown; of pairs, those that overlap most."""
    columns, said = _COLUMNS[name], part.said
    shown = [row for row in rows if part.has(row.layer, row.contrast)]
    if name == "overlap":
        shown = [row for row in shown if row.other in part.contrasts]
        if len(shown) > MOST_ROWS and not every:
            ranked = sorted(shown, key=lambda row: -(row.jaccard or 0))[:MOST_ROWS]
            kept = set(map(id, ranked))
            shown = [row for row in shown if id(row) in kept]
            said = f"{len(shown):,} of {len(rows):,} pairs (those that overlap most)"
    cells = [[row.layer, row.contrast, *(show(row) for show in columns.values())] for row in shown]
    return Printed(title, ["layer", "contrast", *columns], cells, said)


def _confusion(title: str, rows: Sequence[Confusion], part: Excerpt, every: bool) -> Printed:
    """A row per layer and category: its preferred categories on another fold, in percent."""
    others, said = list(dict.fromkeys(row.other for row in rows)), part.said
    if len(others) > MOST_CONTRASTS and not every:
        number = len(others)
        others = [name for name in others if name in part.contrasts] or others
        others = others[:MOST_CONTRASTS]
        said = f"{len(others):,} of {number:,} categories"
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    kept = set(others)
    for row in rows:
        if row.layer in part.layers and row.category in kept and row.other in kept:
            lines.setdefault((row.layer, row.category), {})[row.other] = percent(row.share)
    head = ["layer", "prefers", *(f"% {other}" for other in others)]
    cells = [[*key, *(line[other] for other in others)] for key, line in lines.items()]
    return Printed(title, head, cells, said)


def _consistency(found: Consistency, every: bool) -> Iterator[Printed]:
    """Spearman and both CKA matrices on all stimuli, and Spearman across folds."""
    by = f"consistency ({found.distance} distance between categories)"
    matrices: dict[str, Matrix | None] = {
        f"{by}: Spearman between layers": found.spearman,
        f"{by}: Spearman between layers, one fold against another": found.spearman_folds,
        "consistency: linear CKA of category means between layers": found.cka,
        "consistency: unbiased CKA of category means between layers": found.cka_unbiased,
    }
    number = len(found.layers)
    step = 1 if every else step_over(number, MOST_COLUMNS)
    shown = at_steps(range(number), step)
    said = f"{len(shown):,} of {number:,} layers (one in {step:,})" if step > 1 else ""
    for title, matrix in matrices.items():
        if matrix is not None:
            head = ["", "layer", *(str(place + 1) for place in shown)]
            rows = [
                [
                    place + 1,
                    found.layers[place],
                    *(_rounded(matrix[place][other]) for other in shown),
                ]
                for place in shown
            ]
            yield Printed(title, head, rows, said)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def percent(share: float | None) -> float | None:
    """A share in percent."""
    return None if share is None else 100 * share


def span(low: float | None, high: float | None, scale: float = 1) -> str | None:
    """An interval as text."""
    ends = [number(scale * end, 3) for end in (low, high) if end is not None]
    return " to ".join(ends) if len(ends) == 2 else None


def _ends(quantiles: tuple[float, ...] | None) -> tuple[float | None, float | None]:
    return (None, None) if quantiles is None else (quantiles[0], quantiles[-1])


def _by_chance(random: dict[str, Chance] | None, name: str, scale: float = 1) -> str | None:
    return None if random is None else _chance(random[name], scale)


def _chance(chance: Chance | None, scale: float = 1) -> str | None:
    return None if chance is None else span(chance.low, chance.high, scale)
