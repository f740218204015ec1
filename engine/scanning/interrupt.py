"""What asks a scan to stop: it comes to the end of its batch first, and keeps what it has."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A scan was asked to stop, and what it had done is kept. ``signal`` is what asked it to."""

    def __init__(self, signal: int) -> None:
        super().__init__("stopped")
        self.signal = signal


class Stop:
    """Whether something has asked the scan to stop."""

    signal: int | None = None

    def look(self) -> None:
        """Raise :class:`Interrupted` if it has."""
        if self.signal is not None:
            raise Interrupted(self.signal)


@contextmanager
def asked_to_stop() -> Iterator[Stop]:
    """Remember SIGINT and SIGTERM instead of dying of them, until the context ends.

    A second SIGINT leaves at once. Outside the main thread nothing changes: signals do not arrive
    there.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def remember(number: int, _frame: FrameType | None) -> None:
        if stop.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.signal = number

    before = {one: signal.signal(one, remember) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for one, way in before.items():
            signal.signal(one, way)
