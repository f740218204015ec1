"""Many layers, many categories, a set of THINGS' size, and few of all, before and after, in turns.

``--beside`` names the folder that holds an older checkout as a folder ``fusiform``. What would take
it minutes or all memory is ended by ``--limit`` and ``--memory``, or left out by ``--skip-before``.
``--folder`` keeps sets and measurements: cases can be measured one by one, a run that was stopped
goes on. A set of THINGS' size takes about ten minutes for every scan and every loop.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fusiform.engine.bench.measure import ratio

from ..shared import head, heading, row, save
from .commands import (
    HERE,
    Limits,
    Measured,
    Taken,
    commit_of,
    emptied,
    fusiform,
    plain_loop,
    size_of,
)
from .drawn import SIDE, draw_set

WAYS = ("before", "after")
LOOP = "plain loop"
STORE, ROWS, PAGE = "STORE", "rows.csv", "page.html"
QUERY = ("query", STORE, "t > 2", "--list", "--format", "csv", "-o", ROWS)
REPORT = ("report", STORE, "-o", PAGE, "-q")


class Case(NamedTuple):
    """A network and a set of pictures, options of the scan, and commands that ask the store.

    ``set`` has categories, pictures of each, and pixels of a side; they are ``alike`` within a
    category, or noise.
    """

    title: str
    model: str
    set: tuple[int, int, int]
    options: tuple[str, ...]
    asked: tuple[tuple[str, ...], ...]
    plan: bool = False
    alike: bool = True


# Seconds that a command of this checkout, or a loop, may take.
_LONGEST = 3600
_THINGS = (1854, 12, 64)
_ASKED = tuple((name, STORE) for name in ("info", "check", "summary", "analyse"))
CASES = {
    "layers": Case(
        "902 layers",
        "benchmarks.scale.drawn:deep",
        (5, 40, SIDE),
        ("--layers", "*"),
        (*_ASKED, ("query", STORE, "t > 2"), REPORT),
        # Chance levels of units that are selective would take longer than all else.
        alike=False,
    ),
    "categories": Case(
        "5,000 categories",
        "benchmarks.scale.drawn:small",
        (5000, 2, SIDE),
        ("--folds", "1"),
        (*_ASKED, QUERY, ("select", STORE, "--contrast", "c0000"), REPORT),
        plan=True,
    ),
    **{
        name: Case(
            f"ResNet-{name[6:]}, five categories",
            name,
            (5, 60, 64),
            ("--weights", "none"),
            (*_ASKED, ("query", STORE, "t > 2"), REPORT),
        )
        for name in ("resnet18", "resnet50")
    },
    "channels": Case(
        "THINGS' size, every block by channel",
        "resnet18",
        _THINGS,
        ("--weights", "none", "--units", "channel"),
        (*_ASKED, QUERY, REPORT),
        plan=True,
    ),
    "units": Case(
        "THINGS' size, avgpool and layer4.1 by units",
        "resnet18",
        _THINGS,
        ("--weights", "none", "--layers", "avgpool", "--layers", "layer4.1"),
        (*_ASKED, QUERY, REPORT),
        plan=True,
    ),
}


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--beside", type=Path, metavar="PARENT", help="holds an older fusiform")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--limit", type=float, default=300, help="seconds of an older command")
    parser.add_argument("--memory", type=float, default=8, help="GiB of one command")
    skip = "CASE or CASE:COMMAND that the older one does not take"
    parser.add_argument("--skip-before", nargs="+", default=[], metavar="NAME", help=skip)
    parser.add_argument("--folder", type=Path, help="keep sets and measurements here")


def main(given: Namespace) -> None:
    trees = {"after": HERE}
    if given.beside:
        trees = {"before": given.beside.resolve(), "after": HERE}
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        measured = Measured(Path("cases.json"))
        for name in given.cases:
            lines = [*_about(name, given, trees), *_Runs(name, trees, given, measured).table()]
            save(f"{__name__}_{name}", lines)


def _about(name: str, given: Namespace, trees: dict[str, Path]) -> Iterator[str]:
    beside = "--beside PARENT " * (len(trees) > 1)
    used = f"{beside}--cases {name} --turns {given.turns}"
    if given.beside:
        own = [skipped for skipped in given.skip_before if skipped.partition(":")[0] == name]
        used += f" --limit {given.limit:g}" + f" --skip-before {' '.join(own)}" * bool(own)
    commits = [f"{way}: {commit_of(tree)}" for way, tree in trees.items()]
    yield from heading(__name__, CASES[name].title, used)
    yield from (
        f"{'; '.join(commits)}. Whole processes in turns, medians of at most {given.turns}, ratios",
        f"turn by turn. Ended after {given.limit:g} s (before) or {given.memory:g} GiB. Memory is",
        "that of the largest process. Drawn pictures, untrained networks on the CPU. The plain",
        "loop shows the same pictures to the same network in a `DataLoader` with one worker, and",
        "keeps nothing. Contrasts: their time as a share of that from the first batch to the last.",
        "",
    )


class _Runs:
    """All measurements of a case: in every turn each way takes each command."""

    def __init__(
        self, name: str, trees: dict[str, Path], given: Namespace, measured: Measured
    ) -> None:
        self._name, self._case, self._trees = name, CASES[name], trees
        self._given, self._measured = given, measured
        memory = given.memory * 2**30
        self._limits = {way: Limits(_LONGEST, memory) for way in (LOOP, "after")}
        self._limits["before"] = Limits(given.limit, memory)
        categories, each, side = self._case.set
        kind = "" if self._case.alike else "-noise"
        folder = Path(f"set-{categories}-{each}-{side}{kind}").resolve()
        self._stimuli = draw_set(folder, categories, each, side, self._case.alike)

    def table(self) -> Iterator[str]:
        """Measure what is not known, and give the lines of the case."""
        case = self._case
        for turn in range(1, self._given.turns + 1):
            self._take(LOOP, LOOP, turn)
            for command in self._commands():
                for way in self._trees:
                    self._take(command, way, turn)
        categories, each, side = case.set
        self._clean()
        yield from (
            f"`fusiform scan {case.model.rpartition(':')[2]} ... {' '.join(case.options)}`; "
            f"{categories:,} categories x {each}",
            f"pictures of {side} pixels.",
            "",
            *head("", *(f"{way}: s, GiB" for way in self._trees), "after / before", "after / loop"),
        )
        for command in (LOOP, *self._commands()):
            yield self._row(command)
        yield ""
        for way in self._trees:
            yield from self._store_of(way)

    def _commands(self) -> dict[str, tuple[Any, ...]]:
        """Names and arguments of commands, in their order."""
        case = self._case
        network = (case.model, self._stimuli)
        found: dict[str, tuple[Any, ...]] = {}
        if case.plan:
            found["plan"] = ("plan", *network, *case.options, "--device", "cpu")
        found["scan"] = ("scan", *network, "-o", STORE, *case.options, "--device", "cpu", "-q")
        return found | {command[0]: command for command in case.asked}

    def _take(self, command: str, way: str, turn: int) -> None:
        skipped = {self._name, f"{self._name}:{command}"} & set(self._given.skip_before)
        if way == "before" and skipped:
            return
        key = f"{self._name} {way} {command}"
        store = Path(f"{self._name}-{way}.zarr")

        def run(command: str) -> Taken:
            for path in (store,) * (command == "scan") + (Path(ROWS), Path(PAGE)):
                emptied(path)
            given = self._commands()[command]
            filled = [store if word == STORE else word for word in given]
            return fusiform(self._trees[way], self._limits[way], *filled)

        def take() -> Taken:
            if command == LOOP:
                return plain_loop(self._case.model, self._stimuli, self._limits[way])
            if command in self._asking and not store.exists():
                scans = self._measured.known(f"{self._name} {way} scan")
                if not scans or scans[-1].fault:
                    return Taken(0, 0, 0, "no store")
                run("scan")  # an earlier run measured it
            return run(command)

        self._measured.turns(key, turn, take)
        if command == "scan" and store.exists():
            self._measured.value(f"{key} sizes", lambda: size_of(store))

    @property
    def _asking(self) -> set[str]:
        return {command[0] for command in self._case.asked}

    def _row(self, command: str) -> str:
        own = {way: self._measured.known(f"{self._name} {way} {command}") for way in self._trees}
        loop = self._measured.known(f"{self._name} {LOOP} {LOOP}")
        if command == LOOP:
            return row(LOOP, *[""] * (len(self._trees) - 1), _cell(loop), "", "")
        compared = _ratio(own["after"], own.get("before", []))
        beside = _ratio(own["after"], loop) if command == "scan" else ""
        return row(command, *map(_cell, own.values()), compared, beside)

    def _store_of(self, way: str) -> Iterator[str]:
        scans = self._measured.known(f"{self._name} {way} scan")
        sizes = self._measured.value(f"{self._name} {way} scan sizes")
        shares = [one.contrasts for one in scans if one.contrasts is not None]
        if sizes:
            part = f", contrasts {statistics.median(shares):.2f} of the forward passes"
            yield (
                f"Store {way}: {sizes[0]:,} files, {sizes[1] / 1e6:,.0f} MB{part * bool(shares)}."
            )

    def _clean(self) -> None:
        for way in WAYS:
            emptied(Path(f"{self._name}-{way}.zarr"))


def _cell(taken: list[Taken]) -> str:
    if not taken:
        return "-"
    ended = [one for one in taken if not one.fault]
    if not ended:
        return taken[-1].fault
    seconds = statistics.median(one.seconds for one in ended)
    return f"{seconds:.1f}, {statistics.median(one.peak for one in ended) / 2**30:.2f}"


def _ratio(one: list[Taken], other: list[Taken]) -> str:
    turns = min(len(one), len(other))
    pairs = list(zip(one[:turns], other[:turns], strict=True))
    if not pairs or any(a.fault or b.fault for a, b in pairs):
        return ""
    return f"{ratio([a.seconds for a, _ in pairs], [b.seconds for _, b in pairs]):.2f}"
