"""Timings side by side, commands in processes of their own, and the form of what was measured."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import UserError


@dataclass(frozen=True)
class Measurement:
    """One line of a report: ``value`` of ``what`` in a ``setting``, in ``unit``.

    ``compared`` holds ratios to what was measured in the same run: {"of read bandwidth": 0.8}.
    """

    part: str
    what: str
    setting: str
    value: float
    unit: str
    compared: Mapping[str, float] = field(default_factory=dict)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def side_by_side(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds ``[repeat]`` of every one of ``works``, which take turns.

    Machines change their pace while one measures: what is compared has to share its minutes. In
    each turn a work is done twice and timed once: what another left in the caches does not count.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            work()
            taken[name].append(seconds(work))
    return taken


def ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """Median of ``a / b``, turn by turn."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


class Finished(NamedTuple):
    """A command that has run: what it printed, seconds, and largest resident memory in bytes."""

    output: str
    seconds: float
    peak_bytes: int


def run(*arguments: str) -> Finished:
    """Run ``fusiform`` with ``arguments`` in a process of its own.

    Raises
    ------
    UserError : it fails, with what it said; or the system does not count memory per process
    """
    return run_python("-m", "fusiform", *arguments)


def run_python(*arguments: str) -> Finished:
    """Run Python with ``arguments`` in a process of its own; see :func:`run`."""
    if not hasattr(os, "wait4"):
        raise UserError(
            "peak memory of a process is counted on Linux and macOS only: leave it out of --parts"
        )
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        taken = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            said = errors.read().strip().splitlines() or ["nothing"]
            raise UserError(f"{' '.join(arguments)} failed: {said[-1]}")
        output.seek(0)
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return Finished(output.read(), taken, peak)
