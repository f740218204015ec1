"""Threads that do not keep the program from exiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any


@contextmanager
def daemons(workers: int, name: str) -> Iterator[Callable[..., Future[Any]]]:
    """Daemon threads and a function that submits calls to them.

    Unlike those of a pool, they keep neither the context nor the program from ending when one
    hangs. Jobs that have not begun when the context ends are dropped.
    """
    jobs: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None]
    jobs = SimpleQueue()

    def work() -> None:
        while job := jobs.get():
            future, function, arguments = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:
                    future.set_exception(error)

    def submit(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        jobs.put((future, function, arguments))
        return future

    try:
        for number in range(workers):
            Thread(target=work, name=f"{name}_{number}", daemon=True).start()
        yield submit
    finally:
        with suppress(Empty):
            while True:
                jobs.get_nowait()
        for _ in range(workers):
            jobs.put(None)
