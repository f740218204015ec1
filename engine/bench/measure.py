"""Timings in turns, commands in processes of their own, and a line of a report."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..errors import UserError
from ..machine import resident_memory
from ..scanning.timing import seconds

if TYPE_CHECKING:
    import torch

# Calls queued on a GPU before waiting for it: in a scan, too, its queue is not empty.
_QUEUED = 4
# Seconds between two readings of the memory of a process.
_LOOK_EVERY = 0.02


@dataclass(frozen=True)
class Measurement:
    """One measured value, as :func:`fusiform.bench` yields it.

    Attributes
    ----------
    part : str
        Part of the benchmark.
    what : str
        The thing measured.
    setting : str
        Shapes, threads or numbers of images.
    value : float
        The value.
    unit : str
        Its unit.
    compared : mapping of str to float
        Ratios to measurements of the same turns: ``{"of read bandwidth": 0.8}``.
    note : str
        A remark.
    """

    part: str
    what: str
    setting: str
    value: float
    unit: str
    compared: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


def queued(target: torch.device) -> int:
    """Calls per timing on a device; one call takes that fraction of it."""
    return _QUEUED if target.type == "cuda" else 1


def side_by_side(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds ``[repeat]`` of each of ``works``, taken in turns.

    Machines change their pace during a measurement, so that alternatives must share its minutes.
    In each turn a work is called twice and timed once, after the caches of another are gone.
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
    """A finished command: its output, seconds, and largest memory in bytes.

    ``peak_bytes`` is resident memory, ``anonymous_bytes`` the part without a file behind it.
    ``notes`` is what it printed on stderr.
    """

    output: str
    seconds: float
    peak_bytes: int
    anonymous_bytes: int
    notes: str


def run(*arguments: str) -> Finished:
    """Run ``fusiform`` with ``arguments`` in a process of its own.

    Raises
    ------
    UserError : the command fails; the message has its last line
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
            while process.poll() is None:
                memory = resident_memory(process.pid)
                peak = max(peak, memory.get("VmHWM", 0))
                anonymous = max(anonymous, memory.get("RssAnon", 0))
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_EVERY)
        taken = time.perf_counter() - started
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            signal = f"ended by signal {-process.returncode}"
            unsaid = signal if process.returncode < 0 else "no reason given"
            *_, reason = [unsaid, *errors.read().strip().splitlines()]
            raise UserError(f"{' '.join(arguments)} failed: {reason}")
        return Finished(output.read(), taken, peak, anonymous, errors.read())
