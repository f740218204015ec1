"""The same bytes in few or many pieces: layers x categories x workers, and every asking command.

Layers x units x categories stay the same, and so do the pictures of a category: only the number of
pieces grows. Flat lines in ``results/ladder.svg`` say that cost follows bytes. ``--folder`` keeps
sets and measurements, so that a run that was stopped goes on; ``--short`` measures the corners. The
last table says on paper what a far larger scan would cost.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..shared import RESULTS, head, heading, row, save
from .commands import HERE, Limits, Measured, Taken, emptied, fusiform, plain_loop, size_of
from .drawn import LADDER_SIDE, draw_set

LAYERS, CATEGORIES, WORKERS = (10, 30, 100, 300, 1000), (5, 50, 500, 5000), (1, 2)
PICTURES = 2  # of a category
LOOP = "plain loop"
SCANS = {workers: f"scan, {workers} worker{'s' * (workers > 1)}" for workers in WORKERS}
STORE = Path("ladder.zarr")
ASKED: dict[str, tuple[Any, ...]] = {
    "check": ("check", STORE),
    "summary": ("summary", STORE),
    "query": ("query", STORE, "t > 5", "--list", "--format", "csv", "-o", "rows.csv"),
    "analyse": ("analyse", STORE),
    "report": ("report", STORE, "-o", "page.html", "-q"),
}


class Point(NamedTuple):
    """A rung of the ladder: a network of so many layers of so many units, and its pictures."""

    layers: int
    categories: int
    units: int
    pictures: int = PICTURES

    @property
    def name(self) -> str:
        """The point in names of measurements."""
        return "-".join(map(str, self))

    @property
    def activations(self) -> int:
        """Bytes of activations in float32."""
        return 4 * self.layers * self.units * self.categories * self.pictures


class Result(NamedTuple):
    """Costs of a point, by command; files and bytes of its store, and of its root's metadata."""

    point: Point
    taken: dict[str, list[Taken]]
    files: int
    bytes: int
    root: int

    def seconds(self, command: str) -> float | None:
        """Median seconds of a command; None if a limit ended it, or it failed."""
        taken = self.taken.get(command, [])
        if not taken or any(one.fault for one in taken):
            return None
        return statistics.median(one.seconds for one in taken)

    def moved(self, command: str) -> float:
        """Bytes that a command moves: of the store, and of the activations in a scan."""
        return self.bytes + self.point.activations * (command in (*SCANS.values(), LOOP))


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--short", action="store_true", help="fewest and most layers, categories")
    cells = "layers x units x categories, in millions; a store has about 34 bytes for each"
    parser.add_argument("--cells", type=float, default=10, help=cells)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--limit", type=float, default=120, help="seconds of one command")
    parser.add_argument("--memory", type=float, default=8, help="GiB of one command")
    parser.add_argument("--folder", type=Path, help="keep sets and measurements here")


def main(given: Namespace) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        limits = Limits(given.limit, given.memory * 2**30)
        measured = Measured(Path(f"ladder-{given.cells:g}.json"))
        _result(Point(10, 5, 1000), measured, limits, 1)  # compiles, and is not shown
        grid, more = _points(given.cells * 1e6, given.short)
        results = [_result(point, measured, limits, given.repeats) for point in grid + more]
        emptied(STORE)
    # Only now: as long as this process is small, its children do not count its memory as theirs.
    from .paper import estimated

    on_grid = results[: len(grid)]
    save(__name__, [*_report(given, on_grid), *estimated(results, SCANS, LOOP, list(ASKED))])
    _draw(on_grid)


def _points(cells: float, short: bool) -> tuple[list[Point], list[Point]]:
    """The grid, and points beside it, by which bytes, pictures and pieces are told apart."""
    corners = slice(None, None, 4), slice(None, None, 3)
    layers, categories = (
        (LAYERS[corners[0]], CATEGORIES[corners[1]]) if short else (LAYERS, CATEGORIES)
    )

    def point(a: int, k: int, more: int = 1, pictures: int = PICTURES) -> Point:
        return Point(a, k, max(1, round(more * cells / a / k)), pictures)

    grid = [point(a, k) for k in categories for a in layers]
    return grid, [
        point(100, 50, 4),
        point(100, 50, 1, 16 * PICTURES),
        point(1000, 50, 1, 16 * PICTURES),
    ]


def _result(point: Point, measured: Measured, limits: Limits, repeats: int) -> Result:
    stimuli = draw_set(
        Path(f"set-{point.categories}-{point.pictures}").resolve(),
        point.categories, point.pictures, LADDER_SIDE,
    )  # fmt: skip
    model = f"benchmarks.scale.drawn:waves_{point.layers}_{point.units}"

    def scan(workers: int) -> Taken:
        options = ("--layers", "layers.*", "--folds", 1, "--batch-size", 32, "--device", "cpu")
        shared = ("--workers", workers) if workers > 1 else ()
        command = ("scan", model, stimuli, "-o", emptied(STORE), "-q", *options, *shared)
        return fusiform(HERE, limits, *command)

    def ask(command: tuple[Any, ...]) -> Taken:
        if not STORE.exists():  # an earlier run measured the scan
            scan(1)
        emptied(Path("rows.csv"))
        emptied(Path("page.html"))
        return fusiform(HERE, limits, *command)

    def sizes() -> list[int]:
        if not STORE.exists():
            scan(1)
        if not STORE.exists():
            return [0, 0, 0]
        return [*size_of(STORE), (STORE / "zarr.json").stat().st_size]

    emptied(STORE)
    taken = {
        LOOP: measured.turns(
            f"{point.name} {LOOP}", repeats, lambda: plain_loop(model, stimuli, limits)
        )
    }
    for workers in reversed(WORKERS):
        name = f"{point.name} {SCANS[workers]}"
        taken[SCANS[workers]] = measured.turns(name, repeats, lambda n=workers: scan(n))  # type: ignore[misc]
    if not taken[SCANS[1]][-1].fault:
        for name, command in ASKED.items():
            taken[name] = measured.turns(
                f"{point.name} {name}",
                repeats,
                lambda asked=command: ask(asked),  # type: ignore[misc]
            )
    return Result(point, taken, *measured.value(f"{point.name} sizes", sizes))


# The report


def _report(given: Namespace, results: list[Result]) -> Iterator[str]:
    used = f"{'--short ' * given.short}--cells {given.cells:g} --repeats {given.repeats}"
    used += f" --limit {given.limit:g}"
    yield from heading(__name__, "The ladder: the same bytes in few or many pieces", used)
    yield from (
        f"Networks of cheap layers; {PICTURES} drawn pictures of {LADDER_SIDE} pixels in each",
        "category, one fold, batches of 32. Layers x units x categories are the same at every",
        f"point: {given.cells:g} million. A process for every command, from its start to its end;",
        f"medians of {given.repeats}. GB moved: the store, and in scans the activations, too, in",
        "float32. The plain loop shows the same pictures to the same network and keeps nothing;",
        "its imports, files and forward passes are in a scan, too. Memory is that of the largest",
        "process.",
        f"Commands were ended after {given.limit:g} s or {given.memory:g} GiB.",
        "",
        "![Seconds per GB moved](ladder.svg)",
        "",
        *_table("Units of a layer", results, lambda r: f"{r.point.units:,}"),
        *_table("Files of the store", results, lambda r: f"{r.files:,}"),
        *_table("Store, MB", results, lambda r: f"{r.bytes / 1e6:,.0f}"),
    )
    for command in (LOOP, *SCANS.values(), *ASKED):
        title = f"{command.capitalize()}: s, s per GB moved, GiB"
        yield from _table(title, results, lambda r, c=command: _cell(r, c))  # type: ignore[misc]


def _cell(result: Result, command: str) -> str:
    taken = result.taken.get(command)
    seconds = result.seconds(command)
    if not taken or seconds is None:
        return taken[-1].fault if taken else "-"
    peak = statistics.median(one.peak for one in taken) / 2**30
    return f"{seconds:.1f}, {1e9 * seconds / result.moved(command):.1f}, {peak:.2f}"


def _table(title: str, results: list[Result], cell: Any) -> Iterator[str]:
    categories = sorted({result.point.categories for result in results})
    layers = sorted({result.point.layers for result in results})
    at = {(result.point.layers, result.point.categories): result for result in results}
    yield from (f"## {title}", "", *head("layers", *(f"{k:,} categories" for k in categories)))
    for number in layers:
        yield row(f"{number:,}", *(cell(at[number, k]) for k in categories))
    yield ""


def _draw(results: list[Result]) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "fusiform"
    from matplotlib import pyplot

    shades = dict(zip(CATEGORIES, ("#a9b7c2", "#7d92a3", "#4d6577", "#c1272d"), strict=False))
    panels = {"scan": list(SCANS.values()), **{name: [name] for name in ASKED}}
    figure, axes = pyplot.subplots(2, 3, figsize=(8, 4.8), layout="constrained", sharex=True)
    for axis, (title, commands) in zip(axes.flat, panels.items(), strict=True):
        for command, style in zip(commands, ("o-", "s--"), strict=False):
            for categories, shade in shades.items():
                own = [
                    r for r in results if r.point.categories == categories and r.seconds(command)
                ]
                pace = [1e9 * (r.seconds(command) or 0) / r.moved(command) for r in own]
                label = f"{categories:,} categories" if style == "o-" else None
                axis.plot([r.point.layers for r in own], pace, style, color=shade, label=label,
                          linewidth=1.6, markersize=3.5)  # fmt: skip
        named = f"{title} (dashed: {WORKERS[1]} workers)" if len(commands) > 1 else title
        axis.set_title(named, loc="left", fontsize=9)
        axis.set(xscale="log", ylim=(0, None))
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("s per GB moved", fontsize=9)
    for axis in axes[1]:
        axis.set_xlabel("layers, of the same bytes together", fontsize=9)
    axes[0, 1].legend(fontsize=7, frameon=False)
    figure.savefig(RESULTS / "ladder.svg", metadata={"Date": None})
