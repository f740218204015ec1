"""Loaded by every worker of a scan's own as it starts: Ctrl-C is answered by the scan alone.

A terminal sends it to all processes at once. The scan keeps what is recorded and ends its workers.
"""

from __future__ import annotations

import signal


def dask_setup(_worker: object) -> None:
    """Called by dask, in the main thread of the worker's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
