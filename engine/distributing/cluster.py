"""The workers of a scan: processes of its own on this machine, or a dask cluster of the user's."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import resource_tracker
from typing import Any, NamedTuple

from ..errors import UserError
from ..machine import control_group_limits, usable_cores
from ..scanning.memory import ARENAS
from ..scanning.progress import Listener
from ..spec import Request

# Seconds in which a scheduler answers.
_PATIENCE = 10
# Seconds without a process after which a worker is taken for lost.
_EMPTY_FOR = 5
# Each reads it once, when the library that it belongs to is loaded.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# How often a task may lose its worker, until the task is taken for the cause.
_ALLOWED_DEATHS = 5
# Dask watches its workers and itself up to a hundred times a second, on the cores that are to
# compute: a twentieth of their time. So it does seldom what a scan does not need.
SELDOM = {
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.tick.interval": "1s",
    "distributed.scheduler.work-stealing": False,  # each worker is given one task
    "distributed.worker.profile.enabled": False,
}


@dataclass(frozen=True)
class Workers:
    """Who is to do a scan: ``number`` processes of its own, or the cluster of a ``scheduler``.

    A scheduler is named by its address, or is a cluster as dask's own deployments give one.

    Each computes and decodes in ``threads`` threads; by default a scan's own share the cores, and
    those of a cluster have as many as dask was told to give them.
    """

    number: int | None
    scheduler: Any
    threads: int | None

    @property
    def threads_each(self) -> int | None:
        """Threads of a worker; None where it knows itself."""
        if self.threads or self.number is None:
            return self.threads
        return max(1, int(usable_cores(control_group_limits())) // self.number)


def workers_asked_for(request: Request) -> Workers | None:
    """The workers of a scan; None if it runs in this process.

    Raises
    ------
    UserError : unknown workers, or workers that cannot do this scan
    """
    resources, model, null = request.resources, request.network.model, request.design.null
    number, scheduler = resources.workers, resources.scheduler
    if number is None and scheduler is None:
        if resources.threads_per_worker is not None:
            raise UserError(
                "threads per worker are for a scan by workers; got --threads-per-worker alone: add "
                "--workers or --scheduler"
            )
        return None
    if number is not None and scheduler is not None:
        raise UserError(
            "workers are processes of this scan's own or those of a scheduler; got --workers and "
            "--scheduler: leave one out"
        )
    if not isinstance(model, str):
        raise UserError(
            f"every worker builds the network itself; got a {type(model).__name__}: give it by "
            "name, package.module:factory for your own"
        )
    if null:
        raise UserError(
            f"a null is made in one process; got {null} shuffles and workers: scan without "
            "--workers, or without --null"
        )
    if find_spec("distributed") is None:
        raise UserError("workers need dask.distributed: pip install 'fusiform[dask]'")
    return Workers(number, scheduler, resources.threads_per_worker)


class Crew(NamedTuple):
    """A dask client of the workers, and what replaces those that are lost, where that is ours."""

    client: Any
    replace_lost: Callable[[], None]


class Replacing:
    """Called now and then, puts others in the place of workers of a local cluster that are lost.

    A worker that dies is started again by its nanny. One that dies while it starts is not: dask
    leaves the place empty.
    """

    def __init__(self, cluster: Any, number: int | None) -> None:
        self._cluster, self._number = cluster, number
        self._missed: dict[Any, float] = {}

    def __call__(self) -> None:
        """Look for empty places."""
        now = time.monotonic()
        for name, nanny in list(self._cluster.workers.items()):
            if nanny.pid:
                self._missed.pop(name, None)
            elif now - self._missed.setdefault(name, now) > _EMPTY_FOR:
                self._cluster.workers.pop(name, None)
                del self._missed[name]
        self._cluster.scale(self._number)  # starts those that are in no place


@contextmanager
def connected(workers: Workers, listener: Listener) -> Iterator[Crew]:
    """Give the workers, which are there as long as the context lasts.

    Raises
    ------
    UserError : no scheduler answers
    """
    import dask

    distributed = _distributed()
    if workers.scheduler is not None:
        with _client_of(workers.scheduler) as client:
            listener.note(_said(client, workers.scheduler))
            yield Crew(client, lambda: None)
        return
    environment = {**dict.fromkeys(_THREADS, workers.threads_each), ARENAS: 1}
    settings = {
        **SELDOM,
        "distributed.scheduler.allowed-failures": _ALLOWED_DEATHS,
        # By default dask has its workers give memory back at once, which a scan keeps for the next
        # batch (scanning/memory.py).
        "distributed.nanny.pre-spawn-environ": environment,
    }
    bokeh = find_spec("bokeh") is not None
    _tidy_up_quietly()
    with (
        _own_main_left_alone(),
        _own_environment_left_alone(),
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=workers.number,
            threads_per_worker=1,  # of dask's: one task at a time
            dashboard_address="127.0.0.1:0",  # whichever port is free
            memory_limit=0,  # what fits is the scan's own matter
            silence_logs=logging.CRITICAL,
            preload=[f"{__package__}.signals"],
            env=environment,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        listener.note(
            f"{workers.number} workers of {workers.threads_each} threads"
            + (f"; dashboard: {cluster.dashboard_link}" if bokeh else "")
        )
        try:
            yield Crew(client, Replacing(cluster, workers.number))
        except BaseException:
            _end_at_once(cluster)
            raise


def _end_at_once(cluster: Any) -> None:
    """Do not wait for tasks that are given up: what they have written is without a record."""
    for nanny in cluster.workers.values():
        nanny.close_gracefully()  # or it would start the next
        if nanny.pid:
            with suppress(ProcessLookupError):
                os.kill(nanny.pid, getattr(signal, "SIGKILL", signal.SIGTERM))


@contextmanager
def _client_of(scheduler: Any) -> Iterator[Any]:
    try:
        client = _distributed().Client(scheduler, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        # dask quotes an address with or without its scheme; nothing of a password is to be said.
        user, at, _ = str(scheduler).rpartition("://")[2].rpartition("@")
        reason, shown = (text.replace(user + at, "") for text in (reason, repr(scheduler)))
        raise UserError(
            "a scheduler is named by an address that answers, as tcp://10.0.0.1:8786; "
            f"{shown} does not ({reason[:120]}): start one with 'dask scheduler', "
            "or scan with --workers"
        ) from None
    with client:
        yield client


def _tidy_up_quietly() -> None:
    """Have Python not warn, at its end, that it cleans up what workers that were killed have left.

    A process of its own does so, which takes over the options for warnings as it starts.
    """
    option = "ignore:resource_tracker:UserWarning"
    sys.warnoptions.append(option)
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(option)


def _distributed() -> Any:
    """dask.distributed, which has no types. Loading it settles its settings: before any is set."""
    return import_module("distributed")


def _said(client: Any, scheduler: Any) -> str:
    address = getattr(scheduler, "scheduler_address", scheduler)
    number = len(client.nthreads())
    link = f"; dashboard: {client.dashboard_link}" if find_spec("bokeh") else ""
    return f"{number} workers at {address}{link}" + ("" if number else ": waiting for some")


@contextmanager
def _own_environment_left_alone() -> Iterator[None]:
    """Take back what dask sets for its workers in this program's own environment."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _own_main_left_alone() -> Iterator[None]:
    """Start processes that do not import the user's script, and so do not scan in their turn.

    Python has every new process import the script that the program was started with. Workers need
    nothing of it, and a script that scans outside of ``if __name__ == "__main__"`` would not end.
    """
    main: Any = sys.modules["__main__"]
    nothing = object()
    before = {name: getattr(main, name, nothing) for name in ("__file__", "__spec__")}
    for name, value in before.items():
        if value is not nothing:
            setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is not nothing:
                setattr(main, name, value)
