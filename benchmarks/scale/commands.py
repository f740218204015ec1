"""Commands in processes of their own, with limits: time, peak memory, and marks of a scan."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fusiform.engine.scanning.memory import resident_memory

from ..shared import files_of

HERE = Path(__file__).parents[3]
# The clone, which holds the benchmarks: children import them, whichever checkout they run.
CLONE = Path(__file__).parents[2]
# Scripts that import torch or the checkout; this process stays small, or its children count its
# memory as theirs.
LOOP, MARKED = (CLONE / "benchmarks" / "scan" / name for name in ("loop.py", "marked.py"))
# Seconds between two looks at the memory of a process.
_LOOK_EVERY = 0.02


class Taken(NamedTuple):
    """The cost of a command: seconds, of processor too, and most memory of a process, in bytes.

    ``fault`` says why it did not end by itself; ``marks`` are times of a scan's stages.
    """

    seconds: float
    cpu: float
    peak: int
    fault: str = ""
    marks: dict[str, float] = {}  # noqa: RUF012  never changed

    @property
    def contrasts(self) -> float | None:
        """The contrasts of a scan as a share of its forward passes; None without marks."""
        try:
            begun, shown, computed = (self.marks[mark] for mark in _STAGES)
        except KeyError:
            return None
        return (computed - shown) / (shown - begun)


_STAGES = ("the first batch is in", "the last batch is out", "contrasts are computed")


class Limits(NamedTuple):
    """Seconds and bytes that a command may take before it is ended."""

    seconds: float
    memory: float


def fusiform(tree: Path, limits: Limits, *command: Any) -> Taken:
    """Run a command of the checkout in ``tree``; of a scan, the stages are marked."""
    marks = Path("marks.json")
    marks.unlink(missing_ok=True)
    script = ["-P", MARKED, marks] if command[0] == "scan" else ["-m", "fusiform"]
    taken = _run(tree, limits, [*script, *command])
    return taken._replace(marks=json.loads(marks.read_text())) if marks.exists() else taken


def plain_loop(model: str, stimuli: Path, limits: Limits) -> Taken:
    """Run the loop that one would write."""
    return _run(HERE, limits, ["-P", LOOP, model, stimuli])


def _run(tree: Path, limits: Limits, command: Sequence[Any]) -> Taken:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree), str(CLONE)])}
    started, fault = time.perf_counter(), ""
    with Path("output.txt").open("w") as output, Path("errors.txt").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdout=output, stderr=errors, env=environment, process_group=0,
        )  # fmt: skip
    used = None
    while used is None:
        time.sleep(_LOOK_EVERY)
        if not fault:
            fault = _excess(process.pid, time.perf_counter() - started, limits)
            if fault:
                os.killpg(process.pid, signal.SIGKILL)
        ended, status, found = os.wait4(process.pid, os.WNOHANG)
        used = found if ended else None
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and not fault:
        lines = Path("errors.txt").read_text().strip().splitlines()
        fault = f"failed: {lines[-1] if lines else process.returncode}"
    return Taken(seconds, used.ru_utime + used.ru_stime, _bytes(used), fault)


def _excess(pid: int, seconds: float, limits: Limits) -> str:
    if seconds > limits.seconds:
        return f"over {limits.seconds:.0f} s"
    if resident_memory(pid).get("VmRSS", 0) > limits.memory:
        return f"over {limits.memory / 2**30:.0f} GiB"
    return ""


def _bytes(used: resource.struct_rusage) -> int:
    """Peak memory of the largest of a process and its children."""
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Measured:
    """Measurements in a file, by name: what it holds is not measured again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def known(self, name: str) -> list[Taken]:
        """The measurements of a name so far."""
        return [Taken(*one) for one in self._known.get(name, [])]

    def turns(self, name: str, turns: int, take: Callable[[], Taken]) -> list[Taken]:
        """``turns`` measurements of a name; no more after one that was ended, or failed."""
        known = self.known(name)
        while len(known) < turns and not (known and known[-1].fault):
            known.append(take())
            self._known[name] = known
            self._write()
            last = known[-1]
            said = last.fault or f"{last.seconds:.1f} s, {last.peak / 2**30:.2f} GiB"
            print(f"{name:44} {said}", flush=True)
        return known

    def value(self, name: str, take: Callable[[], Any] | None = None) -> Any:
        """A value of another kind, as JSON has it; None if it is not known and not to be taken."""
        if name not in self._known and take:
            self._known[name] = take()
            self._write()
        return self._known.get(name)

    def _write(self) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(self._known))
        new.replace(self._file)


def commit_of(tree: Path) -> str:
    """The commit of the checkout in ``tree``, and whether files differ from it."""
    command = ["git", "-C", str(tree / "fusiform"), "describe", "--always", "--dirty"]
    return subprocess.run(
        [*command, "--exclude=*"], capture_output=True, text=True, check=True
    ).stdout.strip()


def size_of(store: Path) -> list[int]:
    """Files and bytes of a store."""
    sizes = files_of(store)
    return [len(sizes), sum(sizes)]


def emptied(path: Path) -> Path:
    """A path with nothing at it, a store or a file."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    shutil.rmtree(f"{path}.partial", ignore_errors=True)
    return path
