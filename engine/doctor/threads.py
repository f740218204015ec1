"""Threads: how many there should be, and whether those of torch and numba are in each other's way.

Both bring their own OpenMP as they are commonly installed. Where there are more threads than
cores, those of one that wait for work keep the other's from theirs.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from ..machine import Limits, usable_cores
from .finding import Finding, found

_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_PROC_BIND",
    "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "KMP_BLOCKTIME", "NUMBA_THREADING_LAYER",
)  # fmt: skip
_OPENMP = re.compile(r"\S*/lib(?:gomp|iomp5|omp)\b\S*")
# Time taken in turns over time taken alone, from which on it is a fight, and no chance.
_FIGHT = 1.25
_TURNS = 9
_SECONDS_PER_TURN = 0.06


def check_threads(limits: Limits) -> Iterator[Finding]:
    """Cores, threads, the variables that set them, and what torch and numba cost each other."""
    import torch
    from numba import config

    from ...kernels.jit import threading_layer
    from ..bench.measure import ratio

    cores = usable_cores(limits)
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = f", {here} but for a quota" if limits.cores and limits.cores < (here or 1) else ""
    load = judge_load(os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, os.cpu_count() or 1)
    yield load
    yield Finding("cores", f"{cores:g} of {os.cpu_count()} may be used{quota}")
    alone, together = _measure()  # first: until torch has worked it does not tell its threads
    of_torch = torch.get_num_threads()
    of_numba: int = config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    yield judge_threads(cores, of_torch, of_numba)
    yield Finding("thread variables", thread_variables(os.environ))
    yield judge_runtimes(_maps(), threading_layer() or "unknown", os.environ)
    busy, most = bool(load.advice), max(of_torch, of_numba)
    yield judge_fight(ratio(together, alone), cores=cores, most=most, busy=busy)


def judge_load(load: float, cores: int) -> Finding:
    """What other programs take: ``load`` is the number that want to run."""
    busy = load > max(1.0, cores / 2)
    advice = "others are at work here: what is measured is slower than it would be alone"
    return found("load", f"{load:.1f} on {cores} cores", advice if busy else "")


def judge_threads(cores: float, of_torch: int, of_numba: int) -> Finding:
    """Numbers of threads against the cores that may be used."""
    topic, text = "threads", f"torch {of_torch}, numba {of_numba}"
    most = max(1, math.floor(cores))
    both = f"OMP_NUM_THREADS={most} NUMBA_NUM_THREADS={most}"
    if max(of_torch, of_numba) > math.ceil(cores):
        return found(topic, text, f"more threads than cores stand in each other's way: set {both}")
    if of_torch < cores / 2:
        return found(topic, text, f"cores are left idle: set {both}, or unset what limits threads")
    if of_numba < of_torch:
        return found(topic, text, f"numba has fewer than torch: set NUMBA_NUM_THREADS={most}")
    return Finding(topic, text)


def thread_variables(environment: Mapping[str, str]) -> str:
    """What is set of the variables that torch, numba and OpenMP read."""
    listed = [f"{name}={environment[name]}" for name in _VARIABLES if environment.get(name)]
    return ", ".join(listed) or "none set"


def openmp_runtimes(maps: str) -> list[str]:
    """File names of the OpenMP runtimes in ``/proc/self/maps``; one for each that is loaded."""
    return sorted(PurePosixPath(path).name for path in set(_OPENMP.findall(maps)))


def judge_runtimes(maps: str, layer: str, environment: Mapping[str, str]) -> Finding:
    """Numba's threading layer, and the OpenMP runtimes in ``/proc/self/maps``."""
    loaded = f"numba's layer {layer}, OpenMP: {', '.join(openmp_runtimes(maps)) or 'none found'}"
    if layer != "workqueue":
        return Finding("thread pools", loaded)
    turns = "threads take turns to run kernels"
    if environment.get("NUMBA_THREADING_LAYER") == layer:
        return found("thread pools", loaded, f"{turns}: unset NUMBA_THREADING_LAYER")
    install = "install GNU OpenMP, with which they need not (Debian, Ubuntu: apt install libgomp1)"
    return found("thread pools", loaded, f"{turns}: {install}")


def judge_fight(slower: float, *, cores: float, most: int, busy: bool) -> Finding:
    """Whether torch and numba are in each other's way.

    Parameters
    ----------
    slower : how often the time that each takes alone they take in turns
    cores, most : cores that may be used, and the larger number of threads
    busy : others are at work, and any measure of it would be theirs
    """
    topic, text = "torch with numba", f"in turns {slower:.2f} times as long as each alone"
    if slower <= _FIGHT:
        return Finding(topic, text)
    if busy:
        return Finding(topic, f"{text}, but others are at work", severity="unknown")
    # Threads that spin while they wait have the cores that another runtime's need.
    wait = "OMP_WAIT_POLICY=PASSIVE (KMP_BLOCKTIME=0 with libiomp5)"
    fit = max(1, math.floor(cores))
    fewer = f"OMP_NUM_THREADS={fit} NUMBA_NUM_THREADS={fit}"
    too_many = most > math.ceil(cores)
    return found(topic, text, f"their threads fight: set {fewer if too_many else wait}")


def _measure() -> tuple[list[float], list[float]]:
    """Seconds ``[turn]`` of a small network and the kernel, each alone, and of both in turns."""
    network, kernel = _works()

    def both() -> None:
        network()
        kernel()

    network_seconds = _each(network, 3)
    calls = max(3, int(_SECONDS_PER_TURN / max(network_seconds, 1e-4)))
    alone, together = [], []
    for _ in range(_TURNS):
        alone.append(_each(network, calls) + _each(kernel, calls))
        together.append(_each(both, calls))
    return alone, together


def _works() -> Sequence[Callable[[], None]]:
    """A forward pass and a kernel that take about a millisecond each on one core."""
    import numpy as np
    import torch
    from torch import nn

    from ..moments.accumulate import as_arrays, kernels_for

    cpu = torch.device("cpu")
    kernels = kernels_for(cpu)
    with torch.random.fork_rng(devices=[]):
        net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU()).eval()
    images = torch.zeros(4, 3, 48, 48)
    x = torch.zeros(16, 200_000)
    state = [torch.zeros(1, x.shape[1], dtype=kind) for kind in (x.dtype, *2 * [torch.float64])]
    arrays = [as_arrays(tensor) for tensor in (x, *state)]
    groups, count = np.zeros(len(x), np.int64), np.ones(1, np.int64)

    def network() -> None:
        with torch.inference_mode():
            net(images)

    def kernel() -> None:
        kernels.fold_in(arrays[0], groups, count, *arrays[1:])

    return network, kernel


def _each(work: Callable[[], None], calls: int) -> float:
    """Seconds of one of several calls, after one that does not count."""
    from ..bench.measure import seconds

    work()

    def repeated() -> None:
        for _ in range(calls):
            work()

    return seconds(repeated) / calls


def _maps() -> str:
    try:
        with open("/proc/self/maps") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return ""
