"""Tasks are handed out one to a worker, and again when a worker dies over one."""

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

# Seconds after which it is looked whether the scan is to stop, and how many workers there are.
_LOOK_EVERY, _COUNT_EVERY = 0.2, 1.0
# Seconds without any worker after which it is said that they are waited for.
_MISSED_AFTER = 20.0


@dataclass(frozen=True)
class Task:
    """One thing for a worker to do: its ``name`` in the records, and as ``shown`` to the user."""

    name: str
    shown: str
    function: Callable[..., Outcome]
    arguments: tuple[Any, ...]


def hand_out(
    crew: Crew, job: Job, tasks: Sequence[Task], stop: Stop, note: Callable[[str], None]
) -> Iterator[tuple[Task, Outcome]]:
    """Every task with its outcome, as they are done; as many are under way as there are workers.

    Those under way are given up when the caller wants no more.

    Raises
    ------
    UserError : a task has lost its worker again and again; the scheduler is gone
    Interrupted : the scan was asked to stop
    """
    waiting, under_way = deque(tasks), dict[str, tuple[Task, Any]]()
    done: SimpleQueue[Any] = SimpleQueue()
    client, roll = crew.client, _Roll(crew, note)
    try:
        while waiting or under_way:
            while waiting and len(under_way) < roll.size:
                task = waiting.popleft()
                # Keys are the whole cluster's: another scan has shards of the same names.
                key = f"{task.shown} #{job.token[:6]}"
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
    """How many workers there are, asked for now and then."""

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
            self._note("no workers are there: waiting for some")
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
            f"a worker that dies is replaced, and its task done again; over '{task.shown}' "
            f"{killed.allowed_failures + 1} have died: see whether memory is short (a "
            "smaller --batch-size, fewer --workers), and what their logs say"
        ) from None
    except CancelledError:
        _require_scheduler(client)
        raise UserError(
            f"tasks are given up by the scan alone; '{task.shown}' was cancelled by the scheduler: "
            "see its log; what workers have recorded is kept"
        ) from None


def _require_scheduler(client: Any) -> None:
    if client.status != "running":
        raise UserError(
            "the scheduler of the workers does not answer any more: start it again; what they "
            "have recorded is kept"
        )
