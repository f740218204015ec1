"""Writing in a thread, while the caller makes the next to write."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


class Behind:
    """Calls functions in a thread, one at a time and in the order in which they were given."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._under_way: Future[None] | None = None

    def __call__(self, write: Any, *arguments: Any, **named: Any) -> None:
        """Call ``write``, when what was given before has come to its end."""
        self.wait()
        self._under_way = self._pool.submit(write, *arguments, **named)

    def wait(self) -> None:
        """Until nothing is under way. What a call has raised is raised here, and ever after."""
        if self._under_way:
            self._under_way.result()
            self._under_way = None


@contextmanager
def write_behind() -> Iterator[Behind]:
    """Give what calls a function in a thread, while the caller makes the next to write.

    One call is under way at a time, and the caller waits for it before it hands over another: what
    is not yet written takes the memory of two. What a call raises, the next one does, or the end.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="write") as pool:
        later = Behind(pool)
        yield later
        later.wait()
