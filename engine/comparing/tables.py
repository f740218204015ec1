"""Comparisons as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..analyses.tables import Printed, percent, span
from ..excerpt import MOST_ROWS, Excerpt, excerpt
from ..texts import number
from .brains.compare import BrainComparison
from .brains.controls import DRAWS
from .brains.correlations import LayerCorrelation
from .differences import Comparison, Difference
from .draws import MEASURED, SHARES
from .localizers import CrossValidation, LocalizerComparison, LocalizerOverlap
from .training import position

# Measures of the units that one localizer selects, on the stimuli of the other.
CROSSED: dict[str, str] = {
    "replicated": "units selected again by the other localizer, %",
    "csi": "CSI of selected units on the other localizer",
    "d_prime": "d' of selected units on the other localizer",
    "auc_normal": "AUC of selected units on the other localizer, if responses were normal",
}
# Columns of correlations that are shown even if they are empty.
_ALWAYS = ("region", "population", "layer", "r", "p corrected", "ceiling", "p", "units")


def labels(comparison: Comparison) -> list[str]:
    """Short names of networks: their numbers, or the axis and their positions on it."""
    if comparison.axis is None or comparison.at is None:
        return [str(number) for number in range(1, len(comparison.stores) + 1)]
    first, *others = map(position, comparison.at)
    return [f"{comparison.axis} {first}", *others]


def differences(comparison: Comparison, every: bool = True) -> Iterator[Printed]:
    """A table for every measure; ``*`` marks a difference whose interval excludes 0.

    Two networks are shown with difference and interval, more with the value of each. Long tables
    show the contrasts that differ most, unless ``every`` row is wanted.
    """
    measures: dict[str, list[Difference]] = {}
    for one in comparison.differences:
        measures.setdefault(one.measure, []).append(one)
    names = labels(comparison)
    for measure, found in measures.items():
        part = _part([(one, abs(one.difference or 0)) for one in found], every)
        rows = [one for one in found if part.has(one.layer, one.contrast)]
        is_share = measure in SHARES
        title = f"{measure}: {MEASURED[measure]}{', %' if is_share else ''}"
        if len(names) == 2:
            bare = [name.rpartition(" ")[2] for name in names]
            head = ["layer", "contrast", *names, f"{bare[1]} - {bare[0]}", "95 %"]
            cells = [_difference(one, is_share) for one in rows]
            yield Printed(title, head, cells, part.said)
        else:
            yield Printed(title, ["layer", "contrast", *names],
                          _side_by_side(rows, len(names), is_share), part.said)  # fmt: skip


def onsets(comparison: Comparison, every: bool = True) -> Iterator[Printed]:
    """Where the share of every layer and contrast exceeds each reference, first and for good.

    None, shown as ``-``, where it never does.
    """
    lines: dict[tuple[str, str], dict[str, float | str | None]] = {}
    heads: dict[str, None] = {}
    for one in comparison.onsets:
        own = {one.reference: one.first, f"{one.reference} for good": one.lasting}
        lines.setdefault((one.layer, one.contrast), {}).update(own)
        heads |= dict.fromkeys(own)
    if not lines:
        return
    shares = [(one, one.value or 0) for one in comparison.values if one.measure == "share"]
    part = _part([*((one, 0) for one in comparison.onsets), *shares], every)
    cells = [
        [*key, *(_whole(own.get(head, "?")) for head in heads)]
        for key, own in lines.items()
        if part.has(*key)
    ]
    title = f"onset: {comparison.axis} from which the share exceeds a reference (exploratory)"
    yield Printed(title, ["layer", "contrast", *heads], cells, part.said)


def _whole(at: float | str | None) -> float | str | None:
    return int(at) if isinstance(at, float) and at.is_integer() else at


def _part(values: Iterable[tuple[Any, float]], every: bool) -> Excerpt:
    """An excerpt of rows with a layer and a contrast: those of the largest values."""
    largest: dict[tuple[str, str], float] = {}
    for one, value in values:
        key = one.layer, one.contrast
        largest[key] = max(largest.get(key, 0), value)
    return excerpt(largest, len(largest) if every else MOST_ROWS)


def localizers(found: LocalizerComparison, every: bool = True) -> Iterator[Printed]:
    """The overlap of two localizers, and a table for every measure of the units that one selects.

    Long tables show the contrasts that are selected most, unless ``every`` row is wanted.
    """
    shares: dict[tuple[str, str], float] = {}
    for row in found.overlap:
        most = max(row.selective, row.other_selective)
        shares[row.layer, row.contrast] = most / row.units
    part = excerpt(shares, len(shares) if every else MOST_ROWS)
    rows = [row for row in found.overlap if part.has(row.layer, row.contrast)]
    head = ["layer", "contrast", "Jaccard", "95 %", "both", "chance", "chance in maps", "1", "2",
            "Dice", "95 % of Dice"]  # fmt: skip
    cells = [_overlap(row, found.labels[row.contrast]) for row in rows]
    yield Printed("overlap: units that both localizers select", head, cells, part.said)
    sides = {(one.layer, one.contrast, one.measure, one.selecting): one
             for one in found.cross_validation}  # fmt: skip
    head = ["layer", "contrast", "1 on 2", "95 %", "1 on 1", "all on 2",
            "2 on 1", "95 % ", "2 on 2", "all on 1"]  # fmt: skip
    for measure, title in CROSSED.items():
        scale = 100 if measure == "replicated" else 1
        cells = [
            [row.layer, found.labels[row.contrast]]
            + [
                cell
                for side in (1, 2)
                for cell in _crossed(sides[row.layer, row.contrast, measure, side], scale)
            ]
            for row in rows
        ]
        yield Printed(f"{measure}: {title}", head, cells, part.said)


def _overlap(row: LocalizerOverlap, label: str) -> list[Any]:
    return [
        row.layer,
        label,
        row.jaccard,
        span(row.jaccard_low, row.jaccard_high),
        row.both,
        _units(row.chance_low, row.chance_high),
        _units(row.map_chance_low, row.map_chance_high),
        row.selective,
        row.other_selective,
        row.dice,
        span(row.dice_low, row.dice_high),
    ]


def _units(low: float | None, high: float | None) -> str | None:
    """An interval of numbers of units as text."""
    return None if low is None or high is None else f"{low:,.0f} to {high:,.0f}"


def _crossed(one: CrossValidation, scale: int) -> list[Any]:
    values = (one.value, one.within, one.all_units)
    value, within, all_units = (None if own is None else scale * own for own in values)
    return [value, span(one.low, one.high, scale), within, all_units]


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
    kind = found.correlation.capitalize()
    title = f"{found.compared}: {kind} correlation, p from {found.orders:,} permutations"
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
    if not each_layer:
        yield "layer: the one with the largest r"
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
