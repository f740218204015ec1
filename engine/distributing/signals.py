"""Preloaded by every local worker, so that only the scan answers Ctrl-C.

A terminal sends the signal to all processes. The scan saves its progress and ends its workers.
"""

from __future__ import annotations

import signal


def dask_setup(_worker: object) -> None:
    """Called by dask, in the main thread of the worker's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
