"""Comparisons as tables in long form: a row per value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..results import long_form
from ..table import Table, of_rows

if TYPE_CHECKING:
    from .brains import BrainComparison
    from .differences import Comparison

_DIFFERENCES: dict[str, type] = {
    "store": str, "other_store": str, "criterion": str, "layer": str, "other_layer": str,
    "contrast": str, "quantity": str, "value": float, "low": float, "high": float,
}  # fmt: skip
_CORRELATIONS: dict[str, type] = {
    "store": str, "criterion": str, "regions": str, "region": str, "population": str,
    "layer": str, "over": str, "quantity": str, "value": float, "low": float, "high": float,
}  # fmt: skip


def differences(found: Comparison) -> Iterator[Table]:
    """The measures of every store, then the differences ``store`` - ``other_store``.

    The first table has no rows.
    """
    yield Table({}).arranged(_DIFFERENCES)
    values: dict[tuple[int, str, str, str], float | None] = {}
    for one in found.differences:
        values.setdefault((one.first, one.layer, one.contrast, one.measure), one.value)
        values.setdefault((one.second, one.other_layer, one.contrast, one.measure), one.other_value)
    if not values:
        return
    numbers, layers, contrasts, measures = zip(*values, strict=True)
    measured = Table(
        {
            "store": [found.stores[number - 1] for number in numbers],
            "layer": layers,
            "contrast": contrasts,
            "quantity": measures,
            "value": np.array([*values.values()], np.float64),
        }
    )
    whole = of_rows(found.differences)
    columns = whole.columns
    compared = Table(
        {
            "store": [found.stores[number - 1] for number in columns["second"]],
            "other_store": [found.stores[number - 1] for number in columns["first"]],
            "layer": columns["other_layer"],
            "other_layer": columns["layer"],
            "contrast": columns["contrast"],
            "quantity": [f"{measure}_difference" for measure in columns["measure"]],
            "value": columns["difference"],
            "low": columns["low"],
            "high": columns["high"],
        }
    )
    for table in (measured, compared):
        yield table.labelled("criterion", found.criterion).arranged(_DIFFERENCES)


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
