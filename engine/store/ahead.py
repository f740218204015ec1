"""Reading ahead: a function of many items, in order, computed by a few threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def map_ahead(function: Callable[[T], U], items: Iterable[T], threads: int) -> Iterator[U]:
    """``function`` of every item, in order; at most ``threads`` results wait to be taken."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    pending: deque[Future[U]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # Never wait: an abandoned iterator may be collected in zarr's thread, and readers need it.
        pool.shutdown(wait=False, cancel_futures=True)
