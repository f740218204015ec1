"""Threads that do not keep the program from exiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any


@contextmanager
def daemons(workers: int) -> Iterator[Callable[..., Future[None]]]:
    """Daemon threads and a function that submits calls to them.

    Unlike those of a pool, they do not keep the program from exiting when one hangs.
    """
    jobs: SimpleQueue[tuple[Future[None], Callable[..., None], tuple[Any, ...]] | None]
    jobs = SimpleQueue()

    def work() -> None:
        while job := jobs.get():
            future, function, arguments = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:
                    future.set_exception(error)

    def submit(function: Callable[..., None], *arguments: Any) -> Future[None]:
        future: Future[None] = Future()
        jobs.put((future, function, arguments))
        return future

    for number in range(workers):
        Thread(target=work, name=f"decode_{number}", daemon=True).start()
    try:
        yield submit
    finally:
        with suppress(Empty):
            while True:  # drop jobs that nobody waits for
                jobs.get_nowait()
        for _ in range(workers):
            jobs.put(None)
