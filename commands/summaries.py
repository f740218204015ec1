"""Summaries of stores, one alone or several side by side."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fusiform.engine.errors import shortened
from fusiform.engine.layer import describe_units

from .notes import printable
from .tables import excerpt_of, print_json, print_rest, print_table

if TYPE_CHECKING:
    from fusiform.engine.contrasts.language.criterion import Criterion
    from fusiform.engine.contrasts.summary import Row
    from fusiform.engine.querying.store import Store
    from fusiform.engine.store.store_reader import StoreReader

OVERFLOW = (
    "float16 holds nothing above 65,504, this is most likely overflow: scan in bfloat16 or float32"
)
# Layers with nonfinite units that are named.
_MOST_WARNED = 10
# Categories whose peaks are listed after a scan.
_MOST_PEAKS = 20


def print_results(
    paths: list[str],
    stores: list[Store],
    rows: list[list[Row]],
    criterion: Criterion,
    heading: str,
    every: bool,
    as_json: bool,
) -> None:
    """The summaries of stores, one by one or side by side; ``every`` row, or an excerpt."""
    if as_json:
        results = zip(paths, stores, rows, strict=True)
        print_json([_as_json(*result, criterion) for result in results])
        return
    numbers = [f"{number}  " for number in range(1, len(paths) + 1)] if len(paths) > 1 else [""]
    for number, path, store in zip(numbers, paths, stores, strict=True):
        model, weights = store.provenance["model"], store.provenance["weights"]
        print(printable(f"{number}{path}: {model} ({weights}){_otherwise(store)}"))
    print(printable(f"selective: {criterion}"), end="\n\n")
    noun = "categories" if heading == "category" else "contrasts"
    part = excerpt_of([row for found in rows for row in found], every, noun=noun)
    excerpts = [[row for row in found if part.has(row.layer, row.contrast)] for found in rows]
    if len(paths) == 1:
        _print_summary(excerpts[0], heading)
    else:
        _print_side_by_side(excerpts, heading)
    print_rest(part.said, *([] if heading == "category" else ["--json has all"]))
    _print_remarks(paths, stores, rows)


def print_peaks(store: Store, path: str) -> None:
    """End a scan, on stderr: where the leading categories peak, and the commands that follow."""
    import numpy as np

    from fusiform.engine.contrasts.summary import summary

    shares = store.query("selective").counts().columns["share"]
    shares = shares.reshape(len(store.layers), len(store.categories))
    peaks = shares.argmax(axis=0)
    leading = np.argsort(-shares.max(axis=0), kind="stable")[:_MOST_PEAKS]
    rows = []
    for category in np.sort(leading).tolist():
        layer = store.layers[peaks[category]].name
        rows += summary(store, layers=layer, contrasts=store.categories[category])
    base = re.sub(r"\.zarr(\.zip)?/?$", "", path)
    with redirect_stdout(sys.stderr):
        print(printable(f"wrote {path}"), end="\n\n")
        head = ["category", "peaks in", "selective %", "replicated %", "CSI"]
        lines = [
            [
                row.contrast,
                row.layer if row.selective else "no layer",
                *map(_percent, (row.share, row.replicated)),
                _decimal(row.csi),
            ]
            for row in rows
        ]
        print_table(head, lines, right={2, 3, 4})
        if more := len(store.categories) - len(rows):
            print(f"... and {more:,} more: fusiform summary shows all")
        if store.folds > 1:
            print("replicated, CSI: of the units selected on one fold, on the others")
        print(end="\n")
        print(printable(f"next: fusiform summary {path}"))
        print(printable(f"      fusiform report {path} -o {base}.html"), flush=True)


def _print_remarks(paths: list[str], stores: list[Store], rows: list[list[Row]]) -> None:
    """Lines on the columns, on what the scans lacked, and on units that gave NaN or infinity."""
    if any(store.folds > 1 for store in stores):
        print("\nreplicated, CSI, d', response: of the units selected on one fold, on the others")
    for path, store in zip(paths, stores, strict=True):
        if store.folds == 1:
            said = (
                f"{path}: the scan had --folds 1: replication and unbiased measures need two folds"
            )
            print(f"\n{printable(said)}")
    for path, store in zip(paths, stores, strict=True):
        if store.skipped:
            which = shortened(f"{name} {number}" for name, number in store.skipped.items())
            shown = int(store.counts.sum())
            said = f"{path}: {sum(store.skipped.values())} stimuli could not be shown ({which})"
            print(f"\n{printable(f'{said}, {shown:,} were')}")
    if any(store.shuffles for store in stores):
        print(
            "chance: the mean share selected under shuffled labels, of units drawn from the layer"
        )
    for path, store, found in zip(paths, stores, rows, strict=True):
        _warn_of_nonfinite(path, store, list({r.layer: r for r in found if r.nonfinite}.values()))


def _warn_of_nonfinite(path: str, store: Store, rows: list[Row]) -> None:
    """A line for each of the first layers with units that gave NaN or infinity, one for others."""
    for row in rows[:_MOST_WARNED]:
        warning = f"{row.nonfinite:,} units of {row.layer} in {path} gave NaN or infinity"
        if "float16" in (store.layer(row.layer).dtype, store.provenance.get("precision")):
            warning += f": {OVERFLOW}"
        print(printable(f"warning: {warning}"))
    if len(rows) > _MOST_WARNED:
        more = len(rows) - _MOST_WARNED
        print(f"warning: so did units of {more:,} more layers: --json lists them")


def _otherwise(store: StoreReader) -> str:
    """How a scan differs from the defaults: units that are means, precision, compilation."""
    units, precision = store.units, store.provenance.get("precision")
    said = [*([f"in {precision}"] if precision else []),
            *(["compiled"] if store.provenance.get("compiled") else []),
            *([f"units: {describe_units(units)}"] if units != "all" else [])]  # fmt: skip
    return f"; {', '.join(said)}" if said else ""


def _as_json(path: str, store: Store, rows: list[Row], criterion: Criterion) -> Any:
    kept = ["model", "weights", "weights_sha256", "precision", "compiled", "units"]
    kept += ["fingerprint", "folds", "null"]
    averages = ("share", "replicated", "csi", "d_prime", "response")
    return {
        "store": path,
        **{name: store.provenance.get(name) for name in kept},
        "skipped": store.skipped,
        "criterion": asdict(criterion),
        "rows": [
            {**asdict(row), **{name: getattr(row, name) for name in averages}} for row in rows
        ],
    }


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _print_summary(rows: list[Row], heading: str) -> None:
    chance = any(row.chance is not None for row in rows)
    head = ["layer", heading, "units", "dead %", "selective", "%", *(["chance %"] * chance)]
    head += ["replicated %", "CSI", "d'", "response"]
    print_table(
        head,
        [
            [
                row.layer if index == 0 or rows[index - 1].layer != row.layer else "",
                row.contrast,
                f"{row.units:,}",
                _percent(row.dead / row.units),
                f"{row.selective:,}",
                _percent(row.share),
                *([_percent(row.chance)] * chance),
                _percent(row.replicated),
                *map(_decimal, (row.csi, row.d_prime, row.response)),
            ]
            for index, row in enumerate(rows)
        ],
        right=set(range(2, len(head))),
    )


def _print_side_by_side(results: list[list[Row]], heading: str) -> None:
    """A line per layer and contrast that any store has; per measure a column for every store."""
    found = [{(row.layer, row.contrast): row for row in rows} for rows in results]
    lines = list(dict.fromkeys(key for rows in found for key in rows))
    measured: dict[str, Callable[[Row], str]] = {
        "%": lambda row: _percent(row.share),
        "replicated %": lambda row: _percent(row.replicated),
        "CSI": lambda row: _decimal(row.csi),
        "d'": lambda row: _decimal(row.d_prime),
    }
    if any(row.chance is not None for rows in results for row in rows):
        measured["chance %"] = lambda row: _percent(row.chance)
    stores = range(1, len(results) + 1)
    head = ["layer", heading, *(f"{name} {number}" for name in measured for number in stores)]
    print_table(
        head,
        [
            [
                layer if index == 0 or lines[index - 1][0] != layer else "",
                contrast,
                *(
                    show(rows[layer, contrast]) if (layer, contrast) in rows else ""
                    for show in measured.values()
                    for rows in found
                ),
            ]
            for index, (layer, contrast) in enumerate(lines)
        ],
        right=set(range(2, len(head))),
    )
