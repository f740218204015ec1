"""Comparisons as tables in long form: a row per value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..results import long_form
from ..table import Table, of_rows

if TYPE_CHECKING:
    from .brains.compare import BrainComparison
    from .differences import Comparison
    from .localizers import CrossValidation, LocalizerComparison

_DIFFERENCES: dict[str, type] = {
    "store": str, "at": float, "other_store": str, "criterion": str, "layer": str,
    "other_layer": str, "contrast": str, "quantity": str, "value": float, "low": float,
    "high": float,
}  # fmt: skip
_CORRELATIONS: dict[str, type] = {
    "store": str, "criterion": str, "regions": str, "region": str, "population": str,
    "layer": str, "over": str, "quantity": str, "value": float, "low": float, "high": float,
}  # fmt: skip
_LOCALIZERS: dict[str, type] = {
    "store": str, "other_store": str, "criterion": str, "layer": str, "contrast": str,
    "other_contrast": str, "quantity": str, "value": float, "low": float, "high": float,
}  # fmt: skip


def differences(found: Comparison) -> Iterator[Table]:
    """The measures of every store, the differences ``store`` - ``other_store``, and the onsets.

    ``at`` is the position of ``store``. Onsets are positions; a missing one was not reached. The
    first table has no rows.
    """
    yield Table({}).arranged(_DIFFERENCES)
    parts = [_values(found)] if found.values else []
    parts += [_compared(found)] if found.differences else []
    parts += [_onsets(found)] if found.onsets else []
    for part in parts:
        yield part.labelled("criterion", found.criterion).arranged(_DIFFERENCES)


def _values(found: Comparison) -> Table:
    columns = of_rows(found.values).columns
    return Table(
        {
            **_networks(found, columns["network"]),
            "quantity": columns["measure"],
            **{name: columns[name] for name in ("layer", "contrast", "value", "low", "high")},
        }
    )


def _compared(found: Comparison) -> Table:
    columns = of_rows(found.differences).columns
    return Table(
        {
            **_networks(found, columns["second"]),
            "other_store": [found.stores[number - 1] for number in columns["first"]],
            "layer": columns["other_layer"],
            "other_layer": columns["layer"],
            "quantity": [f"{measure}_difference" for measure in columns["measure"]],
            "value": columns["difference"],
            **{name: columns[name] for name in ("contrast", "low", "high")},
        }
    )


def _networks(found: Comparison, numbers: NDArray[np.int64]) -> dict[str, Any]:
    """The stores of some networks, and their positions."""
    own = {"store": [found.stores[number - 1] for number in numbers]}
    return own if found.at is None else {**own, "at": np.array(found.at)[numbers - 1]}


def _onsets(found: Comparison) -> Table:
    table = long_form(of_rows(found.onsets)).without("low", "high")
    columns = table.columns
    quantity = [
        f"{name}_above_{reference}"
        for name, reference in zip(columns["quantity"], columns["reference"], strict=True)
    ]
    return Table({**table.without("reference", "quantity").stored, "quantity": quantity})


def correlations(found: BrainComparison) -> Iterator[Table]:
    """The correlation of every layer, then that of the best layer on what is held out.

    The correlation is named after its kind, as ``pearson`` and ``held_out_pearson``; ceilings of
    the table are ``given_ceiling_low`` and ``given_ceiling_high``. The first table has no rows.
    """
    criterion = found.chosen.removeprefix("selective: ")
    names = {"correlation": found.correlation}
    if found.ceilings == "given":
        names |= {name: f"given_{name}" for name in ("ceiling_low", "ceiling_high")}
    yield Table({}).arranged(_CORRELATIONS)
    for rows, before in ((found.correlations, ""), (found.best_layers, "held_out_")):
        if rows:
            whole = of_rows(rows).stored
            renamed = Table({names.get(name, name): values for name, values in whole.items()})
            own = long_form(renamed, before=before)
            for name, text in (("store", found.source), ("criterion", criterion),
                               ("regions", found.regions)):  # fmt: skip
                own = own.labelled(name, text)
            yield own.arranged(_CORRELATIONS)


def localizers(found: LocalizerComparison) -> Iterator[Table]:
    """The overlap of ``store`` and ``other_store``, then measures on the stimuli of ``store``.

    ``other_store`` selected the units that were measured: on all its stimuli or, if it is the same
    store, on each fold for the others. Without another store, they are all living units. The first
    table has no rows.
    """
    yield Table({}).arranged(_LOCALIZERS)
    if not found.overlap:
        return
    first, other = found.stores
    overlap = long_form(of_rows(found.overlap)).labelled("other_store", other)
    rows = [row for one in found.cross_validation for row in _measured(found.stores, one)]
    names = [name for name in _LOCALIZERS if name != "criterion"]
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    measured = Table(
        {
            name: np.array(values, object if _LOCALIZERS[name] is str else np.float64)
            for name, values in columns.items()
        }
    )
    for table in (overlap.labelled("store", first), measured):
        yield table.labelled("criterion", found.criterion).arranged(_LOCALIZERS)


def _measured(stores: tuple[str, str], one: CrossValidation) -> Iterator[tuple[Any, ...]]:
    """A measure of the selected units, their number, and the two values to set beside it."""
    measuring, selecting = stores[one.measuring - 1], stores[one.selecting - 1]
    texts = one.contrast, one.other_contrast
    own, its = texts[one.measuring - 1], texts[one.selecting - 1]
    across = measuring, selecting, one.layer, own, its
    yield *across, one.measure, one.value, one.low, one.high
    yield *across, f"{one.measure}_units", one.units, None, None
    within = selecting, selecting, one.layer, its, its
    yield *within, one.measure, one.within, one.within_low, one.within_high
    every = measuring, None, one.layer, own, None
    yield *every, f"{one.measure}_all_units", one.all_units, None, None
