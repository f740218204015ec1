"""Imports of large libraries."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage inside the context.

    Imports make many objects and no garbage. Looking for it takes a sixth of the time of torch's.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            if not gc.get_freeze_count():  # move them to the oldest generation, without a look
                gc.freeze()
                gc.unfreeze()
            gc.enable()
