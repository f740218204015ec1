"""Dispatch of tasks: one per worker, repeated if a worker dies."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from ..errors import UserError
from ..scanning.interrupt import Stop
from .cluster import Crew
from .tasks import Job, Outcome

# Seconds between checks whether to stop, and between counts of workers.
_LOOK_EVERY, _COUNT_EVERY = 0.2, 1.0
# Seconds without any worker before the user is told.
_MISSED_AFTER = 20.0


@dataclass(frozen=True)
class Task:
    """A task of a worker: its ``name`` in the records, and as ``shown`` to the user."""

    name: str
    shown: str
    function: Callable[..., Outcome]
    arguments: tuple[Any, ...]


def hand_out(
    crew: Crew, job: Job, tasks: Sequence[Task], stop: Stop, note: Callable[[str], None]
) -> Iterator[tuple[Task, Outcome]]:
    """Run tasks, one per worker at a time, and yield each with its outcome as it finishes.

    Running tasks are cancelled when the generator is closed.

    Raises
    ------
    UserError : a task keeps killing its worker, or the scheduler is gone
    Interrupted : the scan was asked to stop
    """
    waiting, under_way = deque(tasks), dict[str, tuple[Task, Any]]()
    done: SimpleQueue[Any] = SimpleQueue()
    client, roll = crew.client, _Roll(crew, note)
    try:
        while waiting or under_way:
            while waiting and len(under_way) < roll.size:
                task = waiting.popleft()
                # Keys are shared by the cluster, and another scan has shards of the same names. Two
                # tasks of one key would be done once.
                key = f"{task.shown} ({task.name}) #{job.token[:6]}"
                future = client.submit(task.function, job, *task.arguments, key=key, pure=False)
                under_way[key] = task, future
                future.add_done_callback(done.put)
            try:
                future = done.get(timeout=_LOOK_EVERY)
            except Empty:
                _require_scheduler(client)
            else:
                task, _ = under_way.pop(future.key)
                yield task, _outcome(client, task, future)
            stop.look()
    finally:
        for _, future in under_way.values():
            future.cancel()


class _Roll:
    """Number of workers, counted now and then."""

    def __init__(self, crew: Crew, note: Callable[[str], None]) -> None:
        self._crew, self._note = crew, note
        self._size, self._asked, self._seen = 0, 0.0, time.monotonic()

    @property
    def size(self) -> int:
        now = time.monotonic()
        if now - self._asked < _COUNT_EVERY:
            return self._size
        _require_scheduler(self._crew.client)
        self._size, self._asked = len(self._crew.client.nthreads()), now
        self._crew.replace_lost()
        if self._size:
            self._seen = now
        elif now - self._seen > _MISSED_AFTER:
            self._note("no workers are connected: waiting for some")
            self._seen = float("inf")
        return self._size


def _outcome(client: Any, task: Task, future: Any) -> Outcome:
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    try:
        outcome: Outcome = future.result()
        return outcome
    except KilledWorker as killed:
        raise UserError(
            f"a worker that dies is replaced and its task repeated; '{task.shown}' has lost "
            f"{killed.allowed_failures + 1} workers: check memory (a smaller `batch_size`, fewer "
            "`workers`) and the workers' logs"
        ) from None
    except CancelledError:
        _require_scheduler(client)
        raise UserError(
            f"only the scan cancels tasks; the scheduler cancelled '{task.shown}': see its log; "
            "finished work is kept"
        ) from None


def _require_scheduler(client: Any) -> None:
    if client.status != "running":
        raise UserError(
            "the scheduler of the workers does not answer any more: start it again; finished work "
            "is kept"
        )
