"""Timings side by side, commands in processes of their own, and the form of what was measured."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..errors import UserError
from ..scanning.memory import resident_memory
from ..scanning.timing import seconds

if TYPE_CHECKING:
    import torch

# Works that a GPU is given before it is waited for: as in a scan, its queue is not empty.
_QUEUED = 4
# Seconds between two looks at the memory of a process.
_LOOK_EVERY = 0.02


@dataclass(frozen=True)
class Measurement:
    """One line of a report: ``value`` of ``what`` in a ``setting``, in ``unit``.

    ``compared`` holds ratios to what was measured beside it: {"of read bandwidth": 0.8}; ``note``
    is what else is to be known.
    """

    part: str
    what: str
    setting: str
    value: float
    unit: str
    compared: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


def queued(target: torch.device) -> int:
    """How often a device is given a work in one timing, of which each takes that part."""
    return _QUEUED if target.type == "cuda" else 1


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
    """A command that has run: what it printed, seconds, and its largest memory in bytes.

    ``peak_bytes`` is resident memory, ``anonymous_bytes`` that part of it that no file backs.
    """

    output: str
    seconds: float
    peak_bytes: int
    anonymous_bytes: int


def run(*arguments: str) -> Finished:
    """Run ``fusiform`` with ``arguments`` in a process of its own.

    Raises
    ------
    UserError : it fails, with what it said
    """
    return run_python("-m", "fusiform", *arguments)


def run_python(*arguments: str) -> Finished:
    """Run Python with ``arguments`` in a process of its own; see :func:`run`."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        peak = anonymous = 0
        with subprocess.Popen(
            [sys.executable, *arguments], stdout=output, stderr=errors
        ) as process:
            while True:
                memory = resident_memory(process.pid)
                peak = max(peak, memory.get("VmHWM", 0))
                anonymous = max(anonymous, memory.get("RssAnon", 0))
                try:
                    process.wait(_LOOK_EVERY)
                except subprocess.TimeoutExpired:
                    continue
                break
        taken = time.perf_counter() - started
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            said = errors.read().strip().splitlines()
            signal = f"ended by signal {-process.returncode}"
            reason = (
                said[-1] if said else signal if process.returncode < 0 else "it did not say why"
            )
            raise UserError(f"{' '.join(arguments)} failed: {reason}")
        return Finished(output.read(), taken, peak, anonymous)
