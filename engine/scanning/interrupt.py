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
    """Remember SIGINT, SIGTERM and SIGHUP instead of dying of them, until the context ends.

    A SIGHUP that is ignored (nohup) stays so. A second SIGINT leaves at once. Outside the main
    thread nothing changes: signals do not arrive there.
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
        for one, way in before.items():
            signal.signal(one, way)
