"""Workers of a scan: local processes, or the user's dask cluster."""

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

# Seconds to wait for a scheduler.
_PATIENCE = 10
# Seconds without a process after which a worker counts as lost.
_EMPTY_FOR = 5
# Read once, when the library is loaded.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# Workers that a task may lose before the task counts as the cause.
_ALLOWED_DEATHS = 5
# Dask monitors its workers and itself up to a hundred times a second, which takes a twentieth of
# the cores' time. These settings make it do so rarely.
SELDOM = {
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.tick.interval": "1s",
    "distributed.scheduler.work-stealing": False,  # each worker is given one task
    "distributed.worker.profile.enabled": False,
}


@dataclass(frozen=True)
class Workers:
    """Workers of a scan: ``number`` local processes, or the cluster of a ``scheduler``.

    A scheduler is an address or one of dask's cluster objects. Each worker computes and decodes in
    ``threads`` threads. By default local processes share the cores, and workers of a cluster use
    the number that dask was configured with.
    """

    number: int | None
    scheduler: Any
    threads: int | None

    @property
    def threads_each(self) -> int | None:
        """Threads per worker; None if dask decides."""
        if self.threads or self.number is None:
            return self.threads
        return max(1, int(usable_cores(control_group_limits())) // self.number)


def workers_asked_for(request: Request) -> Workers | None:
    """The workers of a scan; None if it runs in this process.

    Raises
    ------
    UserError : inconsistent options, or a scan that workers cannot do
    """
    resources, model, null = request.resources, request.network.model, request.design.null
    number, scheduler = resources.workers, resources.scheduler
    threads = resources.threads_per_worker
    if number is None and scheduler is None:
        if threads is not None:
            raise UserError(
                "threads per worker need workers; got `threads_per_worker` alone: add `workers` or "
                "`scheduler`"
            )
        return None
    if number is not None and scheduler is not None:
        raise UserError(
            "workers are local processes or those of a scheduler; got `workers` and `scheduler`: "
            "leave one out"
        )
    if not isinstance(model, str):
        raise UserError(
            f"every worker builds the network itself; got a {type(model).__name__}: name it, or "
            "package.module:factory for your own"
        )
    if null:
        raise UserError(
            f"a null needs a single process; got {null} shuffles and workers: leave out `workers` "
            "or `null`"
        )
    if find_spec("distributed") is None:
        raise UserError("workers need dask.distributed: pip install 'fusiform[dask]'")
    return Workers(number, scheduler, threads)


class Crew(NamedTuple):
    """A dask client, and a function that replaces lost local workers."""

    client: Any
    replace_lost: Callable[[], None]


class Replacing:
    """Replaces lost workers of a local cluster when called now and then.

    A nanny restarts a worker that dies, but not one that dies while it starts.
    """

    def __init__(self, cluster: Any, number: int | None) -> None:
        self._cluster, self._number = cluster, number
        self._missed: dict[Any, float] = {}

    def __call__(self) -> None:
        """Replace workers that have been without a process for too long."""
        now = time.monotonic()
        for name, nanny in list(self._cluster.workers.items()):
            if nanny.pid:
                self._missed.pop(name, None)
            elif now - self._missed.setdefault(name, now) > _EMPTY_FOR:
                self._cluster.workers.pop(name, None)
                del self._missed[name]
        self._cluster.scale(self._number)  # starts the missing ones


@contextmanager
def connected(workers: Workers, listener: Listener) -> Iterator[Crew]:
    """Connect to the workers, or start local ones, for as long as the context lasts.

    Raises
    ------
    UserError : the scheduler does not answer
    """
    import dask

    distributed = _distributed()
    if workers.scheduler is not None:
        with _client_of(workers.scheduler) as client:
            listener.note(_described(client, workers.scheduler))
            yield Crew(client, lambda: None)
        return
    environment = {**dict.fromkeys(_THREADS, workers.threads_each), ARENAS: 1}
    settings = {
        **SELDOM,
        "distributed.scheduler.allowed-failures": _ALLOWED_DEATHS,
        # By default dask makes workers return memory at once; a scan keeps it for the next batch
        # (scanning/memory.py).
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
            threads_per_worker=1,  # one task at a time
            dashboard_address="127.0.0.1:0",  # any free port
            memory_limit=0,  # the scan plans memory itself
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
    """Kill workers without waiting for their tasks, whose output has no record yet."""
    for nanny in cluster.workers.values():
        nanny.close_gracefully()  # else it would restart the worker
        if nanny.pid:
            with suppress(ProcessLookupError):
                os.kill(nanny.pid, getattr(signal, "SIGKILL", signal.SIGTERM))


@contextmanager
def _client_of(scheduler: Any) -> Iterator[Any]:
    kind = _distributed().Client
    client = kind.__new__(kind)  # held, so that one that fails to connect can be closed
    try:
        client.__init__(scheduler, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        # Its thread would run on; and closed by the garbage collector while another client starts,
        # it waits for a lock that this one holds.
        with suppress(Exception):
            client.close()
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        # Dask quotes the address with or without its scheme: remove user and password from both.
        user, at, _ = str(scheduler).rpartition("://")[2].rpartition("@")
        reason, shown = (text.replace(user + at, "") for text in (reason, repr(scheduler)))
        raise UserError(
            "a scheduler is an address that answers, such as tcp://10.0.0.1:8786; "
            f"{shown} does not ({reason[:120]}): start one with 'dask scheduler', or use `workers`"
        ) from None
    with client:
        yield client


def _tidy_up_quietly() -> None:
    """Silence Python's warning at exit about resources left by killed workers.

    The resource tracker is a process that inherits warning options when it starts.
    """
    option = "ignore:resource_tracker:UserWarning"
    sys.warnoptions.append(option)
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(option)


def _distributed() -> Any:
    """dask.distributed, untyped. Importing it loads its settings, so import before changing any."""
    return import_module("distributed")


def _described(client: Any, scheduler: Any) -> str:
    address = getattr(scheduler, "scheduler_address", scheduler)
    number = len(client.nthreads())
    link = f"; dashboard: {client.dashboard_link}" if find_spec("bokeh") else ""
    return f"{number} workers at {address}{link}" + ("" if number else ": waiting for workers")


@contextmanager
def _own_environment_left_alone() -> Iterator[None]:
    """Restore this process's environment, which dask changes for its workers."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _own_main_left_alone() -> Iterator[None]:
    """Start processes that do not import the user's script.

    By default every new process imports it. Workers do not need it, and a script that scans outside
    ``if __name__ == "__main__"`` would start scans without end.
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
