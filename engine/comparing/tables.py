"""Comparisons as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..analyses.tables import Printed, percent, span
from ..excerpt import MOST_ROWS, excerpt
from ..texts import number
from .brains import BrainComparison
from .controls import DRAWS
from .correlations import LayerCorrelation
from .differences import MEASURED, Comparison, Difference

# Columns of correlations that are shown even if they are empty.
_ALWAYS = ("region", "population", "layer", "r", "p corrected", "ceiling", "p", "units")


def differences(comparison: Comparison, every: bool = True) -> Iterator[Printed]:
    """A table for every measure; ``*`` marks a difference whose interval excludes 0.

    Two networks are shown with difference and interval, more with the value of each. Long tables
    show the contrasts that differ most, unless ``every`` row is wanted.
    """
    measures: dict[str, list[Difference]] = {}
    for one in comparison.differences:
        measures.setdefault(one.measure, []).append(one)
    for measure, found in measures.items():
        largest: dict[tuple[str, str], float] = {}
        for one in found:
            key = one.layer, one.contrast
            largest[key] = max(largest.get(key, 0), abs(one.difference or 0))
        part = excerpt(largest, len(largest) if every else MOST_ROWS)
        rows = [one for one in found if part.has(one.layer, one.contrast)]
        is_share = "share" in measure
        title = f"{measure}: {MEASURED[measure]}{', %' if is_share else ''}"
        if len(comparison.stores) == 2:
            head = ["layer", "contrast", "1", "2", "2 - 1", "95 %"]
            cells = [_difference(one, is_share) for one in rows]
            yield Printed(title, head, cells, part.said)
        else:
            numbers = range(1, len(comparison.stores) + 1)
            yield Printed(title, ["layer", "contrast", *map(str, numbers)],
                          _side_by_side(rows, len(numbers), is_share), part.said)  # fmt: skip


def _side_by_side(rows: list[Difference], stores: int, is_share: bool) -> list[list[Any]]:
    """A row per layer and contrast with the value of every network."""
    lines: dict[tuple[str, str], list[str | None]] = {}
    for one in rows:
        cells = lines.setdefault((one.layer, one.contrast), [None] * stores)
        values = {one.first: (one.value, ""), one.second: (one.other_value, _mark(one))}
        for store, (value, mark) in values.items():
            shown = percent(value) if is_share else value
            if shown is not None and (mark or cells[store - 1] is None):
                cells[store - 1] = f"{number(shown)}{mark}"
    return [[*key, *cells] for key, cells in lines.items()]


def correlations(
    found: BrainComparison,
    each_layer: bool,
    every: bool = True,
    networks: Sequence[BrainComparison] = (),
) -> Printed:
    """A row per region and population: the layer with the largest correlation, or every layer.

    A long table has the first rows only, unless ``every`` row is wanted. Beside it stand the
    correlations of the same layer and population in the other ``networks``, by their number.
    """
    best = {} if each_layer else {(one.region, one.population): one for one in found.best_layers}
    groups: dict[tuple[str, str], list[LayerCorrelation]] = {}
    for one in found.correlations:
        groups.setdefault((one.region, one.population), []).append(one)
    rows = [one for own in groups.values() for one in (own if each_layer else _largest(own))]
    said = ""
    if len(rows) > MOST_ROWS and not every:
        said, rows = f"{MOST_ROWS:,} of {len(rows):,} rows", rows[:MOST_ROWS]
    columns: dict[str, list[Any]] = {
        "region": [one.region for one in rows],
        "population": [one.population for one in rows],
        "layer": [one.layer for one in rows],
        "r": [one.correlation for one in rows],
        "p corrected": [one.p_corrected for one in rows],
        "r outside": [one.outside_target for one in rows],
        "p outside": [one.outside_target_p_corrected for one in rows],
        "other units": [one.other_units for one in rows],
        "random units": [one.random_units for one in rows],
        "95 %": [span(one.random_units_low, one.random_units_high) for one in rows],
    }
    for place, other in enumerate(networks, 1):
        if other is not found:
            its = {_key(one): one.correlation for one in other.correlations}
            columns[f"r of {place}"] = [its.get(_key(one)) for one in rows]
    if best:
        held_out = [best[one.region, one.population] for one in rows]
        columns["held-out r"] = [one.correlation for one in held_out]
        columns["best for most"] = [f"{one.layer} ({one.chosen} of {one.splits})"
                                    for one in held_out]  # fmt: skip
    columns["ceiling given" if found.ceilings == "given" else "ceiling"] = [
        span(one.ceiling_low, one.ceiling_high) for one in rows
    ]
    columns["p"] = [one.p for one in rows]
    columns["units"] = [one.units for one in rows]
    known = {name: own for name, own in columns.items()
             if name in _ALWAYS or any(cell is not None for cell in own)}  # fmt: skip
    title = f"{found.compared}: {found.correlation} correlation, p from {found.orders:,} orders"
    return Printed(title, [*known], [list(row) for row in zip(*known.values(), strict=True)], said)


def unknown(found: BrainComparison) -> list[str]:
    """Populations without a correlation in any layer: of too few units, or that do not vary."""
    known = {one.population for one in found.correlations if one.correlation is not None}
    return [name for name in dict.fromkeys(one.population for one in found.correlations)
            if name not in known]  # fmt: skip


def _key(one: LayerCorrelation) -> tuple[str, str, str]:
    return one.region, one.population, one.layer


def legend(results: Sequence[BrainComparison], each_layer: bool) -> Iterator[str]:
    """The columns of correlations in words, those that any of the ``results`` has."""
    rows = [one for found in results for one in found.correlations]
    yield "p corrected: over layers, not over regions and populations"
    if any(one.units % 1 for one in rows):
        yield "units: a mean over the folds that select"
    if any(one.outside_target is not None for one in rows):
        yield (
            "r outside, p outside: without the categories or stimuli that the units were selected "
            "for, to which they respond most by construction; p corrected over layers"
        )
    if any(one.random_units is not None for one in rows):
        yield (
            "other units: all of the layer that the contrast does not select. random units: as "
            f"many of the layer, mean and middle 95 % of {DRAWS} draws"
        )
    if len(results) > 1:
        yield "r of 1, r of 2, ...: of the same population and layer in the other network"
    if not each_layer:
        for over in dict.fromkeys(one.over for found in results for one in found.best_layers):
            yield f"held-out r: of the layer that is best for all other {over}"


def _difference(one: Difference, is_share: bool) -> list[Any]:
    name = one.layer if one.layer == one.other_layer else f"{one.layer} / {one.other_layer}"
    numbers = one.value, one.other_value, one.difference
    *values, difference = (percent(one) if is_share else one for one in numbers)
    return [
        name,
        one.contrast,
        *values,
        "- " if difference is None else f"{number(difference)}{_mark(one) or ' '}",
        span(one.low, one.high, 100 if is_share else 1),
    ]


def _mark(one: Difference) -> str:
    excludes_0 = one.low is not None and one.high is not None and one.low * one.high > 0
    return "*" if excludes_0 else ""


def _largest(own: list[LayerCorrelation]) -> list[LayerCorrelation]:
    known = [(one.correlation, one) for one in own if one.correlation is not None]
    return [max(known, key=lambda pair: pair[0])[1]] if known else []
