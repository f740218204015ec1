"""Signals that stop a scan: it finishes its batch and commits first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A scan was stopped by ``signal`` and has saved its progress."""

    def __init__(self, signal: int) -> None:
        super().__init__("stopped")
        self.signal = signal


class Stop:
    """The signal that asked the scan to stop, if any."""

    signal: int | None = None

    def look(self) -> None:
        """Raise :class:`Interrupted` after a signal."""
        if self.signal is not None:
            raise Interrupted(self.signal)


@contextmanager
def asked_to_stop() -> Iterator[Stop]:
    """Catch SIGINT, SIGTERM and SIGHUP inside the context.

    An ignored SIGHUP (nohup) stays ignored. A second SIGINT exits at once. Outside the main thread
    nothing changes, as signals do not arrive there.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def remember(number: int, _frame: FrameType | None) -> None:
        if stop.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.signal = number

    known = [signal.SIGINT, signal.SIGTERM]
    hung_up = getattr(signal, "SIGHUP", None)  # the terminal was closed
    if hung_up is not None and signal.getsignal(hung_up) is not signal.SIG_IGN:
        known.append(hung_up)
    before = {one: signal.signal(one, remember) for one in known}
    try:
        yield stop
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
