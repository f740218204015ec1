"""Summaries of stores, one alone or several side by side."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from shlex import quote
from typing import TYPE_CHECKING

from fusiform.engine.errors import shortened
from fusiform.engine.layer import describe_units

from .notes import note, put, put_command, put_heading
from .tables import Destination, excerpt_of, fits, print_rest, print_table, put_out

if TYPE_CHECKING:
    from fusiform.engine.contrasts.language.criterion import Criterion
    from fusiform.engine.contrasts.summary import Row, Summary
    from fusiform.engine.querying.store import Store
    from fusiform.engine.store.store_reader import StoreReader

OVERFLOW = (
    "float16 holds nothing above 65,504, this is most likely overflow: scan in bfloat16 or float32"
)
# Layers with nonfinite units that are named.
_MOST_WARNED = 10
# Categories whose peaks are listed after a scan.
_MOST_PEAKS = 20


def put_results(
    paths: list[str],
    stores: list[Store],
    rows: list[Summary],
    criterion: Criterion,
    heading: str,
    every: bool,
    to: Destination,
) -> None:
    """Write the summaries of stores; or print them, ``every`` row or an excerpt."""
    if not to.is_table:
        put_out((table for found in rows for table in found.tables()), to)
        for path, store in zip(paths, stores, strict=True):
            if store.skipped:
                note(_skipped(path, store))
        return
    numbers = [f"{number}  " for number in range(1, len(paths) + 1)] if len(paths) > 1 else [""]
    for number, path, store in zip(numbers, paths, stores, strict=True):
        model, weights = store.provenance["model"], store.provenance["weights"]
        put_heading(path, f"{model} ({weights}){_otherwise(store)}", number)
    put(f"selective: {criterion}")
    print()
    noun = "categories" if heading == "category" else "contrasts"
    part = excerpt_of([row for found in rows for row in found], every, noun=noun)
    excerpts = [[row for row in found if part.has(row.layer, row.contrast)] for found in rows]
    measured = _print_rows(excerpts, heading)
    print_rest(part.said)
    _print_remarks(paths, stores, rows, measured)


def print_peaks(store: Store, path: str) -> None:
    """End a scan, on stderr: where the leading categories peak, and the commands that follow."""
    import numpy as np

    from fusiform.engine.contrasts.summary import summary

    with redirect_stdout(sys.stderr):
        put(f"wrote {path}")
        print()
    shares = store.query("selective").counts().columns["share"]
    shares = shares.reshape(len(store.layers), len(store.categories))
    peaks = shares.argmax(axis=0)
    leading = np.argsort(-shares.max(axis=0), kind="stable")[:_MOST_PEAKS]
    rows: list[Row] = []
    for category in np.sort(leading).tolist():
        layer = store.layers[peaks[category]].name
        rows += summary(store, layers=layer, contrasts=store.categories[category])
    base = re.sub(r"\.zarr(\.zip)?/?$", "", path)
    with redirect_stdout(sys.stderr):
        head = ["category", "peaks in", "selective %", "of units", "replicated %", "CSI"]
        lines = [
            [
                row.contrast,
                row.layer if row.selective else "no layer",
                _percent(row.share),
                f"{row.units:,}",
                _percent(row.replicated),
                _decimal(row.csi),
            ]
            for row in rows
        ]
        print_table(head, lines, right={2, 3, 4, 5})
        if more := len(store.categories) - len(rows):
            print_rest(f"and {more:,} more", "fusiform summary shows all")
        if store.folds > 1:
            put("replicated, CSI: of the units selected on one fold, on the others")
        print()
        put_command(f"next: fusiform summary {quote(path)}")
        put_command(f"      fusiform report {quote(path)} -o {quote(f'{base}.html')}")
        print(end="", flush=True)


def _print_remarks(
    paths: list[str], stores: list[Store], rows: Sequence[list[Row]], measured: str
) -> None:
    """Lines on the columns, on what the scans lacked, and on units that gave NaN or infinity.

    ``measured`` names the columns of values on held-out stimuli.
    """
    if any(store.folds > 1 for store in stores):
        print()
        put(f"{measured}: of the units selected on one fold, on the others; a mean over folds")
    for path, store in zip(paths, stores, strict=True):
        if store.folds == 1:
            said = (
                f"{path}: the scan had --folds 1: replication and unbiased measures need two folds"
            )
            print()
            put(said)
    for path, store in zip(paths, stores, strict=True):
        if store.skipped:
            print()
            put(_skipped(path, store))
    layers = {row.layer for found in rows for row in found}
    idle = [one.name for store in stores for one in store.layers if one.passes_on]
    if named := shortened(name for name in dict.fromkeys(idle) if name in layers):
        put(f"{named}: of type Identity, which passes on what it takes")
    if any(store.shuffles for store in stores):
        put("chance: the mean share selected under shuffled labels, of units drawn from the layer")
    for path, store, found in zip(paths, stores, rows, strict=True):
        _warn_of_nonfinite(path, store, list({r.layer: r for r in found if r.nonfinite}.values()))


def _skipped(path: str, store: Store) -> str:
    """How many stimuli were not shown, by category."""
    which = shortened(f"{name} {number}" for name, number in store.skipped.items())
    said = f"{path}: {sum(store.skipped.values())} stimuli could not be shown ({which})"
    return f"{said}, {int(store.counts.sum()):,} were"


def _warn_of_nonfinite(path: str, store: Store, rows: list[Row]) -> None:
    """A line for each of the first layers with units that gave NaN or infinity, one for others."""
    for row in rows[:_MOST_WARNED]:
        warning = f"{row.nonfinite:,} units of {row.layer} in {path} gave NaN or infinity"
        if "float16" in (store.layer(row.layer).dtype, store.provenance.get("precision")):
            warning += f": {OVERFLOW}"
        put(f"warning: {warning}")
    if len(rows) > _MOST_WARNED:
        more = len(rows) - _MOST_WARNED
        put(f"warning: so did units of {more:,} more layers: --format csv lists them")


def _otherwise(store: StoreReader) -> str:
    """How a scan differs from the defaults: units that are means, precision, compilation."""
    units, precision = store.units, store.provenance.get("precision")
    said = [*([f"in {precision}"] if precision else []),
            *(["compiled"] if store.provenance.get("compiled") else []),
            *([f"units: {describe_units(units)}"] if units != "all" else [])]  # fmt: skip
    return f"; {', '.join(said)}" if said else ""


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


# Columns of a summary in the order of their importance.
_Columns = dict[str, Callable[["Row"], str]]
_BESIDE: _Columns = {
    "%": lambda row: _percent(row.share),
    "CSI": lambda row: _decimal(row.csi),
    "replicated %": lambda row: _percent(row.replicated),
    "chance %": lambda row: _percent(row.chance),
    "d'": lambda row: _decimal(row.d_prime),
}
_OTHERS: _Columns = {
    "selective": lambda row: f"{row.selective:,}",
    "units": lambda row: f"{row.units:,}",
    "dead %": lambda row: _percent(row.dead / row.units),
    "response": lambda row: _decimal(row.response),
}


def _print_rows(results: list[list[Row]], heading: str) -> str:
    """A line per layer and contrast that any store has, with columns for every store.

    Where the shares and CSI of all stores do not fit, they stand below one another. Returns the
    names of columns of values on held-out stimuli.
    """
    held_out = "replicated, CSI, d'"
    found = [{(row.layer, row.contrast): row for row in rows} for rows in results]
    keys = list(dict.fromkeys(key for rows in found for key in rows))
    is_null = any(row.chance is not None for rows in results for row in rows)
    columns = {name: show for name, show in _BESIDE.items() if is_null or name != "chance %"}
    number, names = len(found), ["layer", heading]
    if number > 1:
        head = [*names, *(f"{name} {k + 1}" for name in columns for k in range(number))]
        shows = [(show, rows) for show in columns.values() for rows in found]
        lines = [[*key, *(show(rows[key]) if key in rows else "" for show, rows in shows)]
                 for key in keys]  # fmt: skip
        needed = 2 + 2 * number
        if fits([row[:needed] for row in [head, *lines]], range(2, needed), number):
            print_table(head, _once(lines), range(2, len(head)), together=number)
            return held_out
        names.append("store")
    columns |= _OTHERS
    lines = [
        [*([*key, str(k + 1)][: len(names)]), *(show(found[k][key]) for show in columns.values())]
        for key in keys
        for k in range(number)
        if key in found[k]
    ]
    print_table([*names, *columns], _once(lines), range(2, len(names) + len(columns)))
    return f"{held_out}, response"


def _once(lines: list[list[str]]) -> list[list[str]]:
    """Lines without the layer, or layer and contrast, of the line before."""
    shown = []
    for before, line in zip([["", ""], *lines], lines, strict=False):
        same = 0 if line[0] != before[0] else 1 if line[1] != before[1] else 2
        shown.append([*[""] * same, *line[same:]])
    return shown
