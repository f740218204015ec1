"""What the command line shows: tables, notes, errors and progress."""

from __future__ import annotations

import atexit
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusiform.engine.layer import UNITS
from fusiform.engine.texts import duration
from fusiform.engine.texts import in_bytes as in_bytes
from fusiform.engine.urls import without_credentials
from fusiform.engine.values import as_json

if TYPE_CHECKING:
    from fusiform.engine.analyses.analyse import Analysis
    from fusiform.engine.analyses.tables import Printed
    from fusiform.engine.comparing.brains import BrainComparison
    from fusiform.engine.comparing.differences import Comparison
    from fusiform.engine.contrasts.language.criterion import Criterion
    from fusiform.engine.contrasts.summary import Row
    from fusiform.engine.doctor.forecast import Forecast
    from fusiform.engine.querying.info import StoreInfo
    from fusiform.engine.querying.store import Store
    from fusiform.engine.querying.table import Format, Table
    from fusiform.engine.scanning.progress import Listener, Progress
    from fusiform.engine.stimuli.check import StimuliReport
    from fusiform.engine.store.store_reader import StoreReader

# What a summary says where activations were in half precision and are no numbers.
OVERFLOW = (
    "float16 holds nothing above 65,504, this is most likely overflow: scan in bfloat16 or float32"
)


# What an error of the output is one of.
OUTPUT = "the standard output"


def printable(text: str) -> str:
    """``text`` on one line, and what a terminal would obey or hide written as escapes.

    So with control characters, line ends, right-to-left marks, halves of surrogate pairs: names
    come from folders and stores that others made. URLs are without their credentials.
    """
    shown = without_credentials(text)
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return "".join(escaped)


class _Told(io.FileIO):
    """Where notes and progress go. What they tell of goes on, whether or not they can be read."""

    def write(self, content: Any) -> int:
        """Write what can be written; the rest is lost."""
        try:
            written = super().write(content)
        except OSError:  # a terminal that was closed, a full disk
            written = None
        return len(content) if written is None else written


class _Shown(io.TextIOWrapper):
    """The error stream, which removes credentials from the URLs in whatever is written to it."""

    def write(self, text: str) -> int:
        """Write it."""
        super().write(without_credentials(text))
        return len(text)


class _Answered(io.FileIO):
    """Where answers go, which says of an error that it is one of the output."""

    def write(self, content: Any) -> int:
        """Write what can be written; 0 where it has to wait."""
        try:
            return super().write(content) or 0
        except OSError as error:
            error.filename = OUTPUT
            raise


def open_streams() -> None:
    """Take over the standard streams, of which any may be closed, full, or going away.

    Whatever the locale: no name ends the program.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # or the next file that is opened would take its place, and its output
            os.open(os.devnull, os.O_WRONLY if descriptor == 2 else os.O_RDONLY)
            os.set_inheritable(descriptor, True)
    for name, kind in (("stdout", _Answered), ("stderr", _Told)):
        stream, first = getattr(sys, name), getattr(sys, f"__{name}__")
        if os.name == "posix" and stream is first:
            raw = kind(1 if name == "stdout" else 2, "w", closefd=False)
            encoding = stream.encoding if stream else "utf-8"
            on_terminal = raw.isatty() or name == "stderr"
            buffer = io.BufferedWriter(raw)
            text = io.TextIOWrapper if name == "stdout" else _Shown
            stream = text(buffer, encoding, line_buffering=on_terminal)
            setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def leave_output() -> None:
    """Write nothing more of an answer: nobody reads it, or it cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def leave_at_once(code: int) -> None:
    """End the program without the clean-up of libraries, which may wait for threads for ever."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def note(line: str) -> None:
    """What a user should know, on stderr."""
    print(printable(line), file=sys.stderr, flush=True)


def say(mistake: str, *below: str) -> int:
    """A user's mistake, on stderr; gives the exit code."""
    print(f"error: {printable(mistake)}", *map(printable, below), sep="\n", file=sys.stderr)
    return 2


def print_json(value: Any) -> None:
    """An answer as JSON, on stdout."""
    print(as_json(value, indent=2))


def print_table(head: list[str], rows: list[list[str]], right: set[int]) -> None:
    """A table, of which these columns stand on the right."""
    head, *rows = [[printable(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def cut(text: str, longest: int = 300) -> str:
    """The beginning of a text that may be of any length."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def print_results(
    paths: list[str],
    stores: list[Store],
    rows: list[list[Row]],
    criterion: Criterion,
    heading: str,
    as_json: bool,
) -> None:
    """The summaries of stores, one by one or side by side."""
    if as_json:
        results = zip(paths, stores, rows, strict=True)
        print_json([_as_json(*result, criterion) for result in results])
        return
    numbers = [f"{number}  " for number in range(1, len(paths) + 1)] if len(paths) > 1 else [""]
    for number, path, store in zip(numbers, paths, stores, strict=True):
        model, weights = store.provenance["model"], store.provenance["weights"]
        print(printable(f"{number}{path}: {model} ({weights}){_otherwise(store)}"))
    print(printable(f"selective: {criterion}"), end="\n\n")
    if len(paths) == 1:
        _print_summary(rows[0], heading)
    else:
        _print_side_by_side(rows, heading)
    if any(store.folds > 1 for store in stores):
        print("\nreplicated, CSI, d', response: of the units selected on one fold, on the others")
    for path, store in zip(paths, stores, strict=True):
        if store.folds == 1:
            said = f"{path}: no replication, nothing without bias: the scan had --folds 1"
            print(f"\n{printable(said)}")
    for path, store in zip(paths, stores, strict=True):
        if store.skipped:
            which = ", ".join(f"{name} {number}" for name, number in store.skipped.items())
            shown = int(store.counts.sum())
            said = f"{path}: {sum(store.skipped.values())} stimuli could not be shown ({which})"
            print(f"\n{printable(f'{said}, {shown:,} were')}")
    if any(store.shuffles for store in stores):
        print(
            "chance: the mean share selected under shuffled labels, of units drawn from the layer"
        )
    for path, store, found in zip(paths, stores, rows, strict=True):
        for row in {row.layer: row for row in found if row.nonfinite}.values():
            warning = f"{row.nonfinite:,} units of {row.layer} in {path} gave NaN or infinity"
            halves = (store.layer(row.layer).dtype, store.provenance.get("precision"))
            if "float16" in halves:
                warning += f": {OVERFLOW}"
            print(printable(f"warning: {warning}"))


def _otherwise(store: StoreReader) -> str:
    """What a scan did otherwise than it does by itself: units that are means, another precision."""
    units, precision = store.units, store.provenance.get("precision")
    said = [*([f"in {precision}"] if precision else []),
            *(["compiled"] if store.provenance.get("compiled") else []),
            *([f"units: {UNITS[units]}"] if units != "all" else [])]  # fmt: skip
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


def print_comparison(found: Comparison, as_json: bool) -> None:
    """Networks side by side: a table for every measure."""
    from fusiform.engine.comparing.tables import differences

    if as_json:
        print_json(asdict(found))
        return
    for number, (path, said) in enumerate(zip(found.stores, found.provenance, strict=True), 1):
        print(printable(f"{number}  {path}: {said['model']} ({said['weights']})"))
    print(printable(f"selective: {found.criterion}"))
    for warning in found.warnings:
        print(printable(f"warning: {warning}"))
    for table in differences(found):
        _print_titled(table)
    print(f"\n95 %: over {found.resamples:,} draws of whole feature maps", end="")
    of = f" of the difference from the {found.against} network" if len(found.stores) > 2 else ""
    print(f". *: the interval{of} is without 0")


def print_brains(results: list[BrainComparison], each_layer: bool, as_json: bool) -> None:
    """Networks beside regions of brains."""
    from fusiform.engine.comparing.tables import correlations

    if as_json:
        print_json([asdict(found) for found in results])
        return
    for number, found in enumerate(results):
        print(end="\n" if number else "")
        said = found.provenance
        print(printable(f"{found.source}: {said['model']} ({said['weights']})"))
        print(printable(found.chosen))
        print(printable(f"regions: {found.regions}"))
        _print_titled(correlations(found, each_layer))
        if not found.held_out and found.chosen.startswith("selective"):
            print("\nmeasured on the stimuli that selected the units: the scan had --folds 1")
    print("\np corrected: over layers. units: a mean over the folds that select")
    if any(found.best_layers for found in results) and not each_layer:
        print("held-out r: of every subject with the layer that is best for all other subjects")


# What the names of columns that hold numbers as text have in them.
_SPANS = ("95", "chance", "ceiling")


def _print_titled(table: Printed) -> None:
    """A table under its title; numbers and intervals stand on the right."""
    print(f"\n{printable(table.title)}\n")
    numeric = {i for i in range(len(table.head))
               if not any(isinstance(row[i], str) for row in table.rows)}  # fmt: skip
    spans = {i for i, name in enumerate(table.head)
             if name.isdigit() or any(word in name for word in _SPANS)}  # fmt: skip
    rows = [[_cell(value) for value in row] for row in table.rows]
    print_table(table.head, rows, right=numeric | spans)


def print_analysis(analysis: Analysis) -> None:
    """The tables of a store's analyses, and what they could not say."""
    from fusiform.engine.analyses.tables import tables

    model, weights = analysis.provenance["model"], analysis.provenance["weights"]
    print(printable(f"{analysis.store}: {model} ({weights})"))
    print(printable(f"selective: {analysis.criterion}"))
    for table in tables(analysis):
        _print_titled(table)
    print("\n95 %: over draws of whole feature maps. by chance: of as many units at random")
    if analysis.nameless:
        said = ", ".join(analysis.nameless)
        print(
            printable(f"\nno names of all dimensions, and so no maps of {said}: scan with --dims")
        )
    if analysis.folds == 1:
        said = "no held-out stimuli: no specificity, strength or confusion"
        print(printable(f"\n{analysis.store}: {said}: the scan had --folds 1"))


def of_stores(paths: list[str], tables: list[Iterator[Table]]) -> Iterator[Table]:
    """Tables of several stores, each with its name in a first column."""
    from fusiform.engine.querying.table import Table

    for path, parts in zip(paths, tables, strict=True):
        for part in parts:
            named = {"store": [without_credentials(path)] * len(part)} if len(paths) > 1 else {}
            yield Table({**named, **part.columns})


def put_out(
    tables: Iterator[Table], form: Format, output: Path | None, guard_formulas: bool
) -> None:
    """Print tables as one, or write them in another form."""
    from fusiform.engine.querying.table import joined, write

    if form != "table":
        written = write(tables, form, output, sys.stdout, guard_formulas)
        if output:
            note(f"wrote {written:,} rows to {output}")
        return
    table = joined(list(tables))
    right = {i for i, values in enumerate(table.columns.values()) if values.dtype.kind in "fi"}
    print_table(list(table.columns), [[_cell(v) for v in row] for row in table.rows()], right)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def info_lines(found: StoreInfo) -> Iterator[tuple[str, str]]:
    """What a store says of itself, name by name, and how large it is."""
    from fusiform.engine.querying.info import facts

    yield from facts(found)
    if found.files is not None:
        least = "" if found.all_counted else "at least "
        yield "size", f"{least}{in_bytes(found.bytes or 0)} in {least}{found.files:,} files"


def print_forecast(found: Forecast, as_json: bool) -> None:
    """What a scan will take."""
    if as_json:
        layers = [{**asdict(one), "units": one.units, "state_bytes": one.state_bytes}
                  for one in found.layers]  # fmt: skip
        print_json({**asdict(found), "layers": layers, "bound": found.bound})
        return
    passes = {name: number for number, part in enumerate(found.passes, 1) for name in part}
    several = len(found.passes) > 1
    print_table(
        ["layer", "type", "shape", "units", "live moments", *(["pass"] * several)],
        [
            [
                one.name,
                one.kind,
                " x ".join(map(str, one.shape)),
                f"{one.units:,}",
                in_bytes(one.state_bytes),
                *([str(passes[one.name])] * several),
            ]
            for one in found.layers
        ],
        right={3, 4, 5},
    )
    print()
    for name, text in _forecast_lines(found):
        print(printable(f"{name:<10} {text}"))


def _forecast_lines(found: Forecast) -> Iterator[tuple[str, str]]:
    units = sum(layer.units for layer in found.layers)
    yield "network", f"{found.model} on {found.device}: {len(found.layers)} layers, {units:,} units"
    yield (
        "stimuli",
        f"{found.stimuli:,} in {len(found.categories):,} categories, {found.folds} folds",
    )
    passes = len(found.passes)
    shown = "once" if passes == 1 else f"{passes} times, to the layers of one pass each"
    yield "batches", f"{found.batches:,} of {found.batch_size}; the stimuli are shown {shown}"
    budget = "" if found.budget_bytes is None else f" of {in_bytes(found.budget_bytes)}"
    yield (
        "memory",
        f"at most {in_bytes(found.peak_bytes)}{budget}, {in_bytes(found.state_bytes)} of it live "
        "moments",
    )
    yield "store", f"at most {in_bytes(found.store_bytes)}"
    yield (
        "pace",
        f"network {found.network:,.1f} images/s, decoding {found.decoding:,.1f} by "
        f"{found.decode_workers} workers: the scan waits for {found.bound}",
    )
    if found.advice:
        yield "advice", found.advice
    contrasts = f"{duration(found.contrast_seconds)} to compute contrasts"
    yield "time", f"about {duration(found.seconds)}, and then {contrasts}"


def print_stimuli(report: StimuliReport) -> None:
    """What was found in a stimulus set."""
    from fusiform.engine.stimuli.report import advice, lines, table

    for line in lines(report):
        print(printable(line))
    print()
    head, *rows = table(report)
    print_table(head, rows, right={1})
    for line in advice(report):
        print(printable(line))


def listener(quiet: bool) -> Listener:
    """Notes and progress on stderr: a live bar on a terminal, plain lines elsewhere."""
    from fusiform.engine.scanning.progress import Listener

    if quiet:
        return Listener()

    return Listener(note, _bar() if sys.stderr.isatty() else _lines())


def _describe(event: Progress) -> str:
    rate = (event.done - event.before) / max(event.seconds, 1e-9)
    left = (event.total - event.done) / rate
    pace = (
        f"{rate:.1f} images/s, " if event.stage in ("stimuli", "scan", "recording", "pack") else ""
    )
    return f"{pace}{left:.0f} s left, peak {in_bytes(event.peak_bytes)}"


def _bar() -> Any:
    from rich import progress as rich
    from rich.console import Console

    bars: dict[str, rich.Progress] = {}

    def progress(event: Progress) -> None:
        if event.stage not in bars:
            bars[event.stage] = rich.Progress(
                rich.TextColumn("{task.description:<9}"),
                rich.BarColumn(),
                rich.TextColumn("{task.completed:,.0f}/{task.total:,.0f}, {task.fields[pace]}"),
                console=Console(stderr=True),
            )
            bars[event.stage].add_task(event.stage, total=event.total, pace="")
            bars[event.stage].start()
            atexit.register(bars[event.stage].stop)  # gives the cursor back after an error, too
        bar = bars[event.stage]
        bar.update(bar.task_ids[0], completed=event.done, pace=_describe(event))
        if event.done == event.total:
            bar.stop()

    return progress


def _lines() -> Any:
    printed: dict[str, float] = {}

    def progress(event: Progress) -> None:
        # The first and the last, and one every ten seconds between them.
        if event.done < event.total and event.seconds < printed.get(event.stage, -10.0) + 10:
            return
        printed[event.stage] = event.seconds
        print(
            f"{event.stage} {event.done:,}/{event.total:,}, {_describe(event)}",
            file=sys.stderr,
            flush=True,
        )

    return progress
