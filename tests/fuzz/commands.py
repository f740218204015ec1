"""Kill writing commands at any write or at random moments, then run them again.

``python -m tests.fuzz.commands --count 500``. After a kill either the earlier output or the new one
is whole, as `check` judges. The same command then gives the output of an undisturbed one, with
nothing beside it. On a disk that becomes full at some write it ends in one line, the earlier
output is whole and nothing is left. Commands are forked from one process that has imported
everything and computed nothing, so that they start at once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from .faults import Ended, run

OLD = b"an earlier output\n"
SCAN = (
    "tests.fuzz.small:Net stimuli --groups faces=faces --groups words=words --resize 40 --crop 32 "
    "--device cpu -q"
)
# Modules that commands would import after the fork.
_LOADED = (
    "torch", "pyarrow.parquet",
    "matplotlib.backends.backend_svg", "matplotlib.backends.backend_pdf",
    "fusiform.engine.plotting.figures", "fusiform.engine.reporting.report",
    "fusiform.engine.merge", "fusiform.engine.querying.query", "fusiform.engine.responses.answer",
    "fusiform.engine.scanning.pack", "fusiform.engine.recording.record",
    "fusiform.engine.scan", "fusiform.engine.localizer",
    "fusiform.engine.stimuli.scramble", "fusiform.engine.store.check",
)  # fmt: skip
Contents = dict[str, Any]


def _nothing(_: Path) -> None:
    """Prepare no earlier output."""


def _saved(out: Path) -> None:
    shutil.copytree(out.parent / "ref.zarr", out / "s.zarr")


def _earlier_store(out: Path) -> None:
    shutil.copytree(out.parent / "ref.zarr", out / "m.zarr")


def _earlier_files(*names: str) -> Callable[[Path], None]:
    def write(out: Path) -> None:
        for name in names:
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_bytes(OLD)

    return write


class Command(NamedTuple):
    """The kind of output in ``out``: single files, a whole folder, or part of a store."""

    arguments: str
    kind: str
    earlier: Callable[[Path], None] = _nothing


def _query(form: str) -> Command:
    line = f"query ref.zarr t>-9 --list --format {form} -o out/q.{form}"
    return Command(line, "files", _earlier_files(f"q.{form}"))


REPORT = "report ref.zarr --contrast faces --resamples 2 -q -o out/r.html"
COMMANDS = {
    **{f"query {form}": _query(form) for form in ("csv", "json", "parquet", "npz")},
    "responses": Command("responses r.zarr rdm -o out/m.npz", "files", _earlier_files("m.npz")),
    "report": Command(REPORT, "files", _earlier_files("r.html")),
    "figures": Command(
        f"{REPORT} --figures out/f", "files",
        _earlier_files("r.html", "f/maps.svg", "f/maps.pdf", "f/consistency.svg"),
    ),
    "make": Command("stimuli make out/made --per-category 2 --size 32", "folder"),
    "scramble": Command("stimuli scramble stimuli -o out/scrambled", "folder"),
    "pack": Command("stimuli pack stimuli --resize 40 --crop 32 -o out/p.zarr", "folder"),
    "merge": Command("merge ref.zarr other.zarr -o out/m.zarr", "folder"),
    "overwrite": Command(
        "merge ref.zarr other.zarr --overwrite -o out/m.zarr", "folder", _earlier_store
    ),
    "save": Command("select out/s.zarr --contrast faces>words --save second", "store", _saved),
}  # fmt: skip


@dataclass
class Storm:
    """Store for a command: kills, full disks and failures."""

    kills: int = 0
    full: int = 0
    wrong: list[str] = field(default_factory=list)


class Trial:
    """A command in its own folder; ``whole`` is its undisturbed output."""

    def __init__(self, command: Command, rng: random.Random) -> None:
        self.command, self.rng, self.out = command, rng, Path("out")
        self.storm = Storm()
        self._begin(self.command.earlier)
        ended = self._run()
        if ended.code:
            raise RuntimeError(f"{command.arguments}: {ended.said}")
        self.writes, self.whole = ended.writes, contents(self.out)
        self.seconds = ended.seconds

    def kill(self, most: int) -> None:
        """Kill the command a few times, then let it finish."""
        earlier = self._begin(self.rng.choice([self.command.earlier, self._nothing]))
        for _ in range(self.rng.randint(1, min(3, most))):
            k = self._any_write()
            if self.rng.random() < 0.5:
                killed, where = self._run(at=k), f"killed at write {k}"
            else:
                delay = self.rng.uniform(0, 1.1 * self.seconds)
                killed, where = self._run(delay=delay), f"killed after {delay:.3f} s"
            self.storm.kills += killed.code == -signal.SIGKILL
            if self._judge(where, earlier) or self._failed(where, killed):
                return
        again = self._run()
        if self._failed(f"{where}, then given again", again):
            return
        if (found := contents(self.out)) != self.whole:
            self._wrong(where, f"then given again: {_difference(found, self.whole)}")

    def _failed(self, where: str, ended: Ended) -> bool:
        """Whether it ended in any way but a kill, success or an existing output."""
        if ended.code in (-signal.SIGKILL, 0):
            return False
        if ended.code == 2 and _line(ended.said) and self._is_there(self.whole):
            return False
        return self._wrong(where, f"{ended.code} {ended.said[-300:]!r}")

    def fill(self) -> None:
        """Run the command on a disk that becomes full at some write."""
        earlier, k = self._begin(self.command.earlier), self._any_write()
        how = self.rng.choice(("full", "once"))
        ended = self._run(at=k, how=how)
        self.storm.full += 1
        where = f"{how} at write {k}"
        if ended.code == 0 and contents(self.out) == self.whole:  # the failed write was optional
            return
        if ended.code != 2 or not _line(ended.said) or "No space left" not in ended.said:
            self._wrong(where, f"{ended.code} {ended.said[-300:]!r}")
        elif (found := contents(self.out)) == earlier:
            return
        elif self.command.kind != "files" or found.keys() - self.whole.keys():
            self._wrong(where, f"left: {_difference(found, earlier)}")
        else:  # some of several files were already in place
            self._judge_files(where, earlier, found)

    def _nothing(self, out: Path) -> None:
        if self.command.kind == "store":  # saving needs an existing store
            self.command.earlier(out)

    def _any_write(self) -> int:
        """Any write, or one of the last, which publish the output."""
        return self.writes - self.rng.randrange(
            min(self.rng.choice((10, self.writes)), self.writes)
        )

    def _begin(self, earlier: Callable[[Path], None]) -> Contents:
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        earlier(self.out)
        return contents(self.out)

    def _run(self, **how: Any) -> Ended:
        return run(self.command.arguments.split(), self.out, **how)

    def _is_there(self, wanted: Contents) -> bool:
        found = contents(self.out)
        return bool(wanted) and {name: found.get(name) for name in wanted} == wanted

    def _judge(self, where: str, earlier: Contents) -> bool:
        """Whether the files left by a kill are wrong."""
        found = contents(self.out)
        if self.command.kind == "files":
            return self._judge_files(where, earlier, found)
        if self._is_there(self.whole) or self._is_there(earlier):
            return False
        if self.command.kind == "store":
            return self._judge_store(where)
        place = self.command.arguments.rpartition("out/")[2].split()[0]
        part = [name for name in found if name.split("/")[0] == place]
        lost = bool(earlier or part)
        return lost and self._wrong(where, f"the output is torn or gone: {part[:3]}")

    def _judge_files(self, where: str, earlier: Contents, found: Contents) -> bool:
        torn = [n for n, new in self.whole.items() if found.get(n) not in (earlier.get(n), new)]
        return bool(torn) and self._wrong(where, f"neither the earlier nor the new: {torn[:3]}")

    def _judge_store(self, where: str) -> bool:
        store = str(self.out / "s.zarr")
        checked = run(["check", store], None)
        read = run(["query", store, "t>0", "--saved", "first"], None)
        both = checked.said[-200:] + read.said[-200:]
        if read.code:
            return self._wrong(where, f"lost; check gives {checked.code}: {both!r}")
        return bool(checked.code) and self._wrong(
            where, f"check refuses what can be read: {both!r}"
        )

    def _wrong(self, where: str, what: str) -> bool:
        self.storm.wrong.append(f"{where}: {what}")
        return True


def contents(folder: Path) -> Contents:
    """Bytes of every file and folder below, by name, without creation times."""
    found: Contents = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            found[f"{name}/"] = None
        elif path.name == "zarr.json":
            found[name] = _timeless(path.read_bytes())
        else:
            found[name] = path.read_bytes()
    return found


def _timeless(text: bytes) -> Any:
    def without(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: without(below) for key, below in value.items() if key != "created"}
        return [without(below) for below in value] if isinstance(value, list) else value

    try:
        return without(json.loads(text))
    except ValueError:
        return text


def _line(said: str) -> bool:
    return "Traceback" not in said and said.strip() != ""


def _difference(found: Contents, wanted: Contents) -> str:
    more, less = sorted(found.keys() - wanted.keys()), sorted(wanted.keys() - found.keys())
    other = [name for name in found if name in wanted and found[name] != wanted[name]]
    return f"{more[:3]} too many, {less[:3]} lacking, {other[:3]} differ"


def _prepare() -> None:
    """Draw stimuli and write the stores that commands read, each in its own process."""
    for line in (
        "stimuli make stimuli --per-category 4 --size 48",
        f"scan {SCAN} --layers pool -o ref.zarr",
        f"scan {SCAN} --layers head -o other.zarr",
        f"record {SCAN} --layers head --units all --random 5 -o r.zarr",
        "select ref.zarr --contrast words --save first",
    ):
        ended = run(line.split(), None)
        if ended.code:
            raise RuntimeError(f"{line}: {ended.said}")


def storm(count: int, seed: int, names: list[str]) -> Iterator[tuple[str, Storm]]:
    """Kill commands ``count`` times in all; yields each command with its result."""
    for name in _LOADED:
        import_module(name)
    rng, before, left = random.Random(seed), Path.cwd(), count
    with tempfile.TemporaryDirectory() as folder:
        try:
            os.chdir(folder)
            _prepare()
            for number, name in enumerate(names):
                trial, most = Trial(COMMANDS[name], rng), left // (len(names) - number)
                while trial.storm.kills < most:
                    trial.kill(most - trial.storm.kills)
                    if rng.random() < 1 / 3 or not trial.storm.full:
                        trial.fill()
                left -= trial.storm.kills
                yield name, trial.storm
        finally:
            os.chdir(before)


def main() -> None:
    """Run a storm and print its results."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=500)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--only", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    given = arguments.parse_args()
    began, storms = time.perf_counter(), dict[str, Storm]()
    print("| command | killed | disk full | wrong |", "|---|---|---|---|", sep="\n", flush=True)
    for name, own in storm(given.count, given.seed, given.only):
        storms[name] = own
        print(f"| {name} | {own.kills} | {own.full} | {len(own.wrong)} |", flush=True)
    kills = sum(own.kills for own in storms.values())
    print(f"\n{kills} kills; {time.perf_counter() - began:.0f} s")
    for name, own in storms.items():
        print(*(f"{name}, {wrong}" for wrong in own.wrong), sep="\n", end="\n" * bool(own.wrong))
    sys.exit(any(own.wrong for own in storms.values()))


if __name__ == "__main__":
    main()
