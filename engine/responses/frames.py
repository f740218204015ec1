"""Answers of a recording as tables in long form: a row per value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.pvalues import adjusted
from ..results import crossed, long_form, named, numbered
from ..table import NOWHERE, Table, of_rows
from .discrimination import Discrimination
from .driving import Driven
from .geometry import Agreement
from .recording import Recording
from .tuning import Tuning

# Columns of an answer, those of places aside.
_KINDS: dict[str, type] = {
    "recording": str, "layer": str, "other": str, "choice": str, "contrast": str, "distance": str,
    "unit": int, "category": str, "fold": int, "rank": int, "stimulus": str, "row": int,
    "quantity": str, "value": float,
}  # fmt: skip


def in_long_form(
    recording: Recording, tables: Iterable[Table], names: Sequence[str]
) -> Iterator[Table]:
    """Tables in long form, with the columns ``names``, and ``recording`` before them.

    ``unit`` is the index in the flattened layer; the index along every dimension follows it. The
    first table has no rows.
    """
    columns: dict[str, type] = {"recording": str}
    for name in names:
        columns[name] = _KINDS[name]
        if name == "unit":
            columns |= dict.fromkeys(recording.dims, int)
    columns |= {"quantity": str, "value": float}
    yield Table({}).arranged(columns)
    for table in filter(len, tables):
        own = long_form(table).without("low", "high")
        yield own.labelled("recording", str(recording.path)).arranged(columns)


def units_of(recording: Recording, layer: str, units: NDArray[np.int64] | Sequence[int]) -> Table:
    """The layer, index and place of units, given by their index in the flattened layer."""
    own = recording.layer(layer)
    places = np.unravel_index(np.asarray(units, np.int64), own.shape)
    along = dict(zip(own.dims, places, strict=True))
    nowhere = np.full(len(units), NOWHERE)
    # The only dimension of a vector may be called unit too.
    columns = {dim: along.get(dim, nowhere) for dim in recording.dims if dim != "unit"}
    columns = {"unit": np.asarray(units), **columns}
    table = Table({name: values.astype(np.int32) for name, values in columns.items()})
    return table.labelled("layer", own.name)


def counted(rows: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """Numbers of recorded units of every layer, in total and by choice."""
    for row in rows:
        known = {name: [row[name]] for name in ("units", "of")}
        projected = np.array([row["projected_to"]], np.float64)
        yield Table({"layer": [row["layer"]], **known, "projected_to": projected})
        chosen = np.array(list(row["chosen"].values()))
        yield crossed([named("choice", list(row["chosen"]))], chosen=chosen).labelled(
            "layer", row["layer"]
        )


def discriminated(recording: Recording, found: Iterable[Discrimination]) -> Iterator[Table]:
    """AUC and rank-sum test of every unit on all stimuli, and on each fold."""
    for one in found:
        units, folds = units_of(recording, one.layer, one.units), len(one.auc_fold)
        chosen = {} if one.chosen is None else {"chosen": one.chosen}
        tested = {"auc": one.auc, "u": one.u, "p": one.p, "q": adjusted(one.p, "bh"), **chosen}
        by_fold = {"auc": one.auc_fold, "p": one.p_fold}
        number = {"n_target": [one.n_target], "n_baseline": [one.n_baseline]}
        for table in (
            Table({"layer": [one.layer], **number}),
            crossed([units], **tested),
            crossed([numbered("fold", folds), units], **by_fold),
        ):
            yield table.labelled("contrast", one.contrast)


def driving(recording: Recording, found: Sequence[Driven]) -> Iterator[Table]:
    """AUC of the best units, and their responses to the images that drive them ``most``, ``least``.

    The images of a unit have a ``rank`` from 1, the most extreme first.
    """
    for one in found:
        unit = units_of(recording, one.layer, [one.unit])
        summed = of_rows([one]).without("layer", "contrast", "unit")
        tables = [
            Table({**unit.stored, **summed.stored}),
            crossed([numbered("fold", len(one.auc_fold)), unit], auc=one.auc_fold),
        ]
        for name in ("most", "least"):
            images = of_rows(getattr(one, name)).columns
            ranks = np.arange(1, len(images["row"]) + 1, dtype=np.int32)
            described = Table(
                {
                    "rank": ranks,
                    "stimulus": images["path"],
                    "category": images["category"],
                    "row": images["row"].astype(np.int32),
                }
            )
            tables.append(crossed([unit, described], **{name: images["response"]}))
        for table in tables:
            yield table.labelled("contrast", one.contrast)


def tuned(recording: Recording, found: Iterable[Tuning]) -> Iterator[Table]:
    """Mean and deviation of every unit by category, its means on each fold, its sparseness."""
    for one in found:
        units, categories = units_of(recording, one.layer, one.units), one.categories
        axes = [named("category", categories), units]
        yield crossed(axes[:1], count=one.count).labelled("layer", one.layer)
        yield crossed([units], lifetime_sparseness=one.lifetime_sparseness)
        yield crossed(axes, mean=one.mean, sd=one.sd)
        yield crossed([numbered("fold", len(one.fold_mean)), *axes], mean=one.fold_mean)


def agreeing(found: Sequence[Agreement], similarity: str) -> Table:
    """The similarity of every two layers, under its name."""
    return Table(
        {
            "layer": [one.layer for one in found],
            "other": [one.other for one in found],
            similarity: np.array([one.value for one in found], np.float64),
        }
    )
