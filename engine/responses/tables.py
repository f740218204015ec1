"""Answers of a recording as tables for people: the columns that fit on a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.pvalues import adjusted
from ..texts import number
from .ceiling import Ceiling
from .discrimination import Discrimination
from .driving import Driven
from .geometry import Agreement, Geometry
from .recording import Recording
from .tuning import Tuning

# Head and lines.
Table = tuple[list[str], list[list[str]]]
_Q = 0.05


def layer_records(recording: Recording, layers: str | Sequence[str] = "*") -> list[dict[str, Any]]:
    """Number of recorded units of every layer, in total and by choice, and its projection."""
    rows = []
    for layer in recording.layers_named(layers):
        own = recording.recorded(layer.name)
        chosen = recording.chosen(layer.name).sum(axis=1).tolist()
        rows.append(
            {
                "layer": layer.name,
                "units": own.units,
                "of": layer.units,
                "projected_to": own.columns if own.projected else None,
                "chosen": dict(zip(recording.choices, chosen, strict=True)),
            }
        )
    return rows


def table_of_layers(rows: Sequence[dict[str, Any]]) -> Table:
    """:func:`layer_records` as a table."""
    choices = list(rows[0]["chosen"])
    head = ["layer", "units", "of", *choices, "projected to"]
    return head, [
        [
            row["layer"],
            f"{row['units']:,}",
            f"{row['of']:,}",
            *(f"{row['chosen'][one]:,}" for one in choices),
            f"{row['projected_to']:,}" if row["projected_to"] else "-",
        ]
        for row in rows
    ]


def auc_table(found: Iterable[Discrimination], folds: int) -> Table:
    """A line per layer and contrast: AUC over units, on all stimuli and by fold."""
    head = ["layer", "contrast", "AUC mean", "median", "largest", "least", f"q <= {_Q}", "units"]
    head += [f"mean fold {fold}" for fold in range(folds)]
    lines = []
    for one in found:
        own = np.ones(len(one.units), bool) if one.chosen is None else one.chosen
        auc = one.auc[own][~np.isnan(one.auc[own])]
        with np.errstate(invalid="ignore"):
            passing = np.count_nonzero(adjusted(one.p[own], "bh") <= _Q)
        lines.append(
            [
                one.layer,
                one.contrast,
                *(_decimal(value) for value in _spread(auc)),
                f"{passing:,}",
                f"{np.count_nonzero(own):,}",
                *(_decimal(_mean(values[own])) for values in one.auc_fold),
            ]
        )
    return head, lines


def best_table(recording: Recording, found: Sequence[Driven]) -> Table:
    """A line per unit: its AUC, and its most and least driving images."""
    folds = len(found[0].auc_fold) if found else 0
    head = ["layer", "contrast", "unit", "AUC", "most", "% of target", "least"]
    head += [f"AUC fold {fold}" for fold in range(folds)]
    return head, [
        [
            one.layer,
            one.contrast,
            recording.layer(one.layer).where(one.place),
            _decimal(one.auc),
            ", ".join(image.path for image in one.most),
            f"{100 * one.preferred:.0f}",
            _least(one),
            *map(_decimal, one.auc_fold),
        ]
        for one in found
    ]


def _least(one: Driven) -> str:
    """Categories of the weakest images; or their number, if more are tied than shown."""
    if one.lowest > len(one.least):
        return f"{one.lowest} stimuli, all {number(one.least[0].response, 3)}"
    return ", ".join(image.category for image in one.least)


def tuning_table(recording: Recording, found: Sequence[Tuning]) -> Table:
    """A line per layer and choice: averages over units of sparseness, and mean (SD) by category."""
    head = ["layer", "chosen by", "units", "sparseness", *recording.categories]
    lines = []
    for one in found:
        for choice, own in zip(recording.choices, recording.chosen(one.layer), strict=True):
            cells = [
                f"{_decimal(_mean(mean[own]))} ({_decimal(_mean(sd[own]))})"
                for mean, sd in zip(one.mean, one.sd, strict=True)
            ]
            sparseness = _decimal(_mean(one.lifetime_sparseness[own]))
            lines.append([one.layer, choice, f"{np.count_nonzero(own):,}", sparseness, *cells])
    return head, lines


def geometry_table(found: Sequence[Geometry]) -> Table:
    """A line per layer."""
    head = ["layer", "between/within", "within", "between", "units", "stimuli", "distance"]
    return head, [
        [
            one.layer + (" (projected)" if one.projected else ""),
            *map(_decimal, (one.ratio, one.within, one.between)),
            f"{one.units:,}",
            f"{one.stimuli:,}",
            one.distance,
        ]
        for one in found
    ]


def ceiling_table(found: Sequence[Ceiling]) -> Table:
    """A line per layer."""
    head = ["layer", "tuning", "tuning r", "geometry", "geometry r", "units", "distance"]
    return head, [
        [
            one.layer,
            *map(_decimal, (one.tuning, one.tuning_r, one.geometry, one.geometry_r)),
            f"{one.units:,} of {one.of:,}",
            one.distance,
        ]
        for one in found
    ]


def agreement_table(found: Sequence[Agreement]) -> Table:
    """A table of layers by layers."""
    values = {(one.layer, one.other): one.value for one in found}
    names = list(dict.fromkeys(name for pair in values for name in pair))

    def cell(a: str, b: str) -> str:
        return "1" if a == b else _decimal(values.get((a, b), values.get((b, a))))

    return ["layer", *names], [[a, *(cell(a, b) for b in names)] for a in names]


def _spread(values: NDArray[Any]) -> list[float | None]:
    if not len(values):
        return [None] * 4
    return [float(f(values)) for f in (np.mean, np.median, np.max, np.min)]


def _mean(values: NDArray[Any]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _decimal(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.3f}"
